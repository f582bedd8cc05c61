/* bench_linear.c - log-probs from hidden states and the head: bound by matmul. */
#include <math.h>

#include "bench/packed.h"

typedef enum linear_mode { LINEAR_FORWARD, LINEAR_BACKWARD, LINEAR_FROZEN } linear_mode;

typedef struct linear_case {
    rpo_context *context;
    linear_mode mode;
    rpo_linear_logprob_shape shape;
    bench_packed packed;
    float *hidden, *head, *grad_hidden, *grad_head;
    void *workspace;
    size_t workspace_size;
} linear_case;

static rpo_status linear_case_new(linear_case *one, rpo_context *context, linear_mode mode,
                                  const rpo_linear_logprob_shape *shape, int64_t valid_percent) {
    *one = (linear_case){.context = context, .mode = mode, .shape = *shape};
    const int64_t hidden = shape->rows * shape->hidden_size, head = shape->vocab_size * shape->hidden_size;
    RPO_TRY(rpo_linear_logprob_workspace_size(context, &one->workspace_size, shape, mode != LINEAR_FORWARD));
    RPO_TRY(
        bench_packed_new(&one->packed, shape->rows, shape->num_sequences, shape->vocab_size, valid_percent));
    one->hidden = bench_random(hidden, 1.0f, 41);
    one->head = bench_random(head, 4.0f / sqrtf((float)shape->hidden_size), 42);
    one->grad_hidden = rpo_calloc_array((size_t)hidden, sizeof(float));
    one->grad_head = mode == LINEAR_BACKWARD ? rpo_calloc_array((size_t)head, sizeof(float)) : NULL;
    one->workspace = rpo_alloc_array(one->workspace_size, 1);
    const bool complete = one->hidden != NULL && one->head != NULL && one->grad_hidden != NULL &&
                          (one->grad_head != NULL || mode != LINEAR_BACKWARD) && one->workspace != NULL;
    return complete ? RPO_OK : RPO_ERROR_OUT_OF_MEMORY;
}

static void linear_case_free(linear_case *one) {
    rpo_free(one->workspace);
    rpo_free(one->grad_head);
    rpo_free(one->grad_hidden);
    rpo_free(one->head);
    rpo_free(one->hidden);
    bench_packed_free(&one->packed);
}

static rpo_status linear_run(void *state) {
    linear_case *one = state;
    if (one->mode == LINEAR_FORWARD)
        return rpo_linear_logprob(one->context, one->packed.sequence_logps, NULL, one->hidden, one->head,
                                  one->packed.labels, one->packed.cu_seqlens, &one->shape, one->workspace,
                                  one->workspace_size);
    return rpo_linear_logprob_backward(one->context, one->grad_hidden, one->grad_head,
                                       one->packed.sequence_logps, one->hidden, one->head, one->packed.labels,
                                       one->packed.cu_seqlens, one->packed.gradients, &one->shape,
                                       one->workspace, one->workspace_size);
}

/* What the op should have given, in double. */
typedef struct linear_reference {
    double *row, *grad_hidden, *grad_head;
} linear_reference;

/* Adds one row's gradients; returns its log-prob. */
static double reference_row(const linear_reference *reference, const linear_case *one, int64_t t) {
    const int64_t hidden_size = one->shape.hidden_size, vocab_size = one->shape.vocab_size;
    const double scale = (double)one->packed.gradients[bench_packed_sequence(&one->packed, t)];
    const float *hidden = one->hidden + t * hidden_size;
    for (int64_t v = 0; v < vocab_size; ++v) {
        reference->row[v] = 0.0;
        for (int64_t h = 0; h < hidden_size; ++h)
            reference->row[v] += (double)hidden[h] * (double)one->head[v * hidden_size + h];
    }
    const double lse = bench_logsumexp(reference->row, vocab_size);
    const double logp = reference->row[one->packed.labels[t]] - lse;
    for (int64_t v = 0; v < vocab_size; ++v) {
        const double d = scale * ((v == one->packed.labels[t] ? 1.0 : 0.0) - exp(reference->row[v] - lse));
        for (int64_t h = 0; h < hidden_size; ++h) {
            reference->grad_hidden[t * hidden_size + h] += d * (double)one->head[v * hidden_size + h];
            reference->grad_head[v * hidden_size + h] += d * (double)hidden[h];
        }
    }
    return logp;
}

/* Errors relative to the largest entry: that of a matmul is absolute in the size of what it sums. */
static double array_error(double worst, const float *found, const double *expected, int64_t count) {
    double largest = 0.0;
    for (int64_t i = 0; i < count; ++i)
        largest = fmax(largest, fabs(expected[i]));
    for (int64_t i = 0; found != NULL && i < count; ++i)
        worst = bench_worse(worst, (double)found[i], expected[i], largest);
    return worst;
}

