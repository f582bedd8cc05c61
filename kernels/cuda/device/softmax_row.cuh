/*
 * softmax_row.cuh - a row of logits shared by a team of threads: log-sum-exp, gradient, constant fill.
 *
 * A team is a warp or a block; `rank` is the thread's place in it, `team` its size (at least 32). Rows may
 * start at any element: a row is cut into up to 7 loose elements, 16-byte vectors, and up to 7 loose
 * elements.
 *
 * Why __expf (2 ulp of its result plus 2^-24 |x|, relative) is good enough where the argument is a difference
 * to the row's maximum: an element x below the maximum contributes exp(x), so its absolute error is at most
 * |x| exp(x) 2^-24, below one ulp of the sum, which is at least 1.
 */
#ifndef RPO_CUDA_DEVICE_SOFTMAX_ROW_CUH
#define RPO_CUDA_DEVICE_SOFTMAX_ROW_CUH

#include "kernels/cuda/device/memory.cuh"
#include "kernels/cuda/device/reduce.cuh"

constexpr int kRowUnroll = 4; /* 16-byte loads a thread has in flight */

/* Who works on a row: a whole block, or one warp of it. */
template <bool kBlock> __device__ __forceinline__ int rpo_team_rank() {
    return static_cast<int>(kBlock ? threadIdx.x : threadIdx.x % kWarpThreads);
}
template <bool kBlock> __device__ __forceinline__ int rpo_team_size() {
    return kBlock ? static_cast<int>(blockDim.x) : kWarpThreads;
}
template <bool kBlock> __device__ __forceinline__ int64_t rpo_team_row() {
    return kBlock
               ? static_cast<int64_t>(blockIdx.x)
               : static_cast<int64_t>(blockIdx.x) * (blockDim.x / kWarpThreads) + threadIdx.x / kWarpThreads;
}

/* Log-sum-exp over the block; scratch[kMaxWarps] in shared memory, free for reuse afterwards. */
__device__ __forceinline__ rpo_lse_state rpo_block_lse(rpo_lse_state state, rpo_lse_state *scratch) {
    const int lane = static_cast<int>(threadIdx.x) % kWarpThreads,
              warp = static_cast<int>(threadIdx.x) / kWarpThreads;
    const int warps = static_cast<int>(blockDim.x) / kWarpThreads;
    state = rpo_warp_lse(state);
    if (lane == 0)
        scratch[warp] = state;
    __syncthreads();
    state = rpo_warp_lse(lane < warps ? scratch[lane] : rpo_lse_empty());
    __syncthreads();
    return state;
}

template <bool kBlock>
__device__ __forceinline__ rpo_lse_state rpo_team_lse(rpo_lse_state state, rpo_lse_state *scratch) {
    if constexpr (kBlock)
        return rpo_block_lse(state, scratch);
    (void)scratch;
    return rpo_warp_lse(state);
}

/* Log-prob of an element, formed so that nothing large cancels. It is <= 0: no element is above the maximum,
 * and the sum holds the maximum's exp(0). */
__device__ __forceinline__ float rpo_lse_logp(const rpo_lse_state &state, float logit) {
    return (logit - state.maximum) - logf(state.sum);
}

/* Adds kCount values: one rescaling for all of them, and four sums so that additions need not wait for each
 * other. */
template <int kCount>
__device__ __forceinline__ void rpo_lse_push(rpo_lse_state &state, const float (&values)[kCount]) {
    float maxima[4] = {state.maximum, state.maximum, state.maximum, state.maximum};
    for (int i = 0; i < kCount; ++i)
        maxima[i % 4] = fmaxf(maxima[i % 4], values[i]);
    const float maximum = fmaxf(fmaxf(maxima[0], maxima[1]), fmaxf(maxima[2], maxima[3]));
    const float shift = maximum == -INFINITY ? 0.0f : maximum; /* -inf - -inf would be NaN */
    float sums[4] = {state.sum * __expf(state.maximum - shift), 0.0f, 0.0f, 0.0f};
    for (int i = 0; i < kCount; ++i)
        sums[i % 4] += __expf(values[i] - shift);
    state.sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    state.maximum = maximum;
}

/* Where a row's 16-byte vectors begin and end. */
struct rpo_row_cut {
    int head, tail; /* loose elements before and after the vectors */
    int64_t vectors;
};

template <typename T> __device__ __forceinline__ rpo_row_cut rpo_cut_row(const T *row, int64_t size) {
    const int head = rpo_head_length(row, size);
    const int64_t vectors = (size - head) / rpo_vector<T>::kCount;
    return {head, static_cast<int>(size - head - vectors * rpo_vector<T>::kCount), vectors};
}

/* The loose element that falls to this thread, or -1. */
template <typename T> __device__ __forceinline__ int64_t rpo_loose_element(const rpo_row_cut &cut, int rank) {
    if (rank < cut.head)
        return rank;
    return rank < cut.head + cut.tail ? cut.vectors * rpo_vector<T>::kCount + rank : -1;
}

template <typename T, int kVectors>
__device__ __forceinline__ void rpo_unpack(float (&values)[kVectors * rpo_vector<T>::kCount],
                                           const rpo_vector<T> (&vectors)[kVectors]) {
    for (int u = 0; u < kVectors; ++u)
        for (int i = 0; i < rpo_vector<T>::kCount; ++i)
            values[u * rpo_vector<T>::kCount + i] = rpo_to_float(vectors[u].element[i]);
}

