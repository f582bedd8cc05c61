/*
 * bench.h - what the parts of rpo-bench share: options, measured limits, one row of the result.
 *
 * A benchmark function prepares seeded inputs, checks the op against float64 (on the case itself or on a
 * small ragged twin of it), times it and fills a row. Every row names the limit it is held against: the
 * matmul rate or the copy bandwidth measured on this device in the same run. Memory, copies and the clock are
 * the backend's (kernels/device_ops.h), so that the same code measures any device.
 */
#ifndef RPO_BENCH_BENCH_H
#define RPO_BENCH_BENCH_H

#include "core/core.h"
#include "kernels/op_table.h"

enum { BENCH_MAX_DIMS = 12, BENCH_MAX_REPEATS = 1000 };

/* One named size: --shape rows=2048,vocab=32000. */
typedef struct bench_dim {
    const char *name;
    int64_t value;
} bench_dim;

/* What an op is timed at when the command line names no sizes. */
typedef struct bench_preset {
    const char *op;
    rpo_dtype dtype;
    bench_dim dims[6]; /* up to the first without a name; the op's own defaults fill the rest */
} bench_preset;

/* Presets of a device; NULL and 0 where every op has one shape only, its own defaults. */
const bench_preset *bench_presets(rpo_device device, size_t *count);

typedef struct bench_options {
    bench_dim dims[BENCH_MAX_DIMS]; /* as given; names point into the command line */
    size_t num_dims;
    char *shape_text; /* owns what the names point into; rpo_free */
    rpo_device device;
    rpo_dtype dtype;
    int num_threads, repeats; /* repeats 0: 5 on the CPU, 20 elsewhere */
    bool dtype_given, json, check_only, help;
    const char *op; /* a name of the table in main.c, or "all" */
} bench_options;

rpo_status bench_options_read(bench_options *options, int argc, char **argv);
rpo_status bench_options_append_help(rpo_text *text);

/* Physical limits of this device, measured when the first row needs them; 0 before. */
typedef struct bench_limits {
    double flops[RPO_FLOAT16 + 1]; /* matmul of each dtype, flop/s */
    double bytes;                  /* copy, bytes read plus bytes written per second */
} bench_limits;

typedef enum bench_limit { BENCH_LIMIT_MATMUL, BENCH_LIMIT_COPY } bench_limit;

rpo_status bench_limits_measure(bench_limits *limits, rpo_context *context, rpo_dtype dtype);

/* Measures one limit once more and keeps the better of both: for a row that was faster than its limit, which tells
 * that something disturbed the measurement. */
rpo_status bench_limits_again(bench_limits *limits, rpo_context *context, rpo_dtype dtype, bench_limit which);

/* Seconds of the timed repeats, and memory beyond inputs, outputs and what the program held before. */
typedef struct bench_times {
    double median, min, max;
    int batch;           /* runs between two readings of the clock */
    int64_t extra_bytes; /* growth of the resident set, workspace included; -1 = not known here */
} bench_times;

typedef struct bench_row {
    const char *op;
    rpo_dtype dtype;
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
    const bench_preset *preset; /* or NULL */
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

/* The size named `name`, as given, else the preset's, else `fallback`; noted in the row. */
int64_t bench_size(bench_run *run, const char *name, int64_t fallback);

/* INVALID_INPUT when --shape named a size that the op has not asked for. */
rpo_status bench_sizes_check(const bench_run *run);

/*
 * Runs `body` untimed until the device is warm, then options->repeats times, each after the caches were
 * overwritten. A body too short for the clock is run many times between two readings, then with warm caches.
 */
rpo_status bench_time(bench_run *run, rpo_status (*body)(void *state), void *state);

/* Half of the last bit of a dtype, relative to the value, doubled to leave room for what is computed. */
double bench_rounding(rpo_dtype dtype);

/* The larger of `worst` and |value - expected| / max(|expected|, floor); NaN sticks. */
double bench_worse(double worst, double value, double expected, double floor);

/* Rows of the result on stdout; the table's head and the limits of a dtype once, ahead of what needs them. */
void bench_report_start(const bench_options *options, const rpo_context *context);
rpo_status bench_report_row(const bench_options *options, const rpo_context *context,
                            const bench_limits *limits, const bench_row *row);
void bench_report_limits(const bench_options *options, const bench_limits *limits, rpo_dtype dtype);
double bench_row_share(const bench_limits *limits, const bench_row *row); /* of the row's limit */
bool bench_row_correct(const bench_row *row);

#endif
