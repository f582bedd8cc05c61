/* test_instrument.c - what a context counts where it is asked to, and that it counts nothing where it is not. */
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "kernels/guard.h"
#include "kernels/instrument.h"

static rpo_context *open_context(const char *trace) {
    rpo_context *context = NULL;
    if (trace != NULL)
        setenv("RPO_TRACE_STEP", trace, 1);
    else
        unsetenv("RPO_TRACE_STEP");
    cr_assert_eq(rpo_context_create(&context, NULL), RPO_OK, "%s", rpo_last_error());
    return context;
}

#if !defined(RPO_GUARDS_MEMORY)
Test(instrument, nothing_stands_between_unless_asked) {
    static const char *const values[] = {NULL, "", "0"};
    for (size_t i = 0; i < 3; ++i) {
        rpo_context *context = open_context(values[i]);
        rpo_counts counts = {.waits = 7};
        cr_assert_eq(context->backend, rpo_backend_find(RPO_DEVICE_CPU));
        cr_assert_eq(rpo_context_synchronize(context), RPO_OK);
        rpo_context_reset_counts(context);
        cr_assert_not(rpo_context_counts(context, &counts));
        cr_assert_eq(counts.waits, 0);
        rpo_context_free(context);
    }
}
#endif

static rpo_counts counts_of(const rpo_context *context) {
    rpo_counts counts;
    cr_assert(rpo_context_counts(context, &counts));
    return counts;
}

Test(instrument, copies_waits_and_allocations_are_counted) {
    rpo_context *context = open_context("1");
    const rpo_device_ops *ops = context->backend->device_ops;
    void *device = NULL, *pinned = NULL, *none = NULL;
    char host[64] = {0};
    double seconds = 0.0;
    cr_assert_eq(ops->allocate(context, &device, 1000), RPO_OK);
    cr_assert_eq(ops->allocate_pinned(context, &pinned, 24), RPO_OK);
    cr_assert_eq(ops->allocate(context, &none, 0), RPO_OK);
    rpo_counts counts = counts_of(context);
    cr_assert_eq(counts.allocations, 2);
    cr_assert_eq(counts.allocated_bytes, 1024);
    cr_assert_eq(counts.waits, 0);

    memset(pinned, 0, 24);
    cr_assert_eq(ops->copy_in_async(context, device, pinned, 24), RPO_OK);
    cr_assert_eq(ops->copy_out_async(context, pinned, device, 20), RPO_OK);
    cr_assert_eq(ops->copy_in(context, device, NULL, 0), RPO_OK);
    cr_assert_eq(ops->fill(context, device, 1, 10), RPO_OK);
    cr_assert_eq(ops->copy_device(context, (char *)device + 100, device, 10), RPO_OK);
    counts = counts_of(context);
    cr_assert_eq(counts.waits, 0, "nothing of these waits");
    cr_assert_eq(counts.copies_in, 1);
    cr_assert_eq(counts.bytes_in, 24);
    cr_assert_eq(counts.copies_out, 1);
    cr_assert_eq(counts.bytes_out, 20);
    cr_assert_eq(counts.fills, 1);
    cr_assert_eq(counts.copies_device, 1);

    rpo_context_reset_counts(context);
    cr_assert_eq(ops->copy_in(context, device, host, 64), RPO_OK);
    cr_assert_eq(ops->copy_out(context, host, device, 32), RPO_OK);
    cr_assert_eq(rpo_context_synchronize(context), RPO_OK);
    cr_assert_eq(ops->timer_start(context), RPO_OK);
    cr_assert_eq(ops->timer_stop(context, &seconds), RPO_OK);
    ops->release(context, device);
    ops->release(context, NULL);
    ops->release_pinned(context, pinned);
    counts = counts_of(context);
    cr_assert_eq(counts.waits, 4);
    cr_assert_eq(counts.bytes_in, 64);
    cr_assert_eq(counts.bytes_out, 32);
    cr_assert_eq(counts.releases, 2);
    cr_assert_eq(counts.allocations, 0, "since the reset");
    rpo_context_free(context);
}

