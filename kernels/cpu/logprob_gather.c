/*
 * logprob_gather.c - sequence log-probs from logits on the CPU.
 *
 * Rows are independent and shared out among the threads; each is summed by one thread and sequences are
 * summed in row order afterwards, so the bits do not depend on the number of threads.
 *
 * From the forward's logsumexp the backward makes one pass over a row; see softmax_row.h for what that may cost.
 */
#include <string.h>

#include "core/bump.h"
#include "kernels/cpu/logprob.h"
#include "kernels/cpu/logprob_rows.h"
#include "kernels/cpu/softmax_row.h"

static rpo_cpu_rows rows_of(const rpo_logprob_shape *shape, const rpo_logprob_inputs *inputs) {
    return (rpo_cpu_rows){.labels = inputs->labels,
                          .cu_seqlens = inputs->cu_seqlens,
                          .num_rows = shape->rows,
                          .num_sequences = shape->num_sequences,
                          .vocab_size = shape->vocab_size,
                          .reduction = shape->reduction};
}

/* The forward keeps a log-prob in double for each row, the backward a scale in float. */
rpo_status rpo_cpu_logprob_gather_workspace_size(rpo_context *context, size_t *bytes,
                                                 const rpo_logprob_shape *shape) {
    (void)context;
    rpo_bump sizes = rpo_bump_from(NULL);
    (void)rpo_bump_take(&sizes, shape->rows, sizeof(double));
    *bytes = rpo_bump_size(&sizes);
    return RPO_OK;
}

rpo_status rpo_cpu_logprob_gather(rpo_context *context, const rpo_logprob_outputs *outputs,
                                  const rpo_logprob_inputs *inputs, const rpo_logprob_shape *shape,
                                  void *workspace, size_t workspace_size) {
    (void)workspace_size;
    const rpo_cpu_rows rows = rows_of(shape, inputs);
    RPO_TRY(rpo_cpu_rows_check(&rows));
    const float *values = inputs->logits;
    const int32_t *labels = inputs->labels;
    double *row_logps = workspace;

#pragma omp parallel for schedule(guided) num_threads(rpo_cpu_threads(context))
    for (int64_t t = 0; t < shape->rows; ++t) {
        double logp = 0.0;
        float sum = 0.0f;
        if (labels[t] != RPO_IGNORE_LABEL) {
            const float *row = values + t * shape->row_stride;
            const rpo_cpu_logsumexp lse = rpo_cpu_row_logsumexp(row, shape->vocab_size);
            logp = rpo_cpu_row_logp(lse, row[labels[t]]);
            sum = rpo_cpu_row_logsumexp_rounded(lse);
        }
        row_logps[t] = logp;
        if (outputs->token_logps != NULL)
            outputs->token_logps[t] = (float)logp;
        if (outputs->logsumexp != NULL)
            outputs->logsumexp[t] = sum;
    }
    rpo_cpu_rows_reduce(outputs->sequence_logps, &rows, row_logps);
    return RPO_OK;
}

rpo_status rpo_cpu_logprob_gather_backward(rpo_context *context, void *grad_logits,
                                           const rpo_logprob_inputs *inputs, const rpo_logprob_shape *shape,
                                           void *workspace, size_t workspace_size) {
    (void)workspace_size;
    const rpo_cpu_rows rows = rows_of(shape, inputs);
    RPO_TRY(rpo_cpu_rows_check(&rows));
    const float *values = inputs->logits, *logsumexp = inputs->logsumexp;
    const int32_t *labels = inputs->labels;
    const int64_t vocab_size = shape->vocab_size;
    float *gradient = grad_logits;
    float *scales = workspace;
    rpo_cpu_rows_scales(scales, &rows, inputs->grad_sequence_logps);

#pragma omp parallel for schedule(guided) num_threads(rpo_cpu_threads(context))
    for (int64_t t = 0; t < shape->rows; ++t) {
        float *to = gradient + t * shape->row_stride;
        const float *row = values + t * shape->row_stride;
        if (labels[t] == RPO_IGNORE_LABEL)
            memset(to, 0, (size_t)vocab_size * sizeof(float));
        else if (logsumexp != NULL)
            rpo_cpu_row_softmax_gradient_from(to, row, vocab_size, logsumexp[t], labels[t], scales[t]);
        else
            rpo_cpu_row_softmax_gradient(to, row, vocab_size, rpo_cpu_row_max(row, vocab_size), labels[t],
                                         scales[t]);
    }
    return RPO_OK;
}
