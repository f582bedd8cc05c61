/* internal.h - what the files of the metrics room share. */
#ifndef RPO_HOST_METRICS_INTERNAL_H
#define RPO_HOST_METRICS_INTERNAL_H

#include <stdio.h>

#include "host/metrics/metrics.h"

struct rpo_metrics {
    int file;      /* metrics.jsonl, or -1 */
    int64_t bytes; /* its length */
    char *path;
    FILE *log;      /* log.txt, or NULL */
    FILE *terminal; /* stdout, or stderr when stdout is kept for a result */
    bool redraws;   /* the terminal is one: progress is redrawn in place */
    bool line_open; /* a redrawn line stands unfinished */
    struct {
        bool active;
        char phase[32], detail[160];
        double start, last_line;    /* seconds: of the phase, of the last plain line */
        int64_t first, done, total; /* `first` was done when the phase began (a resumed run) */
        int64_t printed;            /* `done` of the last plain line */
    } progress;
};

/* Takes an unfinished progress line off the terminal, so that a line of text may follow. */
void rpo_metrics_clear_line(rpo_metrics *metrics);

#endif
