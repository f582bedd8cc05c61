/*
 * backward.c - from one gradient scalar per sequence to the gradient of every tensor.
 *
 * grad_residual is the gradient of the residual stream; every block adds its share to it and leaves the gradients of its
 * weights in the flat array. Norm outputs and the SwiGLU product are computed again from what was kept; the gradients of
 * gate and up take the place of gate and up.
 */
#include "host/model/model_internal.h"

/* What the blocks of one backward share. */
typedef struct walk {
    const rpo_model *model;
    const rpo_tape *tape;
    rpo_scratch scratch;
    int64_t rows;
    bool accumulate; /* weight gradients are added to */
} walk;

static rpo_status rmsnorm_again(const walk *at, const float *x, const float *weight) {
    const rpo_norm_shape shape = rpo_model_norm_shape(at->model, at->rows);
    return at->model->ops->rmsnorm(at->model->context, at->scratch.norm, NULL, x, weight, &shape);
}

/* Adds the norm's share to grad_residual, or (the first one) begins it. */
static rpo_status rmsnorm_backward(const walk *at, const rpo_tensor *tensor, const float *x,
                                   const float *inverse_rms, bool begins) {
    const rpo_model *model = at->model;
    const rpo_norm_shape shape = rpo_model_norm_shape(model, at->rows);
    const rpo_rmsnorm_gradients gradients = {
        .grad_x = at->scratch.grad_residual,
        .grad_weight = rpo_model_gradient(model, tensor),
        .accumulate_x = !begins,
        .accumulate_weight = at->accumulate,
    };
    return model->ops->rmsnorm_backward(model->context, &gradients, at->scratch.grad_norm, x,
                                        rpo_model_weight(model, tensor), inverse_rms, &shape,
                                        model->memory->workspace, model->memory->workspace_bytes);
}

/* One product: its weight's gradient, and the gradient of its input. */
static rpo_status linear_backward(const walk *at, int64_t layer, rpo_layer_tensor which, float *grad_x,
                                  const float *grad_y, const float *x, const rpo_linear_shape *shape) {
    const rpo_model *model = at->model;
    RPO_TRY(model->ops->linear_backward_weight(model->context, rpo_layer_gradient(model, layer, which),
                                               grad_y, x, shape, at->accumulate));
    return model->ops->linear_backward_input(model->context, grad_x, grad_y,
                                             rpo_layer_weight(model, layer, which), shape, false);
}

static rpo_status head_backward(const walk *at, const float *sequence_gradients, float *sequence_logps) {
    const rpo_model *model = at->model;
    const rpo_tape *tape = at->tape;
    const rpo_tensor *head = &model->tensors.items[model->tensors.head];
    const rpo_linear_logprob_shape shape =
        rpo_model_head_shape(model, &tape->batch, tape->has_logps ? tape->head_cache_bytes : 0);
    const rpo_linear_logprob_inputs inputs = {
        .struct_size = sizeof inputs,
        .hidden = tape->final_hidden,
        .head = rpo_model_weight(model, head),
        .labels = tape->batch.labels,
        .cu_seqlens = tape->batch.segments.cu_seqlens,
        .grad_sequence_logps = sequence_gradients,
    };
    const rpo_linear_logprob_saved saved = {
        .struct_size = sizeof saved, .logsumexp = tape->head_logsumexp, .cache = tape->head_cache};
    const rpo_linear_logprob_gradients gradients = {
        .struct_size = sizeof gradients,
        .grad_hidden = at->scratch.grad_norm,
        .grad_head = rpo_model_gradient(model, head),
        .accumulate_head = at->accumulate,
        .sequence_logps = sequence_logps,
    };
    RPO_TRY(rpo_linear_logprob_backward(model->context, &gradients, tape->has_logps ? &saved : NULL, &inputs,
                                        &shape, model->memory->workspace, model->memory->workspace_bytes));
    return rmsnorm_backward(at, &model->tensors.items[model->tensors.final_norm], tape->residual_out,
                            tape->final_rms, true);
}

