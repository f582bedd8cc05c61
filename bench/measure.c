/* measure.c - sizes, seeded inputs, timed repeats and the memory they take. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench.h"

int64_t bench_size(bench_run *run, const char *name, int64_t fallback) {
    int64_t value = fallback;
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

float *bench_random(int64_t count, float scale, uint64_t seed) {
    float *values = rpo_alloc_array((size_t)count, sizeof *values);
    if (values == NULL)
        return NULL;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < count; ++i)
        values[i] = scale * (float)(2.0 * rpo_random_uniform(seed, 0, (uint64_t)i) - 1.0);
    return values;
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

rpo_status bench_time(bench_run *run, rpo_status (*body)(void *state), void *state) {
    double seconds[BENCH_MAX_REPEATS];
    const int repeats = run->options->repeats;
    const bool counted = reset_peak();
    const int64_t before = resident("VmRSS:");
    RPO_TRY(body(state)); /* warm-up: caches, page tables, the threads */
    for (int i = 0; i < repeats; ++i) {
        const double start = rpo_now();
        RPO_TRY(body(state));
        RPO_TRY(rpo_context_synchronize(run->context));
        seconds[i] = rpo_now() - start;
    }
    const int64_t peak = resident("VmHWM:");
    qsort(seconds, (size_t)repeats, sizeof *seconds, compare_doubles);
    run->row->times = (bench_times){.median = (seconds[(repeats - 1) / 2] + seconds[repeats / 2]) / 2.0,
                                    .min = seconds[0],
                                    .max = seconds[repeats - 1],
                                    .extra_bytes = counted && peak >= 0 && before >= 0 ? peak - before : -1};
    return RPO_OK;
}
