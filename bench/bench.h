/*
 * bench.h - what the parts of rpo-bench share: options, measured limits, one row of the result.
 *
 * A benchmark function prepares seeded inputs, checks the op against float64 (on the case itself or on a
 * small ragged twin of it), times it and fills a row. Every row names the limit it is held against: the
 * matmul rate or the copy bandwidth measured on this machine in the same run.
 */
#ifndef RPO_BENCH_BENCH_H
#define RPO_BENCH_BENCH_H

#include "host/core/core.h"
#include "kernels/op_table.h"

enum { BENCH_MAX_DIMS = 12, BENCH_MAX_REPEATS = 1000 };

/* One named size: --shape rows=2048,vocab=32000. */
typedef struct bench_dim {
    const char *name;
    int64_t value;
} bench_dim;

typedef struct bench_options {
    bench_dim dims[BENCH_MAX_DIMS]; /* as given; names point into the command line */
    size_t num_dims;
    char *shape_text; /* owns what the names point into; rpo_free */
    rpo_device device;
    rpo_dtype dtype;
    int num_threads, repeats;
    bool json, help;
    const char *op; /* a name of the table in main.c, or "all" */
} bench_options;

rpo_status bench_options_read(bench_options *options, int argc, char **argv);

/* Physical limits of this machine, as measured at the start. */
typedef struct bench_limits {
    double flops; /* matmul, flop/s */
    double bytes; /* copy, bytes read plus bytes written per second */
} bench_limits;

rpo_status bench_limits_measure(bench_limits *limits, rpo_context *context);

typedef enum bench_limit { BENCH_LIMIT_MATMUL, BENCH_LIMIT_COPY } bench_limit;

/* Seconds of the timed repeats, and memory beyond inputs, outputs and what the program held before. */
typedef struct bench_times {
    double median, min, max;
    int64_t extra_bytes; /* growth of the resident set, workspace included; -1 = not known here */
} bench_times;

typedef struct bench_row {
    const char *op;
    bench_dim dims[BENCH_MAX_DIMS];
    size_t num_dims;
    bench_times times;
    double flops, bytes; /* of one run */
    bench_limit limit;
    double error, tolerance; /* against float64; NaN fails */
    const char *checked;     /* what the error is of */
    size_t workspace_bytes;
    double tokens; /* per run; 0 where it means nothing */
} bench_row;

typedef struct bench_run {
    const bench_options *options;
    rpo_context *context;
    bench_row *row;
} bench_run;

typedef rpo_status (*bench_function)(bench_run *run);

rpo_status bench_contrast_loss(bench_run *run);
rpo_status bench_logprob_gather(bench_run *run);
rpo_status bench_logprob_gather_backward(bench_run *run);
rpo_status bench_linear_logprob(bench_run *run);
rpo_status bench_linear_logprob_backward(bench_run *run);
rpo_status bench_linear_logprob_backward_frozen(bench_run *run);
rpo_status bench_training_step(bench_run *run);

/* The size named `name`, as given or else `fallback`; noted in the row. */
int64_t bench_size(bench_run *run, const char *name, int64_t fallback);

/* INVALID_INPUT when --shape named a size that the op has not asked for. */
rpo_status bench_sizes_check(const bench_run *run);

/* Runs `body` once untimed, then options->repeats times. */
rpo_status bench_time(bench_run *run, rpo_status (*body)(void *state), void *state);

/* `count` seeded floats in [-scale, scale); NULL with the message set. rpo_free. */
float *bench_random(int64_t count, float scale, uint64_t seed);

/* The larger of `worst` and |value - expected| / max(|expected|, floor); NaN sticks. */
double bench_worse(double worst, double value, double expected, double floor);

/* Rows of the result on stdout. */
void bench_report_start(const bench_options *options, const bench_limits *limits);
rpo_status bench_report_row(const bench_options *options, const bench_limits *limits, const bench_row *row);
bool bench_row_correct(const bench_row *row);

#endif
