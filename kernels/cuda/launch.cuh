/*
 * launch.cuh - the one way a kernel is launched: a printable choice, a checked result, a fault that names the
 * kernel.
 */
#ifndef RPO_CUDA_LAUNCH_CUH
#define RPO_CUDA_LAUNCH_CUH

#include <cuda_runtime.h>

#include "kernels/cuda/cuda.h"

/* What was chosen for a launch; RPO_TRACE_LAUNCH=1 prints each one to stderr. */
struct rpo_launch_choice {
    const char *name; /* of the kernel, for messages */
    dim3 grid, block;
    size_t shared_bytes;
};

/* Hands the kernel's address and arguments to cudaLaunchKernel, raises the shared memory limit where needed,
 * and with RPO_DEBUG_SYNC=1 waits for the kernel, so that a fault is reported by the launch that caused it. Only what
 * these calls say themselves is reported: the thread's last error may be the host program's. */
template <typename... Parameters, typename... Arguments>
rpo_status rpo_launch(rpo_context *context, const rpo_launch_choice &choice, void (*kernel)(Parameters...),
                      Arguments... arguments) {
    static_assert(sizeof...(Parameters) == sizeof...(Arguments), "one argument per kernel parameter");
    return [&](Parameters... values) {
        void *pointers[] = {const_cast<void *>(static_cast<const void *>(&values))...};
        rpo_cuda_before_launch(context, choice.name, choice.grid.x, choice.grid.y, choice.grid.z,
                               choice.block.x, choice.block.y, choice.block.z, choice.shared_bytes);
        /* 48 KiB need no leave, static arrays included, which a choice does not count */
        if (choice.shared_bytes > 32 * 1024)
            RPO_TRY(rpo_cuda_allow_shared(context, choice.name, reinterpret_cast<const void *>(kernel),
                                          choice.shared_bytes));
        const cudaError_t error =
            cudaLaunchKernel(kernel, choice.grid, choice.block, pointers, choice.shared_bytes,
                             static_cast<cudaStream_t>(context->stream));
        return rpo_cuda_after_launch(context, choice.name, static_cast<int>(error));
    }(static_cast<Parameters>(arguments)...);
}

#endif
