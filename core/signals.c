/* signals.c - the one variable of the suite that outlives a call: a signal handler has no other way to tell.
 */
#include "core/signals.h"

static volatile sig_atomic_t stop_signal = 0;

static void remember(int number) {
    stop_signal = number;
}

void rpo_signals_catch(rpo_signals *signals) {
    struct sigaction action = {.sa_handler = remember, .sa_flags = (int)SA_RESETHAND | SA_RESTART};
    sigemptyset(&action.sa_mask);
    stop_signal = 0;
    sigaction(SIGTERM, &action, &signals->term_before);
    sigaction(SIGINT, &action, &signals->int_before);
    sigaction(SIGHUP, NULL, &signals->hup_before);
    if (signals->hup_before.sa_handler != SIG_IGN) /* nohup's promise is kept */
        sigaction(SIGHUP, &action, NULL);
}

void rpo_signals_release(const rpo_signals *signals) {
    sigaction(SIGTERM, &signals->term_before, NULL);
    sigaction(SIGINT, &signals->int_before, NULL);
    sigaction(SIGHUP, &signals->hup_before, NULL);
}

int rpo_signals_received(void) {
    return stop_signal;
}

rpo_status rpo_signals_check(void) {
    if (stop_signal == 0)
        return RPO_OK;
    return rpo_error_set(RPO_ERROR_INTERRUPTED, "stopped by %s",
                         stop_signal == SIGTERM  ? "SIGTERM"
                         : stop_signal == SIGHUP ? "SIGHUP"
                                                 : "SIGINT");
}
