/* exit_codes.c - from a status to an exit code. */
#include "core/exit_codes.h"

#include <signal.h>

const char rpo_exit_codes_help[] =
    "Exit codes: 0 done, 2 the input is at fault, 3 the machine (device, disk, memory) or numbers\n"
    "that are not finite, 4 another rank failed, 130 (SIGINT) or 143 (SIGTERM) interrupted after a\n"
    "checkpoint.\n";

int rpo_exit_code(rpo_status status, int signal) {
    switch (status) {
    case RPO_OK:
        return RPO_EXIT_OK;
    case RPO_ERROR_INVALID_ARGUMENT:
    case RPO_ERROR_INVALID_INPUT:
        return RPO_EXIT_INPUT;
    case RPO_ERROR_COMM:
        return RPO_EXIT_RANK;
    case RPO_ERROR_INTERRUPTED:
        return signal == SIGINT ? RPO_EXIT_SIGINT : RPO_EXIT_SIGTERM; /* SIGHUP counts as SIGTERM */
    case RPO_ERROR_OUT_OF_MEMORY:
    case RPO_ERROR_IO:
    case RPO_ERROR_NONFINITE:   /* all of the input was in order, and there is still no result */
    case RPO_ERROR_UNSUPPORTED: /* of this build or this machine; what no build can do is INVALID_INPUT */
    case RPO_ERROR_DEVICE:
    case RPO_ERROR_WORKSPACE:
    case RPO_ERROR_INTERNAL:
        return RPO_EXIT_MACHINE;
    }
    return RPO_EXIT_MACHINE;
}
