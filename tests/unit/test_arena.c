/* test_arena.c - the device memory of a rank: segments, the table, what is refused and how. */
#include <math.h>
#include <string.h>

#include <criterion/criterion.h>

#include "host/device/arena.h"
#include "kernels/op_table.h"

static const rpo_segment_request requests[] = {
    {"weights", 1000, NULL},
    {"tape", 5 << 20, "train.micro_batch_tokens"},
    {"moments", 0, "train.optimizer"},
    {"batch", 1, "train.micro_batch_tokens"},
};
enum { COUNT = sizeof requests / sizeof requests[0] };

static rpo_context *context_of_test(void) {
    rpo_context *context = NULL;
    cr_assert_eq(rpo_context_create(&context, NULL), RPO_OK, "%s", rpo_last_error());
    return context;
}

Test(arena, segments_are_aligned_apart_and_as_large_as_asked) {
    rpo_context *context = context_of_test();
    rpo_arena *arena = NULL;
    cr_assert_eq(rpo_arena_create(&arena, context, requests, COUNT, 0), RPO_OK, "%s", rpo_last_error());
    const size_t size = rpo_segments_size(requests, COUNT);
    cr_assert_eq(size, 1024 + (5 << 20) + 256);
    cr_assert_eq(rpo_arena_size(arena), size);
    const rpo_device_ops *ops = context->backend->device_ops;
    char *end = rpo_arena_segment(arena, 0, NULL);
    for (size_t i = 0; i < COUNT; ++i) {
        size_t bytes = 0;
        char *segment = rpo_arena_segment(arena, i, &bytes);
        cr_assert_eq(bytes, requests[i].bytes);
        if (bytes == 0) {
            cr_assert_null(segment, "an empty segment has no address");
            continue;
        }
        cr_assert_eq((uintptr_t)segment % 256, 0, "%s", requests[i].name);
        cr_assert_geq(segment, end, "%s lies over the one before it", requests[i].name);
        cr_assert_eq(ops->fill(context, segment, (int)i + 1, bytes), RPO_OK);
        end = segment + bytes;
    }
    for (size_t i = 0; i < COUNT; ++i) { /* what one segment holds, no other has written */
        size_t bytes = 0;
        const char *segment = rpo_arena_segment(arena, i, &bytes);
        char *host = rpo_alloc_array(bytes, 1);
        cr_assert_eq(ops->copy_out(context, host, segment, bytes), RPO_OK);
        for (size_t at = 0; at < bytes; ++at)
            cr_assert_eq(host[at], (char)(i + 1), "%s, byte %zu", requests[i].name, at);
        rpo_free(host);
    }
    rpo_arena_free(arena);
    rpo_arena_free(NULL);
    rpo_context_free(context);
}

#if defined(__SANITIZE_ADDRESS__)
Test(arena, what_was_not_written_is_nan) {
    rpo_context *context = context_of_test();
    rpo_arena *arena = NULL;
    cr_assert_eq(rpo_arena_create(&arena, context, requests, COUNT, 0), RPO_OK);
    float value = 0.0f;
    const char *tape = rpo_arena_segment(arena, 1, NULL);
    cr_assert_eq(context->backend->device_ops->copy_out(context, &value, tape + 4096, sizeof value), RPO_OK);
    cr_assert(isnan(value));
    rpo_arena_free(arena);
    rpo_context_free(context);
}
#endif

Test(arena, an_empty_one_is_fine) {
    rpo_context *context = context_of_test();
    rpo_arena *arena = NULL;
    cr_assert_eq(rpo_arena_create(&arena, context, NULL, 0, 100), RPO_OK, "%s", rpo_last_error());
    cr_assert_eq(rpo_arena_size(arena), 0);
    rpo_arena_free(arena);
    rpo_context_free(context);
}

Test(arena, the_table_names_what_is_there) {
    rpo_context *context = context_of_test();
    rpo_arena *arena = NULL;
    rpo_text text = {0};
    cr_assert_eq(rpo_arena_create(&arena, context, requests, COUNT, 0), RPO_OK);
    cr_assert_eq(rpo_arena_append_table(arena, &text), RPO_OK);
    cr_assert_str_eq(text.data, "weights        0.0 MiB\n"
                                "tape           5.0 MiB\n"
                                "batch          0.0 MiB\n"
                                "total          5.0 MiB\n");
    rpo_text_free(&text);
    rpo_arena_free(arena);
    rpo_context_free(context);
}

/* ---- refusals ---- */

static int allocations = 0;

static rpo_status no_room(rpo_context *context, void **memory, size_t bytes) {
    (void)context;
    ++allocations;
    *memory = NULL;
    return rpo_error_set(RPO_ERROR_OUT_OF_MEMORY, "no device memory for %zu bytes", bytes);
}

