/*
 * thread.cuh - the thread's index, read where it is asked for.
 */
#ifndef RPO_CUDA_DEVICE_THREAD_CUH
#define RPO_CUDA_DEVICE_THREAD_CUH

#include <cuda_runtime.h>

/* threadIdx.x, but the compiler does not carry the value, or what follows from it, from one place to another: a
 * few instructions in exchange for registers. */
__device__ __forceinline__ int rpo_thread_index() {
#if defined(RPO_SIMT)
    return static_cast<int>(threadIdx.x);
#else
    int index;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(index));
    return index;
#endif
}

#endif
