/* device.c - the CPU as a device: its memory is the host's, its time the wall clock's. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <unistd.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/model.h"

enum { ALIGNMENT = 256 };

static rpo_status allocate(rpo_context *context, void **memory, size_t bytes) {
    (void)context;
    *memory = NULL;
    if (bytes == 0)
        return RPO_OK;
    if (bytes <= SIZE_MAX - ALIGNMENT)
        *memory = aligned_alloc(ALIGNMENT, (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
    if (*memory == NULL)
        return rpo_error_set(RPO_ERROR_OUT_OF_MEMORY, "no memory for %zu bytes", bytes);
    return RPO_OK;
}

static void release(rpo_context *context, void *memory) {
    (void)context;
    free(memory);
}

static rpo_status copy_in(rpo_context *context, void *device, const void *host, size_t bytes) {
    (void)context;
    if (bytes > 0)
        memcpy(device, host, bytes);
    return RPO_OK;
}

static rpo_status copy_out(rpo_context *context, void *host, const void *device, size_t bytes) {
    (void)context;
    if (bytes > 0)
        memcpy(host, device, bytes);
    return RPO_OK;
}

static rpo_status fill(rpo_context *context, void *device, int byte, size_t bytes) {
    (void)context;
    if (bytes > 0)
        memset(device, byte, bytes);
    return RPO_OK;
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static rpo_status timer_start(rpo_context *context) {
    context->timer_started = now();
    return RPO_OK;
}

static rpo_status timer_stop(rpo_context *context, double *seconds) {
    *seconds = now() - context->timer_started;
    return RPO_OK;
}

/* Each thread copies a part of its own: one core alone does not fill the memory's bandwidth. */
static rpo_status copy_device(rpo_context *context, void *to, const void *from, size_t bytes) {
    const int64_t parts = context->num_threads;
    const size_t part = (bytes + (size_t)parts - 1) / (size_t)parts;
#pragma omp parallel for num_threads(context->num_threads) schedule(static)
    for (int64_t i = 0; i < parts; ++i) {
        const size_t begin = (size_t)i * part;
        if (begin < bytes)
            memcpy((char *)to + begin, (const char *)from + begin,
                   bytes - begin < part ? bytes - begin : part);
    }
    return RPO_OK;
}

static rpo_status matmul(rpo_context *context, void *c, const void *a, const void *b, int64_t size,
                         rpo_dtype dtype, void *workspace) {
    (void)workspace;
    if (dtype != RPO_FLOAT32)
        return rpo_error_set(RPO_ERROR_UNSUPPORTED, "matmul: the cpu computes in float32 only");
    const rpo_linear_shape shape = {size, size, size, size, size, RPO_FLOAT32};
    return rpo_cpu_linear(context, c, a, b, NULL, &shape);
}

static size_t cache_bytes(const rpo_context *context) {
    (void)context;
#if defined(_SC_LEVEL3_CACHE_SIZE)
    const long bytes = sysconf(_SC_LEVEL3_CACHE_SIZE);
    return bytes > 0 ? (size_t)bytes : 0;
#else
    return 0;
#endif
}

const rpo_device_ops rpo_cpu_device_ops = {
    .allocate = allocate,
    .release = release,
    .copy_in = copy_in,
    .copy_out = copy_out,
    .fill = fill,
    .timer_start = timer_start,
    .timer_stop = timer_stop,
    .copy_device = copy_device,
    .matmul = matmul,
    .cache_bytes = cache_bytes,
};
