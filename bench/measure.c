/* measure.c - sizes, errors, timed repeats and the memory they take. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench.h"

int64_t bench_size(bench_run *run, const char *name, int64_t fallback) {
    int64_t value = fallback;
    for (const bench_dim *dim = run->preset != NULL ? run->preset->dims : NULL;
         dim != NULL && dim->name != NULL; ++dim)
        if (strcmp(dim->name, name) == 0)
            value = dim->value;
    for (size_t i = 0; i < run->options->num_dims; ++i)
        if (strcmp(run->options->dims[i].name, name) == 0)
            value = run->options->dims[i].value;
    if (run->row->num_dims < BENCH_MAX_DIMS)
        run->row->dims[run->row->num_dims++] = (bench_dim){name, value};
    return value;
}

rpo_status bench_sizes_check(const bench_run *run) {
    for (size_t i = 0; i < run->options->num_dims; ++i) {
        bool asked = false;
        for (size_t k = 0; k < run->row->num_dims; ++k)
            asked = asked || strcmp(run->options->dims[i].name, run->row->dims[k].name) == 0;
        if (!asked)
            return rpo_error_set(RPO_ERROR_INVALID_INPUT,
                                 "--shape: %s has no size %s; rpo-bench --help lists them", run->row->op,
                                 run->options->dims[i].name);
    }
    return RPO_OK;
}

double bench_rounding(rpo_dtype dtype) {
    return dtype == RPO_FLOAT32 ? 0x1p-23 : dtype == RPO_BFLOAT16 ? 0x1p-8 : 0x1p-10;
}

double bench_worse(double worst, double value, double expected, double floor) {
    const double error = fabs(value - expected) / fmax(fabs(expected), floor);
    return isnan(worst) || error <= worst ? worst
                                          : error; /* a NaN is not <= anything: it comes in and stays */
}

/* The kernel's own count of resident memory in bytes; -1 where there is none. */
static int64_t resident(const char *field) {
    FILE *file = fopen("/proc/self/status", "r");
    if (file == NULL)
        return -1;
    char line[256];
    long long kibibytes = -1;
    while (fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, field, strlen(field)) == 0)
            kibibytes = strtoll(line + strlen(field), NULL, 10);
    fclose(file);
    return kibibytes >= 0 ? (int64_t)kibibytes * 1024 : -1;
}

/* The peak starts again from what is resident now. */
static bool reset_peak(void) {
    FILE *file = fopen("/proc/self/clear_refs", "w");
    if (file == NULL)
        return false;
    const bool written = fputs("5", file) >= 0;
    return fclose(file) == 0 && written;
}

static int compare_doubles(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static const double warm_seconds = 0.05, short_seconds = 1e-4, batch_seconds = 1e-3;
enum { MAX_WARM_RUNS = 20, MAX_BATCH = 1000 };

/* `count` runs in one stretch of device time, each counting an equal part. */
static rpo_status time_runs(rpo_context *context, rpo_status (*body)(void *state), void *state, int count,
                            double *seconds) {
    const rpo_device_ops *ops = context->backend->device_ops;
    RPO_TRY(ops->timer_start(context));
    for (int i = 0; i < count; ++i)
        RPO_TRY(body(state));
    RPO_TRY(ops->timer_stop(context, seconds));
    *seconds /= count;
    return RPO_OK;
}

/* What a flush overwrites: twice the last cache, or a size beyond most of them where it is not known. */
static size_t flush_bytes(const rpo_context *context) {
    const size_t cache = context->backend->device_ops->cache_bytes(context), limit = (size_t)256 << 20;
    return cache == 0 ? (size_t)64 << 20 : cache > limit / 2 ? limit : 2 * cache;
}

/* Runs the body untimed until clocks, caches and threads have settled; *batch: how many it takes to be timed. */
static rpo_status warm_up(rpo_context *context, rpo_status (*body)(void *state), void *state, int *batch) {
    double best = INFINITY, total = 0.0;
    RPO_TRY(body(state));
    for (int i = 0; i < MAX_WARM_RUNS && (i == 0 || total < warm_seconds); ++i) {
        double seconds = 0.0;
        RPO_TRY(time_runs(context, body, state, 1, &seconds));
        total += seconds;
        best = fmin(best, seconds);
    }
    const double runs = ceil(batch_seconds / fmax(best, 1e-9));
    *batch = best >= short_seconds ? 1 : runs < MAX_BATCH ? (int)runs : MAX_BATCH;
    return RPO_OK;
}

rpo_status bench_time(bench_run *run, rpo_status (*body)(void *state), void *state) {
    double seconds[BENCH_MAX_REPEATS];
    rpo_context *context = run->context;
    const rpo_device_ops *ops = context->backend->device_ops;
    const size_t flush_size = flush_bytes(context);
    void *flush = NULL;
    int batch = 1;
    if (run->options->check_only)
        return body(state);
    RPO_TRY(ops->allocate(context, &flush, flush_size));
    rpo_status status = ops->fill(context, flush, 0, flush_size);
    const bool counted = reset_peak();
    const int64_t before = resident("VmRSS:");
    if (status == RPO_OK)
        status = warm_up(context, body, state, &batch);
    for (int i = 0; i < run->options->repeats && status == RPO_OK; ++i) {
        status = ops->fill(context, flush, i, flush_size);
        if (status == RPO_OK)
            status = time_runs(context, body, state, batch, &seconds[i]);
    }
    const int64_t peak = resident("VmHWM:");
    ops->release(context, flush);
    RPO_TRY(status);
    const int repeats = run->options->repeats;
    const bool host = rpo_context_device(context) == RPO_DEVICE_CPU;
    qsort(seconds, (size_t)repeats, sizeof *seconds, compare_doubles);
    run->row->times = (bench_times){
        .median = (seconds[(repeats - 1) / 2] + seconds[repeats / 2]) / 2.0,
        .min = seconds[0],
        .max = seconds[repeats - 1],
        .batch = batch,
        .extra_bytes = host && counted && peak >= 0 && before >= 0 ? peak - before : -1,
    };
    return RPO_OK;
}
