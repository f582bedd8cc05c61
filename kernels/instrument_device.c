/* instrument_device.c - device ops that count; those that touch memory on the CPU open the guard. */
#include "kernels/guard.h"
#include "kernels/instrument.h"

static const rpo_device_ops *inner(const rpo_context *context) {
    return rpo_instrument_inner(context)->device_ops;
}

static rpo_counts *counts_of(rpo_context *context) {
    return &context->instrument->counts;
}

static void count_allocation(rpo_context *context, rpo_status status, size_t bytes) {
    if (status != RPO_OK || bytes == 0)
        return;
    ++counts_of(context)->allocations;
    counts_of(context)->allocated_bytes += (int64_t)bytes;
}

static rpo_status allocate(rpo_context *context, void **memory, size_t bytes) {
    const rpo_status status = inner(context)->allocate(context, memory, bytes);
    count_allocation(context, status, bytes);
    return status;
}

static rpo_status allocate_pinned(rpo_context *context, void **memory, size_t bytes) {
    const rpo_status status = inner(context)->allocate_pinned(context, memory, bytes);
    count_allocation(context, status, bytes);
    return status;
}

static void release(rpo_context *context, void *memory) {
    counts_of(context)->releases += memory != NULL;
    inner(context)->release(context, memory);
}

static void release_pinned(rpo_context *context, void *memory) {
    counts_of(context)->releases += memory != NULL;
    inner(context)->release_pinned(context, memory);
}

static void count_copy_in(rpo_context *context, size_t bytes) {
    counts_of(context)->copies_in += bytes > 0;
    counts_of(context)->bytes_in += (int64_t)bytes;
}

static void count_copy_out(rpo_context *context, size_t bytes) {
    counts_of(context)->copies_out += bytes > 0;
    counts_of(context)->bytes_out += (int64_t)bytes;
}

static rpo_status copy_in(rpo_context *context, void *device, const void *host, size_t bytes) {
    count_copy_in(context, bytes);
    counts_of(context)->waits += bytes > 0;
    rpo_guard_open();
    const rpo_status status = inner(context)->copy_in(context, device, host, bytes);
    rpo_guard_close();
    return status;
}

static rpo_status copy_out(rpo_context *context, void *host, const void *device, size_t bytes) {
    count_copy_out(context, bytes);
    counts_of(context)->waits += bytes > 0;
    rpo_guard_open();
    const rpo_status status = inner(context)->copy_out(context, host, device, bytes);
    rpo_guard_close();
    return status;
}

static rpo_status copy_in_async(rpo_context *context, void *device, const void *pinned, size_t bytes) {
    count_copy_in(context, bytes);
    rpo_guard_open();
    const rpo_status status = inner(context)->copy_in_async(context, device, pinned, bytes);
    rpo_guard_close();
    return status;
}

static rpo_status copy_out_async(rpo_context *context, void *pinned, const void *device, size_t bytes) {
    count_copy_out(context, bytes);
    rpo_guard_open();
    const rpo_status status = inner(context)->copy_out_async(context, pinned, device, bytes);
    rpo_guard_close();
    return status;
}

static rpo_status fill(rpo_context *context, void *device, int byte, size_t bytes) {
    counts_of(context)->fills += bytes > 0;
    rpo_guard_open();
    const rpo_status status = inner(context)->fill(context, device, byte, bytes);
    rpo_guard_close();
    return status;
}

static rpo_status timer_stop(rpo_context *context, double *seconds) {
    ++counts_of(context)->waits;
    return inner(context)->timer_stop(context, seconds);
}

static rpo_status copy_device(rpo_context *context, void *to, const void *from, size_t bytes) {
    counts_of(context)->copies_device += bytes > 0;
    rpo_guard_open();
    const rpo_status status = inner(context)->copy_device(context, to, from, bytes);
    rpo_guard_close();
    return status;
}

static rpo_status matmul(rpo_context *context, void *c, const void *a, const void *b, int64_t size,
                         rpo_dtype dtype, void *workspace) {
    rpo_guard_open();
    const rpo_status status = inner(context)->matmul(context, c, a, b, size, dtype, workspace);
    rpo_guard_close();
    return status;
}

static rpo_status synchronize(rpo_context *context) {
    ++counts_of(context)->waits;
    return rpo_instrument_inner(context)->synchronize(context);
}

/* What neither moves nor waits stays as it is: timers that start, stamps, ranges, sizes. */
void rpo_instrument_device_ops(rpo_instrument *instrument) {
    rpo_device_ops *ops = &instrument->device_ops;
    *ops = *instrument->inner->device_ops;
    ops->allocate = allocate;
    ops->allocate_pinned = allocate_pinned;
    ops->release = release;
    ops->release_pinned = release_pinned;
    ops->copy_in = copy_in;
    ops->copy_out = copy_out;
    ops->copy_in_async = copy_in_async;
    ops->copy_out_async = copy_out_async;
    ops->fill = fill;
    ops->timer_stop = timer_stop;
    ops->copy_device = copy_device;
    ops->matmul = matmul;
    instrument->table.device_ops = ops;
    instrument->table.synchronize = synchronize;
}
