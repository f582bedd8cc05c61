/*
 * backward.c - from one gradient scalar per sequence to the gradient of every parameter.
 *
 * grad_residual is the gradient of the residual stream; every block adds its share to it and leaves the
 * gradients of its weights in the flat array. Norm outputs and the SwiGLU product are computed again from
 * what was kept; the gradient of gate and up takes the place of gate and up.
 */
#include "host/model/model_internal.h"

static rpo_status check_kept(const rpo_model *model, const rpo_batch *batch) {
    if (model->kept_tokens == batch->num_tokens && model->kept_sequences == batch->num_sequences)
        return RPO_OK;
    return rpo_error_set(
        RPO_ERROR_INVALID_ARGUMENT,
        "batch: a backward of %lld tokens in %lld sequences follows no forward of the same batch that "
        "kept its activations",
        (long long)batch->num_tokens, (long long)batch->num_sequences);
}

/* The workspace of every op below, at once. */
static rpo_status reserve(rpo_model *model, const rpo_batch *batch) {
    const rpo_linear_logprob_shape head = rpo_model_head_shape(model, batch);
    const rpo_attention_shape attention = rpo_model_attention_shape(model, batch);
    const rpo_segments segments = rpo_batch_segments(batch);
    const rpo_norm_shape norm = rpo_model_norm_shape(model, batch->num_tokens);
    size_t size = 0;
    RPO_TRY(rpo_linear_logprob_workspace_size(model->context, &size, &head, 1));
    RPO_TRY(rpo_model_reserve_workspace(model, size));
    RPO_TRY(rpo_model_reserve_workspace(
        model, model->ops->attention_workspace_size(model->context, &segments, &attention, true)));
    return rpo_model_reserve_workspace(model,
                                       model->ops->rmsnorm_backward_workspace_size(model->context, &norm));
}

static rpo_status rmsnorm_again(const rpo_model *model, const float *x, const float *weight, int64_t rows) {
    const rpo_norm_shape shape = rpo_model_norm_shape(model, rows);
    return model->ops->rmsnorm(model->context, model->activations.norm, NULL, x, weight, &shape);
}

/* Adds the norm's share to grad_residual, or (the first one) begins it. */
static rpo_status rmsnorm_backward(const rpo_model *model, int64_t weight_offset, const float *x,
                                   const float *inverse_rms, int64_t rows, bool accumulate) {
    const rpo_activations *all = &model->activations;
    const rpo_norm_shape shape = rpo_model_norm_shape(model, rows);
    const rpo_rmsnorm_gradients gradients = {all->grad_residual, model->gradients + weight_offset, accumulate,
                                             true};
    return model->ops->rmsnorm_backward(model->context, &gradients, all->grad_norm, x,
                                        model->weights + weight_offset, inverse_rms, &shape, model->workspace,
                                        model->workspace_size);
}

/* One projection of a norm's output: its weight's gradient, and its share of grad_norm. */
static rpo_status projection_backward(const rpo_model *model, int64_t layer, rpo_layer_parameter which,
                                      const float *grad_y, const rpo_linear_shape *shape, bool accumulate) {
    RPO_TRY(model->ops->linear_backward_weight(model->context, rpo_layer_gradient(model, layer, which),
                                               grad_y, model->activations.norm, shape, true));
    return model->ops->linear_backward_input(model->context, model->activations.grad_norm, grad_y,
                                             rpo_layer_weight(model, layer, which), shape, accumulate);
}

static rpo_status head_backward(rpo_model *model, const rpo_batch *batch, const float *sequence_gradients,
                                float *sequence_logps) {
    const rpo_activations *all = &model->activations;
    const rpo_linear_logprob_shape shape = rpo_model_head_shape(model, batch);
    const rpo_linear_logprob_inputs inputs = rpo_model_head_inputs(model, batch, sequence_gradients);
    const rpo_linear_logprob_saved saved = {.struct_size = sizeof saved, .cache = model->head_cache};
    const rpo_linear_logprob_gradients gradients = {.struct_size = sizeof gradients,
                                                    .grad_hidden = all->grad_norm,
                                                    .grad_head = model->gradients + model->parameters.head,
                                                    .accumulate_head = 1,
                                                    .sequence_logps = sequence_logps};
    RPO_TRY(rpo_linear_logprob_backward(model->context, &gradients, &saved, &inputs, &shape, model->workspace,
                                        model->workspace_size));
    return rmsnorm_backward(model, model->parameters.final_norm, all->residual_out, all->final_rms,
                            batch->num_tokens, false);
}

