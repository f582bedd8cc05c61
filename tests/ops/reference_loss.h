/*
 * reference_loss.h - oracle of the similarity, weight and loss ops: the formulas of rpo/loss.h as plain loops
 * in double, and the same loops in float32 as the yardstick of the tolerance (design: error against the
 * float64 oracle at most twice that of the plain float32 formula, plus 1e-6 relative).
 */
#ifndef RPO_TESTS_OPS_REFERENCE_LOSS_H
#define RPO_TESTS_OPS_REFERENCE_LOSS_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "rpo/rpo.h"

typedef struct reference_result {
    double loss;
    double *row_losses;    /* [m + n] */
    double *grad_chosen;   /* [m] */
    double *grad_rejected; /* [n] */
} reference_result;

static inline reference_result reference_result_new(int64_t m, int64_t n) {
    reference_result result = {0};
    result.row_losses = calloc((size_t)(m + n + 1), sizeof(double));
    result.grad_chosen = calloc((size_t)(m + 1), sizeof(double));
    result.grad_rejected = calloc((size_t)(n + 1), sizeof(double));
    return result;
}

static inline void reference_result_free(reference_result *result) {
    free(result->grad_rejected);
    free(result->grad_chosen);
    free(result->row_losses);
    *result = (reference_result){0};
}

#define REAL      double
#define REF(name) reference_double_##name
#define FN(name)  name
#include "tests/ops/reference_loss_body.h"
#undef REAL
#undef REF
#undef FN

#define REAL      float
#define REF(name) reference_float_##name
#define FN(name)  name##f
#include "tests/ops/reference_loss_body.h"
#undef REAL
#undef REF
#undef FN

/* Largest |value - expected| over an array, and largest |expected|. */
static inline double reference_error(const double *values, const double *expected, int64_t count) {
    double error = 0.0;
    for (int64_t i = 0; i < count; ++i)
        error = fmax(error, fabs(values[i] - expected[i]));
    return error;
}

static inline double reference_largest(const double *expected, int64_t count) {
    double largest = 0.0;
    for (int64_t i = 0; i < count; ++i)
        largest = fmax(largest, fabs(expected[i]));
    return largest;
}

/* What an op's float32 array may be off by. `plain` is the float32 formula's array. */
static inline double reference_tolerance(const double *plain, const double *expected, int64_t count) {
    return 2.0 * reference_error(plain, expected, count) + 1e-6 * reference_largest(expected, count) + 1e-37;
}

/* Index of the first value beyond the tolerance, or -1. A NaN or an infinity is beyond every tolerance. */
static inline int64_t reference_first_beyond(const float *values, const double *expected, int64_t count,
                                             double tolerance) {
    for (int64_t i = 0; i < count; ++i)
        if (!(fabs((double)values[i] - expected[i]) <= tolerance))
            return i;
    return -1;
}

#endif
