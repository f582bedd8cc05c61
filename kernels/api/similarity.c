/* similarity.c - public entry of prompt similarity and contrastive weights: argument checks, then the
 * backend. */
#include "rpo/similarity.h"

#include "kernels/api/contrast_check.h"
#include "kernels/api/versioned.h"

/* The inputs as far as sizes go, for an op that the backend may have or not. */
static rpo_status take_inputs(rpo_similarity_inputs *taken, const rpo_context *context, rpo_op op,
                              const char *op_name, bool present, const rpo_similarity_inputs *inputs) {
    *taken = (rpo_similarity_inputs)RPO_SIMILARITY_INPUTS_INIT;
    RPO_TRY(rpo_versioned_take(taken, sizeof *taken, RPO_SIMILARITY_INPUTS_FIRST, inputs, "inputs"));
    return rpo_check_embeddings(context, op, op_name, present, taken->m, taken->n, taken->dim, "inputs.dtype",
                                taken->dtype);
}

/* What both ops check before they run, the workspace included. Nothing is needed when the matrix is empty. */
static rpo_status check_matrix(rpo_context *context, const char *output_name, const float *output,
                               const rpo_similarity_inputs *inputs, const void *workspace,
                               size_t workspace_size) {
    RPO_TRY(rpo_check_addressable(output_name, inputs->m, inputs->n, RPO_FLOAT32));
    const bool needed = inputs->m > 0 && inputs->n > 0;
    const rpo_pointer_check pointers[] = {
        {output_name, output, needed},
        {"inputs.chosen_embeddings", inputs->chosen_embeddings, needed},
        {"inputs.rejected_embeddings", inputs->rejected_embeddings, needed}};
    RPO_TRY(rpo_check_pointers(pointers, sizeof pointers / sizeof pointers[0]));
    size_t bytes = 0;
    RPO_TRY(context->backend->preference.prompt_similarity_workspace_size(context, &bytes, inputs));
    return rpo_check_workspace(workspace, workspace_size, bytes);
}

rpo_status rpo_prompt_similarity_workspace_size(rpo_context *context, size_t *bytes,
                                                const rpo_similarity_inputs *inputs) {
    rpo_similarity_inputs taken;
    const rpo_pointer_check pointers[] = {{"context", context, true}, {"bytes", bytes, true}};
    RPO_TRY(rpo_check_pointers(pointers, sizeof pointers / sizeof pointers[0]));
    const rpo_preference_ops *ops = &context->backend->preference;
    RPO_TRY(take_inputs(&taken, context, RPO_OP_PROMPT_SIMILARITY, "prompt_similarity",
                        ops->prompt_similarity_workspace_size != NULL, inputs));
    return ops->prompt_similarity_workspace_size(context, bytes, &taken);
}

rpo_status rpo_prompt_similarity(rpo_context *context, float *similarity, const rpo_similarity_inputs *inputs,
                                 void *workspace, size_t workspace_size) {
    rpo_similarity_inputs taken;
    RPO_TRY(rpo_check_pointers(&(rpo_pointer_check){"context", context, true}, 1));
    const rpo_preference_ops *ops = &context->backend->preference;
    RPO_TRY(take_inputs(&taken, context, RPO_OP_PROMPT_SIMILARITY, "prompt_similarity",
                        ops->prompt_similarity != NULL, inputs));
    RPO_TRY(check_matrix(context, "similarity", similarity, &taken, workspace, workspace_size));
    return ops->prompt_similarity(context, similarity, &taken, workspace, workspace_size);
}

rpo_status rpo_contrast_weights(rpo_context *context, float *weights, const rpo_similarity_inputs *inputs,
                                float tau, rpo_weight_scale scale, void *workspace, size_t workspace_size) {
    rpo_similarity_inputs taken;
    RPO_TRY(rpo_check_pointers(&(rpo_pointer_check){"context", context, true}, 1));
    const rpo_preference_ops *ops = &context->backend->preference;
    RPO_TRY(take_inputs(&taken, context, RPO_OP_CONTRAST_WEIGHTS, "contrast_weights",
                        ops->contrast_weights != NULL, inputs));
    RPO_TRY(check_matrix(context, "weights", weights, &taken, workspace, workspace_size));
    RPO_TRY(rpo_check_positive("tau", tau));
    RPO_TRY(rpo_check_weight_scale("scale", scale));
    return ops->contrast_weights(context, weights, &taken, tau, scale, workspace, workspace_size);
}
