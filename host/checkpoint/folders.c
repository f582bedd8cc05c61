/* folders.c - which checkpoints a run folder holds, and how a finished folder takes its place. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "host/checkpoint/internal.h"

int64_t rpo_checkpoint_step_of(const char *name) {
    static const char prefix[] = "step-";
    if (strncmp(name, prefix, sizeof prefix - 1) != 0)
        return -1;
    const char *digits = name + sizeof prefix - 1;
    for (const char *digit = digits; *digit != '\0'; ++digit)
        if (!isdigit((unsigned char)*digit))
            return -1;
    errno = 0;
    const long long step = *digits == '\0' ? -1 : strtoll(digits, NULL, 10);
    return errno != 0 ? -1 : (int64_t)step;
}

static int compare_steps(const void *a, const void *b) {
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

rpo_status rpo_checkpoint_steps(const char *checkpoints_folder, int64_t **steps, size_t *count) {
    *steps = NULL;
    *count = 0;
    if (!rpo_path_is_folder(checkpoints_folder))
        return RPO_OK;
    char **names = NULL;
    size_t num_names = 0;
    RPO_TRY(rpo_list_folder(checkpoints_folder, &names, &num_names));
    *steps = rpo_alloc_array(num_names + 1, sizeof **steps);
    if (*steps != NULL) {
        for (size_t i = 0; i < num_names; ++i) {
            const int64_t step = rpo_checkpoint_step_of(names[i]);
            if (step >= 0)
                (*steps)[(*count)++] = step;
        }
        qsort(*steps, *count, sizeof **steps, compare_steps);
    }
    rpo_free_names(names, num_names);
    return *steps == NULL ? RPO_ERROR_OUT_OF_MEMORY : RPO_OK;
}

char *rpo_checkpoint_step_path(const char *checkpoints_folder, const char *prefix, int64_t step) {
    rpo_text path = {0};
    if (rpo_text_printf(&path, "%s/%sstep-%lld", checkpoints_folder, prefix, (long long)step) != RPO_OK) {
        rpo_text_free(&path);
        return NULL;
    }
    return path.data;
}

rpo_status rpo_checkpoint_replace(const char *from, const char *to, const char *aside) {
    if (!rpo_path_exists(to))
        return rpo_rename_synced(from, to);
    RPO_TRY(rpo_remove_tree(aside));
    RPO_TRY(rpo_rename_synced(to, aside));
    RPO_TRY(rpo_rename_synced(from, to));
    return rpo_remove_tree(aside);
}

/* A kill between the two renames of a replacement left the old folder aside and none in its place. */
static rpo_status put_back_or_remove(const char *folder, const char *name) {
    char *aside = rpo_path_join(folder, name);
    char *place = rpo_path_join(folder, name + strlen(RPO_CHECKPOINT_REPLACED));
    rpo_status status = RPO_ERROR_OUT_OF_MEMORY;
    if (aside != NULL && place != NULL)
        status = rpo_path_exists(place) ? rpo_remove_tree(aside) : rpo_rename_synced(aside, place);
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
    if (!rpo_path_is_folder(folder))
        return RPO_OK;
    char **names = NULL;
    size_t count = 0;
    RPO_TRY(rpo_list_folder(folder, &names, &count));
    rpo_status status = RPO_OK;
    for (size_t i = 0; i < count && status == RPO_OK; ++i) {
        if (starts_with(names[i], RPO_CHECKPOINT_TEMPORARY))
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
