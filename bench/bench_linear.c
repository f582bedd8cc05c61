/* bench_linear.c - log-probs from hidden states and the head: bound by matmul. */
#include <math.h>

#include "bench/packed.h"

typedef enum linear_mode { LINEAR_FORWARD, LINEAR_BACKWARD, LINEAR_FROZEN } linear_mode;

typedef struct linear_case {
    rpo_context *context;
    linear_mode mode;
    rpo_linear_logprob_shape shape;
    bench_packed packed;
    bench_array hidden, head, grad_hidden, grad_head, workspace;
} linear_case;

static rpo_status linear_case_new(linear_case *one, rpo_context *context, linear_mode mode,
                                  const rpo_linear_logprob_shape *shape, int64_t valid_percent) {
    *one = (linear_case){.context = context, .mode = mode, .shape = *shape};
    const rpo_dtype dtype = shape->dtype;
    const int64_t hidden = shape->rows * shape->hidden_size, head = shape->vocab_size * shape->hidden_size;
    RPO_TRY(bench_packed_new(&one->packed, context, shape->rows, shape->num_sequences, shape->vocab_size,
                             valid_percent));
    one->shape.valid_rows = one->packed.valid_rows;
    one->shape.frozen_head = mode == LINEAR_FROZEN;
    size_t workspace_size = 0;
    RPO_TRY(rpo_linear_logprob_workspace_size(context, &workspace_size, &one->shape, mode != LINEAR_FORWARD));
    RPO_TRY(bench_array_random(&one->hidden, context, hidden, dtype, 1.0f, 41));
    RPO_TRY(
        bench_array_random(&one->head, context, head, dtype, 4.0f / sqrtf((float)shape->hidden_size), 42));
    if (mode != LINEAR_FORWARD)
        RPO_TRY(bench_array_output(&one->grad_hidden, context, hidden, dtype));
    if (mode == LINEAR_BACKWARD) { /* added to, so it starts at 0 */
        RPO_TRY(bench_array_output(&one->grad_head, context, head, RPO_FLOAT32));
        RPO_TRY(context->backend->device_ops->fill(context, one->grad_head.data, 0, one->grad_head.bytes));
    }
    return bench_array_new(&one->workspace, context, workspace_size);
}

static void linear_case_free(linear_case *one) {
    bench_array_free(&one->workspace);
    bench_array_free(&one->grad_head);
    bench_array_free(&one->grad_hidden);
    bench_array_free(&one->head);
    bench_array_free(&one->hidden);
    bench_packed_free(&one->packed);
}

static rpo_status linear_run(void *state) {
    linear_case *one = state;
    const bench_packed *packed = &one->packed;
    const rpo_linear_logprob_inputs inputs = {.struct_size = sizeof inputs,
                                              .hidden = one->hidden.data,
                                              .head = one->head.data,
                                              .labels = packed->labels_in.data,
                                              .cu_seqlens = packed->cu_seqlens_in.data,
                                              .grad_sequence_logps = packed->gradients.data};
    const rpo_linear_logprob_outputs outputs = {.struct_size = sizeof outputs,
                                                .sequence_logps = packed->sequence_logps.data};
    const rpo_linear_logprob_gradients gradients = {.struct_size = sizeof gradients,
                                                    .grad_hidden = one->grad_hidden.data,
                                                    .grad_head = one->grad_head.data,
                                                    .accumulate_head = 1,
                                                    .sequence_logps = packed->sequence_logps.data};
    if (one->mode == LINEAR_FORWARD)
        return rpo_linear_logprob(one->context, &outputs, NULL, &inputs, &one->shape, one->workspace.data,
                                  one->workspace.bytes);
    return rpo_linear_logprob_backward(one->context, &gradients, NULL, &inputs, &one->shape,
                                       one->workspace.data, one->workspace.bytes);
}

/* The inputs as the op saw them, and what it should have given, in double. */
typedef struct linear_reference {
    double *hidden, *head, *row, *grad_hidden, *grad_head;
} linear_reference;

static rpo_status reference_new(linear_reference *reference, const linear_case *one) {
    *reference = (linear_reference){0};
    const int64_t hidden = one->shape.rows * one->shape.hidden_size;
    const int64_t head = one->shape.vocab_size * one->shape.hidden_size;
    RPO_TRY(bench_array_read_all(&one->hidden, &reference->hidden));
    RPO_TRY(bench_array_read_all(&one->head, &reference->head));
    reference->row = rpo_alloc_array((size_t)one->shape.vocab_size, sizeof(double));
    reference->grad_hidden = rpo_calloc_array((size_t)hidden, sizeof(double));
    reference->grad_head = rpo_calloc_array((size_t)head, sizeof(double));
    return reference->row != NULL && reference->grad_hidden != NULL && reference->grad_head != NULL
               ? RPO_OK
               : RPO_ERROR_OUT_OF_MEMORY;
}

static void reference_free(linear_reference *reference) {
    rpo_free(reference->grad_head);
    rpo_free(reference->grad_hidden);
    rpo_free(reference->row);
    rpo_free(reference->head);
    rpo_free(reference->hidden);
}

