/*
 * convert.cuh - float32, bfloat16 and float16 elements: to and from float, and 16-byte vectors of them.
 */
#ifndef RPO_CUDA_DEVICE_CONVERT_CUH
#define RPO_CUDA_DEVICE_CONVERT_CUH

#include <cstring>

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "rpo/context.h"

__device__ __forceinline__ float rpo_to_float(float value) {
    return value;
}
__device__ __forceinline__ float rpo_to_float(__nv_bfloat16 value) {
    return __bfloat162float(value);
}
__device__ __forceinline__ float rpo_to_float(__half value) {
    return __half2float(value);
}

template <typename T> __device__ __forceinline__ T rpo_from_float(float value);
template <> __device__ __forceinline__ float rpo_from_float<float>(float value) {
    return value;
}
template <> __device__ __forceinline__ __nv_bfloat16 rpo_from_float<__nv_bfloat16>(float value) {
    return __float2bfloat16(value);
}
template <> __device__ __forceinline__ __half rpo_from_float<__half>(float value) {
    return __float2half(value);
}

/* Elements of one 16-byte access. */
template <typename T> struct rpo_vector {
    static constexpr int kCount = 16 / static_cast<int>(sizeof(T));
    T element[kCount];
};

/* One 16-byte load or store; `address` is 16-byte aligned. */
template <typename T> __device__ __forceinline__ rpo_vector<T> rpo_load_vector(const T *address) {
    const uint4 bits = *reinterpret_cast<const uint4 *>(address);
    rpo_vector<T> vector;
    memcpy(vector.element, &bits, sizeof bits);
    return vector;
}

template <typename T>
__device__ __forceinline__ void rpo_store_vector(T *address, const rpo_vector<T> &vector) {
    uint4 bits;
    memcpy(&bits, vector.element, sizeof bits);
    *reinterpret_cast<uint4 *>(address) = bits;
}

/* Elements from `address` to the next 16-byte boundary: the scalar head of a vectorised loop. */
template <typename T> __device__ __forceinline__ int rpo_head_length(const T *address, int64_t count) {
    const int misaligned = static_cast<int>(reinterpret_cast<uintptr_t>(address) % 16);
    const int64_t head = misaligned == 0 ? 0 : (16 - misaligned) / static_cast<int>(sizeof(T));
    return static_cast<int>(head < count ? head : count);
}

#endif
