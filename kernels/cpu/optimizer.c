/*
 * optimizer.c - the gradient norm, AdamW and RMSprop on the CPU: one pass over memory each.
 *
 * The flat space is cut into blocks of a fixed size that threads share; a block updates the parts of the runs that
 * lie in it and writes their working copy while they are in the cache. Scalars of a step are formed in double, as
 * PyTorch forms them, and rounded once; the elementwise work is float32.
 */
#include "kernels/cpu/optimizer.h"

#include <math.h>
#include <string.h>

#include "core/bump.h"
#include "core/float16.h"
#include "kernels/cpu/model.h"

/* ---- the norm, the clip factor and the decision to skip ---- */

enum { SLICES = 256 }; /* fixed, so that the order of the sum does not depend on the number of threads */

static size_t lay_out(double **slice_sums, void *workspace) {
    rpo_bump from = rpo_bump_from(workspace);
    *slice_sums = rpo_bump_take(&from, SLICES, sizeof **slice_sums);
    return rpo_bump_size(&from);
}

size_t rpo_cpu_grad_norm_workspace_size(rpo_context *context, int64_t count) {
    (void)context;
    (void)count;
    double *slice_sums = NULL;
    return lay_out(&slice_sums, NULL);
}

static double sum_of_squares(const rpo_context *context, const float *values, int64_t count,
                             double *slice_sums) {
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
    return total;
}

static float clip_scale(double max_norm, double norm) {
    const double scale = max_norm / (norm + 1e-6);
    return max_norm > 0.0 && scale < 1.0 ? (float)scale : 1.0f;
}

static rpo_skip_reason skip_reason(const float *losses, int64_t num_losses, double norm) {
    for (int64_t i = 0; i < num_losses; ++i)
        if (!isfinite(losses[i]))
            return RPO_SKIP_LOSS;
    return isfinite(norm) ? RPO_SKIP_NOTHING : RPO_SKIP_GRADIENT;
}

rpo_status rpo_cpu_grad_norm(rpo_context *context, rpo_step_control *control, const float *gradients,
                             int64_t count, const float *losses, int64_t num_losses, float max_grad_norm,
                             void *workspace, size_t workspace_size) {
    RPO_TRY(rpo_cpu_require_workspace("grad_norm", workspace_size,
                                      rpo_cpu_grad_norm_workspace_size(context, count)));
    double *slice_sums = NULL;
    lay_out(&slice_sums, workspace);
    control->grad_norm = sqrt(sum_of_squares(context, gradients, count, slice_sums));
    control->clip_scale = clip_scale((double)max_grad_norm, control->grad_norm);
    control->skip = skip_reason(losses, num_losses, control->grad_norm);
    control->updates += control->skip == RPO_SKIP_NOTHING;
    return RPO_OK;
}

/* ---- the updates ---- */

/* What all elements of a step share. */
typedef struct step_scalars {
    float clip_scale, eps;
    float learning_rate, alpha, rest;                        /* rmsprop */
    float beta1, rest1, beta2, rest2, step_size, root_scale; /* adamw */
} step_scalars;

static step_scalars rmsprop_scalars(const rpo_step_control *control, const rpo_optimizer_options *options) {
    return (step_scalars){
        .clip_scale = control->clip_scale,
        .eps = options->eps,
        .learning_rate = options->learning_rate,
        .alpha = options->alpha,
        .rest = (float)(1.0 - (double)options->alpha),
    };
}

static step_scalars adamw_scalars(const rpo_step_control *control, const rpo_optimizer_options *options) {
    const double correction1 = 1.0 - pow((double)options->beta1, (double)control->updates);
    const double correction2 = 1.0 - pow((double)options->beta2, (double)control->updates);
    return (step_scalars){
        .clip_scale = control->clip_scale,
        .eps = options->eps,
        .learning_rate = options->learning_rate,
        .beta1 = options->beta1,
        .rest1 = (float)(1.0 - (double)options->beta1),
        .beta2 = options->beta2,
        .rest2 = (float)(1.0 - (double)options->beta2),
        .step_size = (float)((double)options->learning_rate / correction1),
        .root_scale = (float)(1.0 / sqrt(correction2)),
    };
}

/* Elements [begin, end), which share a weight decay. */
typedef void update_piece(const rpo_optimizer_arrays *arrays, const step_scalars *scalars, float weight_decay,
                          int64_t begin, int64_t end);

