/* instrument_model.c - the model's and the optimizer's ops with a counter around each. */
#include "kernels/instrument.h"

static const rpo_model_ops *model_of(const rpo_context *context) {
    return &rpo_instrument_inner(context)->model;
}

static const rpo_optimizer_ops *optimizer_of(const rpo_context *context) {
    return &rpo_instrument_inner(context)->optimizer;
}

static rpo_status embedding(rpo_context *context, void *out, const void *table, const int32_t *tokens,
                            const rpo_embedding_shape *shape) {
    rpo_instrument_enter(context, RPO_COUNTED_EMBEDDING);
    const rpo_status status = model_of(context)->embedding(context, out, table, tokens, shape);
    return rpo_instrument_leave(context, RPO_COUNTED_EMBEDDING, status);
}

static rpo_status embedding_backward(rpo_context *context, float *grad_table, const void *grad_out,
                                     const rpo_token_order *order, const rpo_embedding_shape *shape,
                                     bool accumulate) {
    rpo_instrument_enter(context, RPO_COUNTED_EMBEDDING_BACKWARD);
    const rpo_status status =
        model_of(context)->embedding_backward(context, grad_table, grad_out, order, shape, accumulate);
    return rpo_instrument_leave(context, RPO_COUNTED_EMBEDDING_BACKWARD, status);
}

static rpo_status rmsnorm(rpo_context *context, void *out, float *inverse_rms, const void *x,
                          const void *weight, const rpo_norm_shape *shape) {
    rpo_instrument_enter(context, RPO_COUNTED_RMSNORM);
    const rpo_status status = model_of(context)->rmsnorm(context, out, inverse_rms, x, weight, shape);
    return rpo_instrument_leave(context, RPO_COUNTED_RMSNORM, status);
}

static rpo_status rmsnorm_backward(rpo_context *context, const rpo_rmsnorm_gradients *gradients,
                                   const void *grad_out, const void *x, const void *weight,
                                   const float *inverse_rms, const rpo_norm_shape *shape, void *workspace,
                                   size_t workspace_size) {
    rpo_instrument_enter(context, RPO_COUNTED_RMSNORM_BACKWARD);
    const rpo_status status = model_of(context)->rmsnorm_backward(
        context, gradients, grad_out, x, weight, inverse_rms, shape, workspace, workspace_size);
    return rpo_instrument_leave(context, RPO_COUNTED_RMSNORM_BACKWARD, status);
}

static rpo_status rope_table(rpo_context *context, float *table, int64_t first, int64_t count,
                             int64_t head_dim, double theta) {
    rpo_instrument_enter(context, RPO_COUNTED_ROPE_TABLE);
    const rpo_status status = model_of(context)->rope_table(context, table, first, count, head_dim, theta);
    return rpo_instrument_leave(context, RPO_COUNTED_ROPE_TABLE, status);
}

static rpo_status rope(rpo_context *context, void *x, const float *table, const int32_t *positions,
                       const rpo_rope_shape *shape, bool inverse) {
    rpo_instrument_enter(context, RPO_COUNTED_ROPE);
    const rpo_status status = model_of(context)->rope(context, x, table, positions, shape, inverse);
    return rpo_instrument_leave(context, RPO_COUNTED_ROPE, status);
}

static rpo_status attention(rpo_context *context, void *out, float *logsumexp, const void *qkv,
                            const rpo_segments *segments, const rpo_attention_shape *shape, void *workspace,
                            size_t workspace_size) {
    rpo_instrument_enter(context, RPO_COUNTED_ATTENTION);
    const rpo_status status = model_of(context)->attention(context, out, logsumexp, qkv, segments, shape,
                                                           workspace, workspace_size);
    return rpo_instrument_leave(context, RPO_COUNTED_ATTENTION, status);
}

static rpo_status attention_backward(rpo_context *context, void *grad_qkv, const void *grad_out,
                                     const rpo_attention_saved *saved, const rpo_segments *segments,
                                     const rpo_attention_shape *shape, void *workspace,
                                     size_t workspace_size) {
    rpo_instrument_enter(context, RPO_COUNTED_ATTENTION_BACKWARD);
    const rpo_status status = model_of(context)->attention_backward(
        context, grad_qkv, grad_out, saved, segments, shape, workspace, workspace_size);
    return rpo_instrument_leave(context, RPO_COUNTED_ATTENTION_BACKWARD, status);
}

static rpo_status swiglu(rpo_context *context, void *out, const void *gate_up, int64_t rows,
                         int64_t intermediate, rpo_dtype dtype) {
    rpo_instrument_enter(context, RPO_COUNTED_SWIGLU);
    const rpo_status status = model_of(context)->swiglu(context, out, gate_up, rows, intermediate, dtype);
    return rpo_instrument_leave(context, RPO_COUNTED_SWIGLU, status);
}

static rpo_status swiglu_backward(rpo_context *context, void *grad_gate_up, void *out, const void *grad_out,
                                  const void *gate_up, int64_t rows, int64_t intermediate, rpo_dtype dtype) {
    rpo_instrument_enter(context, RPO_COUNTED_SWIGLU_BACKWARD);
    const rpo_status status = model_of(context)->swiglu_backward(context, grad_gate_up, out, grad_out,
                                                                 gate_up, rows, intermediate, dtype);
    return rpo_instrument_leave(context, RPO_COUNTED_SWIGLU_BACKWARD, status);
}

