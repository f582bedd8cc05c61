/* folders.c - which checkpoints a run folder holds, and how a finished folder takes its place. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/checkpoint/internal.h"

int64_t rpo_checkpoint_step_of(const char *name) {
    static const char prefix[] = "step-";
    char again[32];
    if (strncmp(name, prefix, sizeof prefix - 1) != 0)
        return -1;
    errno = 0;
    const long long step = strtoll(name + sizeof prefix - 1, NULL, 10);
    if (errno != 0 || step < 0)
        return -1;
    snprintf(again, sizeof again, "%s%lld", prefix, step);
    return strcmp(name, again) == 0 ? (int64_t)step : -1; /* step-007 is not what a run calls step 7 */
}

static int compare_steps(const void *a, const void *b) {
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Is there a folder of that name? */
static rpo_status examine_entry(const char *folder, const char *name, rpo_path_kind *kind) {
    char *path = rpo_path_join(folder, name);
    const rpo_status status = path == NULL ? RPO_ERROR_OUT_OF_MEMORY : rpo_path_examine(path, kind);
    rpo_free(path);
    return status;
}

/* The names in a folder; none when there is no such folder. */
static rpo_status list_if_any(const char *folder, char ***names, size_t *count) {
    rpo_path_kind kind = RPO_PATH_ABSENT;
    *names = NULL;
    *count = 0;
    RPO_TRY(rpo_path_examine(folder, &kind));
    return kind == RPO_PATH_ABSENT ? RPO_OK : rpo_list_folder(folder, names, count);
}

rpo_status rpo_checkpoint_steps(const char *checkpoints_folder, int64_t **steps, size_t *count) {
    char **names = NULL;
    size_t num_names = 0;
    *steps = NULL;
    *count = 0;
    RPO_TRY(list_if_any(checkpoints_folder, &names, &num_names));
    *steps = rpo_alloc_array(num_names + 1, sizeof **steps);
    rpo_status status = *steps == NULL ? RPO_ERROR_OUT_OF_MEMORY : RPO_OK;
    for (size_t i = 0; i < num_names && status == RPO_OK; ++i) {
        const int64_t step = rpo_checkpoint_step_of(names[i]);
        rpo_path_kind kind = RPO_PATH_ABSENT;
        if (step >= 0)
            status = examine_entry(checkpoints_folder, names[i], &kind);
        if (kind == RPO_PATH_FOLDER)
            (*steps)[(*count)++] = step;
    }
    rpo_free_names(names, num_names);
    if (status != RPO_OK) {
        rpo_free(*steps);
        *steps = NULL;
        *count = 0;
    } else {
        qsort(*steps, *count, sizeof **steps, compare_steps);
    }
    return status;
}

char *rpo_checkpoint_step_path(const char *checkpoints_folder, const char *prefix, int64_t step) {
    rpo_text path = {0};
    if (rpo_text_printf(&path, "%s/%sstep-%lld", checkpoints_folder, prefix, (long long)step) != RPO_OK) {
        rpo_text_free(&path);
        return NULL;
    }
    return path.data;
}

void rpo_checkpoint_warn(rpo_text *warnings) {
    if (warnings != NULL)
        (void)rpo_text_printf(warnings, "%s\n", rpo_last_error());
}

rpo_status rpo_checkpoint_replace(const char *from, const char *to, const char *aside, rpo_text *warnings) {
    rpo_path_kind kind = RPO_PATH_ABSENT;
    RPO_TRY(rpo_path_examine(to, &kind));
    if (kind == RPO_PATH_ABSENT)
        return rpo_rename_synced(from, to);
    RPO_TRY(rpo_remove_tree(aside));
    rpo_status status = rpo_rename_synced(to, aside);
    if (status == RPO_OK)
        status = rpo_rename_synced(from, to);
    if (status != RPO_OK) {
        (void)rename(aside, to); /* back again; fails where `to` has its successor already */
        return status;
    }
    if (rpo_remove_tree(aside) != RPO_OK)
        rpo_checkpoint_warn(warnings);
    return RPO_OK;
}

/* PARENT/aside-step-N, or with .2, .3 behind it where that is taken; rpo_free. */
static rpo_status find_place_aside(const char *checkpoints, int64_t step, char **place) {
    rpo_path_kind kind = RPO_PATH_FOLDER;
    for (int copy = 1; kind != RPO_PATH_ABSENT; ++copy) {
        rpo_text path = {0};
        rpo_status status =
            rpo_text_printf(&path, "%s/%sstep-%lld", checkpoints, RPO_CHECKPOINT_ASIDE, (long long)step);
        if (status == RPO_OK && copy > 1)
            status = rpo_text_printf(&path, ".%d", copy);
        if (status == RPO_OK)
            status = rpo_path_examine(path.data, &kind);
        if (status == RPO_OK && kind == RPO_PATH_ABSENT)
            *place = path.data;
        else
            rpo_text_free(&path);
        RPO_TRY(status);
    }
    return RPO_OK;
}

static rpo_status set_aside(const char *checkpoints, int64_t step, rpo_text *warnings) {
    char *place = NULL, *path = rpo_checkpoint_step_path(checkpoints, "", step);
    rpo_status status = path == NULL ? RPO_ERROR_OUT_OF_MEMORY : find_place_aside(checkpoints, step, &place);
    if (status == RPO_OK)
        status = rpo_rename_synced(path, place);
    if (status == RPO_OK && warnings != NULL)
        status = rpo_text_printf(warnings, "%s: is kept as %s\n", path, place);
    rpo_free(place);
    rpo_free(path);
    return status;
}

rpo_status rpo_checkpoint_set_later_aside(const char *run_folder, int64_t step, rpo_text *warnings) {
    int64_t *steps = NULL;
    size_t count = 0;
    char *checkpoints = rpo_path_join(run_folder, "checkpoints");
    rpo_status status =
        checkpoints == NULL ? RPO_ERROR_OUT_OF_MEMORY : rpo_checkpoint_steps(checkpoints, &steps, &count);
    for (size_t i = 0; i < count && status == RPO_OK; ++i)
        if (steps[i] > step)
            status = set_aside(checkpoints, steps[i], warnings);
    rpo_free(steps);
    rpo_free(checkpoints);
    return status;
}

/* ---- what a kill left ---- */

/* A kill between the two renames of a replacement left the old folder aside and none in its place. */
static rpo_status put_back_or_remove(const char *folder, const char *name) {
    char *aside = rpo_path_join(folder, name);
    char *place = rpo_path_join(folder, name + strlen(RPO_CHECKPOINT_REPLACED));
    rpo_path_kind kind = RPO_PATH_ABSENT;
    rpo_status status =
        aside == NULL || place == NULL ? RPO_ERROR_OUT_OF_MEMORY : rpo_path_examine(place, &kind);
    if (status == RPO_OK)
        status = kind == RPO_PATH_ABSENT ? rpo_rename_synced(aside, place) : rpo_remove_tree(aside);
    rpo_free(place);
    rpo_free(aside);
    return status;
}

static rpo_status remove_entry(const char *folder, const char *name) {
    char *path = rpo_path_join(folder, name);
    const rpo_status status = path == NULL ? RPO_ERROR_OUT_OF_MEMORY : rpo_remove_tree(path);
    rpo_free(path);
    return status;
}

static bool starts_with(const char *name, const char *prefix) {
    return strncmp(name, prefix, strlen(prefix)) == 0;
}

static rpo_status clean_folder(const char *folder) {
    char **names = NULL;
    size_t count = 0;
    RPO_TRY(list_if_any(folder, &names, &count));
    rpo_status status = RPO_OK;
    for (size_t i = 0; i < count && status == RPO_OK; ++i) {
        if (starts_with(names[i], RPO_CHECKPOINT_TEMPORARY) || starts_with(names[i], RPO_PROBE_PREFIX))
            status = remove_entry(folder, names[i]);
        else if (starts_with(names[i], RPO_CHECKPOINT_REPLACED))
            status = put_back_or_remove(folder, names[i]);
    }
    rpo_free_names(names, count);
    return status;
}

rpo_status rpo_checkpoint_clean(const char *run_folder) {
    RPO_TRY(clean_folder(run_folder));
    char *checkpoints = rpo_path_join(run_folder, "checkpoints");
    if (checkpoints == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    const rpo_status status = clean_folder(checkpoints);
    rpo_free(checkpoints);
    return status;
}

uint64_t rpo_checkpoint_bytes_needed(int64_t parameters, int num_moments, int checkpoints) {
    const uint64_t small_files = 1 << 20; /* JSON, checksums, metrics */
    const uint64_t model = (uint64_t)parameters * sizeof(float);
    return model * (1 + (uint64_t)num_moments) * (uint64_t)checkpoints + model + small_files;
}