static void adamw_piece(const rpo_optimizer_arrays *arrays, const step_scalars *scalars, float weight_decay,
                        int64_t begin, int64_t end) {
    const step_scalars s = *scalars;
    const float keep = (float)(1.0 - (double)s.learning_rate * (double)weight_decay);
    float *restrict parameter = arrays->master;
    float *restrict first_moment = arrays->moments[0], *restrict second_moment = arrays->moments[1];
    const float *restrict gradient = arrays->gradients;
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) {
        const float g = gradient[i] * s.clip_scale;
        const float m = s.beta1 * first_moment[i] + s.rest1 * g;
        const float v = s.beta2 * second_moment[i] + s.rest2 * g * g;
        first_moment[i] = m;
        second_moment[i] = v;
        parameter[i] = parameter[i] * keep - s.step_size * m / (sqrtf(v) * s.root_scale + s.eps);
    }
}

static void rmsprop_piece(const rpo_optimizer_arrays *arrays, const step_scalars *scalars, float weight_decay,
                          int64_t begin, int64_t end) {
    const step_scalars s = *scalars;
    float *restrict parameter = arrays->master;
    float *restrict square_average = arrays->moments[0];
    const float *restrict gradient = arrays->gradients;
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) {
        const float g = gradient[i] * s.clip_scale + weight_decay * parameter[i];
        const float square = s.alpha * square_average[i] + s.rest * g * g;
        square_average[i] = square;
        parameter[i] -= s.learning_rate * g / (sqrtf(square) + s.eps);
    }
}

static void write_working(const rpo_optimizer_arrays *arrays, int64_t begin, int64_t end) {
    const float *restrict from = arrays->master;
    uint16_t *restrict to = arrays->working;
    switch (arrays->working_dtype) {
    case RPO_FLOAT32:
        memcpy((float *)arrays->working + begin, from + begin, (size_t)(end - begin) * sizeof *from);
        break;
    case RPO_BFLOAT16:
        for (int64_t i = begin; i < end; ++i)
            to[i] = rpo_bfloat16_from_float(from[i]);
        break;
    case RPO_FLOAT16:
        for (int64_t i = begin; i < end; ++i)
            to[i] = rpo_float16_from_float(from[i]);
        break;
    }
}

/* Index of the first run that ends beyond `element`. */
static int64_t find_run(const rpo_optimizer_arrays *arrays, int64_t element) {
    int64_t low = 0, high = arrays->num_runs;
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        if (arrays->runs[middle].first + arrays->runs[middle].count <= element)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void update_block(const rpo_optimizer_arrays *arrays, const step_scalars *scalars,
                         update_piece *update, int64_t block_begin, int64_t block_end) {
    for (int64_t r = find_run(arrays, block_begin); r < arrays->num_runs; ++r) {
        const rpo_optimizer_run *run = &arrays->runs[r];
        if (run->first >= block_end)
            return;
        const int64_t begin = run->first > block_begin ? run->first : block_begin;
        const int64_t run_end = run->first + run->count;
        const int64_t end = run_end < block_end ? run_end : block_end;
        update(arrays, scalars, run->weight_decay, begin, end);
        if (arrays->working != NULL)
            write_working(arrays, begin, end);
    }
}

static rpo_status update_runs(rpo_context *context, const rpo_optimizer_arrays *arrays,
                              const step_scalars *scalars, update_piece *update) {
    enum { BLOCK = 4096 }; /* elements: what an update touches of them fits a core's second-level cache */
    const int64_t blocks = (arrays->count + BLOCK - 1) / BLOCK;
#pragma omp parallel for schedule(static) num_threads(rpo_cpu_threads(context))
    for (int64_t block = 0; block < blocks; ++block) {
        const int64_t begin = block * BLOCK;
        const int64_t end = arrays->count - begin < BLOCK ? arrays->count : begin + BLOCK;
        update_block(arrays, scalars, update, begin, end);
    }
    return RPO_OK;
}

rpo_status rpo_cpu_adamw(rpo_context *context, const rpo_optimizer_arrays *arrays,
                         const rpo_step_control *control, const rpo_optimizer_options *options) {
    if (control->skip != RPO_SKIP_NOTHING)
        return RPO_OK;
    if (control->updates < 1)
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT, "control.updates: is %lld; must be 1 or more",
                             (long long)control->updates);
    const step_scalars scalars = adamw_scalars(control, options);
    return update_runs(context, arrays, &scalars, adamw_piece);
}

rpo_status rpo_cpu_rmsprop(rpo_context *context, const rpo_optimizer_arrays *arrays,
                           const rpo_step_control *control, const rpo_optimizer_options *options) {
    if (control->skip != RPO_SKIP_NOTHING)
        return RPO_OK;
    const step_scalars scalars = rmsprop_scalars(control, options);
    return update_runs(context, arrays, &scalars, rmsprop_piece);
}
