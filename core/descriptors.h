/*
 * descriptors.h - open files by their descriptors, with every way in which a system call can half succeed dealt
 * with in one place: interrupted calls go on, short ones are continued, a write of nothing is a fault.
 * Messages name the path.
 */
#ifndef RPO_CORE_DESCRIPTORS_H
#define RPO_CORE_DESCRIPTORS_H

#include <sys/types.h>

#include "core/core.h"

/*
 * Opens a regular file for reading; never waits. INVALID_INPUT where the path leads to nothing readable or to
 * anything else (a folder, a pipe, a device); IO where the machine fails. *size (may be NULL): its bytes.
 */
rpo_status rpo_open_regular(const char *path, int *file, uint64_t *size);

/* Opens a file for writing, made if there is none; `flags` beside O_WRONLY and O_CREAT. Faults are IO. */
rpo_status rpo_open_to_write(const char *path, int flags, int *file);

/* Reads once, up to `size` bytes; *got = 0 at the end of the file. */
rpo_status rpo_read_some(int file, const char *path, void *data, size_t size, size_t *got);

/* The same at an offset; the file's own position stays. */
rpo_status rpo_read_some_at(int file, const char *path, void *data, size_t size, uint64_t offset,
                            size_t *got);

rpo_status rpo_write_all(int file, const char *path, const void *data, uint64_t size);
rpo_status rpo_sync_file(int file, const char *path);
rpo_status rpo_cut_file(int file, const char *path, int64_t size);

/* Closes a file that was written; what the system only now finds wrong with the writes is a fault. */
rpo_status rpo_close_written(int file, const char *path);

#endif
