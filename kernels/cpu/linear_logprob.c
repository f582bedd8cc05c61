/*
 * linear_logprob.c - sequence log-probs from hidden states and the output head on the CPU.
 *
 * Valid rows are taken in chunks. A chunk's logits are one matmul; each row of them becomes its log-prob and,
 * in the backward, in place its gradient; two more matmuls consume the gradient before the next chunk takes
 * its place. So the memory is one chunk of logits, one of hidden states and a few bytes a row, whatever rows
 * x vocab_size is. Chunks that fit into the caller's cache keep their logits there from a forward to the
 * backward, which then starts from them.
 *
 * The default chunk is a compromise measured at H = 512, V = 32000: short chunks re-read the whole head and
 * its gradient too often, long ones leave the last-level cache.
 */
#include <math.h>
#include <string.h>

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
    const float *scales;            /* [rows]; NULL in the forward */
    int32_t *valid;                 /* [rows] indices of the valid rows, ascending */
    int64_t num_valid;
    int64_t cached_rows; /* of the valid ones: their logits stay in shape->cache */
    double *row_logps;   /* [rows] */
    float *chunk_logits; /* [chunk_rows][vocab_size] */
    float *chunk_hidden; /* [chunk_rows][hidden_size] */
} linear_job;

/* The parts of the workspace, by size; carved in this order. */
typedef struct linear_layout {
    int64_t chunk_rows;
    size_t logits, hidden, row_logps, valid, scales;
} linear_layout;

static linear_layout layout_of(const rpo_linear_logprob_shape *shape, bool backward) {
    const size_t budget = shape->chunk_bytes > 0 ? shape->chunk_bytes : default_chunk_bytes;
    const int64_t widest = shape->vocab_size > shape->hidden_size ? shape->vocab_size : shape->hidden_size;
    int64_t chunk_rows = (int64_t)(budget / sizeof(float) / (size_t)widest);
    if (chunk_rows < 1)
        chunk_rows = 1;
    if (chunk_rows > shape->rows)
        chunk_rows = shape->rows;
    const size_t rows = (size_t)shape->rows;
    return (linear_layout){
        .chunk_rows = chunk_rows,
        .logits = rpo_cpu_align((size_t)chunk_rows * (size_t)shape->vocab_size * sizeof(float)),
        .hidden = rpo_cpu_align((size_t)chunk_rows * (size_t)shape->hidden_size * sizeof(float)),
        .row_logps = rpo_cpu_align(rows * sizeof(double)),
        .valid = rpo_cpu_align(rows * sizeof(int32_t)),
        .scales = backward ? rpo_cpu_align(rows * sizeof(float)) : 0,
    };
}

rpo_status rpo_cpu_linear_logprob_workspace_size(rpo_context *context, size_t *bytes,
                                                 const rpo_linear_logprob_shape *shape, int backward) {
    (void)context;
    const linear_layout layout = layout_of(shape, backward != 0);
    *bytes = layout.logits + layout.hidden + layout.row_logps + layout.valid + layout.scales;
    return RPO_OK;
}

/* How many rows of logits a cache of `bytes` holds. */
static int64_t rows_in_cache(const rpo_linear_logprob_shape *shape, size_t bytes) {
    const size_t rows = bytes / sizeof(float) / (size_t)shape->vocab_size;
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

/* Log-probs of the chunk's rows; in the backward their logits become gradients. */
static void reduce_chunk(const linear_job *job, float *logits, const int32_t *valid, int64_t count) {
    const int64_t vocab_size = job->shape->vocab_size;
#pragma omp parallel for schedule(guided) num_threads(rpo_cpu_threads(job->context))
    for (int64_t i = 0; i < count; ++i) {
        const int32_t t = valid[i];
        const int32_t label = job->rows.labels[t];
        float *row = logits + i * vocab_size;
        const float label_logit = row[label];
        rpo_cpu_logsumexp lse;
        if (job->scales == NULL) {
            lse = rpo_cpu_row_logsumexp(row, vocab_size);
        } else {
            lse.max = rpo_cpu_row_max(row, vocab_size);
            lse.log_sum = rpo_cpu_row_softmax_gradient(row, row, vocab_size, lse.max, label, job->scales[t]);
        }
        job->row_logps[t] = rpo_cpu_row_logp(lse, label_logit);
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
    float *logits = cached ? (float *)job->shape->cache + begin * vocab_size : job->chunk_logits;

    if (!(cached && job->scales != NULL)) /* else the forward has left them there */
        RPO_TRY(rpo_cpu_gemm(job->context, logits, vocab_size, (rpo_cpu_matrix){hidden, hidden_size, false},
                             (rpo_cpu_matrix){job->head, hidden_size, true}, count, vocab_size, hidden_size,
                             1.0f, 0.0f));
    reduce_chunk(job, logits, valid, count);
    if (job->grad_head != NULL)
        RPO_TRY(rpo_cpu_gemm(
            job->context, job->grad_head, hidden_size, (rpo_cpu_matrix){logits, vocab_size, true},
            (rpo_cpu_matrix){hidden, hidden_size, false}, vocab_size, hidden_size, count, 1.0f, 1.0f));
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
        if (job->grad_hidden != NULL)
            memset(job->grad_hidden + (size_t)t * width, 0, width * sizeof(float));
    }
}

static rpo_status run_chunks(linear_job *job, int64_t chunk_rows) {
    prepare_rows(job);
    if (job->shape->valid_rows > 0 && job->num_valid > job->shape->valid_rows)
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT, "shape.valid_rows: is %lld; the labels have %lld",
                             (long long)job->shape->valid_rows, (long long)job->num_valid);
    if (job->num_valid == 0)
        return RPO_OK;
    /* Chunks of equal length: a short last one would use the matmul badly. */
    const int64_t num_chunks = (job->num_valid + chunk_rows - 1) / chunk_rows;
    for (int64_t chunk = 0; chunk < num_chunks; ++chunk) {
        const int64_t begin = chunk * job->num_valid / num_chunks;
        const int64_t end = (chunk + 1) * job->num_valid / num_chunks;
        RPO_TRY(run_chunk(job, begin, end - begin));
    }
    return RPO_OK;
}

