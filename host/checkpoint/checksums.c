/* checksums.c - a checkpoint's list of files with the hash of each. */
#include <string.h>

#include "host/checkpoint/internal.h"

enum { HASH_DIGITS = 32, LIST_LIMIT = 1 << 20 };

static rpo_status append_file(rpo_text *list, const char *folder, const char *name) {
    char *path = rpo_path_join(folder, name);
    if (path == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    char hex[HASH_DIGITS + 1];
    rpo_status status = rpo_hash_file(path, hex);
    if (status == RPO_OK)
        status = rpo_text_printf(list, "%s  %s\n", hex, name);
    rpo_free(path);
    return status;
}

/* What the list should say of the files that are there now; names come sorted, so the text is unique. */
static rpo_status build_list(rpo_text *list, const char *folder) {
    char **names = NULL;
    size_t count = 0;
    RPO_TRY(rpo_list_folder(folder, &names, &count));
    rpo_status status = RPO_OK;
    for (size_t i = 0; i < count && status == RPO_OK; ++i)
        if (strcmp(names[i], RPO_CHECKPOINT_CHECKSUMS) != 0)
            status = append_file(list, folder, names[i]);
    rpo_free_names(names, count);
    return status;
}

rpo_status rpo_checksums_write(const char *folder) {
    rpo_text list = {0};
    char *path = rpo_path_join(folder, RPO_CHECKPOINT_CHECKSUMS);
    rpo_status status = path == NULL ? RPO_ERROR_OUT_OF_MEMORY : build_list(&list, folder);
    if (status == RPO_OK)
        status = rpo_write_file_atomic(path, list.data, list.length);
    rpo_free(path);
    rpo_text_free(&list);
    return status;
}

/* Length of the line at `text`, its break included. */
static size_t line_length(const char *text) {
    const char *end = strchr(text, '\n');
    return end == NULL ? strlen(text) : (size_t)(end - text) + 1;
}

/* The name in a line that is not what it should be, for the message. */
static rpo_status name_difference(const char *folder, const char *line) {
    const size_t length = line_length(line);
    if (length <= HASH_DIGITS + 3)
        return rpo_error_set(RPO_ERROR_INVALID_INPUT,
                             "%s: its list of checksums is damaged or a file is missing", folder);
    return rpo_error_set(RPO_ERROR_INVALID_INPUT, "%s/%.*s: differs from its checksum", folder,
                         (int)(length - HASH_DIGITS - 3), line + HASH_DIGITS + 2);
}

rpo_status rpo_checksums_verify(const char *folder) {
    rpo_text list = {0};
    char *stored = NULL;
    size_t size = 0;
    char *path = rpo_path_join(folder, RPO_CHECKPOINT_CHECKSUMS);
    rpo_status status =
        path == NULL ? RPO_ERROR_OUT_OF_MEMORY : rpo_read_file(path, LIST_LIMIT, &stored, &size);
    if (status != RPO_OK)
        goto cleanup;
    status = build_list(&list, folder);
    if (status != RPO_OK)
        goto cleanup;
    if (size == list.length && memcmp(stored, list.data, size) == 0)
        goto cleanup;

    /* Walk both lists to the first line that differs: that names the file. */
    const char *expected = stored, *found = list.data == NULL ? "" : list.data;
    while (*expected != '\0' && *found != '\0') {
        const size_t length = line_length(expected);
        if (length != line_length(found) || memcmp(expected, found, length) != 0)
            break;
        expected += length;
        found += length;
    }
    status = name_difference(folder, *expected != '\0' ? expected : found);

cleanup:
    rpo_free(stored);
    rpo_free(path);
    rpo_text_free(&list);
    return status;
}
