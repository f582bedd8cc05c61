/* optimizer.c - which ops make an update, and of what. */
#include "host/train/optimizer.h"

/* The defaults of torch.optim, which the published runs used. */
static const rpo_optimizer_options torch_defaults = {
    .beta1 = 0.9f, .beta2 = 0.999f, .alpha = 0.99f, .eps = 1e-8f};

typedef struct optimizer_traits {
    const char *name;
    int num_moments;
    const char *moments[RPO_MAX_MOMENTS]; /* as torch.optim's state names them */
    size_t op;                            /* of rpo_optimizer_op * in rpo_optimizer_ops */
} optimizer_traits;

static const optimizer_traits traits[RPO_OPTIMIZER_KINDS] = {
    [RPO_OPTIMIZER_RMSPROP] = {"rmsprop", 1, {"square_avg", NULL}, offsetof(rpo_optimizer_ops, rmsprop)},
    [RPO_OPTIMIZER_ADAMW] = {"adamw", 2, {"exp_avg", "exp_avg_sq"}, offsetof(rpo_optimizer_ops, adamw)},
};

const char *rpo_optimizer_kind_name(rpo_optimizer_kind kind) {
    return traits[kind].name;
}

int rpo_optimizer_num_moments(rpo_optimizer_kind kind) {
    return traits[kind].num_moments;
}

const char *rpo_optimizer_moment_name(rpo_optimizer_kind kind, int moment) {
    return traits[kind].moments[moment];
}

static float decay_of(const rpo_optimizer *optimizer, const rpo_tensor *tensor) {
    return rpo_tensor_decays(tensor) ? (float)optimizer->settings.weight_decay : 0.0f;
}

/* Tensors with the same decay are one run where they stand side by side; the padding between them is 0 in every array
 * and stays 0, so that it may be part of a run. */
static void find_runs(rpo_optimizer *optimizer, const rpo_tensor_table *tensors) {
    rpo_optimizer_run *last = NULL;
    for (size_t i = 0; i < tensors->count; ++i) {
        const rpo_tensor *tensor = &tensors->items[i];
        const float decay = decay_of(optimizer, tensor);
        if (!tensor->trainable)
            continue;
        if (last != NULL && last->weight_decay == decay) {
            last->count = tensor->slot + tensor->count - last->first;
            continue;
        }
        last = &optimizer->runs[optimizer->num_runs++];
        *last = (rpo_optimizer_run){.first = tensor->slot, .count = tensor->count, .weight_decay = decay};
    }
}

rpo_status rpo_optimizer_open(rpo_optimizer *optimizer, const rpo_optimizer_settings *settings,
                              const rpo_model *model) {
    const rpo_tensor_table *tensors = rpo_model_tensors(model);
    *optimizer = (rpo_optimizer){.settings = *settings};
    optimizer->runs = rpo_calloc_array(tensors->count, sizeof *optimizer->runs);
    if (optimizer->runs == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    find_runs(optimizer, tensors);
    return RPO_OK;
}

void rpo_optimizer_close(rpo_optimizer *optimizer) {
    rpo_free(optimizer->runs);
    *optimizer = (rpo_optimizer){0};
}

rpo_optimizer_state rpo_optimizer_state_of(const rpo_optimizer *optimizer, const rpo_model *model) {
    const optimizer_traits *kind = &traits[optimizer->settings.kind];
    const rpo_memory *memory = rpo_model_memory(model);
    rpo_optimizer_state state = {.context = rpo_model_context(model),
                                 .num_moments = kind->num_moments,
                                 .count = rpo_model_tensors(model)->trainable};
    for (int i = 0; i < kind->num_moments; ++i) {
        state.names[i] = kind->moments[i];
        state.moments[i] = memory->moments[i];
    }
    return state;
}

size_t rpo_optimizer_staged_bytes(const rpo_model *model) {
    return rpo_bump_align(rpo_model_tensors(model)->count * sizeof(rpo_optimizer_run));
}

rpo_status rpo_optimizer_stage(rpo_optimizer *optimizer, const rpo_model *model, rpo_staging *staging) {
    void *device = NULL;
    (void)model;
    if (rpo_staging_put(staging, optimizer->runs, optimizer->num_runs, sizeof *optimizer->runs, &device) ==
        NULL)
        return rpo_error_set(RPO_ERROR_INTERNAL, "optimizer: its runs are larger than the batch segment");
    optimizer->staged = device;
    return RPO_OK;
}

size_t rpo_optimizer_workspace_bytes(const rpo_model *model) {
    rpo_context *context = rpo_model_context(model);
    return context->backend->optimizer.grad_norm_workspace_size(context, rpo_model_tensors(model)->trainable);
}

rpo_status rpo_optimizer_begin(const rpo_model *model, rpo_step_control *control, int64_t updates) {
    rpo_context *context = rpo_model_context(model);
    const rpo_step_control start = {.updates = updates};
    return context->backend->device_ops->copy_in(context, control, &start, sizeof start);
}

rpo_status rpo_optimizer_update(const rpo_optimizer *optimizer, rpo_model *model, rpo_step_control *control,
                                const float *losses, int64_t num_losses, double learning_rate) {
    rpo_context *context = rpo_model_context(model);
    const rpo_optimizer_ops *ops = &context->backend->optimizer;
    const rpo_memory *memory = rpo_model_memory(model);
    const int64_t count = rpo_model_tensors(model)->trainable;
    const rpo_optimizer_arrays arrays = {
        .master = memory->weights,
        .gradients = memory->gradients,
        .moments = {memory->moments[0], memory->moments[1]},
        .runs = optimizer->staged,
        .num_runs = optimizer->num_runs,
        .count = count,
    };
    rpo_optimizer_op *const *op =
        (rpo_optimizer_op *const *)(const void *)((const char *)ops + traits[optimizer->settings.kind].op);
    rpo_optimizer_options options = torch_defaults;
    options.learning_rate = (float)learning_rate;
    RPO_TRY(ops->grad_norm(context, control, memory->gradients, count, losses, num_losses,
                           (float)optimizer->settings.max_grad_norm, memory->workspace,
                           memory->workspace_bytes));
    return (*op)(context, &arrays, control, &options);
}
