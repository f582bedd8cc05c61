/*
 * fiber.h - one CUDA thread as a fiber on Boost.Context, with what AddressSanitizer and ThreadSanitizer must
 * be told about a switch of stacks.
 *
 * Under ThreadSanitizer every fiber is a thread of its own and a switch does not synchronise: only barriers
 * and collectives do, through acquire() and release(). A race of the kernel is therefore reported at its own
 * line.
 */
#ifndef RPO_SIMT_FIBER_H
#define RPO_SIMT_FIBER_H

#include <cstddef>

namespace simt {

using FiberEntry = void (*)(void *argument);

class Fiber {
  public:
    Fiber() = default;
    ~Fiber();
    Fiber(const Fiber &) = delete;
    Fiber &operator=(const Fiber &) = delete;

    /* Makes the fiber ready to run entry(argument) from its beginning. A fiber given up half-way may be
     * started anew. */
    void start(FiberEntry entry, void *argument);

    /* Scheduler to fiber: returns when the fiber yields or its entry function has returned. */
    void resume();

    /* Fiber to scheduler; called on the fiber. */
    void yield();

    bool finished() const {
        return finished_;
    }

  private:
    static void run(struct FiberTransfer transfer);

    void *context_ = nullptr;   /* where the fiber goes on */
    void *scheduler_ = nullptr; /* where the scheduler goes on */
    unsigned char *stack_ = nullptr;
    FiberEntry entry_ = nullptr;
    void *argument_ = nullptr;
    bool finished_ = true;
    void *fake_stack_ = nullptr;            /* AddressSanitizer's, of this fiber */
    const void *scheduler_stack_ = nullptr; /* and of the scheduler */
    size_t scheduler_stack_size_ = 0;
    void *tsan_fiber_ = nullptr, *tsan_scheduler_ = nullptr;
};

/* Happens-before edges for ThreadSanitizer, through the address of `object`; nothing otherwise. */
void acquire(void *object);
void release(void *object);

/* Between grids: lets ThreadSanitizer forget the fibers that have run. None of them may be resumed again. */
void forget_fibers();

} // namespace simt

#endif
