/* report.c - from a failed status to the one line on stderr and the exit code. */
#include <signal.h>
#include <stdio.h>

#include "core/signals.h"
#include "host/cli/cli.h"
#include "host/run/run.h"

static int exit_code(rpo_status status) {
    switch (status) {
    case RPO_OK:
        return RPO_EXIT_OK;
    case RPO_ERROR_INVALID_ARGUMENT:
    case RPO_ERROR_INVALID_INPUT:
    case RPO_ERROR_NONFINITE: /* a diverged run: its settings must change; running it again elsewhere is no
                                 help */
        return RPO_EXIT_INPUT;
    case RPO_ERROR_COMM:
        return RPO_EXIT_RANK;
    case RPO_ERROR_INTERRUPTED:
        return rpo_signals_received() == SIGTERM ? RPO_EXIT_SIGTERM : RPO_EXIT_SIGINT;
    case RPO_ERROR_OUT_OF_MEMORY:
    case RPO_ERROR_IO:
    case RPO_ERROR_UNSUPPORTED:
    case RPO_ERROR_DEVICE:
    case RPO_ERROR_WORKSPACE:
    case RPO_ERROR_INTERNAL:
        return RPO_EXIT_MACHINE;
    }
    return RPO_EXIT_MACHINE;
}

int rpo_cli_report(rpo_status status) {
    if (status == RPO_OK)
        return RPO_EXIT_OK;
    const char *message = rpo_last_error();
    fflush(stdout); /* what was said before comes before */
    fprintf(stderr, "rpo: %s\n", message[0] != '\0' ? message : rpo_status_name(status));
    return exit_code(status);
}
