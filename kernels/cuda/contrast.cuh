/*
 * contrast.cuh - what the versions of the contrast loss share: the arithmetic of one pair, log-ratios,
 * rewards, workspace, and the host functions contrast_loss.cu chooses from.
 */
#ifndef RPO_CUDA_CONTRAST_CUH
#define RPO_CUDA_CONTRAST_CUH

#include <cfloat>
#include <cmath>

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/device/shared.cuh"

/* The loss options as the kernels read them. */
struct contrast_constants {
    double beta;
    double shared_coefficient;       /* factor of all c_ij: 1/n, or 1 for rpo-diagonal, which has its own */
    float on_diagonal, off_diagonal; /* c_ij / shared_coefficient */
    float inverse_tau;               /* 1 / tau, kept finite */
    float weight_scale;
    float diagonal_weight;
    bool diagonal, block_scale;
};

/* 1 / tau overflows for the smallest tau. With the largest float instead, (cos - max) / tau is still 0 for the
 * largest cosine and far below every exponent for all others. */
inline float contrast_inverse_tau(float tau) {
    return tau > 0.0f ? fminf(1.0f / tau, FLT_MAX) : 0.0f;
}

/* The same for a block of n columns. */
__host__ __device__ inline contrast_constants contrast_constants_for(contrast_constants constants,
                                                                     int64_t columns) {
    const double n = static_cast<double>(columns), d = static_cast<double>(constants.diagonal_weight);
    const bool diagonal = constants.diagonal, single = diagonal && columns == 1;
    constants.shared_coefficient = diagonal ? 1.0 : 1.0 / n;
    constants.on_diagonal = diagonal && !single ? constants.diagonal_weight : 1.0f;
    constants.off_diagonal = !diagonal ? 1.0f : single ? 0.0f : static_cast<float>((1.0 - d) / (n - 1.0));
    constants.weight_scale = constants.block_scale ? static_cast<float>(n) : 1.0f;
    return constants;
}

inline contrast_constants contrast_constants_of(const rpo_contrast_inputs *inputs,
                                                const rpo_loss_options *options) {
    contrast_constants constants = {};
    constants.beta = static_cast<double>(options->beta);
    constants.inverse_tau = contrast_inverse_tau(options->tau);
    constants.diagonal_weight = options->diagonal_weight;
    constants.diagonal = options->kind == RPO_LOSS_RPO_DIAGONAL;
    constants.block_scale = options->weight_scale == RPO_WEIGHT_SCALE_BLOCK;
    return contrast_constants_for(constants, inputs->n);
}

/* ---- log-ratios and rewards ---- */

/* policy[i] - reference[i]. In double: margins keep 1e-6 of themselves where the log-probs nearly cancel. */
__device__ __forceinline__ double contrast_log_ratio(const float *policy, const float *reference, int64_t i) {
    return static_cast<double>(policy[i]) - (reference != NULL ? static_cast<double>(reference[i]) : 0.0);
}

/* An infinite score could end in a loss of 0; as NaN it shows in the loss, as the contract says. */
__device__ __forceinline__ double contrast_finite_or_nan(double x) {
    return x + 0.0 * x;
}

__device__ __forceinline__ double contrast_chosen(const rpo_contrast_inputs &inputs, int64_t i) {
    return contrast_finite_or_nan(
        contrast_log_ratio(inputs.policy_chosen_logps, inputs.reference_chosen_logps, i));
}

__device__ __forceinline__ double contrast_rejected(const rpo_contrast_inputs &inputs, int64_t j) {
    return contrast_finite_or_nan(
        contrast_log_ratio(inputs.policy_rejected_logps, inputs.reference_rejected_logps, j));
}

__device__ __forceinline__ void contrast_store(float *values, int64_t index, double value) {
    if (values != NULL)
        values[index] = static_cast<float>(value);
}

/* Rewards and margin with this index, as far as there are any; true for a pair with a margin > 0. */
__device__ __forceinline__ bool contrast_write_rewards(const rpo_contrast_outputs &outputs,
                                                       const rpo_contrast_inputs &inputs, double beta,
                                                       int64_t index) {
    double chosen = 0.0, rejected = 0.0;
    if (index < inputs.m) {
        chosen = contrast_log_ratio(inputs.policy_chosen_logps, inputs.reference_chosen_logps, index);
        contrast_store(outputs.chosen_rewards, index, beta * chosen);
    }
    if (index < inputs.n) {
        rejected = contrast_log_ratio(inputs.policy_rejected_logps, inputs.reference_rejected_logps, index);
        contrast_store(outputs.rejected_rewards, index, beta * rejected);
    }
    if (index >= inputs.m || index >= inputs.n)
        return false;
    const double margin = beta * (chosen - rejected);
    contrast_store(outputs.margins, index, margin);
    return margin > 0.0;
}

