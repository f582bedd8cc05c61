/* exit_codes.h - what a program's exit code says; the one place where a status becomes one. */
#ifndef RPO_CORE_EXIT_CODES_H
#define RPO_CORE_EXIT_CODES_H

#include "rpo/status.h"

enum {
    RPO_EXIT_OK = 0,
    RPO_EXIT_INPUT = 2,   /* the user's input is at fault */
    RPO_EXIT_MACHINE = 3, /* device, disk, memory; or nothing was trained: the numbers were not finite */
    RPO_EXIT_RANK = 4,    /* another rank failed */
    RPO_EXIT_SIGINT = 130,
    RPO_EXIT_SIGTERM = 143
};

/* Exit code of a run that ended with `status`. `signal` is the one that was received, 0 for none: it tells 130 from 143
 * (SIGHUP, a closed terminal, counts as SIGTERM). */
int rpo_exit_code(rpo_status status, int signal);

/* The codes and their meanings in a sentence or two, as help prints them. */
extern const char rpo_exit_codes_help[];

#endif
