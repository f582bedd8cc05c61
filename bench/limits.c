/* limits.c - what this device can do at most: matmul rate and copy bandwidth, measured. */
#include <math.h>

#include "bench/array.h"

/* Each measurement grows until the device needs some time for it, so that launches and caches do not count. */
enum { MATMUL_SMALLEST = 256, MATMUL_LARGEST = 8192, TRIALS = 3, MEASUREMENTS = 15 };
static const size_t copy_smallest = (size_t)256 << 20, copy_largest = (size_t)2 << 30;
static const double matmul_seconds = 5e-3, copy_seconds = 5e-4;

typedef struct matmul_case {
    rpo_context *context;
    rpo_dtype dtype;
    int64_t size;
    bench_array a, b, c, workspace;
} matmul_case;

static rpo_status matmul_case_new(matmul_case *one, rpo_context *context, rpo_dtype dtype, int64_t size) {
    *one = (matmul_case){.context = context, .dtype = dtype, .size = size};
    RPO_TRY(bench_array_random(&one->a, context, size * size, dtype, 1.0f, 1));
    RPO_TRY(bench_array_random(&one->b, context, size * size, dtype, 1.0f, 2));
    RPO_TRY(bench_array_output(&one->c, context, size * size, dtype));
    return bench_array_new(&one->workspace, context, RPO_MATMUL_WORKSPACE);
}

static void matmul_case_free(matmul_case *one) {
    bench_array_free(&one->workspace);
    bench_array_free(&one->c);
    bench_array_free(&one->b);
    bench_array_free(&one->a);
}

static rpo_status matmul_run(matmul_case *one, double *seconds) {
    const rpo_device_ops *ops = one->context->backend->device_ops;
    RPO_TRY(ops->timer_start(one->context));
    RPO_TRY(ops->matmul(one->context, one->c.data, one->a.data, one->b.data, one->size, one->dtype,
                        one->workspace.data));
    return ops->timer_stop(one->context, seconds);
}

/* The fastest of `count` products of one size, after an untimed one. */
static rpo_status time_matmul(rpo_context *context, rpo_dtype dtype, int64_t size, int count, double *best) {
    matmul_case one;
    double seconds = 0.0;
    rpo_status status = matmul_case_new(&one, context, dtype, size);
    if (status == RPO_OK)
        status = matmul_run(&one, &seconds);
    *best = INFINITY;
    for (int i = 0; i < count && status == RPO_OK; ++i) {
        status = matmul_run(&one, &seconds);
        *best = fmin(*best, seconds);
    }
    matmul_case_free(&one);
    return status;
}

static double flops_of(int64_t size) {
    return 2.0 * (double)size * (double)size * (double)size;
}

/* Larger products until they take their time and are no faster for it; then the fastest size again, often. */
static rpo_status measure_matmul(double *rate, rpo_context *context, rpo_dtype dtype) {
    int64_t best_size = MATMUL_SMALLEST;
    double seconds = 0.0;
    *rate = 0.0;
    for (int64_t size = MATMUL_SMALLEST; size <= MATMUL_LARGEST; size *= 2) {
        RPO_TRY(time_matmul(context, dtype, size, TRIALS, &seconds));
        const double now = flops_of(size) / seconds;
        if (seconds >= matmul_seconds && now < 1.3 * *rate)
            break;
        if (now > *rate) {
            *rate = now;
            best_size = size;
        }
    }
    RPO_TRY(time_matmul(context, dtype, best_size, MEASUREMENTS, &seconds));
    *rate = fmax(*rate, flops_of(best_size) / seconds);
    return RPO_OK;
}

static rpo_status copy_run(const bench_array *to, const bench_array *from, double *seconds) {
    const rpo_device_ops *ops = to->context->backend->device_ops;
    RPO_TRY(ops->timer_start(to->context));
    RPO_TRY(ops->copy_device(to->context, to->data, from->data, to->bytes));
    return ops->timer_stop(to->context, seconds);
}

/* Random bytes: a seeded start, doubled on the device until it fills the array. */
static rpo_status random_bytes(bench_array *array, rpo_context *context, size_t bytes) {
    const rpo_device_ops *ops = context->backend->device_ops;
    const size_t start = (size_t)16 << 20;
    bench_array seeded = {0};
    RPO_TRY(bench_array_new(array, context, bytes));
    rpo_status status =
        bench_array_random(&seeded, context, (int64_t)(start / sizeof(float)), RPO_FLOAT32, 1.0f, 3);
    if (status == RPO_OK)
        status = ops->copy_device(context, array->data, seeded.data, start);
    for (size_t done = start; done < bytes && status == RPO_OK; done *= 2)
        status = ops->copy_device(context, (char *)array->data + done, array->data, done);
    if (status == RPO_OK)
        status = rpo_context_synchronize(context);
    bench_array_free(&seeded);
    return status;
}

/* The fastest of `count` copies, after an untimed one that touches every page. `bytes`: 2^k, k >= 24. */
static rpo_status time_copy(rpo_context *context, size_t bytes, int count, double *best) {
    bench_array from = {0}, to = {0};
    double seconds = 0.0;
    rpo_status status = random_bytes(&from, context, bytes);
    if (status == RPO_OK)
        status = bench_array_new(&to, context, bytes);
    if (status == RPO_OK)
        status = copy_run(&to, &from, &seconds);
    *best = INFINITY;
    for (int i = 0; i < count && status == RPO_OK; ++i) {
        status = copy_run(&to, &from, &seconds);
        *best = fmin(*best, seconds);
    }
    bench_array_free(&to);
    bench_array_free(&from);
    return status;
}

static rpo_status measure_copy(double *rate, rpo_context *context) {
    size_t bytes = copy_smallest;
    double seconds = 0.0;
    RPO_TRY(time_copy(context, bytes, MEASUREMENTS, &seconds));
    while (seconds < copy_seconds && bytes < copy_largest) {
        bytes *= 2;
        RPO_TRY(time_copy(context, bytes, MEASUREMENTS, &seconds));
    }
    *rate = 2.0 * (double)bytes / seconds;
    return RPO_OK;
}

rpo_status bench_limits_measure(bench_limits *limits, rpo_context *context, rpo_dtype dtype) {
    if (limits->bytes == 0.0)
        RPO_TRY(measure_copy(&limits->bytes, context));
    return limits->flops[dtype] == 0.0 ? measure_matmul(&limits->flops[dtype], context, dtype) : RPO_OK;
}

rpo_status bench_limits_again(bench_limits *limits, rpo_context *context, rpo_dtype dtype,
                              bench_limit which) {
    double *kept = which == BENCH_LIMIT_MATMUL ? &limits->flops[dtype] : &limits->bytes;
    double rate = 0.0;
    RPO_TRY(which == BENCH_LIMIT_MATMUL ? measure_matmul(&rate, context, dtype)
                                        : measure_copy(&rate, context));
    *kept = fmax(*kept, rate);
    return RPO_OK;
}
