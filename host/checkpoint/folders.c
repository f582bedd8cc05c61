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

static rpo_status clean_folder(const char *folder) {
    if (!rpo_path_is_folder(folder))
        return RPO_OK;
    char **names = NULL;
    size_t count = 0;
    RPO_TRY(rpo_list_folder(folder, &names, &count));
    rpo_status status = RPO_OK;
    for (size_t i = 0; i < count && status == RPO_OK; ++i) {
        const bool temporary =
            strncmp(names[i], RPO_CHECKPOINT_TEMPORARY, strlen(RPO_CHECKPOINT_TEMPORARY)) == 0;
        const bool replaced =
            strncmp(names[i], RPO_CHECKPOINT_REPLACED, strlen(RPO_CHECKPOINT_REPLACED)) == 0;
        if (!temporary && !replaced)
            continue;
        char *path = rpo_path_join(folder, names[i]);
        status = path == NULL ? RPO_ERROR_OUT_OF_MEMORY : rpo_remove_tree(path);
        rpo_free(path);
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
