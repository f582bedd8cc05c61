/*
 * status.h - numbered results of every library call, and the message behind the last failure.
 *
 * Every function that can fail returns rpo_status. Numbers are never reused or renumbered.
 */
#ifndef RPO_STATUS_H
#define RPO_STATUS_H

#include "rpo/export.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum rpo_status {
    RPO_OK = 0,
    RPO_ERROR_INVALID_ARGUMENT = 1, /* a parameter breaks the function's contract */
    RPO_ERROR_INVALID_INPUT = 2,    /* the user's data or configuration is at fault */
    RPO_ERROR_OUT_OF_MEMORY = 3,
    RPO_ERROR_IO = 4,          /* a file or disk operation failed */
    RPO_ERROR_UNSUPPORTED = 5, /* this build or backend cannot do it */
    RPO_ERROR_DEVICE = 6,      /* an accelerator is missing or reported a fault */
    RPO_ERROR_COMM = 7,        /* another rank failed or cannot be reached */
    RPO_ERROR_INTERRUPTED = 8, /* stopped on request, state saved */
    RPO_ERROR_NONFINITE = 9,   /* a loss or gradient stayed NaN or infinite */
    RPO_ERROR_WORKSPACE = 10,  /* the workspace handed in is too small */
    RPO_ERROR_INTERNAL = 11    /* a defect of the library */
} rpo_status;

/* Name of a status, such as "RPO_ERROR_IO". Never NULL; static storage. */
RPO_API const char *rpo_status_name(rpo_status status);

/*
 * One-line message of the calling thread's last failed call, "" when there was none. It names the parameter
 * (or file, line and key) at fault and what is allowed. Valid until the thread's next failing call; the
 * library owns it.
 */
RPO_API const char *rpo_last_error(void);

#ifdef __cplusplus
}
#endif
#endif
