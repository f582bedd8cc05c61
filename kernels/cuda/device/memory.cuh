/*
 * memory.cuh - 16-byte accesses with a cache hint. Streaming data is touched once: it should neither evict
 * what others will read again (the head, a chunk that lives in L2) nor wait in L2 for a reader that never
 * comes.
 */
#ifndef RPO_CUDA_DEVICE_MEMORY_CUH
#define RPO_CUDA_DEVICE_MEMORY_CUH

#include "kernels/cuda/device/convert.cuh"

/* rpo_load_vector, marked evict-first; `address` is 16-byte aligned. Coherent: the same kernel may have
 * written it. */
template <typename T> __device__ __forceinline__ rpo_vector<T> rpo_load_streaming(const T *address) {
#if defined(RPO_SIMT)
    return rpo_load_vector(address);
#else
    const uint4 bits = __ldcs(reinterpret_cast<const uint4 *>(address));
    rpo_vector<T> vector;
    memcpy(vector.element, &bits, sizeof bits);
    return vector;
#endif
}

/* rpo_store_vector, marked evict-first. */
template <typename T>
__device__ __forceinline__ void rpo_store_streaming(T *address, const rpo_vector<T> &vector) {
#if defined(RPO_SIMT)
    rpo_store_vector(address, vector);
#else
    uint4 bits;
    memcpy(&bits, vector.element, sizeof bits);
    __stcs(reinterpret_cast<uint4 *>(address), bits);
#endif
}

#endif
