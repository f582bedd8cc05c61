/*
 * array.h - arrays in the memory of the device that is measured, filled from the host and read back as doubles.
 * The same code serves every backend.
 */
#ifndef RPO_BENCH_ARRAY_H
#define RPO_BENCH_ARRAY_H

#include "bench/bench.h"

typedef struct bench_array {
    rpo_context *context;
    void *data; /* on the device */
    size_t bytes;
    rpo_dtype dtype;
} bench_array;

/* All of them overwrite *array, which must be empty ({0}); bench_array_free takes an empty one too. */

rpo_status bench_array_new(bench_array *array, rpo_context *context, size_t bytes); /* untouched memory */
rpo_status bench_array_upload(bench_array *array, rpo_context *context, const void *host, size_t bytes);

/* An output: every byte is 0xff, a NaN in each dtype, so that an element left out is seen. */
rpo_status bench_array_output(bench_array *array, rpo_context *context, int64_t count, rpo_dtype dtype);

/* `count` seeded values in [-scale, scale), rounded to the dtype. */
rpo_status bench_array_random(bench_array *array, rpo_context *context, int64_t count, rpo_dtype dtype,
                              float scale, uint64_t seed);
void bench_array_free(bench_array *array);

/* Elements [first, first + count) as doubles; waits for the device. */
rpo_status bench_array_read(const bench_array *array, int64_t first, int64_t count, double *values);

/* All elements; *values: rpo_free. */
rpo_status bench_array_read_all(const bench_array *array, double **values);

#endif
