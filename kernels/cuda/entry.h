/*
 * entry.h - what stands around every call into the CUDA backend, so that a host program with CUDA dealings of its own
 * keeps them: the device that was current is current again afterwards, and its last error is still its own.
 */
#ifndef RPO_CUDA_ENTRY_H
#define RPO_CUDA_ENTRY_H

#include "kernels/cuda/cuda.h"

/*
 * Takes errors of the runtime away that calls of ours leave behind. CUDA keeps one last error a thread, which only a
 * read clears and nothing can set: where the host program's own is still pending, it is left alone (a call of ours that
 * then fails replaces it, so that an error stays visible).
 */
class rpo_cuda_errors {
  public:
    rpo_cuda_errors();
    ~rpo_cuda_errors();
    rpo_cuda_errors(const rpo_cuda_errors &) = delete;
    rpo_cuda_errors &operator=(const rpo_cuda_errors &) = delete;

  private:
    bool clean_before_;
};

/*
 * Makes the context's device current and gives back what was. By the driver's stack of contexts, not by cudaSetDevice:
 * on the way back that would open device 0 for a thread that never used one, in every rank of a machine.
 */
class rpo_cuda_current {
  public:
    explicit rpo_cuda_current(const rpo_cuda_driver *driver);
    ~rpo_cuda_current();
    rpo_cuda_current(const rpo_cuda_current &) = delete;
    rpo_cuda_current &operator=(const rpo_cuda_current &) = delete;

    rpo_status status() const {
        return status_;
    }

  private:
    const rpo_cuda_driver *driver_;
    rpo_status status_;
};

/* Both. */
class rpo_cuda_entry {
  public:
    explicit rpo_cuda_entry(const rpo_context *context) : current_(&rpo_cuda_state_of(context)->driver) {}

    rpo_status status() const {
        return current_.status();
    } /* DEVICE: the call must not go on */

  private:
    rpo_cuda_current current_;
    rpo_cuda_errors errors_; /* looks and clears while the device is current */
};

/* rpo_cuda_entered<op>::call is `op` with an entry around it, as it stands in the op table. */
template <typename Pointer, Pointer Op> struct rpo_cuda_entered_as;
template <typename... Arguments, rpo_status (*Op)(rpo_context *, Arguments...)>
struct rpo_cuda_entered_as<rpo_status (*)(rpo_context *, Arguments...), Op> {
    static rpo_status call(rpo_context *context, Arguments... arguments) {
        const rpo_cuda_entry entry(context);
        return entry.status() != RPO_OK ? entry.status() : Op(context, arguments...);
    }
};
template <typename... Arguments, void (*Op)(rpo_context *, Arguments...)>
struct rpo_cuda_entered_as<void (*)(rpo_context *, Arguments...), Op> {
    static void call(rpo_context *context, Arguments... arguments) {
        const rpo_cuda_entry entry(context);
        if (entry.status() == RPO_OK)
            Op(context, arguments...);
    }
};
template <auto Op> using rpo_cuda_entered = rpo_cuda_entered_as<decltype(Op), Op>;

/* Finds the driver's functions and keeps the device open until rpo_cuda_driver_close. Errors: DEVICE. */
rpo_status rpo_cuda_driver_open(rpo_cuda_driver *driver, int device);
void rpo_cuda_driver_close(rpo_cuda_driver *driver); /* one that was not opened is accepted */

#endif