static rpo_status mlp_backward(const rpo_model *model, const rpo_batch *batch, int64_t layer) {
    const rpo_model_ops *ops = model->ops;
    const rpo_activations *all = &model->activations;
    const rpo_layer_activations *kept = &all->layers[layer];
    const int64_t rows = batch->num_tokens;
    const int64_t intermediate = model->config.intermediate_size;
    const rpo_linear_shape out = rpo_model_linear_shape(model, rows, intermediate, model->config.hidden_size);
    rpo_linear_shape into = rpo_model_linear_shape(model, rows, model->config.hidden_size, intermediate);
    into.out_stride = 2 * intermediate;

    RPO_TRY(ops->linear_backward_input(model->context, all->product, all->grad_residual,
                                       rpo_layer_weight(model, layer, RPO_LAYER_DOWN), &out, false));
    RPO_TRY(ops->swiglu_backward(model->context, kept->gate_up, all->product, all->product, kept->gate_up,
                                 rows, intermediate, RPO_FLOAT32));
    RPO_TRY(ops->linear_backward_weight(model->context, rpo_layer_gradient(model, layer, RPO_LAYER_DOWN),
                                        all->grad_residual, all->product, &out, true));

    RPO_TRY(rmsnorm_again(model, kept->residual_middle, rpo_layer_weight(model, layer, RPO_LAYER_MLP_NORM),
                          rows));
    RPO_TRY(projection_backward(model, layer, RPO_LAYER_GATE, kept->gate_up, &into, false));
    RPO_TRY(projection_backward(model, layer, RPO_LAYER_UP, kept->gate_up + intermediate, &into, true));
    return rmsnorm_backward(model, rpo_parameter_offset(&model->parameters, layer, RPO_LAYER_MLP_NORM),
                            kept->residual_middle, kept->mlp_rms, rows, true);
}

static rpo_status attention_block_backward(const rpo_model *model, const rpo_batch *batch, int64_t layer) {
    const rpo_model_ops *ops = model->ops;
    const rpo_activations *all = &model->activations;
    const rpo_layer_activations *kept = &all->layers[layer];
    const int64_t rows = batch->num_tokens;
    const int64_t hidden = model->config.hidden_size;
    const rpo_linear_shape out = rpo_model_linear_shape(model, rows, model->query_size, hidden);
    const rpo_attention_shape shape = rpo_model_attention_shape(model, batch);

    RPO_TRY(ops->linear_backward_input(model->context, all->grad_attention, all->grad_residual,
                                       rpo_layer_weight(model, layer, RPO_LAYER_OUTPUT), &out, false));
    RPO_TRY(ops->linear_backward_weight(model->context, rpo_layer_gradient(model, layer, RPO_LAYER_OUTPUT),
                                        all->grad_residual, kept->attention, &out, true));
    const rpo_segments segments = rpo_batch_segments(batch);
    const rpo_attention_saved saved = {kept->qkv, kept->attention, kept->logsumexp};
    RPO_TRY(ops->attention_backward(model->context, all->grad_qkv, all->grad_attention, &saved, &segments,
                                    &shape, model->workspace, model->workspace_size));
    const rpo_rope_shape rotated = rpo_model_rope_shape(model, rows);
    RPO_TRY(ops->rope(model->context, all->grad_qkv, model->rope, batch->positions, &rotated, true));

    RPO_TRY(rmsnorm_again(model, kept->residual_in, rpo_layer_weight(model, layer, RPO_LAYER_ATTENTION_NORM),
                          rows));
    rpo_linear_shape into = rpo_model_linear_shape(model, rows, hidden, model->query_size);
    into.out_stride = model->qkv_size;
    RPO_TRY(projection_backward(model, layer, RPO_LAYER_QUERY, all->grad_qkv, &into, false));
    into.out_features = model->key_size;
    RPO_TRY(projection_backward(model, layer, RPO_LAYER_KEY, all->grad_qkv + model->query_size, &into, true));
    RPO_TRY(projection_backward(model, layer, RPO_LAYER_VALUE,
                                all->grad_qkv + model->query_size + model->key_size, &into, true));
    return rmsnorm_backward(model, rpo_parameter_offset(&model->parameters, layer, RPO_LAYER_ATTENTION_NORM),
                            kept->residual_in, kept->attention_rms, rows, true);
}

static rpo_status embedding_backward(const rpo_model *model, const rpo_batch *batch) {
    const rpo_embedding_shape shape = {batch->num_tokens, model->config.vocab_size, model->config.hidden_size,
                                       RPO_FLOAT32};
    rpo_token_order order;
    int32_t *memory = NULL;
    rpo_status status = rpo_batch_token_order(batch, &order, &memory);
    if (status == RPO_OK)
        status =
            model->ops->embedding_backward(model->context, model->gradients + model->parameters.embedding,
                                           model->activations.grad_residual, &order, &shape, true);
    rpo_free(memory);
    return status;
}

rpo_status rpo_model_backward(rpo_model *model, const rpo_batch *batch, const float *sequence_gradients,
                              float *sequence_logps) {
    float *gradients = NULL;
    int64_t count = 0;
    RPO_TRY(rpo_model_gradients(model, &gradients, &count));
    if (batch->num_sequences == 0)
        return RPO_OK;
    RPO_TRY(check_kept(model, batch));
    RPO_TRY(reserve(model, batch));
    const rpo_status head = head_backward(model, batch, sequence_gradients, sequence_logps);
    rpo_model_forget_activations(model); /* the cache is used up, gate and up are overwritten next */
    RPO_TRY(head);
    for (int64_t layer = model->config.num_hidden_layers - 1; layer >= 0; --layer) {
        RPO_TRY(mlp_backward(model, batch, layer));
        RPO_TRY(attention_block_backward(model, batch, layer));
    }
    return embedding_backward(model, batch);
}
