/*
 * model_ops_testing.h - how the tests of a decoder's ops check one: values against a plain double reference, gradients
 * as directional derivatives of that reference, exact equality between numbers of threads, outputs that begin as NaN
 * between guards.
 */
#ifndef RPO_TESTS_OPS_MODEL_OPS_TESTING_H
#define RPO_TESTS_OPS_MODEL_OPS_TESTING_H

#include "kernels/op_table.h"
#include "tests/model_testing.h"

enum { MAX_INPUTS = 3, GUARD = 64 /* floats on either side */ };
static const double value_tolerance = 5e-6;
static const double gradient_tolerance = 2e-5;
static const uint32_t guard_bits = 0x7fc0babeu; /* a NaN nobody computes */

static const int thread_counts[] = {1, 2, 3};
enum { THREAD_COUNTS = 3 };

/* Memory that starts as NaN between guards. */
static inline float *guarded(int64_t count) {
    uint32_t *memory = rpo_alloc_array((size_t)count + 2 * GUARD, sizeof *memory);
    cr_assert_not_null(memory);
    for (int64_t i = 0; i < count + 2 * GUARD; ++i)
        memory[i] = guard_bits;
    return (float *)memory + GUARD;
}

static inline float *guarded_copy(const float *values, int64_t count) {
    float *copy = guarded(count);
    memcpy(copy, values, (size_t)count * sizeof *copy);
    return copy;
}

static inline bool is_untouched(const float *value) {
    uint32_t bits;
    memcpy(&bits, value, sizeof bits);
    return bits == guard_bits;
}

static inline void release(float *values, int64_t count, const char *what) {
    for (int64_t i = 1; i <= GUARD; ++i)
        cr_expect(is_untouched(values - i) && is_untouched(values + count + i - 1),
                  "%s: wrote outside its output", what);
    rpo_free(values - GUARD);
}

/* A double reference of y = f(inputs), sizes taken from `shape`. */
typedef void (*reference)(const void *shape, const double *const inputs[], double *out);

typedef struct op_case {
    const char *what;
    reference compute;
    const void *shape;
    int num_inputs;
    const float *inputs[MAX_INPUTS];
    int64_t counts[MAX_INPUTS];
    int64_t out_count;
} op_case;

static inline double *widen(const float *values, int64_t count) {
    double *wide = rpo_alloc_array((size_t)count + 1, sizeof *wide);
    cr_assert_not_null(wide);
    for (int64_t i = 0; i < count; ++i)
        wide[i] = (double)values[i];
    return wide;
}

static inline void expect_close(const float *found, const float *wanted, int64_t count, double tolerance,
                                const char *what) {
    const double error = relative_error(found, wanted, (size_t)count);
    cr_expect(error <= tolerance, "%s: relative error %g", what, error);
}

static inline void expect_value(const op_case *c, const float *out) {
    double *inputs[MAX_INPUTS] = {NULL};
    double *wanted = rpo_calloc_array((size_t)c->out_count + 1, sizeof *wanted);
    float *narrow = test_floats((size_t)c->out_count + 1);
    for (int k = 0; k < c->num_inputs; ++k)
        inputs[k] = widen(c->inputs[k], c->counts[k]);
    c->compute(c->shape, (const double *const *)inputs, wanted);
    for (int64_t i = 0; i < c->out_count; ++i)
        narrow[i] = (float)wanted[i];
    expect_close(out, narrow, c->out_count, value_tolerance, c->what);
    for (int k = 0; k < c->num_inputs; ++k)
        rpo_free(inputs[k]);
    rpo_free(narrow);
    rpo_free(wanted);
}

/* <grad_out, f(x + h d)> in double, direction d on input k only. */
static inline double probe(const op_case *c, const float *grad_out, int k, const float *direction, double h) {
    double *inputs[MAX_INPUTS] = {NULL};
    double *out = rpo_calloc_array((size_t)c->out_count + 1, sizeof *out);
    double sum = 0.0;
    for (int i = 0; i < c->num_inputs; ++i)
        inputs[i] = widen(c->inputs[i], c->counts[i]);
    for (int64_t i = 0; i < c->counts[k]; ++i)
        inputs[k][i] += h * (double)direction[i];
    c->compute(c->shape, (const double *const *)inputs, out);
    for (int64_t i = 0; i < c->out_count; ++i)
        sum += (double)grad_out[i] * out[i];
    for (int i = 0; i < c->num_inputs; ++i)
        rpo_free(inputs[i]);
    rpo_free(out);
    return sum;
}

/* gradient of input k against central differences along three directions. */
static inline void expect_gradient(const op_case *c, const float *grad_out, int k, const float *gradient) {
    const double h = 1e-5;
    for (uint64_t trial = 0; trial < 3; ++trial) {
        float *direction = test_normals((size_t)c->counts[k], 900 + trial, 1.0);
        double along = 0.0;
        double scale = 1.0;
        for (int64_t i = 0; i < c->counts[k]; ++i) {
            along += (double)gradient[i] * (double)direction[i];
            scale += fabs((double)gradient[i] * (double)direction[i]);
        }
        const double wanted =
            (probe(c, grad_out, k, direction, h) - probe(c, grad_out, k, direction, -h)) / (2.0 * h);
        cr_expect(fabs(along - wanted) <= gradient_tolerance * scale,
                  "%s: input %d, direction %d: %.9g, expected %.9g", c->what, k, (int)trial, along, wanted);
        rpo_free(direction);
    }
}

/* The gradient that an accumulating call left on top of `before`. */
static inline void expect_added(const float *found, const float *before, const float *gradient, int64_t count,
                                const char *what) {
    float *wanted = test_floats((size_t)count + 1);
    for (int64_t i = 0; i < count; ++i)
        wanted[i] = before[i] + gradient[i];
    expect_close(found, wanted, count, 1e-6, what);
    rpo_free(wanted);
}

static inline void expect_same_bits(const float *a, const float *b, int64_t count, const char *what) {
    cr_expect_eq(memcmp(a, b, (size_t)count * sizeof *a), 0, "%s: other bits", what);
}

static inline double dot(const double *a, const double *b, int64_t count) {
    double sum = 0.0;
    for (int64_t i = 0; i < count; ++i)
        sum += a[i] * b[i];
    return sum;
}

#endif
