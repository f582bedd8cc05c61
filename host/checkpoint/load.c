/* load.c - finds the newest whole checkpoint and reads it back. */
#include <string.h>

#include "host/checkpoint/internal.h"
#include "host/model/weights.h"

static rpo_status read_state(const char *folder, rpo_trainer_state *state) {
    char *path = rpo_path_join(folder, RPO_CHECKPOINT_STATE);
    if (path == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    const rpo_status status = rpo_trainer_state_read(state, path);
    rpo_free(path);
    return status;
}

/* Looks a folder over and reads its state, unless there is damage to tell of. A state of another step belongs to a
 * folder that was renamed by hand; training from it would repeat steps. */
static rpo_status check_folder(const char *folder, int64_t step, rpo_trainer_state *state, rpo_text *damage,
                               rpo_text *warnings) {
    rpo_text extra = {0};
    rpo_status status = rpo_checksums_verify(folder, damage, &extra);
    if (status != RPO_OK || damage->length > 0)
        goto cleanup;
    if (extra.length > 0)
        status = rpo_text_printf(warnings,
                                 "%s: holds files that are none of the checkpoint's (%s); they are "
                                 "ignored\n",
                                 folder, extra.data);
    if (status == RPO_OK)
        status = read_state(folder, state);
    if (status == RPO_OK && state->step != step)
        status = rpo_error_set(RPO_ERROR_INVALID_INPUT,
                               "%s: holds the state of step %lld; must be that of its name", folder,
                               (long long)state->step);

cleanup:
    rpo_text_free(&extra);
    return status;
}

rpo_status rpo_checkpoint_find_latest(const char *run_folder, char **folder, rpo_trainer_state *state,
                                      rpo_text *warnings) {
    *folder = NULL;
    int64_t *steps = NULL;
    size_t count = 0;
    char *checkpoints = rpo_path_join(run_folder, "checkpoints");
    rpo_status status =
        checkpoints == NULL ? RPO_ERROR_OUT_OF_MEMORY : rpo_checkpoint_steps(checkpoints, &steps, &count);
    for (size_t i = count; i > 0 && status == RPO_OK && *folder == NULL; --i) {
        rpo_text damage = {0};
        char *candidate = rpo_checkpoint_step_path(checkpoints, "", steps[i - 1]);
        status = candidate == NULL ? RPO_ERROR_OUT_OF_MEMORY
                                   : check_folder(candidate, steps[i - 1], state, &damage, warnings);
        if (status == RPO_OK && damage.length > 0)
            status = rpo_text_printf(warnings, "%s; falling back to %s%lld\n", damage.data,
                                     i > 1 ? "the checkpoint of step " : "the beginning, step ",
                                     i > 1 ? (long long)steps[i - 2] : 0LL);
        else if (status == RPO_OK)
            *folder = candidate;
        if (*folder == NULL)
            rpo_free(candidate);
        rpo_text_free(&damage);
    }
    rpo_free(steps);
    rpo_free(checkpoints);
    return status;
}

static rpo_status read_tensor(rpo_context *context, const rpo_safetensors *file, const char *name,
                              int64_t count, float *device) {
    const rpo_tensor_info *info = rpo_safetensors_find(file, name);
    if (info == NULL)
        return rpo_error_set(RPO_ERROR_INVALID_INPUT, "tensor %s: is missing", name);
    if (info->count != count)
        return rpo_error_set(RPO_ERROR_INVALID_INPUT, "tensor %s: has %lld elements; must have %lld", name,
                             (long long)info->count, (long long)count);
    return rpo_device_load_tensor(context, file, info, device);
}

static rpo_status load_weights(const char *path, rpo_model *model) {
    rpo_safetensors *file = NULL;
    RPO_TRY(rpo_safetensors_open(&file, path));
    const rpo_tensor_table *tensors = rpo_model_tensors(model);
    rpo_status status = RPO_OK;
    for (size_t i = 0; i < tensors->count && status == RPO_OK; ++i)
        status = read_tensor(rpo_model_context(model), file, tensors->items[i].name, tensors->items[i].count,
                             rpo_model_memory(model)->weights + tensors->items[i].offset);
    rpo_safetensors_close(file);
    return rpo_error_prefix(status, "%s: ", path);
}

static rpo_status load_moments(const char *path, const rpo_optimizer_state *optimizer) {
    rpo_safetensors *file = NULL;
    RPO_TRY(rpo_safetensors_open(&file, path));
    rpo_status status = RPO_OK;
    for (int i = 0; i < optimizer->num_moments && status == RPO_OK; ++i)
        status = read_tensor(optimizer->context, file, optimizer->names[i], optimizer->count,
                             optimizer->moments[i]);
    rpo_safetensors_close(file);
    return rpo_error_prefix(status, "%s: ", path);
}

rpo_status rpo_checkpoint_load(const char *folder, rpo_model *model, const rpo_optimizer_state *optimizer) {
    char *weights = rpo_path_join(folder, "model.safetensors");
    char *moments = rpo_path_join(folder, RPO_CHECKPOINT_OPTIMIZER);
    rpo_status status = weights == NULL || moments == NULL ? RPO_ERROR_OUT_OF_MEMORY : RPO_OK;
    if (status == RPO_OK)
        status = load_weights(weights, model);
    if (status == RPO_OK)
        status = load_moments(moments, optimizer);
    rpo_free(moments);
    rpo_free(weights);
    return status;
}
