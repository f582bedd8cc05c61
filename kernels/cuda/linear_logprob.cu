/*
 * linear_logprob.cu - sequence log-probs from hidden states and the output head on the GPU.
 *
 * Valid rows are compacted on the device; the host loops over as many rows as there can be (shape.valid_rows,
 * or rows) because cuBLASLt takes its sizes from the host. Rows that turn out not to exist are zeros: right,
 * but they cost their share of the products, hence the hint.
 *
 *     forward     per chunk and tile: product -> log-sum-exp (and exponentials into the cache)      2 T H V
 * flops backward    cached rows: exponentials -> gradient -> two products                             4 T H V
 *                 kept rows: the same after a forward into the workspace                            6 T H V
 *                 recomputed rows (a small chunk_bytes): forward, then tile by tile again           8 T H V
 * Without grad_head each line has one product of 2 T H V less.
 *
 * Memory: linear_logprob_plan.cu. Kernels between the products: linear_logprob_tile.cu, compaction.cu. The
 * weight gradient is accumulated in float32 by the products themselves (beta = 1), the hidden gradient in
 * float32 and rounded once.
 */
#include <cstdio>

#include <cuda_runtime.h>

#include "kernels/cuda/gemm.h"
#include "kernels/cuda/linear_logprob_tile.h"
#include "kernels/cuda/logprob_rows.h"

/* Everything one call works on. */
struct linear_job {
    rpo_context *context;
    const rpo_linear_logprob_shape *shape;
    rpo_linear_plan plan;
    rpo_linear_buffers buffers;
    rpo_exp_store cache;
    rpo_cuda_rows rows;
    const void *hidden, *head;
    void *grad_hidden; /* NULL where not asked for */
    float *grad_head;
    bool accumulate_head;
    float *logsumexp; /* of the forward; NULL where not asked for */
};

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* Element `index` of an array of the call's dtype. */
static void *element(const linear_job &job, void *array, int64_t index) {
    return static_cast<char *>(array) + static_cast<size_t>(index) * rpo_dtype_size(job.shape->dtype);
}
static const void *element(const linear_job &job, const void *array, int64_t index) {
    return static_cast<const char *>(array) + static_cast<size_t>(index) * rpo_dtype_size(job.shape->dtype);
}

static rpo_exp_store store_from(const linear_job &job, const rpo_exp_store &store, int64_t row) {
    rpo_exp_store later = {store.states + row, NULL, NULL};
    if (store.exps != NULL) {
        later.shifts = store.shifts + row * job.plan.num_tiles;
        later.exps = element(job, store.exps, row * job.plan.vocab_stride);
    }
    return later;
}

static rpo_compacted rows_from(const linear_job &job, int64_t first, int64_t count) {
    return {job.buffers.valid, job.buffers.num_valid, first, count};
}

static rpo_tile_job tile_job(const linear_job &job, const rpo_exp_store &store, int64_t first,
                             int64_t count) {
    rpo_tile_job tile = {};
    tile.labels = job.rows.labels;
    tile.scales = job.buffers.scales;
    tile.row_logps = job.buffers.row_logps;
    tile.logsumexp = job.logsumexp;
    tile.rows = rows_from(job, first, count);
    tile.store = store;
    tile.vocab_size = job.shape->vocab_size;
    tile.vocab_stride = job.plan.vocab_stride;
    tile.num_tiles = job.plan.num_tiles;
    tile.tile_columns = job.plan.tile_columns;
    tile.dtype = job.shape->dtype;
    return tile;
}

static int64_t columns_of(const linear_job &job, int64_t tile) {
    return least(job.plan.tile_columns, job.shape->vocab_size - tile * job.plan.tile_columns);
}

static rpo_status multiply(const linear_job &job, rpo_gemm gemm) {
    gemm.operand_dtype = job.shape->dtype;
    gemm.result_dtype = RPO_FLOAT32;
    gemm.alpha = 1.0f;
    return rpo_cuda_gemm(job.context, &gemm, job.buffers.gemm, job.buffers.gemm_bytes);
}

/* Compacted rows [first, first + count) of hidden, side by side at the start of the buffer. */
static rpo_status gather(const linear_job &job, int64_t first, int64_t count) {
    const rpo_compacted rows = rows_from(job, first, count);
    return rpo_cuda_gather_rows(job.context, job.buffers.hidden, job.plan.hidden_stride, job.hidden,
                                job.shape->hidden_size, job.shape->dtype, &rows);
}