/* Adds one row's gradients; returns its log-prob. */
static double reference_row(const linear_reference *reference, const linear_case *one, int64_t t) {
    const int64_t hidden_size = one->shape.hidden_size, vocab_size = one->shape.vocab_size;
    const double scale = one->packed.scales[bench_packed_sequence(&one->packed, t)];
    const double *hidden = reference->hidden + t * hidden_size;
    for (int64_t v = 0; v < vocab_size; ++v) {
        reference->row[v] = 0.0;
        for (int64_t h = 0; h < hidden_size; ++h)
            reference->row[v] += hidden[h] * reference->head[v * hidden_size + h];
    }
    const double lse = bench_logsumexp(reference->row, vocab_size);
    const double logp = reference->row[one->packed.labels[t]] - lse;
    for (int64_t v = 0; v < vocab_size; ++v) {
        const double d = scale * ((v == one->packed.labels[t] ? 1.0 : 0.0) - exp(reference->row[v] - lse));
        for (int64_t h = 0; h < hidden_size; ++h) {
            reference->grad_hidden[t * hidden_size + h] += d * reference->head[v * hidden_size + h];
            reference->grad_head[v * hidden_size + h] += d * hidden[h];
        }
    }
    return logp;
}

/* Errors relative to the largest entry: that of a matmul is absolute in the size of what it sums. */
static rpo_status array_error(double *error, const bench_array *array, const double *expected) {
    double *found = NULL, largest = 0.0;
    if (array->data == NULL)
        return RPO_OK;
    const rpo_status status = bench_array_read_all(array, &found);
    const int64_t count = (int64_t)(array->bytes / rpo_dtype_size(array->dtype));
    for (int64_t i = 0; i < count; ++i)
        largest = fmax(largest, fabs(expected[i]));
    for (int64_t i = 0; i < count && status == RPO_OK; ++i)
        *error = bench_worse(*error, found[i], expected[i], largest);
    rpo_free(found);
    return status;
}

static rpo_status compare(const linear_reference *reference, const linear_case *one, double *error) {
    for (int64_t s = 0; s < one->shape.num_sequences; ++s) {
        double logp = 0.0, found = 0.0;
        for (int32_t t = one->packed.cu_seqlens[s]; t < one->packed.cu_seqlens[s + 1]; ++t)
            if (one->packed.labels[t] != RPO_IGNORE_LABEL)
                logp += reference_row(reference, one, t);
        RPO_TRY(bench_array_read(&one->packed.sequence_logps, s, 1, &found));
        *error = bench_worse(*error, found, logp, 1.0);
    }
    RPO_TRY(array_error(error, &one->grad_hidden, reference->grad_hidden));
    return array_error(error, &one->grad_head, reference->grad_head);
}

static rpo_status linear_error(const linear_case *one, double *error) {
    linear_reference reference;
    rpo_status status = reference_new(&reference, one);
    if (status == RPO_OK)
        status = compare(&reference, one, error);
    reference_free(&reference);
    return status;
}

static rpo_status check_twin(bench_run *run, linear_mode mode, int64_t hidden_size) {
    const rpo_linear_logprob_shape shape = {.struct_size = sizeof shape,
                                            .rows = 67,
                                            .hidden_size = hidden_size,
                                            .vocab_size = 401,
                                            .num_sequences = 5,
                                            .dtype = run->row->dtype,
                                            .chunk_bytes =
                                                (size_t)24 * 401 * rpo_dtype_size(run->row->dtype)};
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
                                            .dtype = run->row->dtype,
                                            .chunk_bytes = (size_t)chunk_kib << 10};
    const double valid = (double)rows * (double)valid_percent / 100.0;
    const double product = 2.0 * valid * (double)hidden_size * (double)vocab_size;
    row->limit = BENCH_LIMIT_MATMUL;
    row->flops = product * (mode == LINEAR_FORWARD ? 1.0 : mode == LINEAR_FROZEN ? 2.0 : 3.0);
    const double size =
        (double)rpo_dtype_size(row->dtype); /* the head's gradient is float32: read, added to */
    row->bytes = (double)hidden_size *
                 (size * valid * (mode == LINEAR_FORWARD ? 1.0 : 2.0) +
                  (double)vocab_size * (size + (mode == LINEAR_BACKWARD ? 2.0 * sizeof(float) : 0.0)));
    row->tolerance = mode == LINEAR_FORWARD ? 5e-6 : fmax(5e-6, 2.0 * bench_rounding(row->dtype));
    row->checked = mode == LINEAR_FORWARD ? "log-probs of a 67 x 401 twin" : "gradients of a 67 x 401 twin";
    RPO_TRY(check_twin(run, mode, hidden_size));

    linear_case one;
    rpo_status status = linear_case_new(&one, run->context, mode, &shape, valid_percent);
    if (status == RPO_OK) {
        row->workspace_bytes = one.workspace.bytes;
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
