/* device.c - the CPU as a device: its memory is the host's, its time the wall clock's, its stream always done. */
#include <stdlib.h>
#include <string.h>

#include <unistd.h>

#include "core/bump.h"
#include "core/core.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/model.h"
#include "kernels/guard.h"

static rpo_cpu_state *state_of(const rpo_context *context) {
    return context->state;
}

static rpo_status allocate_plain(rpo_context *context, void **memory, size_t bytes) {
    (void)context;
    *memory = NULL;
    if (bytes == 0)
        return RPO_OK;
    const size_t rounded = rpo_bump_align(bytes);
    if (rounded < SIZE_MAX)
        *memory = aligned_alloc(RPO_BUMP_ALIGNMENT, rounded);
    if (*memory == NULL)
        return rpo_error_set(RPO_ERROR_OUT_OF_MEMORY, "no memory for %zu bytes", bytes);
    return RPO_OK;
}

static void release_plain(rpo_context *context, void *memory) {
    (void)context;
    free(memory);
}

static rpo_status allocate(rpo_context *context, void **memory, size_t bytes) {
    RPO_TRY(allocate_plain(context, memory, bytes));
    if (*memory != NULL)
        rpo_guard_add(*memory, bytes);
    return RPO_OK;
}

static void release(rpo_context *context, void *memory) {
    rpo_guard_remove(memory);
    release_plain(context, memory);
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

static rpo_status timer_start(rpo_context *context) {
    state_of(context)->timer_started = rpo_now();
    return RPO_OK;
}

static rpo_status timer_stop(rpo_context *context, double *seconds) {
    *seconds = rpo_now() - state_of(context)->timer_started;
    return RPO_OK;
}

static rpo_status stamp(rpo_context *context, int slot) {
    if (slot < 0 || slot >= RPO_STAMP_SLOTS)
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT, "stamp: slot is %d; must be 0 to %d", slot,
                             RPO_STAMP_SLOTS - 1);
    state_of(context)->stamps[slot] = rpo_now();
    return RPO_OK;
}

static rpo_status stamp_seconds(rpo_context *context, int from, int to, double *seconds) {
    const int slots[] = {from, to};
    for (int i = 0; i < 2; ++i)
        if (slots[i] < 0 || slots[i] >= RPO_STAMP_SLOTS || state_of(context)->stamps[slots[i]] == 0.0)
            return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT, "stamp: slot %d was never stamped", slots[i]);
    *seconds = state_of(context)->stamps[to] - state_of(context)->stamps[from];
    return RPO_OK;
}

static void range_push(rpo_context *context, const char *name) {
    (void)context;
    (void)name;
}

static void range_pop(rpo_context *context) {
    (void)context;
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
    .allocate_pinned = allocate_plain,
    .release_pinned = release_plain,
    .copy_in_async = copy_in,
    .copy_out_async = copy_out,
    .fill = fill,
    .timer_start = timer_start,
    .timer_stop = timer_stop,
    .stamp = stamp,
    .stamp_seconds = stamp_seconds,
    .range_push = range_push,
    .range_pop = range_pop,
    .copy_device = copy_device,
    .matmul = matmul,
    .cache_bytes = cache_bytes,
};