/* logits = hidden head^T for the columns of a tile; `offset` is the first row within the gathered ones. */
static rpo_status multiply_logits(const linear_job &job, int64_t offset, int64_t count, int64_t tile) {
    rpo_gemm gemm = {};
    gemm.m = count, gemm.n = columns_of(job, tile), gemm.k = job.shape->hidden_size;
    gemm.a = element(job, job.buffers.hidden, offset * job.plan.hidden_stride);
    gemm.lda = job.plan.hidden_stride;
    gemm.b = element(job, job.head, tile * job.plan.tile_columns * job.shape->hidden_size);
    gemm.ldb = job.shape->hidden_size, gemm.transpose_b = true;
    gemm.c = job.buffers.logits, gemm.ldc = job.plan.tile_columns;
    return multiply(job, gemm);
}

/* grad_hidden (+)= grad_logits head, for the gradient's columns [begin, begin + columns). */
static rpo_status multiply_grad_hidden(const linear_job &job, const void *grad_logits, int64_t stride,
                                       int64_t count, int64_t begin, int64_t columns) {
    rpo_gemm gemm = {};
    gemm.m = count, gemm.n = job.shape->hidden_size, gemm.k = columns;
    gemm.a = grad_logits, gemm.lda = stride;
    gemm.b = element(job, job.head, begin * job.shape->hidden_size), gemm.ldb = job.shape->hidden_size;
    gemm.c = job.buffers.grad_hidden, gemm.ldc = job.plan.hidden_stride;
    gemm.beta = begin > 0 ? 1.0f : 0.0f;
    return multiply(job, gemm);
}

/* grad_head (+)= grad_logits^T hidden, for the same columns and the gathered rows, which begin with compacted row
 * `first`. */
static rpo_status multiply_grad_head(const linear_job &job, const void *grad_logits, int64_t stride,
                                     int64_t first, int64_t count, int64_t begin, int64_t columns) {
    rpo_gemm gemm = {};
    gemm.m = columns, gemm.n = job.shape->hidden_size, gemm.k = count;
    gemm.a = grad_logits, gemm.lda = stride, gemm.transpose_a = true;
    gemm.b = job.buffers.hidden, gemm.ldb = job.plan.hidden_stride;
    gemm.c = job.grad_head + begin * job.shape->hidden_size, gemm.ldc = job.shape->hidden_size;
    gemm.beta = job.accumulate_head || first > 0 ? 1.0f : 0.0f;
    return multiply(job, gemm);
}

static rpo_status scatter(const linear_job &job, int64_t first, int64_t count) {
    const rpo_compacted rows = rows_from(job, first, count);
    return rpo_cuda_scatter_rows(job.context, job.grad_hidden, job.shape->hidden_size, job.shape->dtype,
                                 job.buffers.grad_hidden, job.plan.hidden_stride, &rows);
}

/* The forward of gathered rows, into `store`. */
static rpo_status run_logits(const linear_job &job, const rpo_exp_store &store, int64_t first, int64_t offset,
                             int64_t count) {
    const rpo_tile_job at = tile_job(job, store, first + offset, count);
    for (int64_t tile = 0; tile < job.plan.num_tiles; ++tile) {
        RPO_TRY(multiply_logits(job, offset, count, tile));
        RPO_TRY(rpo_cuda_tile_logsumexp(job.context, &at, job.buffers.logits, tile));
    }
    return RPO_OK;
}

/* Forward of the compacted rows [begin, end); exponentials go to `store`, whose first row is row 0, if given.
 */
static rpo_status run_forward(const linear_job &job, int64_t begin, int64_t end, const rpo_exp_store *store) {
    for (int64_t first = begin; first < end; first += job.plan.chunk_rows) {
        const int64_t count = least(job.plan.chunk_rows, end - first);
        RPO_TRY(gather(job, first, count));
        RPO_TRY(run_logits(job, store != NULL ? store_from(job, *store, first) : job.buffers.store, first, 0,
                           count));
    }
    return RPO_OK;
}

/* From exponentials to gradients, for the gathered rows [first, first + count). */
static rpo_status consume_exps(const linear_job &job, const rpo_exp_store &store, int64_t first,
                               int64_t count) {
    const rpo_linear_plan &plan = job.plan;
    const rpo_tile_job all = tile_job(job, store, first, count);
    RPO_TRY(rpo_cuda_kept_gradient(job.context, &all));
    for (int64_t offset = 0; job.grad_hidden != NULL && offset < count; offset += plan.chunk_rows) {
        const int64_t rows = least(plan.chunk_rows, count - offset);
        RPO_TRY(multiply_grad_hidden(job, element(job, store.exps, offset * plan.vocab_stride),
                                     plan.vocab_stride, rows, 0, job.shape->vocab_size));
        RPO_TRY(scatter(job, first + offset, rows));
    }
    if (job.grad_head != NULL)
        RPO_TRY(
            multiply_grad_head(job, store.exps, plan.vocab_stride, first, count, 0, job.shape->vocab_size));
    return RPO_OK;
}

