/*
 * linear_logprob.c - sequence log-probs from hidden states and the output head on the CPU.
 *
 * Valid rows are taken in chunks. A chunk's logits are one matmul; each row of them becomes its log-prob and,
 * in the backward, in place its gradient; two more matmuls consume the gradient before the next chunk takes
 * its place. So the memory is one chunk of logits, one of hidden states and a few bytes a row, whatever rows
 * x vocab_size is. Chunks that fit into the caller's cache keep their logits there from a forward to the
 * backward, which then starts from them; with the forward's log-sum-exp a row then costs one pass.
 *
 * The default chunk is a compromise measured at H = 512, V = 32000: short chunks re-read the whole head and
 * its gradient too often, long ones leave the last-level cache.
 */
#include <string.h>

#include "core/bump.h"
#include "kernels/cpu/blas.h"
#include "kernels/cpu/logprob.h"
#include "kernels/cpu/logprob_rows.h"
#include "kernels/cpu/softmax_row.h"

static const size_t default_chunk_bytes = (size_t)32 << 20;

/* Everything one call works on. */
typedef struct linear_job {
    rpo_context *context;
    const rpo_linear_logprob_shape *shape;
    rpo_cpu_rows rows;
    const float *hidden, *head;
    float *grad_hidden, *grad_head; /* NULL where not asked for */
    bool accumulate_head;
    const float *logsumexp; /* [rows] of the forward, in the backward; NULL = unknown */
    float *save_logsumexp;  /* [rows], in the forward; NULL where not asked for */
    float *cache;           /* logits of the first cached_rows valid rows */
    int64_t cached_rows;
    bool backward;
    int64_t chunk_rows, num_valid;
    double *row_logps;   /* [rows] */
    int32_t *valid;      /* [rows] indices of the valid rows, ascending */
    float *scales;       /* [rows], in the backward */
    float *chunk_logits; /* [chunk_rows][vocab_size] */
    float *chunk_hidden; /* [chunk_rows][hidden_size] */
} linear_job;

static int64_t chunk_rows_of(const rpo_linear_logprob_shape *shape) {
    const size_t budget = shape->chunk_bytes > 0 ? shape->chunk_bytes : default_chunk_bytes;
    const int64_t widest = shape->vocab_size > shape->hidden_size ? shape->vocab_size : shape->hidden_size;
    const int64_t rows = (int64_t)(budget / sizeof(float) / (size_t)widest);
    return rows < 1 ? (shape->rows > 0) : rows < shape->rows ? rows : shape->rows;
}

/* Points the job at the parts of the workspace; with NULL only their sizes are added up. */
static size_t lay_out(linear_job *job, const rpo_linear_logprob_shape *shape, bool backward,
                      void *workspace) {
    rpo_bump from = rpo_bump_from(workspace);
    job->chunk_rows = chunk_rows_of(shape);
    job->chunk_logits = rpo_bump_take(&from, job->chunk_rows * shape->vocab_size, sizeof(float));
    job->chunk_hidden = rpo_bump_take(&from, job->chunk_rows * shape->hidden_size, sizeof(float));
    job->row_logps = rpo_bump_take(&from, shape->rows, sizeof(double));
    job->valid = rpo_bump_take(&from, shape->rows, sizeof(int32_t));
    job->scales = rpo_bump_take(&from, backward ? shape->rows : 0, sizeof(float));
    return rpo_bump_size(&from);
}

rpo_status rpo_cpu_linear_logprob_workspace_size(rpo_context *context, size_t *bytes,
                                                 const rpo_linear_logprob_shape *shape, int backward) {
    (void)context;
    linear_job job;
    *bytes = lay_out(&job, shape, backward != 0, NULL);
    return RPO_OK;
}

/* How many rows of logits the cache holds. */
static int64_t rows_in_cache(const rpo_linear_logprob_shape *shape) {
    const size_t rows = shape->cache_bytes / sizeof(float) / (size_t)shape->vocab_size;
    return rows < (size_t)shape->rows ? (int64_t)rows : shape->rows;
}

rpo_status rpo_cpu_linear_logprob_cache_size(rpo_context *context, size_t *bytes,
                                             const rpo_linear_logprob_shape *shape) {
    (void)context;
    const int64_t rows = shape->valid_rows > 0 ? shape->valid_rows : shape->rows;
    *bytes = (size_t)rows * (size_t)shape->vocab_size * sizeof(float);
    return RPO_OK;
}

