/* machine.h - which build this is and which machine it runs on: for `rpo info` and the records of runs. */
#ifndef RPO_CORE_MACHINE_H
#define RPO_CORE_MACHINE_H

#include "core/core.h"

/* The commit that was checked out when the build was configured, in hexadecimal; "unknown" outside of git. */
const char *rpo_build_commit(void);

typedef struct rpo_machine {
    char cpu[128]; /* model name of the first processor */
    int cores;     /* processors online, as the operating system counts them */
    char os[256];  /* "Debian GNU/Linux 12 (bookworm), Linux 6.1.0 x86_64" */
} rpo_machine;

/* What cannot be found out is called unknown. */
void rpo_machine_look(rpo_machine *machine);

#endif
