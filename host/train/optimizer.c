/* optimizer.c - the update of every parameter through the backend's optimizer ops. */
#include "host/train/optimizer.h"

#include <math.h>

#include "kernels/op_table.h"

/* The defaults of torch.optim, which the published runs used. */
static const rpo_optimizer_options torch_defaults = {
    .beta1 = 0.9f, .beta2 = 0.999f, .alpha = 0.99f, .eps = 1e-8f, .gradient_scale = 1.0f};

int rpo_optimizer_num_moments(rpo_optimizer_kind kind) {
    return kind == RPO_OPTIMIZER_ADAMW ? 2 : 1;
}

rpo_status rpo_optimizer_create(rpo_optimizer *optimizer, const rpo_optimizer_settings *settings,
                                rpo_model *model) {
    *optimizer = (rpo_optimizer){
        .kind = settings->kind,
        .weight_decay = settings->weight_decay,
        .max_grad_norm = settings->max_grad_norm,
    };
    optimizer->state.kind = optimizer->kind == RPO_OPTIMIZER_ADAMW ? "adamw" : "rmsprop";
    (void)rpo_model_weights(model, &optimizer->state.count);
    for (int i = 0; i < rpo_optimizer_num_moments(optimizer->kind); ++i) {
        optimizer->state.moments[i] = rpo_calloc_array((size_t)optimizer->state.count, sizeof(float));
        if (optimizer->state.moments[i] == NULL) {
            rpo_optimizer_free(optimizer);
            return rpo_error_prefix(RPO_ERROR_OUT_OF_MEMORY, "moments of the optimizer: ");
        }
    }
    return RPO_OK;
}

void rpo_optimizer_free(rpo_optimizer *optimizer) {
    rpo_free(optimizer->state.moments[0]);
    rpo_free(optimizer->state.moments[1]);
    optimizer->state.moments[0] = optimizer->state.moments[1] = NULL;
}

rpo_status rpo_optimizer_grad_norm(double *norm, rpo_context *context, rpo_model *model) {
    float *gradients = NULL;
    int64_t count = 0;
    double sum = 0;
    RPO_TRY(rpo_model_gradients(model, &gradients, &count));
    RPO_TRY(context->backend->optimizer.sum_of_squares(context, &sum, gradients, count));
    *norm = sqrt(sum);
    return RPO_OK;
}

static rpo_status update_range(rpo_optimizer *optimizer, rpo_context *context, float *weights,
                               const float *gradients, int64_t first, int64_t count,
                               const rpo_optimizer_options *options) {
    const rpo_optimizer_ops *ops = &context->backend->optimizer;
    float *const *moments = optimizer->state.moments;
    if (optimizer->kind == RPO_OPTIMIZER_ADAMW)
        return ops->adamw(context, weights + first, moments[0] + first, moments[1] + first, gradients + first,
                          count, options);
    return ops->rmsprop(context, weights + first, moments[0] + first, gradients + first, count, options);
}

/* torch.nn.utils.clip_grad_norm_: max_norm / (norm + 1e-6), never above 1. */
static float clip_scale(double max_norm, double norm) {
    if (!(max_norm > 0))
        return 1.0f;
    const double scale = max_norm / (norm + 1e-6);
    return scale < 1 ? (float)scale : 1.0f;
}

rpo_status rpo_optimizer_update(rpo_optimizer *optimizer, rpo_context *context, rpo_model *model,
                                double grad_norm, double learning_rate, int64_t update) {
    float *gradients = NULL;
    int64_t total = 0;
    RPO_TRY(rpo_model_gradients(model, &gradients, &total));
    float *weights = rpo_model_weights(model, &total);
    rpo_optimizer_options options = torch_defaults;
    options.learning_rate = (float)learning_rate;
    options.gradient_scale = clip_scale(optimizer->max_grad_norm, grad_norm);
    options.step = update;

    size_t num_parameters = 0;
    const rpo_parameter *parameters = rpo_model_parameters(model, &num_parameters);
    for (size_t i = 0; i < num_parameters; ++i) {
        options.weight_decay = parameters[i].decay ? (float)optimizer->weight_decay : 0.0f;
        RPO_TRY(update_range(optimizer, context, weights, gradients, parameters[i].offset,
                             parameters[i].count, &options));
    }
    return RPO_OK;
}
