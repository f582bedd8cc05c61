/*
 * logprob_gather.cu - sequence log-probs from logits on the GPU, forward and backward.
 *
 * The limit is memory: the forward must read the valid rows' logits once, the backward read and write them
 * once.
 *
 * Versions, newest first (this one is not yet measured on a GPU):
 *   2  online log-sum-exp in one pass: a thread keeps (maximum, sum) and adds 4 vectors of 16 bytes at a time,
 *      which costs one rescaling per 16 to 32 elements and keeps 64 bytes a thread in flight: with 1024 resident
 *      threads an SM has 64 KiB on the way, where the product of latency and bandwidth asks for some 20 to 40
 *      KiB. One warp a row while a row is short (no barrier, 8 rows a block), one block a row beyond. Elements
 *      read: T V.
 *   1  two passes, the maximum first: the same result for 2 T V reads; superseded before it was kept.
 *
 * Fewer than 264 valid rows leave SMs idle, two blocks to each of 132. Splitting a row would need a second
 * launch for the sums, and in the backward a second read wherever the log-sum-exp is found anew.
 *
 * The backward trusts the forward's log-sum-exp only as far as float32 holds it: at 1e4 its last bit is 1e-3,
 * and so would be the relative error of every probability. Rows beyond the limit below pay one more read
 * instead.
 */
#include "kernels/cuda/device/softmax_row.cuh"
#include "kernels/cuda/dispatch.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/logprob_rows.h"

constexpr int kGatherThreads = 512; /* at most; two such blocks fill an SM's registers at 64 a thread */

/* |log-sum-exp| below which half its last bit stays under a quarter of the gradient's rounding (float32:
 * under 5e-7). */
template <typename T> __device__ constexpr float rpo_lse_limit();
template <> __device__ constexpr float rpo_lse_limit<float>() {
    return 16.0f;
}
template <> __device__ constexpr float rpo_lse_limit<__half>() {
    return 2048.0f;
}
template <> __device__ constexpr float rpo_lse_limit<__nv_bfloat16>() {
    return 8192.0f;
}

/* Grid: a team (block or warp) a row. Shared: 256 bytes. Reads valid rows once; writes a float or two a row.
 */
template <typename T, bool kBlock>
__global__ static void __launch_bounds__(kGatherThreads, 2)
    logprob_gather_kernel(float *row_logps, float *logsumexp, const T *logits, const int32_t *labels,
                          int64_t num_rows, int64_t vocab_size, int64_t row_stride) {
    RPO_SHARED(rpo_lse_state, scratch, kMaxWarps);
    const int rank = rpo_team_rank<kBlock>(), team = rpo_team_size<kBlock>();
    const int64_t t = rpo_team_row<kBlock>();
    const int32_t label = t < num_rows ? labels[t] : RPO_IGNORE_LABEL;
    const bool in_range = label >= 0 && label < vocab_size;
    const T *row = logits + t * row_stride;
    const float label_logit = in_range && rank == 0 ? rpo_to_float(row[label]) : 0.0f;
    rpo_lse_state state = in_range ? rpo_row_lse<T, true>(row, vocab_size, rank, team) : rpo_lse_empty();
    state = rpo_team_lse<kBlock>(state, scratch);
    if (rank != 0 || t >= num_rows)
        return;
    const float missing = label == RPO_IGNORE_LABEL ? 0.0f : NAN;
    row_logps[t] = in_range ? rpo_lse_logp(state, label_logit) : missing;
    if (logsumexp != nullptr)
        logsumexp[t] = in_range ? state.maximum + logf(state.sum) : missing;
}

/* Grid: a team a row. Shared: 256 bytes. Reads and writes valid rows once (one more read where the
 * log-sum-exp is missing or too coarse), writes ignored ones. */
template <typename T, bool kBlock>
__global__ static void __launch_bounds__(kGatherThreads, 2)
    logprob_gather_backward_kernel(T *gradient, const T *logits, const float *logsumexp, const float *scales,
                                   const int32_t *labels, int64_t num_rows, int64_t vocab_size,
                                   int64_t row_stride) {
    RPO_SHARED(rpo_lse_state, scratch, kMaxWarps);
    const int rank = rpo_team_rank<kBlock>(), team = rpo_team_size<kBlock>();
    const int64_t t = rpo_team_row<kBlock>();
    const int32_t label = t < num_rows ? labels[t] : RPO_IGNORE_LABEL;
    const bool valid = label != RPO_IGNORE_LABEL;
    const T *row = logits + t * row_stride;
    rpo_lse_state state = {valid && logsumexp != nullptr ? logsumexp[t] : INFINITY, 1.0f};
    /* The whole team decides alike, so a block's barriers are met by all of it. */
    if (!(fabsf(state.maximum) < rpo_lse_limit<T>())) {
        state = valid ? rpo_row_lse<T, false>(row, vocab_size, rank, team) : rpo_lse_empty();
        state = rpo_team_lse<kBlock>(state, scratch);
    }
    if (t >= num_rows)
        return;
    T *gradient_row = gradient + t * row_stride;
    if (!valid) {
        rpo_row_fill(gradient_row, vocab_size, 0.0f, rank, team);
        return;
    }
    const float scale = scales[t];
    const rpo_row_gradient of = {state.maximum, scale / state.sum, scale, label};
    rpo_row_write_gradient(gradient_row, row, vocab_size, of, rank, team);
}