/* An arena that must be refused, on a device that has no room. */
static void must_refuse(const rpo_segment_request *wanted, size_t count, size_t limit, const char *message,
                        int expected_allocations) {
    rpo_context *context = context_of_test();
    const rpo_backend *real = context->backend;
    rpo_device_ops ops = *real->device_ops;
    rpo_backend backend = *real;
    ops.allocate = no_room;
    backend.device_ops = &ops;
    context->backend = &backend;
    allocations = 0;
    rpo_arena *arena = (rpo_arena *)context; /* anything but NULL */
    cr_assert_eq(rpo_arena_create(&arena, context, wanted, count, limit), RPO_ERROR_OUT_OF_MEMORY);
    cr_assert_str_eq(rpo_last_error(), message);
    cr_assert_null(arena);
    cr_assert_eq(allocations, expected_allocations);
    context->backend = real;
    rpo_context_free(context);
}

Test(arena, beyond_the_limit_it_is_refused_before_anything_is_allocated) {
    must_refuse(requests, COUNT, 4 << 20,
                "device memory: 5.0 MiB are needed, 4.0 MiB are allowed; tape takes the most, 5.0 MiB; "
                "train.micro_batch_tokens makes it smaller",
                0);
}

Test(arena, the_limit_itself_is_allowed) {
    rpo_context *context = context_of_test();
    const size_t size = rpo_segments_size(requests, COUNT);
    rpo_arena *arena = NULL;
    cr_assert_eq(rpo_arena_create(&arena, context, requests, COUNT, size), RPO_OK, "%s", rpo_last_error());
    rpo_arena_free(arena);
    cr_assert_eq(rpo_arena_create(&arena, context, requests, COUNT, size - 1), RPO_ERROR_OUT_OF_MEMORY);
    rpo_context_free(context);
}

Test(arena, the_advice_is_a_key_that_helps) {
    const rpo_segment_request wanted[] = {{"weights", 8 << 20, NULL}, {"tape", 2 << 20, "train.activations"}};
    must_refuse(wanted, 2, 1 << 20,
                "device memory: 10.0 MiB are needed, 1.0 MiB are allowed; weights takes the most, 8.0 MiB; "
                "tape takes 2.0 MiB; train.activations makes it smaller",
                0);
    must_refuse(wanted, 1, 1 << 20,
                "device memory: 8.0 MiB are needed, 1.0 MiB are allowed; weights takes the most, 8.0 MiB", 0);
}

Test(arena, a_device_without_room_is_told_the_same_way) {
    must_refuse(
        requests, COUNT, 0,
        "device memory: there is no room for the 5.0 MiB that are needed; tape takes the most, 5.0 MiB; "
        "train.micro_batch_tokens makes it smaller",
        1);
}

Test(arena, sizes_that_overflow_are_refused) {
    const size_t half = SIZE_MAX / 2 + 1;
    const rpo_segment_request wanted[][2] = {{{"tape", half, "run.dtype"}, {"batch", half, NULL}},
                                             {{"tape", SIZE_MAX, "run.dtype"}, {"batch", 1, NULL}},
                                             {{"tape", SIZE_MAX - 300, "run.dtype"}, {"batch", 300, NULL}}};
    for (size_t i = 0; i < 3; ++i) {
        cr_assert_eq(rpo_segments_size(wanted[i], 2), SIZE_MAX);
        rpo_context *context = context_of_test();
        rpo_arena *arena = NULL;
        cr_assert_eq(rpo_arena_create(&arena, context, wanted[i], 2, 0), RPO_ERROR_OUT_OF_MEMORY);
        cr_assert_eq(
            strncmp(rpo_last_error(), "device memory: more than can be addressed is needed; tape", 57), 0,
            "%s", rpo_last_error());
        rpo_context_free(context);
    }
}

Test(arena, too_many_segments_are_a_defect) {
    rpo_segment_request many[RPO_MAX_SEGMENTS + 1];
    for (size_t i = 0; i <= RPO_MAX_SEGMENTS; ++i)
        many[i] = (rpo_segment_request){"one", 1, NULL};
    rpo_context *context = context_of_test();
    rpo_arena *arena = NULL;
    cr_assert_eq(rpo_arena_create(&arena, context, many, RPO_MAX_SEGMENTS, 0), RPO_OK);
    rpo_arena_free(arena);
    cr_assert_eq(rpo_arena_create(&arena, context, many, RPO_MAX_SEGMENTS + 1, 0), RPO_ERROR_INTERNAL);
    rpo_context_free(context);
}
