/*
 * device_ops_cases.h - what kernels/device_ops.h promises, on any backend: memory, copies with and without waiting,
 * stamps and ranges.
 */
#ifndef RPO_TESTS_DEVICE_OPS_CASES_H
#define RPO_TESTS_DEVICE_OPS_CASES_H

#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "kernels/op_table.h"

static inline rpo_context *device_ops_context(rpo_device device) {
    rpo_context_options options = RPO_CONTEXT_OPTIONS_INIT;
    rpo_context *context = NULL;
    options.device = device;
    cr_assert_eq(rpo_context_create(&context, &options), RPO_OK, "%s", rpo_last_error());
    return context;
}

static inline void check_memory(rpo_context *context) {
    const rpo_device_ops *ops = context->backend->device_ops;
    void *device = context, *pinned = context;
    cr_assert_eq(ops->allocate(context, &device, 0), RPO_OK);
    cr_assert_eq(ops->allocate_pinned(context, &pinned, 0), RPO_OK);
    cr_assert_null(device);
    cr_assert_null(pinned);
    ops->release(context, NULL);
    ops->release_pinned(context, NULL);
    for (size_t bytes = 1; bytes < 5000; bytes = bytes * 3 + 1) {
        cr_assert_eq(ops->allocate(context, &device, bytes), RPO_OK, "%s", rpo_last_error());
        cr_assert_eq(ops->allocate_pinned(context, &pinned, bytes), RPO_OK, "%s", rpo_last_error());
        cr_assert_eq((uintptr_t)device % 256, 0);
        cr_assert_eq((uintptr_t)pinned % 256, 0);
        memset(pinned, 7, bytes); /* the host's to write */
        ops->release(context, device);
        ops->release_pinned(context, pinned);
    }
}

/* There and back through the copies that wait and those that do not; a fill in between counts as ordered. */
static inline void check_copies(rpo_context *context) {
    enum { BYTES = 1000, FILLED = 100 };
    const rpo_device_ops *ops = context->backend->device_ops;
    void *device = NULL, *memory = NULL;
    unsigned char host[BYTES], expected[BYTES];
    cr_assert_eq(ops->allocate(context, &device, BYTES), RPO_OK);
    cr_assert_eq(ops->allocate_pinned(context, &memory, 2 * BYTES), RPO_OK);
    unsigned char *pinned = memory, *back = pinned + BYTES;
    for (int i = 0; i < BYTES; ++i)
        pinned[i] = (unsigned char)(i * 7 + 1);
    memcpy(expected, pinned, BYTES);
    memset(expected, 9, FILLED);

    cr_assert_eq(ops->copy_in_async(context, device, pinned, BYTES), RPO_OK, "%s", rpo_last_error());
    cr_assert_eq(ops->fill(context, device, 9, FILLED), RPO_OK);
    cr_assert_eq(ops->copy_out_async(context, back, device, BYTES), RPO_OK, "%s", rpo_last_error());
    cr_assert_eq(rpo_context_synchronize(context), RPO_OK);
    cr_assert_eq(memcmp(back, expected, BYTES), 0);

    expected[500] = 0;
    cr_assert_eq(ops->copy_in(context, device, expected, BYTES), RPO_OK);
    cr_assert_eq(ops->copy_out(context, host, device, BYTES), RPO_OK);
    cr_assert_eq(memcmp(host, expected, BYTES), 0);

    cr_assert_eq(ops->copy_in_async(context, NULL, NULL, 0), RPO_OK, "nothing is nothing to copy");
    cr_assert_eq(ops->copy_out_async(context, NULL, NULL, 0), RPO_OK);
    ops->release_pinned(context, memory);
    ops->release(context, device);
}

static inline void must_refuse_slots(rpo_context *context, int from, int to, const char *message) {
    double seconds = 0.0;
    cr_assert_eq(context->backend->device_ops->stamp_seconds(context, from, to, &seconds),
                 RPO_ERROR_INVALID_ARGUMENT);
    cr_assert_str_eq(rpo_last_error(), message);
}

static inline void check_stamps(rpo_context *context) {
    const rpo_device_ops *ops = context->backend->device_ops;
    const int last = RPO_STAMP_SLOTS - 1;
    double whole = -1.0, part = -1.0, none = -1.0;
    must_refuse_slots(context, 0, 1, "stamp: slot 0 was never stamped");
    cr_assert_eq(ops->stamp(context, 0), RPO_OK, "%s", rpo_last_error());
    must_refuse_slots(context, 0, 1, "stamp: slot 1 was never stamped");
    must_refuse_slots(context, -1, 0, "stamp: slot -1 was never stamped");
    must_refuse_slots(context, 0, RPO_STAMP_SLOTS, "stamp: slot 64 was never stamped");
    cr_assert_eq(ops->stamp(context, RPO_STAMP_SLOTS), RPO_ERROR_INVALID_ARGUMENT);
    cr_assert_str_eq(rpo_last_error(), "stamp: slot is 64; must be 0 to 63");
    cr_assert_eq(ops->stamp(context, -1), RPO_ERROR_INVALID_ARGUMENT);

    void *device = NULL;
    cr_assert_eq(ops->allocate(context, &device, 16 << 20), RPO_OK);
    cr_assert_eq(ops->stamp(context, 1), RPO_OK);
    cr_assert_eq(ops->fill(context, device, 1, 16 << 20), RPO_OK);
    cr_assert_eq(ops->stamp(context, last), RPO_OK);
    cr_assert_eq(rpo_context_synchronize(context), RPO_OK);
    cr_assert_eq(ops->stamp_seconds(context, 0, last, &whole), RPO_OK, "%s", rpo_last_error());
    cr_assert_eq(ops->stamp_seconds(context, 1, last, &part), RPO_OK);
    cr_assert_eq(ops->stamp_seconds(context, 1, 1, &none), RPO_OK);
    cr_assert_gt(part, 0.0, "16 MiB took some time");
    cr_assert_geq(whole, part);
    cr_assert_lt(whole, 60.0);
    cr_assert_eq(none, 0.0);
    ops->release(context, device);
}

static inline void check_device_ops(rpo_device device) {
    rpo_context *context = device_ops_context(device);
    check_memory(context);
    check_copies(context);
    check_stamps(context);
    context->backend->device_ops->range_push(context, "outer");
    context->backend->device_ops->range_push(context, "inner");
    context->backend->device_ops->range_pop(context);
    context->backend->device_ops->range_pop(context);
    rpo_context_free(context);
}

#endif
