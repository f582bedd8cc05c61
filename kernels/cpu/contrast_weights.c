/* contrast_weights.c - the row softmax of prompt distances as a matrix, for looking at it. */
#include "kernels/cpu/contrast.h"

static void finish_weights(float *row, const float *inverse_norms, int64_t n, float tau, float scale) {
    const float factor = rpo_cpu_softmax_row(row, inverse_norms, n, tau, scale);
#pragma omp simd
    for (int64_t j = 0; j < n; ++j)
        row[j] *= factor;
}

rpo_status rpo_cpu_contrast_weights(rpo_context *context, float *weights, const void *chosen_embeddings,
                                    const void *rejected_embeddings, int64_t m, int64_t n, int64_t dim,
                                    rpo_dtype dtype, float tau, rpo_weight_scale scale, void *workspace,
                                    size_t workspace_size) {
    (void)dtype;
    (void)workspace_size;
    return rpo_cpu_similarity_matrix(context, weights, chosen_embeddings, rejected_embeddings, m, n, dim,
                                     finish_weights, tau, scale == RPO_WEIGHT_SCALE_BLOCK ? (float)n : 1.0f,
                                     workspace);
}
