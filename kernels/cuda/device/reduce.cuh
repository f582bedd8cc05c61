/*
 * reduce.cuh - sums and maxima over a warp or a block, in a fixed order: the same input gives the same bits.
 *
 * Every thread of the warp or block must call; every thread receives the result. The block forms contain
 * barriers and may follow each other directly (they leave `scratch` free for reuse).
 */
#ifndef RPO_CUDA_DEVICE_REDUCE_CUH
#define RPO_CUDA_DEVICE_REDUCE_CUH

#include <cuda_runtime.h>

#include "kernels/cuda/device/shared.cuh"

constexpr unsigned kFullWarp = 0xffffffffu;
constexpr int kWarpThreads = 32;
constexpr int kMaxWarps = 32; /* of a block: the length of every `scratch` below */

template <typename T> __device__ __forceinline__ T rpo_warp_sum(T value) {
    for (int offset = kWarpThreads / 2; offset > 0; offset /= 2)
        value += __shfl_xor_sync(kFullWarp, value, offset);
    return value;
}

__device__ __forceinline__ float rpo_warp_max(float value) {
    for (int offset = kWarpThreads / 2; offset > 0; offset /= 2)
        value = fmaxf(value, __shfl_xor_sync(kFullWarp, value, offset));
    return value;
}

/* Sum over the block; scratch[kMaxWarps] in shared memory. */
template <typename T> __device__ __forceinline__ T rpo_block_sum(T value, T *scratch) {
    const int lane = static_cast<int>(threadIdx.x) % kWarpThreads,
              warp = static_cast<int>(threadIdx.x) / kWarpThreads;
    const int warps = static_cast<int>(blockDim.x) / kWarpThreads;
    value = rpo_warp_sum(value);
    if (lane == 0)
        scratch[warp] = value;
    __syncthreads();
    value = rpo_warp_sum(lane < warps ? scratch[lane] : T(0));
    __syncthreads();
    return value;
}

/*
 * Log-sum-exp carried as (maximum, sum of exp(x - maximum)): one pass over the data, never an overflow.
 * The empty state is (-inf, 0). NaN stays NaN. Merging a with b and b with a gives the same bits, so that
 * lanes that exchange their states end with the same one.
 */
struct rpo_lse_state {
    float maximum, sum;
};

__device__ __forceinline__ rpo_lse_state rpo_lse_empty() {
    return {-INFINITY, 0.0f};
}

__device__ __forceinline__ rpo_lse_state rpo_lse_merge(rpo_lse_state a, rpo_lse_state b) {
    const float maximum = fmaxf(a.maximum, b.maximum);
    if (maximum == -INFINITY) /* nothing but -inf so far: exp(-inf - -inf) would be NaN */
        return {maximum, a.sum + b.sum};
    const bool a_is_larger = a.maximum >= b.maximum;
    const float larger = a_is_larger ? a.sum : b.sum, smaller = a_is_larger ? b.sum : a.sum;
    return {maximum, larger + smaller * __expf(-fabsf(a.maximum - b.maximum))};
}

__device__ __forceinline__ rpo_lse_state rpo_warp_lse(rpo_lse_state state) {
    for (int offset = kWarpThreads / 2; offset > 0; offset /= 2) {
        rpo_lse_state other;
        other.maximum = __shfl_xor_sync(kFullWarp, state.maximum, offset);
        other.sum = __shfl_xor_sync(kFullWarp, state.sum, offset);
        state = rpo_lse_merge(state, other);
    }
    return state;
}

#endif