/* How rows fall to blocks. */
struct gather_plan {
    bool block_per_row;
    int threads;
    int64_t blocks;
};

static gather_plan choose_gather(const rpo_logprob_shape *shape) {
    const int64_t one_pass = int64_t{kRowUnroll} * 16 / static_cast<int64_t>(rpo_dtype_size(shape->dtype));
    gather_plan plan;
    plan.block_per_row = shape->vocab_size > 2 * one_pass * kWarpThreads;
    if (plan.block_per_row) {
        plan.threads = shape->vocab_size >= kGatherThreads * one_pass ? kGatherThreads : kGatherThreads / 2;
        plan.blocks = shape->rows;
    } else {
        plan.threads = kGatherThreads / 2;
        const int64_t rows_per_block = plan.threads / kWarpThreads;
        plan.blocks = (shape->rows + rows_per_block - 1) / rows_per_block;
    }
    return plan;
}

static rpo_launch_choice launch_of(const char *name, const gather_plan &plan) {
    return {name, dim3(static_cast<unsigned>(plan.blocks)), dim3(static_cast<unsigned>(plan.threads)), 0};
}

static rpo_cuda_rows rows_of(const rpo_logprob_shape *shape, const rpo_logprob_inputs *inputs) {
    return {inputs->labels,       inputs->cu_seqlens, shape->rows,
            shape->num_sequences, shape->vocab_size,  shape->reduction};
}

/* The forward keeps a log-prob for each row (unless the caller takes them), the backward a scale. */
extern "C" rpo_status rpo_cuda_logprob_gather_workspace_size(rpo_context *context, size_t *bytes,
                                                             const rpo_logprob_shape *shape) {
    (void)context;
    rpo_bump sizes = rpo_bump_from(NULL);
    (void)rpo_bump_take(&sizes, shape->rows, sizeof(float));
    *bytes = rpo_bump_size(&sizes);
    return RPO_OK;
}

extern "C" rpo_status rpo_cuda_logprob_gather(rpo_context *context, const rpo_logprob_outputs *outputs,
                                              const rpo_logprob_inputs *inputs,
                                              const rpo_logprob_shape *shape, void *workspace,
                                              size_t workspace_size) {
    (void)workspace_size;
    const rpo_cuda_rows rows = rows_of(shape, inputs);
    float *row_logps = outputs->token_logps != NULL ? outputs->token_logps : static_cast<float *>(workspace);
    if (shape->rows > 0) {
        const gather_plan plan = choose_gather(shape);
        RPO_TRY(rpo_with_dtype(shape->dtype, [&](auto tag) {
            using T = typename decltype(tag)::type;
            return rpo_launch(context, launch_of("logprob_gather", plan),
                              plan.block_per_row ? logprob_gather_kernel<T, true>
                                                 : logprob_gather_kernel<T, false>,
                              row_logps, outputs->logsumexp, static_cast<const T *>(inputs->logits),
                              inputs->labels, shape->rows, shape->vocab_size, shape->row_stride);
        }));
    }
    return rpo_cuda_rows_reduce(context, outputs->sequence_logps, &rows, row_logps);
}

extern "C" rpo_status rpo_cuda_logprob_gather_backward(rpo_context *context, void *grad_logits,
                                                       const rpo_logprob_inputs *inputs,
                                                       const rpo_logprob_shape *shape, void *workspace,
                                                       size_t workspace_size) {
    (void)workspace_size;
    if (shape->rows == 0)
        return RPO_OK;
    const rpo_cuda_rows rows = rows_of(shape, inputs);
    float *scales = static_cast<float *>(workspace);
    RPO_TRY(rpo_cuda_rows_scales(context, scales, &rows, inputs->grad_sequence_logps, NULL, 0));
    const gather_plan plan = choose_gather(shape);
    return rpo_with_dtype(shape->dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        return rpo_launch(context, launch_of("logprob_gather_backward", plan),
                          plan.block_per_row ? logprob_gather_backward_kernel<T, true>
                                             : logprob_gather_backward_kernel<T, false>,
                          static_cast<T *>(grad_logits), static_cast<const T *>(inputs->logits),
                          inputs->logsumexp, scales, inputs->labels, shape->rows, shape->vocab_size,
                          shape->row_stride);
    });
}
