/* descriptors.c - system calls on open files. */
#include "core/descriptors.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/files_internal.h"

/* One call may move no more than 2 GiB. */
static const size_t most_at_once = (size_t)1 << 30;

int rpo_open_retried(const char *path, int flags, unsigned mode) {
    for (;;) {
        const int file = open(path, flags | O_CLOEXEC | O_NOCTTY, mode);
        if (file >= 0 || errno != EINTR)
            return file;
    }
}

static rpo_status refuse_special(const char *path) {
    return rpo_error_set(RPO_ERROR_INVALID_INPUT,
                         "%s: is a pipe, a device or a socket; must be a regular file", path);
}

static rpo_status check_regular(int file, const char *path, uint64_t *size) {
    struct stat facts;
    if (fstat(file, &facts) != 0)
        return rpo_io_fault(path, "cannot be examined", errno);
    if (S_ISDIR(facts.st_mode))
        return rpo_error_set(RPO_ERROR_INVALID_INPUT, "%s: is a folder; must be a file", path);
    if (!S_ISREG(facts.st_mode))
        return refuse_special(path);
    if (size != NULL)
        *size = (uint64_t)facts.st_size;
    return RPO_OK;
}

rpo_status rpo_open_regular(const char *path, int *file, uint64_t *size) {
    *file = rpo_open_retried(path, O_RDONLY | O_NONBLOCK, 0); /* a pipe would wait for someone to write */
    if (*file < 0 && errno == ENXIO)                          /* a socket */
        return refuse_special(path);
    if (*file < 0) {
        const rpo_status fault = rpo_path_fault(path, "cannot be opened", errno);
        return fault != RPO_ERROR_INVALID_INPUT
                   ? fault
                   : rpo_error_set(fault, "%s; must be a readable file", rpo_last_error());
    }
    const rpo_status status = check_regular(*file, path, size);
    if (status != RPO_OK) {
        close(*file);
        *file = -1;
    }
    return status;
}

rpo_status rpo_open_to_write(const char *path, int flags, int *file) {
    *file = rpo_open_retried(path, O_WRONLY | O_CREAT | flags, 0666);
    return *file < 0 ? rpo_io_fault(path, "cannot be written", errno) : RPO_OK;
}

rpo_status rpo_read_some(int file, const char *path, void *data, size_t size, size_t *got) {
    for (;;) {
        const ssize_t count = read(file, data, size < most_at_once ? size : most_at_once);
        if (count < 0 && errno == EINTR)
            continue;
        *got = count < 0 ? 0 : (size_t)count;
        return count < 0 ? rpo_path_fault(path, "cannot be read", errno) : RPO_OK;
    }
}

rpo_status rpo_read_some_at(int file, const char *path, void *data, size_t size, uint64_t offset,
                            size_t *got) {
    for (;;) {
        const ssize_t count = pread(file, data, size < most_at_once ? size : most_at_once, (off_t)offset);
        if (count < 0 && errno == EINTR)
            continue;
        *got = count < 0 ? 0 : (size_t)count;
        return count < 0 ? rpo_path_fault(path, "cannot be read", errno) : RPO_OK;
    }
}

rpo_status rpo_write_all(int file, const char *path, const void *data, uint64_t size) {
    const char *from = data;
    while (size > 0) {
        const ssize_t put = write(file, from, size < most_at_once ? (size_t)size : most_at_once);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return rpo_io_fault(path, "cannot be written", errno);
        if (put == 0) /* asked again it would say the same, for ever */
            return rpo_error_set(RPO_ERROR_IO, "%s: cannot be written: the system takes no more bytes", path);
        from += put;
        size -= (uint64_t)put;
    }
    return RPO_OK;
}

rpo_status rpo_sync_file(int file, const char *path) {
    int result;
    do {
        result = fsync(file);
    } while (result != 0 && errno == EINTR);
    return result == 0 ? RPO_OK : rpo_io_fault(path, "cannot be synced to disk", errno);
}

rpo_status rpo_cut_file(int file, const char *path, int64_t size) {
    int result;
    do {
        result = ftruncate(file, (off_t)size);
    } while (result != 0 && errno == EINTR);
    return result == 0 ? RPO_OK : rpo_io_fault(path, "cannot be cut", errno);
}

rpo_status rpo_close_written(int file, const char *path) {
    /* Linux gives the descriptor free even where it says EINTR: a second close might hit another file. */
    if (close(file) == 0 || errno == EINTR)
        return RPO_OK;
    return rpo_io_fault(path, "cannot be written", errno);
}
