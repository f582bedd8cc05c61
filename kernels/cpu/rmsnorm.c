/*
 * rmsnorm.c - root-mean-square normalisation, forward and backward.
 *
 * The weight's gradient sums over all rows. Rows are cut into a number of strips that depends on nothing but
 * the shape; every strip sums its rows in order into the workspace, and the strips are added in order: the
 * same bits from any number of threads.
 */
#include "kernels/cpu/model.h"

#include <math.h>
#include <string.h>

enum { ROWS_PER_STRIP_MIN = 16, STRIPS_MAX = 64 };

static int64_t strip_count(int64_t rows) {
    const int64_t strips = (rows + ROWS_PER_STRIP_MIN - 1) / ROWS_PER_STRIP_MIN;
    return strips < STRIPS_MAX ? strips : STRIPS_MAX;
}

static float sum_of_squares(const float *x, int64_t count) {
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < count; ++i)
        sum += x[i] * x[i];
    return sum;
}

rpo_status rpo_cpu_rmsnorm(rpo_context *context, void *out, float *inverse_rms, const void *x,
                           const void *weight, int64_t rows, int64_t hidden, float eps, rpo_dtype dtype) {
    RPO_TRY(rpo_cpu_require_float32("rmsnorm", dtype));
    const float *w = weight;
#pragma omp parallel for num_threads(rpo_cpu_threads(context)) schedule(static)
    for (int64_t t = 0; t < rows; ++t) {
        const float *restrict from = (const float *)x + t * hidden;
        float *restrict to = (float *)out + t * hidden;
        const float r = 1.0f / sqrtf(sum_of_squares(from, hidden) / (float)hidden + eps);
        for (int64_t h = 0; h < hidden; ++h)
            to[h] = w[h] * (from[h] * r);
        if (inverse_rms != NULL)
            inverse_rms[t] = r;
    }
    return RPO_OK;
}

size_t rpo_cpu_rmsnorm_backward_workspace_size(rpo_context *context, int64_t rows, int64_t hidden) {
    (void)context;
    return (size_t)strip_count(rows) * (size_t)hidden * sizeof(float);
}

static void backward_row(float *restrict grad_x, float *restrict grad_weight, const float *restrict grad_out,
                         const float *restrict x, const float *restrict weight, float r, int64_t hidden,
                         bool accumulate) {
    float dot = 0.0f;
#pragma omp simd reduction(+ : dot)
    for (int64_t h = 0; h < hidden; ++h)
        dot += grad_out[h] * weight[h] * x[h];
    const float along_x = dot * r * r * r / (float)hidden;
    if (accumulate)
        for (int64_t h = 0; h < hidden; ++h)
            grad_x[h] += r * grad_out[h] * weight[h] - along_x * x[h];
    else
        for (int64_t h = 0; h < hidden; ++h)
            grad_x[h] = r * grad_out[h] * weight[h] - along_x * x[h];
    for (int64_t h = 0; h < hidden; ++h)
        grad_weight[h] += grad_out[h] * x[h] * r;
}

rpo_status rpo_cpu_rmsnorm_backward(rpo_context *context, void *grad_x, float *grad_weight,
                                    const void *grad_out, const void *x, const void *weight,
                                    const float *inverse_rms, int64_t rows, int64_t hidden, bool accumulate,
                                    rpo_dtype dtype, void *workspace, size_t workspace_size) {
    RPO_TRY(rpo_cpu_require_float32("rmsnorm_backward", dtype));
    const size_t needed = rpo_cpu_rmsnorm_backward_workspace_size(context, rows, hidden);
    RPO_TRY(rpo_cpu_require_workspace("rmsnorm_backward", workspace_size, needed));
    const int64_t strips = strip_count(rows);
    float *partial = workspace;
#pragma omp parallel for num_threads(rpo_cpu_threads(context)) schedule(static)
    for (int64_t s = 0; s < strips; ++s) {
        float *sums = partial + s * hidden;
        memset(sums, 0, (size_t)hidden * sizeof *sums);
        for (int64_t t = rows * s / strips; t < rows * (s + 1) / strips; ++t)
            backward_row((float *)grad_x + t * hidden, sums, (const float *)grad_out + t * hidden,
                         (const float *)x + t * hidden, weight, inverse_rms[t], hidden, accumulate);
    }
    for (int64_t s = 0; s < strips; ++s)
        for (int64_t h = 0; h < hidden; ++h)
            grad_weight[h] += partial[s * hidden + h];
    return RPO_OK;
}
