/* test_contrast_blocks.c - several blocks in one call of the CPU's contrast loss. */
#include "tests/ops/block_cases.h"

/* Beyond what one thread takes alone (contrast_loss.c), and with fewer blocks than threads. */
static const block_case large_cases[] = {
    {"two large blocks", 2, {300, 64}, {280, 333}, 16},
    {"thousands of columns", 3, {9, 2, 40}, {4500, 1, 37}, 3},
};

enum { LARGE_CASES = sizeof large_cases / sizeof large_cases[0] };

static void run_all(int threads) {
    rpo_context *context = test_context(RPO_DEVICE_CPU, threads);
    for (int kind = 0; kind < RPO_LOSS_KIND_COUNT; ++kind) {
        for (int k = 0; k < BLOCK_CASES; ++k) {
            block_case_run(context, &block_cases[k], (rpo_loss_kind)kind, 0.0, RPO_FLOAT32, true);
            block_case_run(context, &block_cases[k], (rpo_loss_kind)kind, 1000.0, RPO_FLOAT32, true);
        }
        for (int k = 0; k < LARGE_CASES; ++k)
            block_case_run(context, &large_cases[k], (rpo_loss_kind)kind, 0.0, RPO_FLOAT32, true);
    }
    rpo_context_free(context);
}

Test(contrast_blocks, as_one_by_one_on_one_thread) {
    run_all(1);
}

Test(contrast_blocks, as_one_by_one_on_three_threads) {
    run_all(3);
}

Test(contrast_blocks, thread_count_changes_no_bit) {
    rpo_context *one = test_context(RPO_DEVICE_CPU, 1), *three = test_context(RPO_DEVICE_CPU, 3);
    for (int kind = 0; kind < RPO_LOSS_KIND_COUNT; ++kind) {
        for (int k = 0; k < BLOCK_CASES; ++k)
            block_case_compare(one, three, &block_cases[k], (rpo_loss_kind)kind, "1 and 3 threads");
        for (int k = 0; k < LARGE_CASES; ++k)
            block_case_compare(one, three, &large_cases[k], (rpo_loss_kind)kind, "1 and 3 threads");
    }
    rpo_context_free(three);
    rpo_context_free(one);
}

/* A share of a batch that other ranks hold the rest of: total_rows weighs one block without bounds as well. */
Test(contrast_blocks, total_rows_weighs_a_call_without_bounds) {
    rpo_context *context = test_context(RPO_DEVICE_CPU, 2);
    const contrast_case c = {
        .name = "share", .kind = RPO_LOSS_RPO_UNIFORM, .m = 3, .n = 5, .beta = 0.1f, .spread = 20};
    contrast_data data = contrast_data_new(&c, 4);
    contrast_run whole = contrast_run_new(context, &data, c.name);
    data.inputs.total_rows = 32;
    contrast_run share = contrast_run_new(context, &data, c.name);
    block_expect(share.loss.data, whole.loss.data, 1, 0.25, true, c.name, "loss");
    block_expect(share.grad_chosen.data, whole.grad_chosen.data, 3, 0.25, true, c.name, "grad_chosen_logps");
    block_expect(share.row_losses.data, whole.row_losses.data, 3, 1.0, true, c.name, "row_losses");
    contrast_run_free(&share);
    contrast_run_free(&whole);
    contrast_data_free(&data);
    rpo_context_free(context);
}

/* A bad value shows in the loss, and in the gradients of its own block alone. */
Test(contrast_blocks, a_non_finite_score_stays_in_its_block) {
    rpo_context *context = test_context(RPO_DEVICE_CPU, 2);
    for (int kind = 0; kind < RPO_LOSS_SFT; ++kind) {
        block_call call;
        block_call_new(&call, &block_cases[2], (rpo_loss_kind)kind, 0.0, RPO_FLOAT32);
        call.data.chosen[9] = NAN; /* of the second block */
        contrast_run run = contrast_run_new(context, &call.data, "a NaN");
        cr_assert(isnan(*(float *)run.loss.data), "%s", rpo_loss_kind_name((rpo_loss_kind)kind));
        for (int64_t i = 0; i < call.data.inputs.m; ++i)
            cr_assert((i >= 8 && i < 16) || isfinite(((float *)run.grad_chosen.data)[i]), "%s: row %lld",
                      rpo_loss_kind_name((rpo_loss_kind)kind), (long long)i);
        contrast_run_free(&run);
        contrast_data_free(&call.data);
    }
    rpo_context_free(context);
}

