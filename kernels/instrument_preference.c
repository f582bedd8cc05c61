/* instrument_preference.c - the preference ops with a counter around each. */
#include "kernels/instrument.h"

static const rpo_preference_ops *preference_of(const rpo_context *context) {
    return &rpo_instrument_inner(context)->preference;
}

static rpo_status prompt_similarity(rpo_context *context, float *similarity,
                                    const rpo_similarity_inputs *inputs, void *workspace,
                                    size_t workspace_size) {
    rpo_instrument_enter(context, RPO_COUNTED_PROMPT_SIMILARITY);
    const rpo_status status =
        preference_of(context)->prompt_similarity(context, similarity, inputs, workspace, workspace_size);
    return rpo_instrument_leave(context, RPO_COUNTED_PROMPT_SIMILARITY, status);
}

static rpo_status contrast_weights(rpo_context *context, float *weights, const rpo_similarity_inputs *inputs,
                                   float tau, rpo_weight_scale scale, void *workspace,
                                   size_t workspace_size) {
    rpo_instrument_enter(context, RPO_COUNTED_CONTRAST_WEIGHTS);
    const rpo_status status = preference_of(context)->contrast_weights(context, weights, inputs, tau, scale,
                                                                       workspace, workspace_size);
    return rpo_instrument_leave(context, RPO_COUNTED_CONTRAST_WEIGHTS, status);
}

static rpo_status contrast_loss(rpo_context *context, const rpo_contrast_outputs *outputs,
                                const rpo_contrast_inputs *inputs, const rpo_loss_options *options,
                                void *workspace, size_t workspace_size) {
    rpo_instrument_enter(context, RPO_COUNTED_CONTRAST_LOSS);
    const rpo_status status =
        preference_of(context)->contrast_loss(context, outputs, inputs, options, workspace, workspace_size);
    return rpo_instrument_leave(context, RPO_COUNTED_CONTRAST_LOSS, status);
}

static rpo_status logprob_gather(rpo_context *context, const rpo_logprob_outputs *outputs,
                                 const rpo_logprob_inputs *inputs, const rpo_logprob_shape *shape,
                                 void *workspace, size_t workspace_size) {
    rpo_instrument_enter(context, RPO_COUNTED_LOGPROB_GATHER);
    const rpo_status status =
        preference_of(context)->logprob_gather(context, outputs, inputs, shape, workspace, workspace_size);
    return rpo_instrument_leave(context, RPO_COUNTED_LOGPROB_GATHER, status);
}

static rpo_status logprob_gather_backward(rpo_context *context, void *grad_logits,
                                          const rpo_logprob_inputs *inputs, const rpo_logprob_shape *shape,
                                          void *workspace, size_t workspace_size) {
    rpo_instrument_enter(context, RPO_COUNTED_LOGPROB_GATHER_BACKWARD);
    const rpo_status status = preference_of(context)->logprob_gather_backward(
        context, grad_logits, inputs, shape, workspace, workspace_size);
    return rpo_instrument_leave(context, RPO_COUNTED_LOGPROB_GATHER_BACKWARD, status);
}

static rpo_status linear_logprob(rpo_context *context, const rpo_linear_logprob_outputs *outputs,
                                 const rpo_linear_logprob_saved *saved,
                                 const rpo_linear_logprob_inputs *inputs,
                                 const rpo_linear_logprob_shape *shape, void *workspace,
                                 size_t workspace_size) {
    rpo_instrument_enter(context, RPO_COUNTED_LINEAR_LOGPROB);
    const rpo_status status = preference_of(context)->linear_logprob(context, outputs, saved, inputs, shape,
                                                                     workspace, workspace_size);
    return rpo_instrument_leave(context, RPO_COUNTED_LINEAR_LOGPROB, status);
}

static rpo_status linear_logprob_backward(rpo_context *context, const rpo_linear_logprob_gradients *gradients,
                                          const rpo_linear_logprob_saved *saved,
                                          const rpo_linear_logprob_inputs *inputs,
                                          const rpo_linear_logprob_shape *shape, void *workspace,
                                          size_t workspace_size) {
    rpo_instrument_enter(context, RPO_COUNTED_LINEAR_LOGPROB_BACKWARD);
    const rpo_status status = preference_of(context)->linear_logprob_backward(
        context, gradients, saved, inputs, shape, workspace, workspace_size);
    return rpo_instrument_leave(context, RPO_COUNTED_LINEAR_LOGPROB_BACKWARD, status);
}

/* Sizes are asked of the backend itself. */
void rpo_instrument_preference_ops(rpo_instrument *instrument) {
    const rpo_preference_ops *inner = &instrument->inner->preference;
    rpo_preference_ops *ops = &instrument->table.preference;
    if (inner->prompt_similarity != NULL)
        ops->prompt_similarity = prompt_similarity;
    if (inner->contrast_weights != NULL)
        ops->contrast_weights = contrast_weights;
    if (inner->contrast_loss != NULL)
        ops->contrast_loss = contrast_loss;
    if (inner->logprob_gather != NULL)
        ops->logprob_gather = logprob_gather;
    if (inner->logprob_gather_backward != NULL)
        ops->logprob_gather_backward = logprob_gather_backward;
    if (inner->linear_logprob != NULL)
        ops->linear_logprob = linear_logprob;
    if (inner->linear_logprob_backward != NULL)
        ops->linear_logprob_backward = linear_logprob_backward;
}
