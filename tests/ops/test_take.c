/* test_take.c - figures of sequences from one order to another. */
#include "tests/ops/model_ops_testing.h"

Test(take, follows_the_index_and_puts_zero_for_none) {
    static const float in[4] = {1.5f, -2.0f, 3.25f, INFINITY};
    static const int32_t index[7] = {2, -1, 0, 0, 3, 1, -1};
    static const float wanted[7] = {3.25f, 0.0f, 1.5f, 1.5f, INFINITY, -2.0f, 0.0f};
    rpo_context *context = model_test_context(2);
    float *out = guarded(7);
    MUST(context->backend->model.take(context, out, in, index, 7));
    expect_same_bits(out, wanted, 7, "take");
    MUST(context->backend->model.take(context, out, in, index, 0));
    expect_same_bits(out, wanted, 7, "take of nothing");
    release(out, 7, "take");
    rpo_context_free(context);
}
