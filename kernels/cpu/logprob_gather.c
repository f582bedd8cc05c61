/*
 * logprob_gather.c - sequence log-probs from logits on the CPU.
 *
 * Rows are independent and shared out among the threads; each is summed by one thread and sequences are
 * summed in row order afterwards, so the bits do not depend on the number of threads.
 *
 * The backward normalises by its own sum of exponentials even when the forward's logsumexp is given: as a
 * float32 it is off by up to 5e-4 for logits of 1e4, as a shift that does not matter. It saves the pass for
 * the maximum.
 */
#include <math.h>
#include <string.h>

#include "kernels/cpu/logprob.h"
#include "kernels/cpu/logprob_rows.h"
#include "kernels/cpu/softmax_row.h"

static rpo_cpu_rows rows_of(const rpo_logprob_shape *shape, const int32_t *labels,
                            const int32_t *cu_seqlens) {
    return (rpo_cpu_rows){.labels = labels,
                          .cu_seqlens = cu_seqlens,
                          .num_rows = shape->rows,
                          .num_sequences = shape->num_sequences,
                          .vocab_size = shape->vocab_size,
                          .reduction = shape->reduction};
}

/* The forward keeps a log-prob in double for each row, the backward a scale in float. */
rpo_status rpo_cpu_logprob_gather_workspace_size(rpo_context *context, size_t *bytes,
                                                 const rpo_logprob_shape *shape) {
    (void)context;
    *bytes = rpo_cpu_align((size_t)shape->rows * sizeof(double));
    return RPO_OK;
}

rpo_status rpo_cpu_logprob_gather(rpo_context *context, float *sequence_logps, float *token_logps,
                                  float *logsumexp, const void *logits, const int32_t *labels,
                                  const int32_t *cu_seqlens, const rpo_logprob_shape *shape, void *workspace,
                                  size_t workspace_size) {
    (void)workspace_size;
    const rpo_cpu_rows rows = rows_of(shape, labels, cu_seqlens);
    RPO_TRY(rpo_cpu_rows_check(&rows));
    const float *values = logits;
    double *row_logps = workspace;

#pragma omp parallel for schedule(guided) num_threads(rpo_cpu_threads(context))
    for (int64_t t = 0; t < shape->rows; ++t) {
        double logp = 0.0;
        float sum = 0.0f;
        if (labels[t] != RPO_IGNORE_LABEL) {
            const float *row = values + t * shape->row_stride;
            const rpo_cpu_logsumexp lse = rpo_cpu_row_logsumexp(row, shape->vocab_size);
            logp = rpo_cpu_row_logp(lse, row[labels[t]]);
            sum = (float)((double)lse.max + lse.log_sum);
        }
        row_logps[t] = logp;
        if (token_logps != NULL)
            token_logps[t] = (float)logp;
        if (logsumexp != NULL)
            logsumexp[t] = sum;
    }
    rpo_cpu_rows_reduce(sequence_logps, &rows, row_logps);
    return RPO_OK;
}

rpo_status rpo_cpu_logprob_gather_backward(rpo_context *context, void *grad_logits, const void *logits,
                                           const float *logsumexp, const int32_t *labels,
                                           const int32_t *cu_seqlens, const float *grad_sequence_logps,
                                           const rpo_logprob_shape *shape, void *workspace,
                                           size_t workspace_size) {
    (void)workspace_size;
    const rpo_cpu_rows rows = rows_of(shape, labels, cu_seqlens);
    RPO_TRY(rpo_cpu_rows_check(&rows));
    const float *values = logits;
    float *gradient = grad_logits;
    float *scales = workspace;
    rpo_cpu_rows_scales(scales, &rows, grad_sequence_logps);

#pragma omp parallel for schedule(guided) num_threads(rpo_cpu_threads(context))
    for (int64_t t = 0; t < shape->rows; ++t) {
        float *gradient_row = gradient + t * shape->row_stride;
        if (labels[t] == RPO_IGNORE_LABEL) {
            memset(gradient_row, 0, (size_t)shape->vocab_size * sizeof(float));
            continue;
        }
        const float *row = values + t * shape->row_stride;
        const float shift = logsumexp != NULL ? logsumexp[t] : rpo_cpu_row_max(row, shape->vocab_size);
        rpo_cpu_row_softmax_gradient(gradient_row, row, shape->vocab_size, shift, labels[t], scales[t]);
    }
    return RPO_OK;
}
