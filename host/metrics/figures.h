/*
 * figures.h - the figures of a step or an evaluation. One table says of each: its key in metrics.jsonl, its name for people, how it
 * is printed and whether it stands in the closing table. Rows, tables, progress lines and checkpoints are made from it.
 */
#ifndef RPO_HOST_METRICS_FIGURES_H
#define RPO_HOST_METRICS_FIGURES_H

#include "core/core.h"

/* Means over the rows of contributing blocks; NAN where there is nothing to average. */
typedef struct rpo_figures {
    double loss;
    double rewards_chosen, rewards_rejected, rewards_margins, rewards_accuracies;
    double logps_chosen, logps_rejected;
    int64_t blocks, empty_blocks; /* counts, which are no part of the table */
} rpo_figures;

typedef enum rpo_figure_format {
    RPO_FIGURE_NUMBER, /* 0.1234 */
    RPO_FIGURE_SIGNED, /* the same, with its sign where it stands in a line */
    RPO_FIGURE_SHARE   /* of 1: 0.88 in a line, 88.0 % in a table */
} rpo_figure_format;

typedef struct rpo_figure {
    const char *key;  /* in metrics.jsonl; people's scripts read it */
    const char *name; /* in a table for people */
    const char *line; /* its short name in lines that show progress; NULL: not there */
    rpo_figure_format format;
    bool closing;  /* stands in the table that closes a run */
    size_t offset; /* of the double in rpo_figures */
} rpo_figure;

/* The table, in the order of a row of metrics.jsonl. */
const rpo_figure *rpo_figure_table(size_t *count);

double rpo_figure_value(const rpo_figures *figures, const rpo_figure *figure);
void rpo_figure_set(rpo_figures *figures, const rpo_figure *figure, double value);

/* Every figure NAN, every count 0. */
rpo_figures rpo_figures_empty(void);

/* The figure as a table shows it, "-" where there is none; into caller's memory. */
enum { RPO_FIGURE_SIZE = 32 };
const char *rpo_figure_text(char text[RPO_FIGURE_SIZE], const rpo_figure *figure, double value);

/* "loss 0.4244  accuracy 0.84  margin +25.0921": what there is of them, cut to `size`. */
const char *rpo_figures_line(char *line, size_t size, const rpo_figures *figures);

#endif
