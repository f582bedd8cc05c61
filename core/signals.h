/*
 * signals.h - SIGTERM, SIGINT and SIGHUP (a closed terminal) ask a run to stop; nothing is done in the handler but to
 * remember it. What takes long asks rpo_signals_check: loading as well as training.
 */
#ifndef RPO_CORE_SIGNALS_H
#define RPO_CORE_SIGNALS_H

#include <signal.h>

#include "core/core.h"

typedef struct rpo_signals {
    struct sigaction term_before, int_before, hup_before;
} rpo_signals;

/* Takes the signals over, once each: a second one of the same kind ends the process at once. A SIGHUP that was
 * ignored (nohup) stays so. */
void rpo_signals_catch(rpo_signals *signals);

/* Gives them back to whoever had them. */
void rpo_signals_release(const rpo_signals *signals);

/* INTERRUPTED once a signal arrived. */
rpo_status rpo_signals_check(void);

/* The signal that asked to stop, or 0. */
int rpo_signals_received(void);

#endif