Test(instrument, ops_are_counted_by_name) {
    enum { ROWS = 3, WIDTH = 4 };
    rpo_context *context = open_context("1");
    const rpo_device_ops *ops = context->backend->device_ops;
    const rpo_linear_shape shape = {ROWS, WIDTH, WIDTH, WIDTH, WIDTH, RPO_FLOAT32};
    void *memory = NULL;
    float found[ROWS * WIDTH] = {0};
    cr_assert_eq(ops->allocate(context, &memory, 4096), RPO_OK);
    cr_assert_eq(ops->fill(context, memory, 0, 4096), RPO_OK);
    float *x = memory, *y = x + 256, *weight = x + 512;
    const float one = 1.0f;
    cr_assert_eq(ops->copy_in(context, x, &one, sizeof one), RPO_OK);
    cr_assert_eq(ops->copy_in(context, weight, &one, sizeof one), RPO_OK);
    for (int i = 0; i < 3; ++i)
        cr_assert_eq(context->backend->model.linear(context, y, x, weight, NULL, &shape), RPO_OK);
    cr_assert_eq(context->backend->model.swiglu(context, y, x, 1, 2, RPO_FLOAT32), RPO_OK);
    cr_assert_eq(context->backend->model.linear(context, y, x, weight, NULL, &shape), RPO_OK);
    cr_assert_eq(ops->copy_out(context, found, y, sizeof found), RPO_OK);
    cr_assert_eq(found[0], 1.0f, "the wrapper hands everything on");

    const rpo_counts counts = counts_of(context);
    cr_assert_eq(counts.ops[RPO_COUNTED_LINEAR].calls, 4);
    cr_assert_eq(counts.ops[RPO_COUNTED_SWIGLU].calls, 1);
    const rpo_op_counts sum = rpo_counts_of_ops(&counts);
    cr_assert_eq(sum.calls, 5);
    cr_assert_eq(sum.launches, 0, "the CPU launches nothing");
    rpo_context_reset_counts(context);
    cr_assert_eq(counts_of(context).ops[RPO_COUNTED_LINEAR].calls, 0);
    ops->release(context, memory);
    rpo_context_free(context);
}

Test(instrument, a_public_op_is_counted) {
    rpo_context *context = open_context("yes");
    const rpo_device_ops *ops = context->backend->device_ops;
    void *memory = NULL;
    cr_assert_eq(ops->allocate(context, &memory, 4096), RPO_OK);
    cr_assert_eq(ops->fill(context, memory, 0, 4096), RPO_OK);
    rpo_context_reset_counts(context);
    rpo_similarity_inputs inputs = RPO_SIMILARITY_INPUTS_INIT;
    inputs.chosen_embeddings = (char *)memory + 1024;
    inputs.rejected_embeddings = (char *)memory + 2048;
    inputs.m = inputs.n = 1;
    inputs.dim = 4;
    cr_assert_eq(rpo_prompt_similarity(context, memory, &inputs, (char *)memory + 3072, 1024), RPO_OK, "%s",
                 rpo_last_error());
    const rpo_counts counts = counts_of(context);
    cr_assert_eq(counts.ops[RPO_COUNTED_PROMPT_SIMILARITY].calls, 1);
    cr_assert_eq(rpo_counts_of_ops(&counts).calls, 1);
    cr_assert_eq(counts.waits, 0);
    cr_assert_eq(counts.allocations, 0);
    ops->release(context, memory);
    rpo_context_free(context);
}

/* Every op that a backend has is wrapped, none that it lacks appears, and each has a name of its own. */
Test(instrument, the_tables_hold_the_same_ops) {
    rpo_context *context = open_context("1");
    const rpo_backend *inner = context->instrument->inner, *table = context->backend;
    cr_assert_eq(inner, rpo_backend_find(RPO_DEVICE_CPU));
    cr_assert((table->model.linear != NULL) == (inner->model.linear != NULL));
    rpo_backend hollow = *inner;
    hollow.model = (rpo_model_ops){0};
    hollow.optimizer = (rpo_optimizer_ops){0};
    hollow.preference = (rpo_preference_ops){0};
    rpo_instrument instrument = {.inner = &hollow, .table = hollow};
    rpo_instrument_model_ops(&instrument);
    rpo_instrument_optimizer_ops(&instrument);
    rpo_instrument_preference_ops(&instrument);
    cr_assert_null(instrument.table.model.attention_backward);
    cr_assert_null(instrument.table.optimizer.adamw);
    cr_assert_null(instrument.table.preference.contrast_loss);

    static const struct {
        const char *name;
        size_t at, size;
    } groups[] = {{"model", offsetof(rpo_backend, model), sizeof(rpo_model_ops)},
                  {"optimizer", offsetof(rpo_backend, optimizer), sizeof(rpo_optimizer_ops)},
                  {"preference", offsetof(rpo_backend, preference), sizeof(rpo_preference_ops)}};
    int wrapped = 0;
    for (size_t g = 0; g < sizeof groups / sizeof groups[0]; ++g)
        for (size_t at = 0; at < groups[g].size; at += sizeof(void (*)(void)))
            wrapped += memcmp((const char *)table + groups[g].at + at,
                              (const char *)inner + groups[g].at + at, sizeof(void (*)(void))) != 0;
    cr_assert_eq(wrapped, RPO_COUNTED_OPS, "one wrapper an op that enqueues");
    for (int op = 0; op < RPO_COUNTED_OPS; ++op)
        for (int other = 0; other < op; ++other)
            cr_assert_str_neq(rpo_counted_op_name((rpo_counted_op)op),
                              rpo_counted_op_name((rpo_counted_op)other));
    rpo_context_free(context);
}
