/* contrast_weights.c - the row softmax of prompt distances as a matrix, for looking at it. */
#include "kernels/cpu/contrast.h"

static void finish_weights(float *row, const float *inverse_norms, int64_t n, float tau, float scale) {
    const float factor = rpo_cpu_softmax_row(row, inverse_norms, n, tau, scale);
#pragma omp simd
    for (int64_t j = 0; j < n; ++j)
        row[j] *= factor;
}

rpo_status rpo_cpu_contrast_weights(rpo_context *context, float *weights, const rpo_similarity_inputs *inputs,
                                    float tau, rpo_weight_scale scale, void *workspace,
                                    size_t workspace_size) {
    (void)workspace_size;
    const float factor = scale == RPO_WEIGHT_SCALE_BLOCK ? (float)inputs->n : 1.0f;
    return rpo_cpu_similarity_matrix(context, weights, inputs, finish_weights, tau, factor, workspace);
}