/* This thread's share of the row's log-sum-exp. One read of the row. */
template <typename T, bool kStreaming>
__device__ __forceinline__ rpo_lse_state rpo_row_lse(const T *row, int64_t size, int rank, int team) {
    constexpr int kCount = rpo_vector<T>::kCount;
    rpo_lse_state state = rpo_lse_empty();
    const rpo_row_cut cut = rpo_cut_row(row, size);
    const T *body = row + cut.head;
    int64_t v = rank;
    for (; v + int64_t{kRowUnroll - 1} * team < cut.vectors; v += int64_t{kRowUnroll} * team) {
        rpo_vector<T> loaded[kRowUnroll];
        for (int u = 0; u < kRowUnroll; ++u) {
            const T *address = body + (v + int64_t{u} * team) * kCount;
            loaded[u] = kStreaming ? rpo_load_streaming(address) : rpo_load_vector(address);
        }
        float values[kRowUnroll * kCount];
        rpo_unpack(values, loaded);
        rpo_lse_push(state, values);
    }
    for (; v < cut.vectors; v += team) {
        const rpo_vector<T> loaded[1] = {rpo_load_vector(body + v * kCount)};
        float values[kCount];
        rpo_unpack(values, loaded);
        rpo_lse_push(state, values);
    }
    const int64_t loose = rpo_loose_element<T>(cut, rank);
    if (loose >= 0) {
        const float values[1] = {rpo_to_float(row[loose])};
        rpo_lse_push(state, values);
    }
    return state;
}

/* What turns a logit into its gradient: scale ([v = label] - exp(logit - shift) / sum). */
struct rpo_row_gradient {
    float shift, factor, scale; /* factor = scale / sum */
    int64_t label;

    /* The label's place among the kCount columns from `first` on; -1 for another place. 32 bits, so that the
     * comparison for each element is one instruction. */
    template <int kCount> __device__ __forceinline__ int label_within(int64_t first) const {
        return label >= first && label < first + kCount ? static_cast<int>(label - first) : -1;
    }
    __device__ __forceinline__ float operator()(float logit, bool is_label) const {
        return (is_label ? scale : 0.0f) - factor * __expf(logit - shift);
    }
};

template <typename T>
__device__ __forceinline__ rpo_vector<T> rpo_vector_gradient(const rpo_row_gradient &of,
                                                             const rpo_vector<T> &logits, int64_t first) {
    const int label = of.template label_within<rpo_vector<T>::kCount>(first);
    rpo_vector<T> result;
    for (int i = 0; i < rpo_vector<T>::kCount; ++i)
        result.element[i] = rpo_from_float<T>(of(rpo_to_float(logits.element[i]), i == label));
    return result;
}

/* Writes this thread's share of the row's gradient; `gradient` may be `logits`. One read, one write. Vectors
 * are used when both rows sit alike in their 16 bytes; else the team goes element by element, still
 * coalesced. */
template <typename T>
__device__ __forceinline__ void rpo_row_write_gradient(T *gradient, const T *logits, int64_t size,
                                                       const rpo_row_gradient &of, int rank, int team) {
    constexpr int kCount = rpo_vector<T>::kCount;
    if ((reinterpret_cast<uintptr_t>(gradient) ^ reinterpret_cast<uintptr_t>(logits)) % 16 != 0) {
        for (int64_t v = rank; v < size; v += team)
            gradient[v] = rpo_from_float<T>(of(rpo_to_float(logits[v]), v == of.label));
        return;
    }
    const rpo_row_cut cut = rpo_cut_row(logits, size);
    int64_t v = rank;
    for (; v + int64_t{kRowUnroll - 1} * team < cut.vectors; v += int64_t{kRowUnroll} * team) {
        rpo_vector<T> loaded[kRowUnroll];
        for (int u = 0; u < kRowUnroll; ++u)
            loaded[u] = rpo_load_streaming(logits + cut.head + (v + int64_t{u} * team) * kCount);
        for (int u = 0; u < kRowUnroll; ++u) {
            const int64_t first = cut.head + (v + int64_t{u} * team) * kCount;
            rpo_store_streaming(gradient + first, rpo_vector_gradient(of, loaded[u], first));
        }
    }
    for (; v < cut.vectors; v += team) {
        const int64_t first = cut.head + v * kCount;
        rpo_store_vector(gradient + first, rpo_vector_gradient(of, rpo_load_vector(logits + first), first));
    }
    const int64_t loose = rpo_loose_element<T>(cut, rank);
    if (loose >= 0)
        gradient[loose] = rpo_from_float<T>(of(rpo_to_float(logits[loose]), loose == of.label));
}

/* Fills this thread's share of a row with one value. */
template <typename T>
__device__ __forceinline__ void rpo_row_fill(T *row, int64_t size, float value, int rank, int team) {
    constexpr int kCount = rpo_vector<T>::kCount;
    const rpo_row_cut cut = rpo_cut_row(row, size);
    rpo_vector<T> filled;
    for (int i = 0; i < kCount; ++i)
        filled.element[i] = rpo_from_float<T>(value);
    for (int64_t v = rank; v < cut.vectors; v += team)
        rpo_store_streaming(row + cut.head + v * kCount, filled);
    const int64_t loose = rpo_loose_element<T>(cut, rank);
    if (loose >= 0)
        row[loose] = filled.element[0];
}

#endif
