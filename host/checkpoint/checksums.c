/* checksums.c - a checkpoint's list of files with the hash of each. */
#include <limits.h>
#include <string.h>

#include "host/checkpoint/internal.h"

enum { HASH_DIGITS = 32, LIST_LIMIT = 1 << 20 };

static rpo_status append_file(rpo_text *list, const char *folder, const char *name) {
    char *path = rpo_path_join(folder, name);
    if (path == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    char hex[HASH_DIGITS + 1];
    rpo_status status = rpo_hash_file(path, false, hex);
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

/* ---- looking a folder over ---- */

/* One line of the list: "HASH  NAME\n". */
typedef struct listed_file {
    const char *hash, *name;
    size_t name_length;
} listed_file;

/* Takes the line at *text and moves behind it; false where it is none. */
static bool next_listed(const char **text, listed_file *file) {
    const char *line = *text, *end = strchr(line, '\n');
    if (end == NULL || end - line <= HASH_DIGITS + 2 || memcmp(line + HASH_DIGITS, "  ", 2) != 0 ||
        strspn(line, "0123456789abcdef") != HASH_DIGITS)
        return false;
    *file = (listed_file){line, line + HASH_DIGITS + 2, (size_t)(end - line) - HASH_DIGITS - 2};
    *text = end + 1;
    /* A longer name is none: looking for such a file fails, and a failure would not tell that the list is damaged. */
    return file->name_length <= NAME_MAX && memchr(file->name, '/', file->name_length) == NULL;
}

static bool is_listed(const char *list, const char *name) {
    listed_file file;
    while (*list != '\0' && next_listed(&list, &file))
        if (strlen(name) == file.name_length && memcmp(name, file.name, file.name_length) == 0)
            return true;
    return false;
}

static rpo_status verify_file(const char *folder, const listed_file *file, rpo_text *damage) {
    rpo_text path = {0};
    rpo_path_kind kind = RPO_PATH_ABSENT;
    char hex[HASH_DIGITS + 1] = "";
    rpo_status status = rpo_text_printf(&path, "%s/%.*s", folder, (int)file->name_length, file->name);
    if (status == RPO_OK)
        status = rpo_path_examine(path.data, &kind);
    if (status == RPO_OK && kind == RPO_PATH_FILE)
        status = rpo_hash_file(path.data, true, hex);
    if (status == RPO_OK && kind != RPO_PATH_FILE)
        status = rpo_text_printf(damage, "%s: is %s", path.data,
                                 kind == RPO_PATH_ABSENT ? "missing" : "no regular file");
    else if (status == RPO_OK && memcmp(hex, file->hash, HASH_DIGITS) != 0)
        status = rpo_text_printf(damage, "%s: differs from its checksum", path.data);
    rpo_text_free(&path);
    return status;
}

/* A list that was cut at the end of a line would vouch for too little. */
static rpo_status check_complete(const char *folder, const char *list, rpo_text *damage) {
    static const char *const needed[] = {"model.safetensors", "config.json", RPO_CHECKPOINT_OPTIMIZER,
                                         RPO_CHECKPOINT_STATE};
    for (size_t i = 0; i < sizeof needed / sizeof needed[0]; ++i)
        if (!is_listed(list, needed[i]))
            return rpo_text_printf(damage, "%s/%s: does not list %s", folder, RPO_CHECKPOINT_CHECKSUMS,
                                   needed[i]);
    return RPO_OK;
}

static rpo_status verify_listed(const char *folder, const char *list, rpo_text *damage) {
    for (const char *at = list; *at != '\0' && damage->length == 0;) {
        listed_file file;
        if (!next_listed(&at, &file))
            return rpo_text_printf(damage, "%s/%s: is damaged", folder, RPO_CHECKPOINT_CHECKSUMS);
        RPO_TRY(verify_file(folder, &file, damage));
    }
    return damage->length > 0 ? RPO_OK : check_complete(folder, list, damage);
}

static rpo_status name_extra(const char *folder, const char *list, rpo_text *extra) {
    char **names = NULL;
    size_t count = 0;
    RPO_TRY(rpo_list_folder(folder, &names, &count));
    rpo_status status = RPO_OK;
    for (size_t i = 0; i < count && status == RPO_OK; ++i)
        if (strcmp(names[i], RPO_CHECKPOINT_CHECKSUMS) != 0 && !is_listed(list, names[i]))
            status = rpo_text_printf(extra, "%s%s", extra->length > 0 ? ", " : "", names[i]);
    rpo_free_names(names, count);
    return status;
}

rpo_status rpo_checksums_verify(const char *folder, rpo_text *damage, rpo_text *extra) {
    char *list = NULL;
    size_t size = 0;
    rpo_path_kind kind = RPO_PATH_ABSENT;
    char *path = rpo_path_join(folder, RPO_CHECKPOINT_CHECKSUMS);
    rpo_status status = path == NULL ? RPO_ERROR_OUT_OF_MEMORY : rpo_path_examine(path, &kind);
    if (status == RPO_OK && kind != RPO_PATH_FILE) {
        status = rpo_text_printf(damage, "%s: is %s", path,
                                 kind == RPO_PATH_ABSENT ? "missing" : "no regular file");
        goto cleanup;
    }
    if (status == RPO_OK)
        status = rpo_read_file(path, LIST_LIMIT, &list, &size);
    if (status == RPO_OK && strlen(list) != size)
        status = rpo_text_printf(damage, "%s: is damaged", path);
    if (status == RPO_OK && damage->length == 0)
        status = verify_listed(folder, list, damage);
    if (status == RPO_OK && damage->length == 0)
        status = name_extra(folder, list, extra);

cleanup:
    rpo_free(list);
    rpo_free(path);
    return status;
}
