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

#include "core/bump.h"

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
                           const void *weight, const rpo_norm_shape *shape) {
    RPO_TRY(rpo_cpu_require_float32("rmsnorm", shape->dtype));
    const int64_t hidden = shape->hidden_size;
    const float *w = weight;
#pragma omp parallel for num_threads(rpo_cpu_threads(context)) schedule(static)
    for (int64_t t = 0; t < shape->rows; ++t) {
        const float *restrict from = (const float *)x + t * hidden;
        float *restrict to = (float *)out + t * hidden;
        const float r = 1.0f / sqrtf(sum_of_squares(from, hidden) / (float)hidden + shape->eps);
        for (int64_t h = 0; h < hidden; ++h)
            to[h] = w[h] * (from[h] * r);
        if (inverse_rms != NULL)
            inverse_rms[t] = r;
    }
    return RPO_OK;
}

static size_t lay_out(float **partial, void *workspace, const rpo_norm_shape *shape) {
    rpo_bump from = rpo_bump_from(workspace);
    *partial = rpo_bump_take(&from, strip_count(shape->rows) * shape->hidden_size, sizeof **partial);
    return rpo_bump_size(&from);
}

size_t rpo_cpu_rmsnorm_backward_workspace_size(rpo_context *context, const rpo_norm_shape *shape) {
    (void)context;
    float *partial = NULL;
    return lay_out(&partial, NULL, shape);
}

static void backward_row(float *restrict grad_x, const float *restrict grad_out, const float *restrict x,
                         const float *restrict weight, float r, int64_t hidden, bool accumulate) {
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
}

static void add_weight_row(float *restrict sums, const float *restrict grad_out, const float *restrict x,
                           float r, int64_t hidden) {
    for (int64_t h = 0; h < hidden; ++h)
        sums[h] += grad_out[h] * x[h] * r;
}

static void add_strips(float *restrict grad_weight, const float *restrict partial, int64_t strips,
                       int64_t hidden, bool accumulate) {
    if (!accumulate)
        memset(grad_weight, 0, (size_t)hidden * sizeof *grad_weight);
    for (int64_t s = 0; s < strips; ++s)
        for (int64_t h = 0; h < hidden; ++h)
            grad_weight[h] += partial[s * hidden + h];
}

rpo_status rpo_cpu_rmsnorm_backward(rpo_context *context, const rpo_rmsnorm_gradients *gradients,
                                    const void *grad_out, const void *x, const void *weight,
                                    const float *inverse_rms, const rpo_norm_shape *shape, void *workspace,
                                    size_t workspace_size) {
    RPO_TRY(rpo_cpu_require_float32("rmsnorm_backward", shape->dtype));
    RPO_TRY(rpo_cpu_require_workspace("rmsnorm_backward", workspace_size,
                                      rpo_cpu_rmsnorm_backward_workspace_size(context, shape)));
    const int64_t rows = shape->rows, hidden = shape->hidden_size, strips = strip_count(rows);
    const bool trained = gradients->grad_weight != NULL;
    float *partial = NULL;
    lay_out(&partial, workspace, shape);
#pragma omp parallel for num_threads(rpo_cpu_threads(context)) schedule(static)
    for (int64_t s = 0; s < strips; ++s) {
        float *sums = partial + s * hidden;
        if (trained)
            memset(sums, 0, (size_t)hidden * sizeof *sums);
        for (int64_t t = rows * s / strips; t < rows * (s + 1) / strips; ++t) {
            const float *grad_row = (const float *)grad_out + t * hidden;
            const float *x_row = (const float *)x + t * hidden;
            backward_row((float *)gradients->grad_x + t * hidden, grad_row, x_row, weight, inverse_rms[t],
                         hidden, gradients->accumulate_x);
            if (trained)
                add_weight_row(sums, grad_row, x_row, inverse_rms[t], hidden);
        }
    }
    if (trained)
        add_strips(gradients->grad_weight, partial, strips, hidden, gradients->accumulate_weight);
    return RPO_OK;
}
