/* optimizer.c - the update of every parameter through the backend's optimizer ops. */
#include "host/train/optimizer.h"

#include <math.h>

#include "kernels/op_table.h"

/* The defaults of torch.optim, which the published runs used. */
static const rpo_optimizer_options torch_defaults = {
    .beta1 = 0.9f, .beta2 = 0.999f, .alpha = 0.99f, .eps = 1e-8f};

int rpo_optimizer_num_moments(rpo_optimizer_kind kind) {
    return kind == RPO_OPTIMIZER_ADAMW ? 2 : 1;
}

static rpo_status make_runs(rpo_optimizer *optimizer, const rpo_model *model, float weight_decay) {
    const rpo_parameter *parameters = rpo_model_parameters(model, &optimizer->num_runs);
    optimizer->runs = rpo_calloc_array(optimizer->num_runs, sizeof *optimizer->runs);
    if (optimizer->runs == NULL)
        return rpo_error_prefix(RPO_ERROR_OUT_OF_MEMORY, "runs of the optimizer: ");
    for (size_t i = 0; i < optimizer->num_runs; ++i)
        optimizer->runs[i] = (rpo_optimizer_run){
            .first = parameters[i].offset,
            .count = parameters[i].count,
            .weight_decay = parameters[i].decay ? weight_decay : 0.0f,
        };
    return RPO_OK;
}

rpo_status rpo_optimizer_create(rpo_optimizer *optimizer, const rpo_optimizer_settings *settings,
                                rpo_model *model) {
    *optimizer = (rpo_optimizer){
        .kind = settings->kind,
        .max_grad_norm = settings->max_grad_norm,
    };
    RPO_TRY(make_runs(optimizer, model, (float)settings->weight_decay));
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
    rpo_free(optimizer->runs);
    optimizer->runs = NULL;
    rpo_free(optimizer->state.moments[0]);
    rpo_free(optimizer->state.moments[1]);
    optimizer->state.moments[0] = optimizer->state.moments[1] = NULL;
}

rpo_status rpo_optimizer_grad_norm(double *norm, rpo_context *context, rpo_model *model) {
    const rpo_optimizer_ops *ops = &context->backend->optimizer;
    float *gradients = NULL;
    int64_t count = 0;
    RPO_TRY(rpo_model_gradients(model, &gradients, &count));
    const size_t size = ops->grad_norm_workspace_size(context, count);
    void *workspace = rpo_alloc_array(size, 1);
    if (workspace == NULL)
        return rpo_error_prefix(RPO_ERROR_OUT_OF_MEMORY, "workspace of the gradient norm: ");
    rpo_step_control control = {0};
    const rpo_status status =
        ops->grad_norm(context, &control, gradients, count, NULL, 0, 0.0f, workspace, size);
    *norm = control.grad_norm;
    rpo_free(workspace);
    return status;
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
    const rpo_optimizer_ops *ops = &context->backend->optimizer;
    float *gradients = NULL;
    int64_t total = 0;
    RPO_TRY(rpo_model_gradients(model, &gradients, &total));
    const rpo_optimizer_arrays arrays = {
        .master = rpo_model_weights(model, &total),
        .gradients = gradients,
        .moments = {optimizer->state.moments[0], optimizer->state.moments[1]},
        .runs = optimizer->runs,
        .num_runs = (int64_t)optimizer->num_runs,
        .count = total,
    };
    const rpo_step_control control = {
        .updates = update,
        .grad_norm = grad_norm,
        .clip_scale = clip_scale(optimizer->max_grad_norm, grad_norm),
    };
    rpo_optimizer_options options = torch_defaults;
    options.learning_rate = (float)learning_rate;
    rpo_optimizer_op *op = optimizer->kind == RPO_OPTIMIZER_ADAMW ? ops->adamw : ops->rmsprop;
    return op(context, &arrays, &control, &options);
}
