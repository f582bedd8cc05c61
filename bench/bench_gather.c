/* bench_gather.c - log-probs from logits: bound by memory, held against the copy bandwidth. */
#include <math.h>

#include "bench/packed.h"

typedef struct gather_case {
    rpo_context *context;
    rpo_logprob_shape shape;
    bench_packed packed;
    float *logits, *gradient, *token_logps, *logsumexp;
    void *workspace;
    size_t workspace_size;
} gather_case;

static rpo_status gather_case_new(gather_case *one, bench_run *run, bool backward) {
    const int64_t rows = bench_size(run, "rows", 1024), vocab_size = bench_size(run, "vocab", 32000);
    const int64_t sequences = bench_size(run, "sequences", 8);
    *one = (gather_case){.context = run->context,
                         .shape = {.struct_size = sizeof one->shape,
                                   .rows = rows,
                                   .vocab_size = vocab_size,
                                   .num_sequences = sequences,
                                   .dtype = run->options->dtype}};
    RPO_TRY(bench_sizes_check(run));
    RPO_TRY(rpo_logprob_gather_workspace_size(run->context, &one->workspace_size, &one->shape));
    RPO_TRY(bench_packed_new(&one->packed, rows, sequences, vocab_size, 100));
    one->logits = bench_random(rows * vocab_size, 8.0f, 31);
    one->gradient = backward ? rpo_calloc_array((size_t)(rows * vocab_size), sizeof(float)) : NULL;
    one->token_logps = rpo_calloc_array((size_t)rows, sizeof(float));
    one->logsumexp = rpo_calloc_array((size_t)rows, sizeof(float));
    one->workspace = rpo_alloc_array(one->workspace_size, 1);
    const bool complete = one->logits != NULL && (one->gradient != NULL || !backward) &&
                          one->token_logps != NULL && one->logsumexp != NULL && one->workspace != NULL;
    return complete ? RPO_OK : RPO_ERROR_OUT_OF_MEMORY;
}

static void gather_case_free(gather_case *one) {
    rpo_free(one->workspace);
    rpo_free(one->logsumexp);
    rpo_free(one->token_logps);
    rpo_free(one->gradient);
    rpo_free(one->logits);
    bench_packed_free(&one->packed);
}

static rpo_status run_forward(void *state) {
    gather_case *one = state;
    return rpo_logprob_gather(one->context, one->packed.sequence_logps, one->token_logps, one->logsumexp,
                              one->logits, one->packed.labels, one->packed.cu_seqlens, &one->shape,
                              one->workspace, one->workspace_size);
}

static rpo_status run_backward(void *state) {
    gather_case *one = state;
    return rpo_logprob_gather_backward(one->context, one->gradient, one->logits, one->logsumexp,
                                       one->packed.labels, one->packed.cu_seqlens, one->packed.gradients,
                                       &one->shape, one->workspace, one->workspace_size);
}

/* Up to 64 rows spread over the case, in double. */
static rpo_status check_rows(const gather_case *one, double *error) {
    const int64_t vocab_size = one->shape.vocab_size, rows = one->shape.rows;
    double *row = rpo_alloc_array((size_t)vocab_size, sizeof *row);
    if (row == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    for (int64_t t = 0; t < rows; t += (rows + 63) / 64) {
        for (int64_t v = 0; v < vocab_size; ++v)
            row[v] = (double)one->logits[t * vocab_size + v];
        const double lse = bench_logsumexp(row, vocab_size);
        const int32_t label = one->packed.labels[t];
        *error = bench_worse(*error, (double)one->token_logps[t], row[label] - lse, 1.0);
        const double scale = (double)one->packed.gradients[bench_packed_sequence(&one->packed, t)];
        for (int64_t v = 0; one->gradient != NULL && v < vocab_size; ++v)
            *error = bench_worse(*error, (double)one->gradient[t * vocab_size + v],
                                 scale * ((v == label ? 1.0 : 0.0) - exp(row[v] - lse)), fabs(scale));
    }
    rpo_free(row);
    return RPO_OK;
}

static rpo_status bench_gather(bench_run *run, bool backward) {
    bench_row *row = run->row;
    gather_case one;
    rpo_status status = gather_case_new(&one, run, backward);
    if (status == RPO_OK && backward)
        status = run_forward(&one);
    if (status == RPO_OK)
        status = bench_time(run, backward ? run_backward : run_forward, &one);
    if (status == RPO_OK)
        status = check_rows(&one, &row->error);
    const double logits = (double)one.shape.rows * (double)one.shape.vocab_size;
    row->bytes = logits * sizeof(float) * (backward ? 2.0 : 1.0);
    row->flops = logits * (backward ? 4.0 : 3.0); /* a subtraction, an exponential, a sum, a scaling */
    row->limit = BENCH_LIMIT_COPY;
    row->tolerance = 2e-6;
    row->checked = backward ? "log-probs and gradients of up to 64 rows" : "log-probs of up to 64 rows";
    row->workspace_bytes = one.workspace_size;
    gather_case_free(&one);
    return status;
}

rpo_status bench_logprob_gather(bench_run *run) {
    return bench_gather(run, false);
}

rpo_status bench_logprob_gather_backward(bench_run *run) {
    return bench_gather(run, true);
}
