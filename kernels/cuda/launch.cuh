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
 * and with RPO_DEBUG_SYNC=1 waits for the kernel, so that a fault is reported by the launch that caused it.
 */
template <typename... Parameters, typename... Arguments>
rpo_status rpo_launch(rpo_context *context, const rpo_launch_choice &choice, void (*kernel)(Parameters...),
                      Arguments... arguments) {
    static_assert(sizeof...(Parameters) == sizeof...(Arguments), "one argument per kernel parameter");
    return [&](Parameters... values) {
        void *pointers[] = {const_cast<void *>(static_cast<const void *>(&values))...};
        rpo_cuda_before_launch(context, choice.name, choice.grid.x, choice.grid.y, choice.grid.z,
                               choice.block.x, choice.block.y, choice.block.z, choice.shared_bytes);
        /* 48 KiB need no leave, static arrays included, which a choice does not count */
        if (choice.shared_bytes > 32 * 1024) {
            const cudaError_t error = cudaFuncSetAttribute(
                kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(choice.shared_bytes));
            if (error != cudaSuccess)
                return rpo_cuda_launch_failed(context, choice.name, static_cast<int>(error));
        }
        const cudaError_t error =
            cudaLaunchKernel(kernel, choice.grid, choice.block, pointers, choice.shared_bytes,
                             static_cast<cudaStream_t>(context->stream));
        if (error != cudaSuccess)
            return rpo_cuda_launch_failed(context, choice.name, static_cast<int>(error));
        return rpo_cuda_after_launch(context, choice.name);
    }(static_cast<Parameters>(arguments)...);
}

#endif