/* Backward of rows whose exponentials the forward has left in the cache. */
static rpo_status run_cached(const linear_job &job, int64_t begin, int64_t end) {
    for (int64_t first = begin; first < end; first += job.plan.sweep_rows) {
        const int64_t count = least(job.plan.sweep_rows, end - first);
        if (job.grad_head != NULL)
            RPO_TRY(gather(job, first, count));
        RPO_TRY(consume_exps(job, store_from(job, job.cache, first), first, count));
    }
    return RPO_OK;
}

/* Backward of rows whose exponentials are kept in the workspace, a sweep at a time. */
static rpo_status run_kept(const linear_job &job, int64_t begin, int64_t end) {
    for (int64_t first = begin; first < end; first += job.plan.sweep_rows) {
        const int64_t count = least(job.plan.sweep_rows, end - first);
        RPO_TRY(gather(job, first, count));
        for (int64_t offset = 0; offset < count; offset += job.plan.chunk_rows)
            RPO_TRY(run_logits(job, store_from(job, job.buffers.store, offset), first, offset,
                               least(job.plan.chunk_rows, count - offset)));
        RPO_TRY(consume_exps(job, job.buffers.store, first, count));
    }
    return RPO_OK;
}

/* One tile of the second sweep over a chunk: logits again, their gradient, both products. */
static rpo_status recompute_tile(const linear_job &job, const rpo_tile_job &at, int64_t tile) {
    const int64_t begin = tile * job.plan.tile_columns, columns = columns_of(job, tile);
    void *gradient = job.buffers.grad_logits;
    RPO_TRY(multiply_logits(job, 0, at.rows.count, tile));
    RPO_TRY(rpo_cuda_tile_gradient(job.context, &at, gradient, job.buffers.logits, tile));
    if (job.grad_hidden != NULL)
        RPO_TRY(multiply_grad_hidden(job, gradient, job.plan.tile_columns, at.rows.count, begin, columns));
    if (job.grad_head != NULL)
        RPO_TRY(multiply_grad_head(job, gradient, job.plan.tile_columns, at.rows.first, at.rows.count, begin,
                                   columns));
    return RPO_OK;
}

/* Backward of rows of which nothing is kept but the log-sum-exp. */
static rpo_status run_recomputed(const linear_job &job, int64_t begin, int64_t end) {
    for (int64_t first = begin; first < end; first += job.plan.chunk_rows) {
        const int64_t count = least(job.plan.chunk_rows, end - first);
        RPO_TRY(gather(job, first, count));
        RPO_TRY(run_logits(job, job.buffers.store, first, 0, count));
        const rpo_tile_job at = tile_job(job, job.buffers.store, first, count);
        for (int64_t tile = 0; tile < job.plan.num_tiles; ++tile)
            RPO_TRY(recompute_tile(job, at, tile));
        if (job.grad_hidden != NULL)
            RPO_TRY(scatter(job, first, count));
    }
    return RPO_OK;
}

static void trace_plan(const rpo_linear_plan &plan, bool backward) {
    fprintf(stderr,
            "rpo: plan linear_logprob %s rows %lld cached %lld sweep %lld chunk %lld tile %lld x %lld%s\n",
            backward ? "backward" : "forward", static_cast<long long>(plan.capacity),
            static_cast<long long>(plan.cached_rows), static_cast<long long>(plan.sweep_rows),
            static_cast<long long>(plan.chunk_rows), static_cast<long long>(plan.num_tiles),
            static_cast<long long>(plan.tile_columns), plan.recompute ? " recomputed" : "");
}

static linear_job job_of(rpo_context *context, const rpo_linear_logprob_saved *saved,
                         const rpo_linear_logprob_inputs *inputs, const rpo_linear_logprob_shape *shape,
                         bool backward, void *workspace) {
    linear_job job = {};
    job.context = context;
    job.shape = shape;
    job.plan = rpo_linear_plan_choose(rpo_cuda_state_of(context), shape, backward);
    if (rpo_cuda_state_of(context)->trace_launch)
        trace_plan(job.plan, backward);
    (void)rpo_linear_plan_lay_out(&job.buffers, &job.plan, shape, backward, workspace);
    job.cache = rpo_linear_plan_cache(&job.plan, shape, saved->cache);
    job.rows = {inputs->labels,       inputs->cu_seqlens, shape->rows,
                shape->num_sequences, shape->vocab_size,  shape->reduction};
    job.hidden = inputs->hidden;
    job.head = inputs->head;
    return job;
}

static rpo_status compact(const linear_job &job) {
    return rpo_cuda_compact(job.context, job.buffers.valid, job.buffers.num_valid, job.buffers.row_logps,
                            job.rows.labels, job.rows.num_rows, job.plan.capacity);
}