/* Copies the chunk's hidden rows side by side, or points at them where they already are. */
static const float *gather_hidden(const linear_job *job, const int32_t *valid, int64_t count,
                                  bool contiguous) {
    const int64_t width = job->shape->hidden_size;
    if (contiguous)
        return job->hidden + valid[0] * width;
#pragma omp parallel for schedule(static) num_threads(rpo_cpu_threads(job->context))
    for (int64_t i = 0; i < count; ++i)
        memcpy(job->chunk_hidden + i * width, job->hidden + valid[i] * width, (size_t)width * sizeof(float));
    return job->chunk_hidden;
}

static void scatter_grad_hidden(const linear_job *job, const int32_t *valid, int64_t count) {
    const int64_t width = job->shape->hidden_size;
#pragma omp parallel for schedule(static) num_threads(rpo_cpu_threads(job->context))
    for (int64_t i = 0; i < count; ++i)
        memcpy(job->grad_hidden + valid[i] * width, job->chunk_hidden + i * width,
               (size_t)width * sizeof(float));
}

/* The log-sum-exp of row t; in the backward its logits become gradients. */
static rpo_cpu_logsumexp reduce_row(const linear_job *job, float *row, int32_t t) {
    const int64_t vocab_size = job->shape->vocab_size;
    const int32_t label = job->rows.labels[t];
    rpo_cpu_logsumexp lse;
    if (!job->backward)
        return rpo_cpu_row_logsumexp(row, vocab_size);
    if (job->logsumexp != NULL) {
        lse.max = job->logsumexp[t];
        lse.log_sum = rpo_cpu_row_softmax_gradient_from(row, row, vocab_size, lse.max, label, job->scales[t]);
    } else {
        lse.max = rpo_cpu_row_max(row, vocab_size);
        lse.log_sum = rpo_cpu_row_softmax_gradient(row, row, vocab_size, lse.max, label, job->scales[t]);
    }
    return lse;
}

/* Log-probs of the chunk's rows; in the backward their logits become gradients. */
static void reduce_chunk(const linear_job *job, float *logits, const int32_t *valid, int64_t count) {
    const int64_t vocab_size = job->shape->vocab_size;
#pragma omp parallel for schedule(guided) num_threads(rpo_cpu_threads(job->context))
    for (int64_t i = 0; i < count; ++i) {
        const int32_t t = valid[i];
        float *row = logits + i * vocab_size;
        const float label_logit = row[job->rows.labels[t]];
        const rpo_cpu_logsumexp lse = reduce_row(job, row, t);
        job->row_logps[t] = rpo_cpu_row_logp(lse, label_logit);
        if (job->save_logsumexp != NULL)
            job->save_logsumexp[t] = rpo_cpu_row_logsumexp_rounded(lse);
    }
}

/* The valid rows begin .. begin + count - 1. */
static rpo_status run_chunk(const linear_job *job, int64_t begin, int64_t count) {
    const int32_t *valid = job->valid + begin;
    const int64_t vocab_size = job->shape->vocab_size, hidden_size = job->shape->hidden_size;
    const bool contiguous = valid[count - 1] - valid[0] == count - 1;
    const float *hidden = gather_hidden(job, valid, count, contiguous);
    const rpo_cpu_matrix head = {job->head, hidden_size, false};
    const bool cached = begin + count <= job->cached_rows;
    float *logits = cached ? job->cache + begin * vocab_size : job->chunk_logits;

    if (!(cached && job->backward)) /* else the forward has left them there */
        RPO_TRY(rpo_cpu_gemm(job->context, logits, vocab_size, (rpo_cpu_matrix){hidden, hidden_size, false},
                             (rpo_cpu_matrix){job->head, hidden_size, true}, count, vocab_size, hidden_size,
                             1.0f, 0.0f));
    reduce_chunk(job, logits, valid, count);
    if (job->grad_head != NULL)
        RPO_TRY(rpo_cpu_gemm(job->context, job->grad_head, hidden_size,
                             (rpo_cpu_matrix){logits, vocab_size, true},
                             (rpo_cpu_matrix){hidden, hidden_size, false}, vocab_size, hidden_size, count,
                             1.0f, job->accumulate_head || begin > 0 ? 1.0f : 0.0f));
    if (job->grad_hidden != NULL) {
        /* The hidden rows are used up, so their chunk may take the gradient. */
        float *out = contiguous ? job->grad_hidden + valid[0] * hidden_size : job->chunk_hidden;
        RPO_TRY(rpo_cpu_gemm(job->context, out, hidden_size, (rpo_cpu_matrix){logits, vocab_size, false},
                             head, count, hidden_size, vocab_size, 1.0f, 0.0f));
        if (!contiguous)
            scatter_grad_hidden(job, valid, count);
    }
    return RPO_OK;
}

