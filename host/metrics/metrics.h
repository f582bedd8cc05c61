/*
 * metrics.h - metrics.jsonl, log.txt and what a person sees on the terminal while a run goes on.
 */
#ifndef RPO_HOST_METRICS_METRICS_H
#define RPO_HOST_METRICS_METRICS_H

#include "host/metrics/figures.h"

/* One row. What is not finite is left out (sft has no rejected side), as are empty blocks where there are none. */
typedef struct rpo_metrics_row {
    int64_t step;
    double epoch;
    rpo_figures figures;
    double grad_norm, learning_rate, seconds, tokens_per_second;
    int64_t tokens;
    int64_t time; /* when it was written, seconds since 1970; 0: left out. rpo_metrics_write fills it in */
    bool is_eval; /* keys prefixed with eval_ (step, epoch and time stay as they are) */
} rpo_metrics_row;

typedef struct rpo_metrics rpo_metrics;

/*
 * Opens RUN/metrics.jsonl for append after cutting it to `keep_bytes` (0 = a new run), and RUN/log.txt. A file
 * that holds fewer bytes is refused (INVALID_INPUT); where there is none, rows begin anew and a warning says so. With
 * `run_folder` NULL there are no files and the terminal is stderr, so that stdout stays free for a result.
 * Every function below accepts NULL for `metrics` and then does nothing: ranks other than 0 have none.
 */
rpo_status rpo_metrics_open(rpo_metrics **out, const char *run_folder, int64_t keep_bytes);
rpo_status rpo_metrics_write(rpo_metrics *metrics, const rpo_metrics_row *row);
int64_t rpo_metrics_bytes(const rpo_metrics *metrics);
rpo_status
rpo_metrics_sync(rpo_metrics *metrics); /* flush and fsync, before a checkpoint refers to its length */
void rpo_metrics_close(rpo_metrics *metrics);

/* The row as one JSON object, without a line break. */
rpo_status rpo_metrics_row_to_json(const rpo_metrics_row *row, rpo_text *text);

/* The figures alone, as such an object goes on: `, "eval_loss": 0.5, ...`. */
rpo_status rpo_metrics_figures_to_json(const rpo_figures *figures, bool is_eval, rpo_text *text);

/* A row with every figure NAN and every count 0. */
rpo_metrics_row rpo_metrics_row_empty(void);

/* A line for stdout and log.txt; one for log.txt alone; a warning for stderr and log.txt. */
void rpo_metrics_say(rpo_metrics *metrics, const char *format, ...) RPO_PRINTF(2, 3);
void rpo_metrics_log(rpo_metrics *metrics, const char *format, ...) RPO_PRINTF(2, 3);
void rpo_metrics_warn(rpo_metrics *metrics, const char *format, ...) RPO_PRINTF(2, 3);
void rpo_metrics_warn_lines(rpo_metrics *metrics, const rpo_text *lines); /* one warning a line */

/* Progress of a phase: one redrawn line on a terminal, plain lines now and then otherwise. */
void rpo_metrics_progress(rpo_metrics *metrics, const char *phase, int64_t done, int64_t total,
                          const char *detail);
void rpo_metrics_progress_end(rpo_metrics *metrics);

/* "1,234,567" and "1:02:03" into caller's memory, for lines that people read. */
const char *rpo_figure_count(char figure[RPO_FIGURE_SIZE], int64_t count);
const char *rpo_figure_time(char figure[RPO_FIGURE_SIZE], double seconds);

#endif