static rpo_status linear_error(const linear_case *one, double *error) {
    const int64_t hidden = one->shape.rows * one->shape.hidden_size;
    const int64_t head = one->shape.vocab_size * one->shape.hidden_size;
    linear_reference reference = {.row = rpo_alloc_array((size_t)one->shape.vocab_size, sizeof(double)),
                                  .grad_hidden = rpo_calloc_array((size_t)hidden, sizeof(double)),
                                  .grad_head = rpo_calloc_array((size_t)head, sizeof(double))};
    const bool complete =
        reference.row != NULL && reference.grad_hidden != NULL && reference.grad_head != NULL;
    for (int64_t s = 0; complete && s < one->shape.num_sequences; ++s) {
        double logp = 0.0;
        for (int32_t t = one->packed.cu_seqlens[s]; t < one->packed.cu_seqlens[s + 1]; ++t)
            if (one->packed.labels[t] != RPO_IGNORE_LABEL)
                logp += reference_row(&reference, one, t);
        *error = bench_worse(*error, (double)one->packed.sequence_logps[s], logp, 1.0);
    }
    if (complete && one->mode != LINEAR_FORWARD) {
        *error = array_error(*error, one->grad_hidden, reference.grad_hidden, hidden);
        *error = array_error(*error, one->grad_head, reference.grad_head, head);
    }
    rpo_free(reference.grad_head);
    rpo_free(reference.grad_hidden);
    rpo_free(reference.row);
    return complete ? RPO_OK : RPO_ERROR_OUT_OF_MEMORY;
}

static rpo_status check_twin(bench_run *run, linear_mode mode, int64_t hidden_size) {
    const rpo_linear_logprob_shape shape = {.struct_size = sizeof shape,
                                            .rows = 67,
                                            .hidden_size = hidden_size,
                                            .vocab_size = 401,
                                            .num_sequences = 5,
                                            .dtype = run->options->dtype,
                                            .chunk_bytes = 24 * 401 * sizeof(float)};
    linear_case twin;
    rpo_status status = linear_case_new(&twin, run->context, mode, &shape, 60);
    if (status == RPO_OK)
        status = linear_run(&twin);
    if (status == RPO_OK)
        status = linear_error(&twin, &run->row->error);
    linear_case_free(&twin);
    return status;
}

static rpo_status bench_linear(bench_run *run, linear_mode mode) {
    bench_row *row = run->row;
    const int64_t rows = bench_size(run, "rows", 2048), hidden_size = bench_size(run, "hidden", 512);
    const int64_t vocab_size = bench_size(run, "vocab", 32000), sequences = bench_size(run, "sequences", 8);
    const int64_t valid_percent = bench_size(run, "valid_percent", 100);
    const int64_t chunk_kib = bench_size(run, "chunk_kib", 0);
    RPO_TRY(bench_sizes_check(run));
    const rpo_linear_logprob_shape shape = {.struct_size = sizeof shape,
                                            .rows = rows,
                                            .hidden_size = hidden_size,
                                            .vocab_size = vocab_size,
                                            .num_sequences = sequences,
                                            .dtype = run->options->dtype,
                                            .chunk_bytes = (size_t)chunk_kib << 10};
    const double valid = (double)rows * (double)valid_percent / 100.0;
    const double product = 2.0 * valid * (double)hidden_size * (double)vocab_size;
    row->limit = BENCH_LIMIT_MATMUL;
    row->flops = product * (mode == LINEAR_FORWARD ? 1.0 : mode == LINEAR_FROZEN ? 2.0 : 3.0);
    row->bytes = sizeof(float) * (double)hidden_size *
                 (valid * (mode == LINEAR_FORWARD ? 1.0 : 2.0) +
                  (double)vocab_size * (mode == LINEAR_BACKWARD ? 3.0 : 1.0));
    row->tolerance = 5e-6;
    row->checked = mode == LINEAR_FORWARD ? "log-probs of a 67 x 401 twin" : "gradients of a 67 x 401 twin";
    RPO_TRY(check_twin(run, mode, hidden_size));

    linear_case one;
    rpo_status status = linear_case_new(&one, run->context, mode, &shape, valid_percent);
    if (status == RPO_OK) {
        row->workspace_bytes = one.workspace_size;
        status = bench_time(run, linear_run, &one);
    }
    linear_case_free(&one);
    return status;
}

rpo_status bench_linear_logprob(bench_run *run) {
    return bench_linear(run, LINEAR_FORWARD);
}

rpo_status bench_linear_logprob_backward(bench_run *run) {
    return bench_linear(run, LINEAR_BACKWARD);
}

rpo_status bench_linear_logprob_backward_frozen(bench_run *run) {
    return bench_linear(run, LINEAR_FROZEN);
}
