/* limits.c - what this machine can do at most: matmul rate and copy bandwidth, measured. */
#include <string.h>

#include <omp.h>

#include "bench/bench.h"

enum { MATMUL_SIZE = 2048, MEASUREMENTS = 15 };
static const size_t copy_bytes = (size_t)256 << 20; /* well beyond any cache */

static rpo_status measure_matmul(double *rate, rpo_context *context) {
    const int64_t size = MATMUL_SIZE;
    const rpo_linear_shape shape = {size, size, size, size, size, RPO_FLOAT32};
    float *a = bench_random(size * size, 1.0f, 1), *b = bench_random(size * size, 1.0f, 2);
    float *c = bench_random(size * size, 1.0f, 3);
    rpo_status status = a != NULL && b != NULL && c != NULL ? RPO_OK : RPO_ERROR_OUT_OF_MEMORY;
    *rate = 0.0;
    for (int i = 0; i < MEASUREMENTS && status == RPO_OK; ++i) {
        const double start = rpo_now();
        status = context->backend->model.linear(context, c, a, b, NULL, &shape);
        const double seconds = rpo_now() - start;
        const double flops = 2.0 * (double)size * (double)size * (double)size;
        if (flops / seconds > *rate)
            *rate = flops / seconds;
    }
    rpo_free(c);
    rpo_free(b);
    rpo_free(a);
    return status;
}

/* Each thread copies its own part, which it touched first. */
static void copy_parts(char *to, char *from, int threads, bool fill) {
#pragma omp parallel num_threads(threads)
    {
        const size_t part = copy_bytes / (size_t)omp_get_num_threads();
        const size_t begin = part * (size_t)omp_get_thread_num();
        if (fill) {
            memset(from + begin, 1, part);
            memset(to + begin, 0, part);
        } else {
            memcpy(to + begin, from + begin, part);
        }
    }
}

static rpo_status measure_copy(double *rate, int threads) {
    char *from = rpo_alloc_array(copy_bytes, 1), *to = rpo_alloc_array(copy_bytes, 1);
    rpo_status status = from != NULL && to != NULL ? RPO_OK : RPO_ERROR_OUT_OF_MEMORY;
    *rate = 0.0;
    for (int i = 0; i <= MEASUREMENTS && status == RPO_OK; ++i) {
        const double start = rpo_now();
        copy_parts(to, from, threads, i == 0);
        const double seconds = rpo_now() - start;
        if (i > 0 && 2.0 * (double)copy_bytes / seconds > *rate)
            *rate = 2.0 * (double)copy_bytes / seconds;
    }
    rpo_free(to);
    rpo_free(from);
    return status;
}

rpo_status bench_limits_measure(bench_limits *limits, rpo_context *context) {
    if (rpo_context_device(context) != RPO_DEVICE_CPU)
        return rpo_error_set(RPO_ERROR_UNSUPPORTED, "--backend: limits are measured on the cpu only so far");
    RPO_TRY(measure_matmul(&limits->flops, context));
    return measure_copy(&limits->bytes, rpo_context_num_threads(context));
}
