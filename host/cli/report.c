/* report.c - from a failed status to the one line on stderr and the exit code. */
#include <stdio.h>

#include "core/signals.h"
#include "host/cli/cli.h"

int rpo_cli_report(rpo_status status) {
    if (status == RPO_OK)
        return RPO_EXIT_OK;
    const char *message = rpo_last_error();
    fflush(stdout); /* what was said before comes before */
    fprintf(stderr, "rpo: %s\n", message[0] != '\0' ? message : rpo_status_name(status));
    return rpo_exit_code(status, rpo_signals_received());
}
