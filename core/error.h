/*
 * error.h - how code inside the suite reports a failure: a status plus a thread-local one-line message.
 *
 *     return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT, "tau: is %g; must be finite and > 0", tau);
 *
 * The function that notices a fault sets the message; callers pass the status up and add context with
 * rpo_error_prefix, so that a lower error is never masked.
 */
#ifndef RPO_CORE_ERROR_H
#define RPO_CORE_ERROR_H

#include "rpo/status.h"

#if defined(__GNUC__)
#    define RPO_PRINTF(text_at, first_at) __attribute__((__format__(__printf__, text_at, first_at)))
#else
#    define RPO_PRINTF(text_at, first_at)
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Replaces the thread's message and returns `status`. It stays one line that a terminal shows as it is, whatever
 * the user's data put into it (rpo_show_line). */
rpo_status rpo_error_set(rpo_status status, const char *format, ...) RPO_PRINTF(2, 3);

/* Puts text in front of the thread's message and returns `status` unchanged; nothing happens for RPO_OK. */
rpo_status rpo_error_prefix(rpo_status status, const char *format, ...) RPO_PRINTF(2, 3);

/* Forgets the thread's message (tests, and callers that handled a fault). */
void rpo_error_clear(void);

#ifdef __cplusplus
}
#endif

/* Returns early with the status of a failed call. The only macro of the suite that returns. */
#define RPO_TRY(call)                                                                                        \
    do {                                                                                                     \
        const rpo_status rpo_try_status = (call);                                                            \
        if (rpo_try_status != RPO_OK)                                                                        \
            return rpo_try_status;                                                                           \
    } while (0)

#endif