static rpo_status mlp_backward(const walk *at, int64_t layer) {
    const rpo_model *model = at->model;
    const rpo_model_ops *ops = model->ops;
    const rpo_scratch *scratch = &at->scratch;
    const rpo_layer_tape kept = rpo_tape_layer(at->tape, layer);
    const int64_t rows = at->rows, hidden = model->config.hidden_size;
    const int64_t intermediate = model->config.intermediate_size;
    const rpo_linear_shape out = rpo_model_linear_shape(rows, intermediate, hidden);
    const rpo_linear_shape into = rpo_model_linear_shape(rows, hidden, 2 * intermediate);
    const rpo_tensor *norm = rpo_tensor_table_layer(&model->tensors, layer, RPO_LAYER_MLP_NORM);

    RPO_TRY(ops->linear_backward_input(model->context, scratch->product, scratch->grad_residual,
                                       rpo_layer_weight(model, layer, RPO_LAYER_DOWN), &out, false));
    RPO_TRY(ops->swiglu_backward(model->context, kept.gate_up, scratch->product, scratch->product,
                                 kept.gate_up, rows, intermediate, RPO_FLOAT32));
    RPO_TRY(ops->linear_backward_weight(model->context, rpo_layer_gradient(model, layer, RPO_LAYER_DOWN),
                                        scratch->grad_residual, scratch->product, &out, at->accumulate));
    RPO_TRY(rmsnorm_again(at, kept.residual_middle, rpo_model_weight(model, norm)));
    RPO_TRY(
        linear_backward(at, layer, RPO_LAYER_GATE, scratch->grad_norm, kept.gate_up, scratch->norm, &into));
    return rmsnorm_backward(at, norm, kept.residual_middle, kept.mlp_rms, false);
}

static rpo_status attention_block_backward(const walk *at, int64_t layer) {
    const rpo_model *model = at->model;
    const rpo_model_ops *ops = model->ops;
    const rpo_memory *memory = model->memory;
    const rpo_scratch *scratch = &at->scratch;
    const rpo_device_batch *batch = &at->tape->batch;
    const rpo_layer_tape kept = rpo_tape_layer(at->tape, layer);
    const int64_t rows = at->rows, hidden = model->config.hidden_size;
    const rpo_linear_shape out = rpo_model_linear_shape(rows, model->query_size, hidden);
    const rpo_linear_shape into = rpo_model_linear_shape(rows, hidden, model->qkv_size);
    const rpo_attention_shape attention = rpo_model_attention_shape(model, rows);
    const rpo_rope_shape rope = rpo_model_rope_shape(model, rows);
    const rpo_attention_saved saved = {.qkv = kept.qkv, .out = kept.attention, .logsumexp = kept.logsumexp};
    const rpo_tensor *norm = rpo_tensor_table_layer(&model->tensors, layer, RPO_LAYER_ATTENTION_NORM);

    RPO_TRY(linear_backward(at, layer, RPO_LAYER_OUTPUT, scratch->grad_attention, scratch->grad_residual,
                            kept.attention, &out));
    RPO_TRY(ops->attention_backward(model->context, scratch->grad_qkv, scratch->grad_attention, &saved,
                                    &batch->segments, &attention, memory->workspace,
                                    memory->workspace_bytes));
    RPO_TRY(ops->rope(model->context, scratch->grad_qkv, memory->rope, batch->positions, &rope, true));
    RPO_TRY(rmsnorm_again(at, kept.residual_in, rpo_model_weight(model, norm)));
    RPO_TRY(linear_backward(at, layer, RPO_LAYER_QUERY, scratch->grad_norm, scratch->grad_qkv, scratch->norm,
                            &into));
    return rmsnorm_backward(at, norm, kept.residual_in, kept.attention_rms, false);
}

/* A tied table already holds the head's share. */
static rpo_status embedding_backward(const walk *at) {
    const rpo_model *model = at->model;
    const rpo_tensor_table *tensors = &model->tensors;
    const rpo_embedding_shape shape = rpo_model_embedding_shape(model, at->rows);
    const bool is_tied = tensors->head == tensors->embedding;
    return model->ops->embedding_backward(
        model->context, rpo_model_gradient(model, &tensors->items[tensors->embedding]),
        at->scratch.grad_residual, &at->tape->batch.order, &shape, at->accumulate || is_tied);
}

static rpo_status check_recorded(const rpo_model *model, const rpo_tape *tape) {
    if (model->memory->gradients == NULL)
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT,
                             "memory: has no room for gradients; ask for training");
    if (tape->batch.num_segments > 0)
        return RPO_OK;
    return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT,
                         "tape: holds no batch; a backward follows a recorded forward, once");
}

rpo_status rpo_model_backward(rpo_model *model, rpo_tape *tape, const float *sequence_gradients,
                              bool accumulate, float *sequence_logps) {
    RPO_TRY(check_recorded(model, tape));
    const walk at = {
        .model = model,
        .tape = tape,
        .scratch = rpo_model_scratch(model, tape->batch.num_rows),
        .rows = tape->batch.num_rows,
        .accumulate = accumulate,
    };
    rpo_status status = head_backward(&at, sequence_gradients, sequence_logps);
    for (int64_t layer = model->config.num_hidden_layers - 1; layer >= 0 && status == RPO_OK; --layer) {
        status = mlp_backward(&at, layer);
        if (status == RPO_OK)
            status = attention_block_backward(&at, layer);
    }
    if (status == RPO_OK)
        status = embedding_backward(&at);
    tape->batch.num_segments = 0; /* the cache is used up, gate and up are overwritten */
    return status;
}