/* Lists the valid rows and clears what the chunks will not write. */
static void prepare_rows(linear_job *job) {
    const size_t width = (size_t)job->shape->hidden_size;
    for (int64_t t = 0; t < job->shape->rows; ++t) {
        if (job->rows.labels[t] != RPO_IGNORE_LABEL) {
            job->valid[job->num_valid++] = (int32_t)t;
            continue;
        }
        job->row_logps[t] = 0.0;
        if (job->save_logsumexp != NULL)
            job->save_logsumexp[t] = 0.0f;
        if (job->grad_hidden != NULL)
            memset(job->grad_hidden + (size_t)t * width, 0, width * sizeof(float));
    }
}

static rpo_status run_chunks(linear_job *job) {
    const rpo_linear_logprob_shape *shape = job->shape;
    prepare_rows(job);
    if (shape->valid_rows > 0 && job->num_valid > shape->valid_rows)
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT, "shape.valid_rows: is %lld; the labels have %lld",
                             (long long)shape->valid_rows, (long long)job->num_valid);
    if (job->num_valid == 0 && job->grad_head != NULL && !job->accumulate_head)
        memset(job->grad_head, 0, (size_t)shape->vocab_size * (size_t)shape->hidden_size * sizeof(float));
    if (job->num_valid == 0)
        return RPO_OK;
    /* Chunks of equal length: a short last one would use the matmul badly. */
    const int64_t num_chunks = (job->num_valid + job->chunk_rows - 1) / job->chunk_rows;
    for (int64_t chunk = 0; chunk < num_chunks; ++chunk) {
        const int64_t begin = chunk * job->num_valid / num_chunks;
        const int64_t end = (chunk + 1) * job->num_valid / num_chunks;
        RPO_TRY(run_chunk(job, begin, end - begin));
    }
    return RPO_OK;
}

static linear_job job_of(rpo_context *context, const rpo_linear_logprob_saved *saved,
                         const rpo_linear_logprob_inputs *inputs, const rpo_linear_logprob_shape *shape,
                         bool backward, void *workspace) {
    linear_job job = {.context = context,
                      .shape = shape,
                      .hidden = inputs->hidden,
                      .head = inputs->head,
                      .logsumexp = backward ? saved->logsumexp : NULL,
                      .save_logsumexp = backward ? NULL : saved->logsumexp,
                      .cache = saved->cache,
                      .cached_rows = saved->cache != NULL ? rows_in_cache(shape) : 0,
                      .backward = backward};
    job.rows = (rpo_cpu_rows){.labels = inputs->labels,
                              .cu_seqlens = inputs->cu_seqlens,
                              .num_rows = shape->rows,
                              .num_sequences = shape->num_sequences,
                              .vocab_size = shape->vocab_size,
                              .reduction = shape->reduction};
    (void)lay_out(&job, shape, backward, workspace);
    return job;
}

rpo_status rpo_cpu_linear_logprob(rpo_context *context, const rpo_linear_logprob_outputs *outputs,
                                  const rpo_linear_logprob_saved *saved,
                                  const rpo_linear_logprob_inputs *inputs,
                                  const rpo_linear_logprob_shape *shape, void *workspace,
                                  size_t workspace_size) {
    (void)workspace_size;
    linear_job job = job_of(context, saved, inputs, shape, false, workspace);
    RPO_TRY(rpo_cpu_rows_check(&job.rows));
    RPO_TRY(run_chunks(&job));
    for (int64_t t = 0; t < shape->rows && outputs->token_logps != NULL; ++t)
        outputs->token_logps[t] = (float)job.row_logps[t];
    rpo_cpu_rows_reduce(outputs->sequence_logps, &job.rows, job.row_logps);
    return RPO_OK;
}

rpo_status rpo_cpu_linear_logprob_backward(rpo_context *context,
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
    RPO_TRY(rpo_cpu_rows_check(&job.rows));
    if (shape->rows > 0)
        rpo_cpu_rows_scales(job.scales, &job.rows, inputs->grad_sequence_logps);
    RPO_TRY(run_chunks(&job));
    if (gradients->sequence_logps != NULL)
        rpo_cpu_rows_reduce(gradients->sequence_logps, &job.rows, job.row_logps);
    return RPO_OK;
}
