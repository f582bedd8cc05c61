/*
 * linear_reference.h - linear log-prob in float64: log-probs and gradients, each with the tolerance that an op
 * of a dtype must keep to.
 *
 * Tolerance: what float32 sums of this length may lose, relative to the array's largest value (a product's error
 * is absolute in the size of what it sums). In 16 bits also twice the error of the plain formula, which is
 * computed beside the reference: logits rounded to the dtype as a framework's product leaves them, their gradient
 * too.
 */
#ifndef RPO_TESTS_OPS_LINEAR_REFERENCE_H
#define RPO_TESTS_OPS_LINEAR_REFERENCE_H

#include "tests/device_buffer.h"

/* One result, how the plain formula at the dtype gives it, and what an op may be off by. */
typedef struct expected_array {
    double *values, *plain;
    int64_t count;
    double tolerance;
} expected_array;

typedef struct linear_reference {
    expected_array token_logps, sequence_logps, logsumexp, grad_hidden, grad_head;
    double *hidden, *head, *start; /* the inputs; what grad_head is added to, 0 where it overwrites */
    int64_t hidden_size, vocab_size;
    rpo_dtype dtype;
    rpo_reduction reduction;
} linear_reference;

static inline expected_array expected_new(int64_t count) {
    return (expected_array){calloc((size_t)count + 1, sizeof(double)),
                            calloc((size_t)count + 1, sizeof(double)), count, 0.0};
}

static inline void expected_free(expected_array *array) {
    free(array->values);
    free(array->plain);
}

static inline void expected_finish(expected_array *array, double float_error, bool counts_plain) {
    double largest = 1e-30, plain_error = 0.0;
    for (int64_t i = 0; i < array->count; ++i) {
        largest = fmax(largest, fabs(array->values[i]));
        plain_error = fmax(plain_error, fabs(array->plain[i] - array->values[i]));
    }
    array->tolerance = (counts_plain ? 2.0 * plain_error : 0.0) + float_error * largest;
    cr_assert(isfinite(array->tolerance), "the plain formula is no yardstick here");
}

/* Zeros for NULL. */
static inline double *doubles_of(const device_buffer *buffer, int64_t count) {
    double *values = calloc((size_t)(count + 1), sizeof *values);
    for (int64_t i = 0; i < count && buffer != NULL; ++i)
        values[i] = (double)buffer_get(buffer, i);
    return values;
}

/* Adds row t to the gradients; returns its log-prob. `row` is room for the logits. */
static inline double linear_reference_row(linear_reference *expected, double *row, int64_t t, int32_t label,
                                          double scale, bool plain) {
    const int64_t hidden_size = expected->hidden_size, vocab_size = expected->vocab_size;
    const double *hidden = expected->hidden + t * hidden_size;
    double *grad_hidden =
        (plain ? expected->grad_hidden.plain : expected->grad_hidden.values) + t * hidden_size;
    double *grad_head = plain ? expected->grad_head.plain : expected->grad_head.values;
    for (int64_t v = 0; v < vocab_size; ++v) {
        row[v] = 0.0;
        for (int64_t h = 0; h < hidden_size; ++h)
            row[v] += hidden[h] * expected->head[v * hidden_size + h];
        if (plain)
            row[v] = (double)round_to(expected->dtype, (float)row[v]);
    }
    const double lse = reference_logsumexp(row, vocab_size);
    (plain ? expected->logsumexp.plain : expected->logsumexp.values)[t] = lse;
    for (int64_t v = 0; v < vocab_size; ++v) {
        double gradient = scale * ((v == label ? 1.0 : 0.0) - exp(row[v] - lse));
        if (plain)
            gradient = (double)round_to(expected->dtype, (float)gradient);
        for (int64_t h = 0; h < hidden_size; ++h) {
            grad_hidden[h] += gradient * expected->head[v * hidden_size + h];
            grad_head[v * hidden_size + h] += gradient * hidden[h];
        }
    }
    for (int64_t h = 0; plain && h < hidden_size; ++h)
        grad_hidden[h] = (double)round_to(expected->dtype, (float)grad_hidden[h]);
    return row[label] - lse;
}

static inline void linear_reference_sequence(linear_reference *expected, const packed *batch, int64_t s,
                                             double *row) {
    const int64_t valid = packed_valid(batch, s);
    const double scale = packed_row_scale(batch, s, expected->reduction);
    const double share = expected->reduction == RPO_REDUCTION_AVERAGE ? 1.0 / (double)valid : 1.0;
    for (int32_t t = batch->cu_seqlens[s]; t < batch->cu_seqlens[s + 1]; ++t) {
        const int32_t label = batch->labels[t];
        if (label == RPO_IGNORE_LABEL)
            continue;
        const double logp = linear_reference_row(expected, row, t, label, scale, false);
        expected->token_logps.values[t] = logp;
        expected->sequence_logps.values[s] += share * logp;
        if (expected->dtype == RPO_FLOAT32)
            continue;
        const double plain = linear_reference_row(expected, row, t, label, scale, true);
        expected->token_logps.plain[t] = plain;
        expected->sequence_logps.plain[s] += share * plain;
    }
}

/* From the buffers of a run that has not been made yet; without grad_head its gradient overwrites. `float_error` is
 * relative. */
static inline linear_reference linear_reference_new(const device_buffer *hidden, const device_buffer *head,
                                                    const device_buffer *grad_head, const packed *batch,
                                                    const rpo_linear_logprob_shape *shape,
                                                    double float_error) {
    const int64_t head_size = shape->vocab_size * shape->hidden_size;
    const int64_t hidden_count = shape->rows * shape->hidden_size;
    linear_reference expected = {.token_logps = expected_new(shape->rows),
                                 .sequence_logps = expected_new(shape->num_sequences),
                                 .logsumexp = expected_new(shape->rows),
                                 .grad_hidden = expected_new(hidden_count),
                                 .grad_head = expected_new(head_size),
                                 .hidden = doubles_of(hidden, hidden_count),
                                 .head = doubles_of(head, head_size),
                                 .start = doubles_of(grad_head, head_size),
                                 .hidden_size = shape->hidden_size,
                                 .vocab_size = shape->vocab_size,
                                 .dtype = shape->dtype,
                                 .reduction = shape->reduction};
    double *row = malloc((size_t)shape->vocab_size * sizeof *row);
    memcpy(expected.grad_head.values, expected.start, (size_t)head_size * sizeof(double));
    memcpy(expected.grad_head.plain, expected.start, (size_t)head_size * sizeof(double));
    for (int64_t s = 0; s < shape->num_sequences; ++s)
        linear_reference_sequence(&expected, batch, s, row);
    expected_array *arrays[] = {&expected.token_logps, &expected.sequence_logps, &expected.logsumexp,
                                &expected.grad_hidden, &expected.grad_head};
    for (int k = 0; k < 5; ++k)
        expected_finish(arrays[k], float_error, shape->dtype != RPO_FLOAT32);
    free(row);
    return expected;
}

static inline void linear_reference_free(linear_reference *expected) {
    free(expected->start);
    free(expected->head);
    free(expected->hidden);
    expected_free(&expected->grad_head);
    expected_free(&expected->grad_hidden);
    expected_free(&expected->logsumexp);
    expected_free(&expected->sequence_logps);
    expected_free(&expected->token_logps);
    *expected = (linear_reference){0};
}

#endif
