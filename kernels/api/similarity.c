/* similarity.c - public entry of prompt similarity and contrastive weights: argument checks, then the
 * backend. */
#include "rpo/similarity.h"

#include "kernels/api/contrast_check.h"

/* What both ops check before they run, the workspace included. Nothing is needed when the matrix is empty. */
static rpo_status check_matrix(rpo_context *context, rpo_op op, const char *op_name, bool present,
                               const char *output_name, const float *output, const void *chosen_embeddings,
                               const void *rejected_embeddings, int64_t m, int64_t n, int64_t dim,
                               rpo_dtype dtype, const void *workspace, size_t workspace_size) {
    RPO_TRY(rpo_check_pointers(&(rpo_pointer_check){"context", context, true}, 1));
    RPO_TRY(rpo_check_embeddings(context, op, op_name, present, m, n, dim, "dtype", dtype));
    RPO_TRY(rpo_check_addressable(output_name, m, n, RPO_FLOAT32));
    const bool needed = m > 0 && n > 0;
    const rpo_pointer_check pointers[] = {{output_name, output, needed},
                                          {"chosen_embeddings", chosen_embeddings, needed},
                                          {"rejected_embeddings", rejected_embeddings, needed}};
    RPO_TRY(rpo_check_pointers(pointers, sizeof pointers / sizeof pointers[0]));
    size_t bytes = 0;
    RPO_TRY(context->backend->preference.prompt_similarity_workspace_size(context, &bytes, m, n, dim, dtype));
    return rpo_check_workspace(workspace, workspace_size, bytes);
}

rpo_status rpo_prompt_similarity_workspace_size(rpo_context *context, size_t *bytes, int64_t m, int64_t n,
                                                int64_t dim, rpo_dtype dtype) {
    const rpo_pointer_check pointers[] = {{"context", context, true}, {"bytes", bytes, true}};
    RPO_TRY(rpo_check_pointers(pointers, sizeof pointers / sizeof pointers[0]));
    const rpo_preference_ops *ops = &context->backend->preference;
    RPO_TRY(rpo_check_embeddings(context, RPO_OP_PROMPT_SIMILARITY, "prompt_similarity",
                                 ops->prompt_similarity_workspace_size != NULL, m, n, dim, "dtype", dtype));
    return ops->prompt_similarity_workspace_size(context, bytes, m, n, dim, dtype);
}

rpo_status rpo_prompt_similarity(rpo_context *context, float *similarity, const void *chosen_embeddings,
                                 const void *rejected_embeddings, int64_t m, int64_t n, int64_t dim,
                                 rpo_dtype dtype, void *workspace, size_t workspace_size) {
    const bool present = context != NULL && context->backend->preference.prompt_similarity != NULL;
    RPO_TRY(check_matrix(context, RPO_OP_PROMPT_SIMILARITY, "prompt_similarity", present, "similarity",
                         similarity, chosen_embeddings, rejected_embeddings, m, n, dim, dtype, workspace,
                         workspace_size));
    return context->backend->preference.prompt_similarity(context, similarity, chosen_embeddings,
                                                          rejected_embeddings, m, n, dim, dtype, workspace,
                                                          workspace_size);
}

rpo_status rpo_contrast_weights(rpo_context *context, float *weights, const void *chosen_embeddings,
                                const void *rejected_embeddings, int64_t m, int64_t n, int64_t dim,
                                rpo_dtype dtype, float tau, rpo_weight_scale scale, void *workspace,
                                size_t workspace_size) {
    const bool present = context != NULL && context->backend->preference.contrast_weights != NULL;
    RPO_TRY(check_matrix(context, RPO_OP_CONTRAST_WEIGHTS, "contrast_weights", present, "weights", weights,
                         chosen_embeddings, rejected_embeddings, m, n, dim, dtype, workspace,
                         workspace_size));
    RPO_TRY(rpo_check_positive("tau", tau));
    RPO_TRY(rpo_check_weight_scale("scale", scale));
    return context->backend->preference.contrast_weights(context, weights, chosen_embeddings,
                                                         rejected_embeddings, m, n, dim, dtype, tau, scale,
                                                         workspace, workspace_size);
}