static rpo_status prepare_backward(const linear_job &job, const float *grad_sequence_logps) {
    RPO_TRY(compact(job));
    RPO_TRY(rpo_cuda_rows_scales(job.context, job.buffers.scales, &job.rows, grad_sequence_logps,
                                 job.buffers.num_valid, job.plan.capacity));
    if (job.grad_hidden == NULL)
        return RPO_OK;
    return rpo_cuda_clear_rows(job.context, job.grad_hidden, job.shape->hidden_size, job.shape->dtype,
                               job.rows.labels, job.rows.num_rows, job.buffers.valid, job.buffers.num_valid,
                               job.plan.capacity);
}

extern "C" rpo_status rpo_cuda_linear_logprob_workspace_size(rpo_context *context, size_t *bytes,
                                                             const rpo_linear_logprob_shape *shape,
                                                             int backward) {
    const rpo_linear_plan plan = rpo_linear_plan_choose(rpo_cuda_state_of(context), shape, backward != 0);
    rpo_linear_buffers buffers;
    *bytes = rpo_linear_plan_lay_out(&buffers, &plan, shape, backward != 0, NULL);
    return RPO_OK;
}

extern "C" rpo_status rpo_cuda_linear_logprob_cache_size(rpo_context *context, size_t *bytes,
                                                         const rpo_linear_logprob_shape *shape) {
    const rpo_linear_plan plan = rpo_linear_plan_choose(rpo_cuda_state_of(context), shape, false);
    *bytes = plan.capacity > 0 ? rpo_linear_cache_bytes(&plan, shape, plan.capacity) : 0;
    return RPO_OK;
}

/* Ignored rows keep the 0, and rows beyond the capacity. */
static rpo_status clear_logsumexp(const linear_job &job) {
    return rpo_cuda_check(cudaMemsetAsync(job.logsumexp, 0,
                                          static_cast<size_t>(job.rows.num_rows) * sizeof(float),
                                          static_cast<cudaStream_t>(job.context->stream)),
                          "linear_logprob: zeroing the log-sum-exp");
}

static rpo_status clear_grad_head(const linear_job &job) {
    const size_t count =
        static_cast<size_t>(job.shape->vocab_size) * static_cast<size_t>(job.shape->hidden_size);
    return rpo_cuda_check(cudaMemsetAsync(job.grad_head, 0, count * sizeof(float),
                                          static_cast<cudaStream_t>(job.context->stream)),
                          "linear_logprob_backward: zeroing the head's gradient");
}

extern "C" rpo_status rpo_cuda_linear_logprob(rpo_context *context, const rpo_linear_logprob_outputs *outputs,
                                              const rpo_linear_logprob_saved *saved,
                                              const rpo_linear_logprob_inputs *inputs,
                                              const rpo_linear_logprob_shape *shape, void *workspace,
                                              size_t workspace_size) {
    (void)workspace_size;
    linear_job job = job_of(context, saved, inputs, shape, false, workspace);
    job.logsumexp = saved->logsumexp;
    if (outputs->token_logps != NULL)
        job.buffers.row_logps = outputs->token_logps;
    if (shape->rows > 0) {
        if (job.logsumexp != NULL)
            RPO_TRY(clear_logsumexp(job));
        RPO_TRY(compact(job));
        RPO_TRY(run_forward(job, 0, job.plan.cached_rows, &job.cache));
        RPO_TRY(run_forward(job, job.plan.cached_rows, job.plan.capacity, NULL));
    }
    return rpo_cuda_rows_reduce(context, outputs->sequence_logps, &job.rows, job.buffers.row_logps);
}

extern "C" rpo_status rpo_cuda_linear_logprob_backward(rpo_context *context,
                                                       const rpo_linear_logprob_gradients *gradients,
                                                       const rpo_linear_logprob_saved *saved,
                                                       const rpo_linear_logprob_inputs *inputs,
                                                       const rpo_linear_logprob_shape *shape, void *workspace,
                                                       size_t workspace_size) {
    (void)workspace_size;
    linear_job job = job_of(context, saved, inputs, shape, true, workspace);
    job.grad_hidden = gradients->grad_hidden;
    job.grad_head = gradients->grad_head;
    job.accumulate_head = gradients->accumulate_head != 0;
    if (shape->rows > 0) {
        const int64_t cached = job.plan.cached_rows, capacity = job.plan.capacity;
        RPO_TRY(prepare_backward(job, inputs->grad_sequence_logps));
        RPO_TRY(run_cached(job, 0, cached));
        RPO_TRY(job.plan.recompute ? run_recomputed(job, cached, capacity) : run_kept(job, cached, capacity));
    } else if (job.grad_head != NULL && !job.accumulate_head) {
        RPO_TRY(clear_grad_head(job));
    }
    if (gradients->sequence_logps == NULL)
        return RPO_OK;
    return rpo_cuda_rows_reduce(context, gradients->sequence_logps, &job.rows, job.buffers.row_logps);
}
