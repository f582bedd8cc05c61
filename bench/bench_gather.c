/* bench_gather.c - log-probs from logits: bound by memory, held against the copy bandwidth. */
#include <math.h>

#include "bench/packed.h"

typedef struct gather_case {
    rpo_context *context;
    rpo_logprob_shape shape;
    bench_packed packed;
    bench_array logits, gradient, token_logps, logsumexp, workspace;
} gather_case;

static rpo_status gather_case_new(gather_case *one, bench_run *run, bool backward) {
    rpo_context *context = run->context;
    const rpo_dtype dtype = run->row->dtype;
    const int64_t rows = bench_size(run, "rows", 1024), vocab_size = bench_size(run, "vocab", 32000);
    const int64_t sequences = bench_size(run, "sequences", 8);
    *one = (gather_case){.context = context,
                         .shape = {.struct_size = sizeof one->shape,
                                   .rows = rows,
                                   .vocab_size = vocab_size,
                                   .num_sequences = sequences,
                                   .dtype = dtype}};
    size_t workspace_size = 0;
    RPO_TRY(bench_sizes_check(run));
    RPO_TRY(rpo_logprob_gather_workspace_size(context, &workspace_size, &one->shape));
    RPO_TRY(bench_packed_new(&one->packed, context, rows, sequences, vocab_size, 100));
    RPO_TRY(bench_array_random(&one->logits, context, rows * vocab_size, dtype, 8.0f, 31));
    if (backward)
        RPO_TRY(bench_array_output(&one->gradient, context, rows * vocab_size, dtype));
    RPO_TRY(bench_array_output(&one->token_logps, context, rows, RPO_FLOAT32));
    RPO_TRY(bench_array_output(&one->logsumexp, context, rows, RPO_FLOAT32));
    return bench_array_new(&one->workspace, context, workspace_size);
}

static void gather_case_free(gather_case *one) {
    bench_array_free(&one->workspace);
    bench_array_free(&one->logsumexp);
    bench_array_free(&one->token_logps);
    bench_array_free(&one->gradient);
    bench_array_free(&one->logits);
    bench_packed_free(&one->packed);
}

static rpo_logprob_inputs inputs_of(const gather_case *one) {
    return (rpo_logprob_inputs){.struct_size = sizeof(rpo_logprob_inputs),
                                .logits = one->logits.data,
                                .labels = one->packed.labels_in.data,
                                .cu_seqlens = one->packed.cu_seqlens_in.data,
                                .logsumexp = one->logsumexp.data,
                                .grad_sequence_logps = one->packed.gradients.data};
}

static rpo_status run_forward(void *state) {
    gather_case *one = state;
    const rpo_logprob_inputs inputs = inputs_of(one);
    const rpo_logprob_outputs outputs = {.struct_size = sizeof outputs,
                                         .sequence_logps = one->packed.sequence_logps.data,
                                         .token_logps = one->token_logps.data,
                                         .logsumexp = one->logsumexp.data};
    return rpo_logprob_gather(one->context, &outputs, &inputs, &one->shape, one->workspace.data,
                              one->workspace.bytes);
}

static rpo_status run_backward(void *state) {
    gather_case *one = state;
    const rpo_logprob_inputs inputs = inputs_of(one);
    return rpo_logprob_gather_backward(one->context, one->gradient.data, &inputs, &one->shape,
                                       one->workspace.data, one->workspace.bytes);
}

/* One row in double. `row` and `gradient` have room for a row each. */
static rpo_status check_row(const gather_case *one, int64_t t, double *row, double *gradient, double *error) {
    const int64_t vocab_size = one->shape.vocab_size;
    const int32_t label = one->packed.labels[t];
    double found = 0.0;
    RPO_TRY(bench_array_read(&one->logits, t * vocab_size, vocab_size, row));
    RPO_TRY(bench_array_read(&one->token_logps, t, 1, &found));
    const double lse = bench_logsumexp(row, vocab_size);
    *error = bench_worse(*error, found, row[label] - lse, 1.0);
    if (one->gradient.data == NULL)
        return RPO_OK;
    const double scale = one->packed.scales[bench_packed_sequence(&one->packed, t)];
    RPO_TRY(bench_array_read(&one->gradient, t * vocab_size, vocab_size, gradient));
    for (int64_t v = 0; v < vocab_size; ++v)
        *error = bench_worse(*error, gradient[v], scale * ((v == label ? 1.0 : 0.0) - exp(row[v] - lse)),
                             fabs(scale));
    return RPO_OK;
}

/* Up to 64 rows spread over the case. */
static rpo_status check_rows(const gather_case *one, double *error) {
    const int64_t rows = one->shape.rows;
    double *row = rpo_alloc_array((size_t)one->shape.vocab_size, sizeof *row);
    double *gradient = rpo_alloc_array((size_t)one->shape.vocab_size, sizeof *gradient);
    rpo_status status = row != NULL && gradient != NULL ? RPO_OK : RPO_ERROR_OUT_OF_MEMORY;
    for (int64_t t = 0; t < rows && status == RPO_OK; t += (rows + 63) / 64)
        status = check_row(one, t, row, gradient, error);
    rpo_free(gradient);
    rpo_free(row);
    return status;
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
    row->bytes = logits * (double)rpo_dtype_size(row->dtype) * (backward ? 2.0 : 1.0);
    row->flops = logits * (backward ? 4.0 : 3.0); /* a subtraction, an exponential, a sum, a scaling */
    row->limit = BENCH_LIMIT_COPY;
    row->tolerance = backward ? fmax(2e-6, bench_rounding(row->dtype)) : 2e-6; /* what is stored is rounded */
    row->checked = backward ? "log-probs and gradients of up to 64 rows" : "log-probs of up to 64 rows";
    row->workspace_bytes = one.workspace.bytes;
    gather_case_free(&one);
    return status;
}

rpo_status bench_logprob_gather(bench_run *run) {
    return bench_gather(run, false);
}

rpo_status bench_logprob_gather_backward(bench_run *run) {
    return bench_gather(run, true);
}
