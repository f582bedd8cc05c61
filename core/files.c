/* files.c - reading whole files, and writing so that a kill or a power cut leaves the old or the new, never
 * half. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/descriptors.h"
#include "core/files_internal.h"
#include "core/signals.h"

rpo_status rpo_sync_folder(const char *path) {
    const int folder = rpo_open_retried(path, O_RDONLY | O_DIRECTORY, 0);
    if (folder < 0)
        return rpo_io_fault(path, "cannot be opened to sync it", errno);
    int result;
    do {
        result = fsync(folder);
    } while (result != 0 && errno == EINTR);
    rpo_status status = RPO_OK;
    if (result != 0 && errno != EINVAL && errno != ENOTSUP) /* some file systems sync folders by themselves */
        status = rpo_io_fault(path, "cannot be synced to disk", errno);
    close(folder);
    return status;
}

rpo_status rpo_rename_synced(const char *from, const char *to) {
    if (rename(from, to) != 0)
        return rpo_error_set(RPO_ERROR_IO, "%s: cannot be renamed to %s: %s", from, to, strerror(errno));
    char *parent = rpo_path_parent(to);
    if (parent == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    const rpo_status status = rpo_sync_folder(parent);
    rpo_free(parent);
    return status;
}

enum { FIRST_SIZE = 1 << 16 }; /* of a buffer for a file that does not tell its size */

/*
 * A pipe is waited for in short turns, so that a signal ends the wait: handlers only remember it. Descriptors of
 * regular files are always ready.
 */
static rpo_status wait_for_data(int file, const char *path) {
    enum { TURN_MS = 100 };
    for (;;) {
        struct pollfd waiting = {.fd = file, .events = POLLIN};
        const int ready = poll(&waiting, 1, TURN_MS);
        RPO_TRY(rpo_signals_check());
        if (ready < 0 && errno != EINTR)
            return rpo_io_fault(path, "cannot be waited for", errno);
        if (ready > 0)
            return RPO_OK;
    }
}

/* Reads on until the end of the file or `limit` + 1 bytes, so that the caller can tell which. */
static rpo_status read_all(int file, const char *path, size_t limit, bool waits, rpo_text *text) {
    while (text->length <= limit) {
        if (text->capacity - text->length < 2) { /* one byte of room, one for the final NUL */
            void *data = text->data;
            const rpo_status status = rpo_grow_array(&data, &text->capacity, text->length + FIRST_SIZE, 1);
            text->data = data;
            RPO_TRY(status);
        }
        const size_t room = text->capacity - text->length - 1, left = limit - text->length;
        size_t got = 0;
        if (waits)
            RPO_TRY(wait_for_data(file, path));
        RPO_TRY(rpo_read_some(file, path, text->data + text->length, room <= left ? room : left + 1, &got));
        if (got == 0)
            break;
        text->length += got;
    }
    return RPO_OK;
}

rpo_status rpo_read_file(const char *path, size_t limit, char **data, size_t *size) {
    rpo_status status = RPO_OK;
    rpo_text text = {0};
    struct stat info;
    *data = NULL;
    *size = 0;

    const int file = rpo_open_retried(path, O_RDONLY | O_NONBLOCK, 0);
    if (file < 0)
        return rpo_path_fault(path, "cannot be read", errno);
    if (fstat(file, &info) != 0) {
        status = rpo_io_fault(path, "cannot be read", errno);
        goto cleanup;
    }
    if (S_ISDIR(info.st_mode)) {
        status = rpo_error_set(RPO_ERROR_INVALID_INPUT, "%s: is a folder; must be a file", path);
        goto cleanup;
    }
    if (S_ISREG(info.st_mode)) { /* refuse by size before anything is allocated; then one allocation */
        if ((uint64_t)info.st_size > limit) {
            status = rpo_error_set(RPO_ERROR_INVALID_INPUT, "%s: has %lld bytes; at most %zu are allowed",
                                   path, (long long)info.st_size, limit);
            goto cleanup;
        }
        void *memory = NULL;
        status = rpo_grow_array(&memory, &text.capacity, (size_t)info.st_size + 2, 1);
        text.data = memory;
        if (status != RPO_OK)
            goto cleanup;
    }
    status = read_all(file, path, limit, !S_ISREG(info.st_mode), &text);
    if (status != RPO_OK)
        goto cleanup;
    if (text.length > limit) {
        status =
            rpo_error_set(RPO_ERROR_INVALID_INPUT, "%s: has more than the %zu bytes allowed", path, limit);
        goto cleanup;
    }
    text.data[text.length] = '\0';
    *data = text.data;
    *size = text.length;
    text = (rpo_text){0};

cleanup:
    rpo_text_free(&text);
    close(file);
    return status;
}

rpo_status rpo_write_file_atomic(const char *path, const void *data, size_t size) {
    rpo_text temporary = {0};
    RPO_TRY(rpo_text_printf(&temporary, "%s.tmp", path));
    int file = -1;
    rpo_status status = rpo_open_to_write(temporary.data, O_TRUNC, &file);
    if (status != RPO_OK)
        goto cleanup;
    status = rpo_write_all(file, temporary.data, data, size);
    if (status == RPO_OK)
        status = rpo_sync_file(file, temporary.data);
    if (status == RPO_OK)
        status = rpo_close_written(file, temporary.data);
    else
        close(file);
    if (status == RPO_OK)
        status = rpo_rename_synced(temporary.data, path);
    if (status != RPO_OK)
        unlink(temporary.data);

cleanup:
    rpo_text_free(&temporary);
    return status;
}
