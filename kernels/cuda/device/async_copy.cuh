/*
 * async_copy.cuh - 16-byte copies from global to shared memory that run on while the thread computes.
 *
 *     rpo_async_copy_16(to, from, wanted);   any number of copies,
 *     rpo_async_copy_commit();               closed into a group,
 *     rpo_async_copy_wait<1>();              all groups but the latest one have arrived for this thread;
 *                                            a barrier then makes them visible to the block.
 *
 * The twin of simt/ copies when it waits: data read without a wait is what the memory held before.
 */
#ifndef RPO_CUDA_DEVICE_ASYNC_COPY_CUH
#define RPO_CUDA_DEVICE_ASYNC_COPY_CUH

#include <cuda_runtime.h>

#if defined(RPO_SIMT)
#    include "kernels/simt/async_copy.h"
#endif

/* Copies 16 bytes, or writes 16 zero bytes where `wanted` is false (`from` is then not read). Both addresses
 * are 16-byte aligned. */
__device__ __forceinline__ void rpo_async_copy_16(void *to, const void *from, bool wanted) {
#if defined(RPO_SIMT)
    simt::queue_copy_16(to, from, wanted);
#else
    const unsigned shared = static_cast<unsigned>(__cvta_generic_to_shared(to));
    const int bytes = wanted ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared), "l"(from), "r"(bytes)
                 : "memory");
#endif
}

__device__ __forceinline__ void rpo_async_copy_commit() {
#if defined(RPO_SIMT)
    simt::close_copy_group();
#else
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

template <int kGroupsLeft> __device__ __forceinline__ void rpo_async_copy_wait() {
#if defined(RPO_SIMT)
    simt::finish_copy_groups(kGroupsLeft);
#else
    asm volatile("cp.async.wait_group %0;" ::"n"(kGroupsLeft) : "memory");
#endif
}

#endif
