/*
 * save.c - writes checkpoints and the final model. Everything goes into a temp folder whose files are synced
 * one by one; the rename at the end is what makes a checkpoint exist.
 */
#include <string.h>

#include "host/checkpoint/internal.h"
#include "host/model/weights.h"

static rpo_status write_optimizer(const rpo_optimizer_state *optimizer, const char *folder) {
    rpo_tensor_write tensors[RPO_MAX_MOMENTS] = {0};
    rpo_device_source sources[RPO_MAX_MOMENTS];
    for (int i = 0; i < optimizer->num_moments; ++i) {
        sources[i] = (rpo_device_source){optimizer->context, optimizer->moments[i]};
        tensors[i] = (rpo_tensor_write){.name = optimizer->names[i],
                                        .num_dims = 1,
                                        .shape = {optimizer->count},
                                        .read = rpo_device_source_read,
                                        .user = &sources[i]};
    }
    char *path = rpo_path_join(folder, RPO_CHECKPOINT_OPTIMIZER);
    if (path == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    const rpo_status status = rpo_safetensors_write(path, tensors, (size_t)optimizer->num_moments);
    rpo_free(path);
    return status;
}

static rpo_status write_state(const rpo_trainer_state *state, const char *folder) {
    char *path = rpo_path_join(folder, RPO_CHECKPOINT_STATE);
    if (path == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    const rpo_status status = rpo_trainer_state_write(state, path);
    rpo_free(path);
    return status;
}

/* Fills an empty folder and makes sure that all of it is on the disk. */
static rpo_status write_contents(const char *folder, const rpo_model *model,
                                 const rpo_optimizer_state *optimizer, const rpo_trainer_state *state,
                                 const rpo_checkpoint_extras *extras) {
    RPO_TRY(rpo_remove_tree(folder));
    RPO_TRY(rpo_make_folders(folder));
    RPO_TRY(rpo_model_save(model, folder));
    if (extras != NULL)
        RPO_TRY(extras->write(extras->owner, folder));
    if (optimizer != NULL) {
        RPO_TRY(write_optimizer(optimizer, folder));
        RPO_TRY(write_state(state, folder));
        RPO_TRY(rpo_checksums_write(folder));
    }
    return rpo_sync_folder(folder);
}

static rpo_status remove_checkpoint(const char *checkpoints, int64_t step) {
    char *path = rpo_checkpoint_step_path(checkpoints, "", step);
    char *leaving = rpo_checkpoint_step_path(checkpoints, RPO_CHECKPOINT_TEMPORARY, step);
    /* Renamed first: a kill in mid-removal must not leave half a checkpoint under a real name. */
    rpo_status status = path == NULL || leaving == NULL ? RPO_ERROR_OUT_OF_MEMORY : rpo_remove_tree(leaving);
    if (status == RPO_OK)
        status = rpo_rename_synced(path, leaving);
    if (status == RPO_OK)
        status = rpo_remove_tree(leaving);
    rpo_free(leaving);
    rpo_free(path);
    return status;
}

/* Removes checkpoints beyond the `keep` newest up to `step`. What cannot be removed stays, with a warning: the next save
 * tries again. */
static void prune(const char *checkpoints, int64_t step, int64_t keep, rpo_text *warnings) {
    int64_t *steps = NULL;
    size_t count = 0;
    if (rpo_checkpoint_steps(checkpoints, &steps, &count) != RPO_OK)
        rpo_checkpoint_warn(warnings);
    int64_t kept = 0;
    for (size_t i = count; i > 0; --i)
        if (steps[i - 1] <= step && kept++ >= keep && remove_checkpoint(checkpoints, steps[i - 1]) != RPO_OK)
            rpo_checkpoint_warn(warnings);
    rpo_free(steps);
}

/* Removes a half-written folder without losing the message of what went wrong. */
static void discard(const char *folder) {
    char message[1024];
    const char *last = rpo_last_error();
    const size_t length = strnlen(last, sizeof message - 1);
    memcpy(message, last, length);
    message[length] = '\0';
    (void)rpo_remove_tree(folder);
    (void)rpo_error_set(RPO_ERROR_IO, "%s", message);
}

rpo_status rpo_checkpoint_save(const char *run_folder, const rpo_model *model,
                               const rpo_optimizer_state *optimizer, const rpo_trainer_state *state,
                               int64_t keep, const rpo_checkpoint_extras *extras, rpo_text *warnings) {
    rpo_status status = RPO_ERROR_OUT_OF_MEMORY;
    char *temporary = NULL, *place = NULL, *aside = NULL;
    char *checkpoints = rpo_path_join(run_folder, "checkpoints");
    if (checkpoints == NULL)
        goto cleanup;
    temporary = rpo_checkpoint_step_path(checkpoints, RPO_CHECKPOINT_TEMPORARY, state->step);
    place = rpo_checkpoint_step_path(checkpoints, "", state->step);
    aside = rpo_checkpoint_step_path(checkpoints, RPO_CHECKPOINT_REPLACED, state->step);
    if (temporary == NULL || place == NULL || aside == NULL)
        goto cleanup;

    status = rpo_make_folders(checkpoints);
    if (status != RPO_OK)
        goto cleanup;
    status = write_contents(temporary, model, optimizer, state, extras);
    if (status == RPO_OK)
        status = rpo_checkpoint_replace(temporary, place, aside, warnings);
    if (status != RPO_OK) {
        discard(temporary);
        goto cleanup;
    }
    if (rpo_checkpoint_set_later_aside(run_folder, state->step, warnings) != RPO_OK)
        rpo_checkpoint_warn(warnings);
    prune(checkpoints, state->step, keep, warnings);

cleanup:
    rpo_free(aside);
    rpo_free(place);
    rpo_free(temporary);
    rpo_free(checkpoints);
    return rpo_error_prefix(status, "checkpoint of step %lld: ", (long long)state->step);
}

rpo_status rpo_checkpoint_save_final(const char *run_folder, const rpo_model *model,
                                     const rpo_checkpoint_extras *extras, rpo_text *warnings) {
    rpo_status status = RPO_ERROR_OUT_OF_MEMORY;
    char *temporary = rpo_path_join(run_folder, RPO_CHECKPOINT_TEMPORARY "final");
    char *place = rpo_path_join(run_folder, "final");
    char *aside = rpo_path_join(run_folder, RPO_CHECKPOINT_REPLACED "final");
    if (temporary == NULL || place == NULL || aside == NULL)
        goto cleanup;
    status = write_contents(temporary, model, NULL, NULL, extras);
    if (status == RPO_OK)
        status = rpo_checkpoint_replace(temporary, place, aside, warnings);
    if (status != RPO_OK)
        discard(temporary);

cleanup:
    rpo_free(aside);
    rpo_free(place);
    rpo_free(temporary);
    return rpo_error_prefix(status, "final model: ");
}