/* ---- what is refused ---- */

static void expect_refusal(const rpo_contrast_inputs *inputs, rpo_loss_kind kind, const char *words) {
    _Alignas(64) static unsigned char workspace[1 << 16];
    rpo_context *context = test_context(RPO_DEVICE_CPU, 1);
    float loss = 0.0f;
    const rpo_contrast_outputs outputs = {.struct_size = sizeof outputs, .loss = &loss};
    rpo_loss_options options = RPO_LOSS_OPTIONS_INIT;
    options.kind = kind;
    cr_assert_eq(rpo_contrast_loss(context, &outputs, inputs, &options, workspace, sizeof workspace),
                 RPO_ERROR_INVALID_ARGUMENT, "accepted; should say \"%s\"", words);
    cr_assert_not_null(strstr(rpo_last_error(), words), "\"%s\" does not say \"%s\"", rpo_last_error(),
                       words);
    rpo_context_free(context);
}

typedef struct bad_bounds {
    int32_t chosen[4], rejected[4];
    const char *words;
} bad_bounds;

Test(contrast_blocks, broken_bounds_are_refused) {
    static const bad_bounds bad[] = {
        {{1, 2, 3, 4}, {0, 1, 2, 4}, "inputs.chosen_bounds[0]: is 1; must be 0"},
        {{0, 3, 2, 4}, {0, 1, 2, 4}, "inputs.chosen_bounds[2]: is 2 after 3"},
        {{0, 1, 2, 3}, {0, 1, 2, 4}, "inputs.chosen_bounds[3]: is 3; must be all rows, 4"},
        {{0, 1, 2, 4}, {0, -1, 2, 4}, "inputs.rejected_bounds[1]: is -1 after 0"},
        {{0, 1, 2, 4},
         {0, 4, 4, 4},
         "inputs.rejected_bounds[1]: is 4 after 0; must not decrease, nor grow by more "
         "than the longest block said, 2"},
        {{0, 1, 2, 4}, {0, 2, 2, 4}, "block 0 has 2 rows; dpo needs as many as chosen ones, 1"},
    };
    const float logps[4] = {0};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; ++i) {
        const rpo_contrast_inputs inputs = {.struct_size = sizeof inputs,
                                            .policy_chosen_logps = logps,
                                            .policy_rejected_logps = logps,
                                            .m = 4,
                                            .n = 4,
                                            .chosen_bounds = bad[i].chosen,
                                            .rejected_bounds = bad[i].rejected,
                                            .num_blocks = 3,
                                            .max_block_m = 3,
                                            .max_block_n = 2};
        expect_refusal(&inputs, RPO_LOSS_DPO, bad[i].words);
    }
}

Test(contrast_blocks, broken_sizes_are_refused) {
    const float logps[4] = {0};
    const int32_t bounds[3] = {0, 2, 4};
    const rpo_contrast_inputs good = {.struct_size = sizeof good,
                                      .policy_chosen_logps = logps,
                                      .policy_rejected_logps = logps,
                                      .m = 4,
                                      .n = 4,
                                      .chosen_bounds = bounds,
                                      .rejected_bounds = bounds,
                                      .num_blocks = 2};
    rpo_contrast_inputs bad = good;
    bad.rejected_bounds = NULL;
    expect_refusal(&bad, RPO_LOSS_DPO, "inputs.rejected_bounds: is NULL; both sides have bounds or neither");
    bad.chosen_bounds = NULL;
    expect_refusal(&bad, RPO_LOSS_DPO, "inputs.chosen_bounds: is NULL; inputs.num_blocks is 2");
    bad = good;
    bad.num_blocks = -1;
    expect_refusal(&bad, RPO_LOSS_DPO, "inputs.num_blocks: is -1");
    bad = good;
    bad.max_block_m = 5;
    expect_refusal(&bad, RPO_LOSS_DPO, "inputs.max_block_m: is 5; must be 0 (all) to 4, all rows");
    bad = good;
    bad.max_block_n = -1;
    expect_refusal(&bad, RPO_LOSS_DPO, "inputs.max_block_n: is -1");
    bad = good;
    bad.total_rows = NAN;
    expect_refusal(&bad, RPO_LOSS_DPO, "inputs.total_rows: is nan");
    bad.total_rows = -1.0;
    expect_refusal(&bad, RPO_LOSS_DPO, "inputs.total_rows: is -1");
}
