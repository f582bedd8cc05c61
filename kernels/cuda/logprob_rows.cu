/*
 * logprob_rows.cu - per-sequence work of the log-prob ops: one block a sequence, a few bytes a row.
 *
 * Sums are double: a thread adds every 256th row, then the block adds its threads as a tree, so the order
 * depends on nothing but the sequence's length. That costs T double additions in all, which no kernel that
 * reads logits could notice; compensated float sums would be as long and harder to read.
 */
#include "kernels/cuda/logprob_rows.h"

#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/launch.cuh"

constexpr int kSequenceThreads = 256;

struct sequence_range {
    int64_t begin, end;
};

/* Kept inside the rows whatever cu_seqlens holds: the host cannot look at it without waiting for the device.
 */
__device__ static sequence_range range_of(const int32_t *cu_seqlens, int64_t sequence, int64_t num_rows) {
    const int64_t begin = cu_seqlens[sequence], end = cu_seqlens[sequence + 1];
    return {begin > 0 ? begin : 0, end < num_rows ? end : num_rows};
}

/* Valid rows of the sequence, known to every thread of the block. */
__device__ static int count_valid(const int32_t *labels, const sequence_range &range, int *scratch) {
    int count = 0;
    for (int64_t t = range.begin + threadIdx.x; t < range.end; t += kSequenceThreads)
        count += labels[t] != RPO_IGNORE_LABEL;
    return rpo_block_sum(count, scratch);
}

/* Grid: a block a sequence. Shared: 128 bytes. Reads labels twice (once for sums), writes scales once. */
__global__ static void __launch_bounds__(kSequenceThreads)
    logprob_row_scales_kernel(float *scales, const float *grad_sequence_logps, const int32_t *labels,
                              const int32_t *cu_seqlens, const int32_t *num_valid, int64_t capacity,
                              int64_t num_rows, int64_t vocab_size, bool average) {
    RPO_SHARED(int, scratch, kMaxWarps);
    const sequence_range range = range_of(cu_seqlens, blockIdx.x, num_rows);
    const int count = count_valid(labels, range, scratch);
    float scale = grad_sequence_logps[blockIdx.x];
    if (average && count > 0)
        scale = static_cast<float>(static_cast<double>(scale) / count);
    if (num_valid != nullptr && *num_valid > capacity)
        scale = NAN;
    for (int64_t t = range.begin + threadIdx.x; t < range.end; t += kSequenceThreads) {
        const int32_t label = labels[t];
        const bool in_range = label >= 0 && label < vocab_size;
        scales[t] = label == RPO_IGNORE_LABEL ? 0.0f : in_range ? scale : NAN;
    }
}

/* Grid: a block a sequence. Shared: 384 bytes. Reads a label and a log-prob a row. */
__global__ static void __launch_bounds__(kSequenceThreads)
    logprob_sequence_sum_kernel(float *sequence_logps, const float *row_logps, const int32_t *labels,
                                const int32_t *cu_seqlens, int64_t num_rows, bool average) {
    RPO_SHARED(int, counts, kMaxWarps);
    RPO_SHARED(double, sums, kMaxWarps);
    const sequence_range range = range_of(cu_seqlens, blockIdx.x, num_rows);
    const int count = count_valid(labels, range, counts);
    double sum = 0.0;
    for (int64_t t = range.begin + threadIdx.x; t < range.end; t += kSequenceThreads)
        sum += static_cast<double>(row_logps[t]);
    sum = rpo_block_sum(sum, sums);
    if (threadIdx.x == 0)
        sequence_logps[blockIdx.x] = static_cast<float>(average && count > 0 ? sum / count : sum);
}

static rpo_launch_choice choose_sequences(const char *name, const rpo_cuda_rows *rows) {
    return {name, dim3(static_cast<unsigned>(rows->num_sequences)), dim3(kSequenceThreads), 0};
}

extern "C" rpo_status rpo_cuda_rows_scales(rpo_context *context, float *scales, const rpo_cuda_rows *rows,
                                           const float *grad_sequence_logps, const int32_t *num_valid,
                                           int64_t capacity) {
    if (rows->num_sequences == 0 || rows->num_rows == 0)
        return RPO_OK;
    return rpo_launch(context, choose_sequences("logprob_row_scales", rows), logprob_row_scales_kernel,
                      scales, grad_sequence_logps, rows->labels, rows->cu_seqlens, num_valid, capacity,
                      rows->num_rows, rows->vocab_size, rows->reduction == RPO_REDUCTION_AVERAGE);
}

extern "C" rpo_status rpo_cuda_rows_reduce(rpo_context *context, float *sequence_logps,
                                           const rpo_cuda_rows *rows, const float *row_logps) {
    if (rows->num_sequences == 0)
        return RPO_OK;
    return rpo_launch(context, choose_sequences("logprob_sequence_sum", rows), logprob_sequence_sum_kernel,
                      sequence_logps, row_logps, rows->labels, rows->cu_seqlens, rows->num_rows,
                      rows->reduction == RPO_REDUCTION_AVERAGE);
}
