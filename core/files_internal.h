/* files_internal.h - how core/ reports a failed file operation. */
#ifndef RPO_CORE_FILES_INTERNAL_H
#define RPO_CORE_FILES_INTERNAL_H

#include "core/core.h"

/*
 * "PATH: WHAT: <text of error_number>". INVALID_INPUT when the path itself is at fault (absent, no
 * permission, a folder where a file must be: the user's to mend), IO when the machine is (full or broken
 * disk).
 */
rpo_status rpo_path_fault(const char *path, const char *what, int error_number);

/* The same, always IO: for writes in the middle of a run. */
rpo_status rpo_io_fault(const char *path, const char *what, int error_number);

/* open(2), close-on-exec, again where a signal interrupted it; -1 with errno on failure. New files get `mode`. */
int rpo_open_retried(const char *path, int flags, unsigned mode);

/* The folder a path lies in ("." for a bare name); rpo_free. */
char *rpo_path_parent(const char *path);

#endif
