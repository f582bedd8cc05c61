/*
 * optimizer.c - AdamW, RMSprop and the gradient norm on the CPU: one pass over memory each.
 *
 * Scalars of a step are formed in double, as PyTorch forms them, and rounded once; the elementwise work is
 * float32.
 */
#include "kernels/cpu/optimizer.h"

#include <math.h>

rpo_status rpo_cpu_adamw(rpo_context *context, float *parameter, float *first_moment, float *second_moment,
                         const float *gradient, int64_t count, const rpo_optimizer_options *options) {
    if (options->step < 1)
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT, "options.step: is %lld; must be 1 or more",
                             (long long)options->step);
    const double correction1 = 1.0 - pow((double)options->beta1, (double)options->step);
    const double correction2 = 1.0 - pow((double)options->beta2, (double)options->step);
    const float step_size = (float)((double)options->learning_rate / correction1);
    const float root_scale = (float)(1.0 / sqrt(correction2));
    const float keep = (float)(1.0 - (double)options->learning_rate * (double)options->weight_decay);
    const float beta1 = options->beta1, beta2 = options->beta2, eps = options->eps;
    const float rest1 = (float)(1.0 - (double)beta1), rest2 = (float)(1.0 - (double)beta2);
    const float gradient_scale = options->gradient_scale;

#pragma omp parallel for simd schedule(static) num_threads(rpo_cpu_threads(context))
    for (int64_t i = 0; i < count; ++i) {
        const float g = gradient[i] * gradient_scale;
        const float m = beta1 * first_moment[i] + rest1 * g;
        const float v = beta2 * second_moment[i] + rest2 * g * g;
        first_moment[i] = m;
        second_moment[i] = v;
        parameter[i] = parameter[i] * keep - step_size * m / (sqrtf(v) * root_scale + eps);
    }
    return RPO_OK;
}

rpo_status rpo_cpu_rmsprop(rpo_context *context, float *parameter, float *square_average,
                           const float *gradient, int64_t count, const rpo_optimizer_options *options) {
    const float learning_rate = options->learning_rate, weight_decay = options->weight_decay;
    const float alpha = options->alpha, rest = (float)(1.0 - (double)options->alpha), eps = options->eps;
    const float gradient_scale = options->gradient_scale;

#pragma omp parallel for simd schedule(static) num_threads(rpo_cpu_threads(context))
    for (int64_t i = 0; i < count; ++i) {
        const float g = gradient[i] * gradient_scale + weight_decay * parameter[i];
        const float square = alpha * square_average[i] + rest * g * g;
        square_average[i] = square;
        parameter[i] -= learning_rate * g / (sqrtf(square) + eps);
    }
    return RPO_OK;
}

rpo_status rpo_cpu_sum_of_squares(rpo_context *context, double *sum, const float *values, int64_t count) {
    enum { SLICES = 256 }; /* fixed, so that the order of the sum does not depend on the number of threads */
    double slice_sums[SLICES];

#pragma omp parallel for schedule(static) num_threads(rpo_cpu_threads(context))
    for (int slice = 0; slice < SLICES; ++slice) {
        const int64_t begin = count / SLICES * slice + count % SLICES * slice / SLICES;
        const int64_t end = count / SLICES * (slice + 1) + count % SLICES * (slice + 1) / SLICES;
        double slice_sum = 0.0;
#pragma omp simd reduction(+ : slice_sum)
        for (int64_t i = begin; i < end; ++i)
            slice_sum += (double)values[i] * (double)values[i];
        slice_sums[slice] = slice_sum;
    }
    double total = 0.0;
    for (int slice = 0; slice < SLICES; ++slice)
        total += slice_sums[slice];
    *sum = total;
    return RPO_OK;
}