static linear_job job_of(rpo_context *context, const void *hidden, const void *head, const int32_t *labels,
                         const int32_t *cu_seqlens, const rpo_linear_logprob_shape *shape, void *workspace,
                         const linear_layout *layout) {
    char *next = workspace;
    linear_job job = {.context = context, .shape = shape, .hidden = hidden, .head = head};
    job.rows = (rpo_cpu_rows){.labels = labels,
                              .cu_seqlens = cu_seqlens,
                              .num_rows = shape->rows,
                              .num_sequences = shape->num_sequences,
                              .vocab_size = shape->vocab_size,
                              .reduction = shape->reduction};
    job.cached_rows = shape->cache != NULL ? rows_in_cache(shape, shape->cache_bytes) : 0;
    if (shape->rows == 0) /* the workspace may be NULL */
        return job;
    job.chunk_logits = (float *)next;
    job.chunk_hidden = (float *)(next += layout->logits);
    job.row_logps = (double *)(next += layout->hidden);
    job.valid = (int32_t *)(next += layout->row_logps);
    return job;
}

rpo_status rpo_cpu_linear_logprob(rpo_context *context, float *sequence_logps, float *token_logps,
                                  const void *hidden, const void *head, const int32_t *labels,
                                  const int32_t *cu_seqlens, const rpo_linear_logprob_shape *shape,
                                  void *workspace, size_t workspace_size) {
    (void)workspace_size;
    const linear_layout layout = layout_of(shape, false);
    linear_job job = job_of(context, hidden, head, labels, cu_seqlens, shape, workspace, &layout);
    RPO_TRY(rpo_cpu_rows_check(&job.rows));
    RPO_TRY(run_chunks(&job, layout.chunk_rows));
    if (token_logps != NULL)
        for (int64_t t = 0; t < shape->rows; ++t)
            token_logps[t] = (float)job.row_logps[t];
    rpo_cpu_rows_reduce(sequence_logps, &job.rows, job.row_logps);
    return RPO_OK;
}

rpo_status rpo_cpu_linear_logprob_backward(rpo_context *context, void *grad_hidden, float *grad_head,
                                           float *sequence_logps, const void *hidden, const void *head,
                                           const int32_t *labels, const int32_t *cu_seqlens,
                                           const float *grad_sequence_logps,
                                           const rpo_linear_logprob_shape *shape, void *workspace,
                                           size_t workspace_size) {
    (void)workspace_size;
    const linear_layout layout = layout_of(shape, true);
    linear_job job = job_of(context, hidden, head, labels, cu_seqlens, shape, workspace, &layout);
    RPO_TRY(rpo_cpu_rows_check(&job.rows));
    job.grad_hidden = grad_hidden;
    job.grad_head = grad_head;
    if (shape->rows > 0) {
        float *scales = (float *)((char *)job.valid + layout.valid);
        rpo_cpu_rows_scales(scales, &job.rows, grad_sequence_logps);
        job.scales = scales;
    }
    RPO_TRY(run_chunks(&job, layout.chunk_rows));
    if (sequence_logps != NULL)
        rpo_cpu_rows_reduce(sequence_logps, &job.rows, job.row_logps);
    return RPO_OK;
}