static rpo_status linear(rpo_context *context, void *y, const void *x, const void *weight,
                         const void *residual, const rpo_linear_shape *shape) {
    rpo_instrument_enter(context, RPO_COUNTED_LINEAR);
    const rpo_status status = model_of(context)->linear(context, y, x, weight, residual, shape);
    return rpo_instrument_leave(context, RPO_COUNTED_LINEAR, status);
}

static rpo_status linear_backward_input(rpo_context *context, void *grad_x, const void *grad_y,
                                        const void *weight, const rpo_linear_shape *shape, bool accumulate) {
    rpo_instrument_enter(context, RPO_COUNTED_LINEAR_BACKWARD_INPUT);
    const rpo_status status =
        model_of(context)->linear_backward_input(context, grad_x, grad_y, weight, shape, accumulate);
    return rpo_instrument_leave(context, RPO_COUNTED_LINEAR_BACKWARD_INPUT, status);
}

static rpo_status linear_backward_weight(rpo_context *context, float *grad_weight, const void *grad_y,
                                         const void *x, const rpo_linear_shape *shape, bool accumulate) {
    rpo_instrument_enter(context, RPO_COUNTED_LINEAR_BACKWARD_WEIGHT);
    const rpo_status status =
        model_of(context)->linear_backward_weight(context, grad_weight, grad_y, x, shape, accumulate);
    return rpo_instrument_leave(context, RPO_COUNTED_LINEAR_BACKWARD_WEIGHT, status);
}

static rpo_status take(rpo_context *context, float *out, const float *in, const int32_t *index,
                       int64_t count) {
    rpo_instrument_enter(context, RPO_COUNTED_TAKE);
    const rpo_status status = model_of(context)->take(context, out, in, index, count);
    return rpo_instrument_leave(context, RPO_COUNTED_TAKE, status);
}

/* Sizes are asked of the backend itself. */
void rpo_instrument_model_ops(rpo_instrument *instrument) {
    const rpo_model_ops *inner = &instrument->inner->model;
    rpo_model_ops *ops = &instrument->table.model;
    if (inner->embedding != NULL)
        ops->embedding = embedding;
    if (inner->embedding_backward != NULL)
        ops->embedding_backward = embedding_backward;
    if (inner->rmsnorm != NULL)
        ops->rmsnorm = rmsnorm;
    if (inner->rmsnorm_backward != NULL)
        ops->rmsnorm_backward = rmsnorm_backward;
    if (inner->rope_table != NULL)
        ops->rope_table = rope_table;
    if (inner->rope != NULL)
        ops->rope = rope;
    if (inner->attention != NULL)
        ops->attention = attention;
    if (inner->attention_backward != NULL)
        ops->attention_backward = attention_backward;
    if (inner->swiglu != NULL)
        ops->swiglu = swiglu;
    if (inner->swiglu_backward != NULL)
        ops->swiglu_backward = swiglu_backward;
    if (inner->linear != NULL)
        ops->linear = linear;
    if (inner->linear_backward_input != NULL)
        ops->linear_backward_input = linear_backward_input;
    if (inner->linear_backward_weight != NULL)
        ops->linear_backward_weight = linear_backward_weight;
    if (inner->take != NULL)
        ops->take = take;
}

static rpo_status grad_norm(rpo_context *context, rpo_step_control *control, const float *gradients,
                            int64_t count, const float *losses, int64_t num_losses, float max_grad_norm,
                            void *workspace, size_t workspace_size) {
    rpo_instrument_enter(context, RPO_COUNTED_GRAD_NORM);
    const rpo_status status = optimizer_of(context)->grad_norm(
        context, control, gradients, count, losses, num_losses, max_grad_norm, workspace, workspace_size);
    return rpo_instrument_leave(context, RPO_COUNTED_GRAD_NORM, status);
}

static rpo_status adamw(rpo_context *context, const rpo_optimizer_arrays *arrays,
                        const rpo_step_control *control, const rpo_optimizer_options *options) {
    rpo_instrument_enter(context, RPO_COUNTED_ADAMW);
    const rpo_status status = optimizer_of(context)->adamw(context, arrays, control, options);
    return rpo_instrument_leave(context, RPO_COUNTED_ADAMW, status);
}

static rpo_status rmsprop(rpo_context *context, const rpo_optimizer_arrays *arrays,
                          const rpo_step_control *control, const rpo_optimizer_options *options) {
    rpo_instrument_enter(context, RPO_COUNTED_RMSPROP);
    const rpo_status status = optimizer_of(context)->rmsprop(context, arrays, control, options);
    return rpo_instrument_leave(context, RPO_COUNTED_RMSPROP, status);
}

void rpo_instrument_optimizer_ops(rpo_instrument *instrument) {
    const rpo_optimizer_ops *inner = &instrument->inner->optimizer;
    rpo_optimizer_ops *ops = &instrument->table.optimizer;
    if (inner->grad_norm != NULL)
        ops->grad_norm = grad_norm;
    if (inner->adamw != NULL)
        ops->adamw = adamw;
    if (inner->rmsprop != NULL)
        ops->rmsprop = rmsprop;
}
