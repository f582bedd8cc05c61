/* test_staging.c - small arrays between host and device in one copy. */
#include <string.h>

#include <criterion/criterion.h>

#include "host/device/staging.h"
#include "kernels/op_table.h"

enum { ROOM = 4096 };

static rpo_context *context;
static void *device;
static rpo_staging *staging;
static rpo_device_ops ops; /* the context's, with counters in front of the copies */
static const rpo_device_ops *real_ops;
static rpo_backend backend;
static const rpo_backend *real_backend;
static int copies_in, copies_out;
static size_t copied;

static rpo_status counted_in(rpo_context *on, void *to, const void *pinned, size_t bytes) {
    ++copies_in;
    copied = bytes;
    return real_ops->copy_in_async(on, to, pinned, bytes);
}

static rpo_status counted_out(rpo_context *on, void *pinned, const void *from, size_t bytes) {
    ++copies_out;
    copied = bytes;
    return real_ops->copy_out_async(on, pinned, from, bytes);
}

static void open_staging(void) {
    cr_assert_eq(rpo_context_create(&context, NULL), RPO_OK, "%s", rpo_last_error());
    real_backend = context->backend;
    real_ops = real_backend->device_ops;
    ops = *real_ops;
    ops.copy_in_async = counted_in;
    ops.copy_out_async = counted_out;
    backend = *real_backend;
    backend.device_ops = &ops;
    context->backend = &backend;
    cr_assert_eq(ops.allocate(context, &device, ROOM), RPO_OK);
    cr_assert_eq(rpo_staging_create(&staging, context, device, ROOM), RPO_OK, "%s", rpo_last_error());
    copies_in = copies_out = 0;
}

static void close_staging(void) {
    rpo_staging_free(staging);
    rpo_staging_free(NULL);
    ops.release(context, device);
    context->backend = real_backend;
    rpo_context_free(context);
}

TestSuite(staging, .init = open_staging, .fini = close_staging);

static void must_hold(const void *at, const void *expected, size_t bytes) {
    char found[ROOM];
    cr_assert_eq(real_ops->copy_out(context, found, at, bytes), RPO_OK);
    cr_assert_eq(memcmp(found, expected, bytes), 0);
}

Test(staging, arrays_of_any_type_arrive_by_one_copy) {
    const int32_t tokens[5] = {3, 1, 4, 1, 5};
    const int64_t bounds[3] = {0, INT64_C(1) << 40, -1};
    const float logps[2] = {-0.5f, -1e-30f};
    void *on_device[3] = {NULL};
    cr_assert_not_null(rpo_staging_put(staging, tokens, 5, sizeof *tokens, &on_device[0]));
    int64_t *filled = rpo_staging_put(staging, NULL, 3, sizeof *bounds, &on_device[1]);
    cr_assert_not_null(filled);
    memcpy(filled, bounds, sizeof bounds); /* filled in place by the host */
    cr_assert_not_null(rpo_staging_put(staging, logps, 2, sizeof *logps, &on_device[2]));
    cr_assert_eq(copies_in, 0, "nothing is copied before the upload");
    cr_assert_eq(rpo_staging_upload(staging), RPO_OK);
    cr_assert_eq(rpo_context_synchronize(context), RPO_OK);
    cr_assert_eq(copies_in, 1);
    cr_assert_eq(copied, 3 * 256);
    cr_assert_eq(rpo_staging_used(staging), 3 * 256);
    for (int i = 0; i < 3; ++i)
        cr_assert_eq((uintptr_t)on_device[i] % 256, 0);
    must_hold(on_device[0], tokens, sizeof tokens);
    must_hold(on_device[1], bounds, sizeof bounds);
    must_hold(on_device[2], logps, sizeof logps);
}

Test(staging, results_come_back_by_one_copy) {
    void *on_device[2] = {NULL};
    const double norm = 2.5;
    const int32_t skip[3] = {0, 2, 1};
    const double *host_norm = rpo_staging_put(staging, NULL, 1, sizeof norm, &on_device[0]);
    const int32_t *host_skip = rpo_staging_put(staging, NULL, 3, sizeof *skip, &on_device[1]);
    cr_assert_eq(real_ops->copy_in(context, on_device[0], &norm, sizeof norm), RPO_OK);
    cr_assert_eq(real_ops->copy_in(context, on_device[1], skip, sizeof skip), RPO_OK);
    cr_assert_eq(rpo_staging_download(staging), RPO_OK);
    cr_assert_eq(rpo_context_synchronize(context), RPO_OK);
    cr_assert_eq(copies_out, 1);
    cr_assert_eq(*host_norm, norm);
    cr_assert_eq(memcmp(host_skip, skip, sizeof skip), 0);
}

Test(staging, a_reset_starts_over) {
    void *first = NULL, *again = NULL;
    const int32_t one = 1, two = 2;
    void *host = rpo_staging_put(staging, &one, 1, sizeof one, &first);
    cr_assert_eq(rpo_staging_upload(staging), RPO_OK);
    rpo_staging_reset(staging);
    cr_assert_eq(rpo_staging_used(staging), 0);
    cr_assert_eq(rpo_staging_put(staging, &two, 1, sizeof two, &again), host);
    cr_assert_eq(again, first);
    cr_assert_eq(rpo_staging_upload(staging), RPO_OK);
    must_hold(again, &two, sizeof two);
}

Test(staging, nothing_takes_no_room) {
    void *on_device = device;
    cr_assert_null(rpo_staging_put(staging, NULL, 0, 4, &on_device));
    cr_assert_null(on_device);
    cr_assert_eq(rpo_staging_used(staging), 0);
    cr_assert_eq(rpo_staging_upload(staging), RPO_OK);
}

Test(staging, what_does_not_fit_is_refused_until_the_reset) {
    void *on_device = device;
    cr_assert_not_null(rpo_staging_put(staging, NULL, ROOM, 1, NULL), "all of it is there to take");
    cr_assert_eq(rpo_staging_upload(staging), RPO_OK);
    cr_assert_null(rpo_staging_put(staging, NULL, 1, 1, &on_device));
    cr_assert_null(on_device);
    cr_assert_eq(rpo_staging_upload(staging), RPO_ERROR_INTERNAL);
    cr_assert_str_eq(rpo_last_error(), "staging: 4352 bytes were put; it holds 4096");
    cr_assert_eq(rpo_staging_download(staging), RPO_ERROR_INTERNAL);
    rpo_staging_reset(staging);
    cr_assert_null(rpo_staging_put(staging, NULL, INT64_MAX, 8, &on_device),
                   "an overflow is no small number");
    cr_assert_eq(rpo_staging_upload(staging), RPO_ERROR_INTERNAL);
    rpo_staging_reset(staging);
    cr_assert_not_null(rpo_staging_put(staging, NULL, 1, 1, &on_device));
    cr_assert_eq(rpo_staging_upload(staging), RPO_OK);
}
