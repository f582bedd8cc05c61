/* array.c - device arrays of the bench. */
#include "bench/array.h"

#include "bench/convert.h"

enum { SLAB = 1 << 24 }; /* elements made on the host at a time */

static const rpo_device_ops *ops_of(const rpo_context *context) {
    return context->backend->device_ops;
}

rpo_status bench_array_new(bench_array *array, rpo_context *context, size_t bytes) {
    *array = (bench_array){.context = context, .bytes = bytes};
    return ops_of(context)->allocate(context, &array->data, bytes);
}

rpo_status bench_array_upload(bench_array *array, rpo_context *context, const void *host, size_t bytes) {
    RPO_TRY(bench_array_new(array, context, bytes));
    return ops_of(context)->copy_in(context, array->data, host, bytes);
}

rpo_status bench_array_output(bench_array *array, rpo_context *context, int64_t count, rpo_dtype dtype) {
    RPO_TRY(bench_array_new(array, context, (size_t)count * rpo_dtype_size(dtype)));
    array->dtype = dtype;
    return ops_of(context)->fill(context, array->data, 0xff, array->bytes);
}

rpo_status bench_array_random(bench_array *array, rpo_context *context, int64_t count, rpo_dtype dtype,
                              float scale, uint64_t seed) {
    const size_t size = rpo_dtype_size(dtype);
    RPO_TRY(bench_array_new(array, context, (size_t)count * size));
    array->dtype = dtype;
    char *slab = rpo_alloc_array((size_t)(count < SLAB ? count : SLAB), size);
    rpo_status status = slab != NULL ? RPO_OK : RPO_ERROR_OUT_OF_MEMORY;
    for (int64_t first = 0; first < count && status == RPO_OK; first += SLAB) {
        const int64_t part = count - first < SLAB ? count - first : SLAB;
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < part; ++i) {
            const double unit = rpo_random_uniform(seed, 0, (uint64_t)(first + i));
            bench_store(slab, i, dtype, scale * (float)(2.0 * unit - 1.0));
        }
        status = ops_of(context)->copy_in(context, (char *)array->data + (size_t)first * size, slab,
                                          (size_t)part * size);
    }
    rpo_free(slab);
    return status;
}

void bench_array_free(bench_array *array) {
    if (array->context != NULL)
        ops_of(array->context)->release(array->context, array->data);
    *array = (bench_array){0};
}

rpo_status bench_array_read(const bench_array *array, int64_t first, int64_t count, double *values) {
    const size_t size = rpo_dtype_size(array->dtype);
    char *host = rpo_alloc_array((size_t)count, size);
    if (host == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    const rpo_status status =
        ops_of(array->context)
            ->copy_out(array->context, host, (const char *)array->data + (size_t)first * size,
                       (size_t)count * size);
    for (int64_t i = 0; i < count && status == RPO_OK; ++i)
        values[i] = (double)bench_load(host, i, array->dtype);
    rpo_free(host);
    return status;
}

rpo_status bench_array_read_all(const bench_array *array, double **values) {
    const int64_t count = (int64_t)(array->bytes / rpo_dtype_size(array->dtype));
    *values = rpo_alloc_array((size_t)count, sizeof **values);
    if (*values == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    return bench_array_read(array, 0, count, *values);
}