__device__ __forceinline__ void contrast_write_accuracy(const rpo_contrast_outputs &outputs, double correct,
                                                        double pairs) {
    if (outputs.accuracy != NULL)
        *outputs.accuracy = pairs == 0.0 ? 0.0f : static_cast<float>(correct / pairs);
}

/* ---- the arithmetic of one pair ---- */

/*
 * exp((cosine - largest) / tau), at most 1. __expf is good enough: it errs by 2 units in the last place plus
 * the rounding of its argument, |x| 2^-24 relative, which at the x where the weight is not negligible is
 * what (cosine - largest) / tau has been rounded by already.
 */
__device__ __forceinline__ float contrast_exp_distance(float cosine, float largest, float inverse_tau) {
    return __expf((cosine - largest) * inverse_tau);
}

/*
 * *loss = -log sigmoid(x) = max(-x, 0) + log1p(exp(-|x|)) and *slope = sigmoid(-x), both with small relative
 * error for every x. With t = exp(-|x|) in [0, 1]: log1p(t) = 2 atanh(u), u = t / (2 + t) <= 1/3, and
 * atanh(u) = u (1 + u^2 q(u^2)); log1pf would cost twice as much. The divisors lie in [1, 3], where
 * __fdividef errs by 2 units in the last place. expf rather than __expf: a large x makes t the whole result.
 */
__device__ __forceinline__ void contrast_log_sigmoid(float x, float *loss, float *slope) {
    const float t = expf(-fabsf(x));
    const float u = __fdividef(t, 2.0f + t);
    const float z = u * u;
    const float q = 0.33333337f + z * (0.19999444f + z * (0.14308307f + z * (0.10715278f + z * 0.12145157f)));
    *loss = (x < 0.0f ? -x : 0.0f) + 2.0f * (u + u * (z * q));
    *slope = __fdividef(x < 0.0f ? 1.0f : t, 1.0f + t);
}

/* Loss of a pair and minus its derivative by beta a_i, both without shared_coefficient. */
__device__ __forceinline__ void contrast_pair(float weight, float coefficient, float beta, float chosen,
                                              float rejected, float *loss, float *slope) {
    contrast_log_sigmoid(beta * weight * (chosen - rejected), loss, slope);
    *loss *= coefficient;
    *slope *= coefficient * weight;
}

/* ---- workspace ---- */

template <typename T> inline T *contrast_take(rpo_bump *from, int64_t count) {
    return static_cast<T *>(rpo_bump_take(from, count, sizeof(T)));
}

/* ---- host functions ---- */

/* inverse[i] = 1 / |x_i|; 0 for a zero norm, NaN for a non-finite row. One launch for both sides; with
 * rejected == chosen the second is left out. */
rpo_status rpo_cuda_inverse_norms(rpo_context *context, float *inverse_chosen, float *inverse_rejected,
                                  const void *chosen, const void *rejected, int64_t m, int64_t n, int64_t dim,
                                  rpo_dtype dtype);

/* Blocks of some hundred rows and columns, all in one launch beside that of contrast_blocks.cu; contrast_small.cu. */
bool rpo_cuda_contrast_is_small(rpo_context *context, const rpo_contrast_inputs *inputs,
                                const rpo_loss_options *options);
size_t rpo_cuda_contrast_small_workspace(const rpo_contrast_inputs *inputs, const rpo_loss_options *options);
rpo_status rpo_cuda_contrast_small(rpo_context *context, const rpo_contrast_outputs *outputs,
                                   const rpo_contrast_inputs *inputs, const rpo_loss_options *options,
                                   void *workspace);

/* One block of any size; contrast_tiled.cu. */
size_t rpo_cuda_contrast_tiled_workspace(rpo_context *context, const rpo_contrast_inputs *inputs,
                                         const rpo_loss_options *options);
rpo_status rpo_cuda_contrast_tiled(rpo_context *context, const rpo_contrast_outputs *outputs,
                                   const rpo_contrast_inputs *inputs, const rpo_loss_options *options,
                                   void *workspace);

/* Losses without a matrix, and calls in which no block contributes; contrast_baseline.cu. */
size_t rpo_cuda_contrast_baseline_workspace(const rpo_contrast_inputs *inputs,
                                            const rpo_loss_options *options);
rpo_status rpo_cuda_contrast_baseline(rpo_context *context, const rpo_contrast_outputs *outputs,
                                      const rpo_contrast_inputs *inputs, const rpo_loss_options *options,
                                      void *workspace);

#endif
