/* test_contrast_loss.c - the contrast loss on the CPU: the case table, thread counts, non-finite input,
 * memory. */
#include "tests/ops/contrast_cases.h"

Test(contrast_loss, every_case_agrees_with_float64) {
    rpo_context *context = test_context(RPO_DEVICE_CPU, 2);
    contrast_cases_run(context);
    rpo_context_free(context);
}

Test(contrast_loss, thread_count_changes_no_bit) {
    rpo_context *one = test_context(RPO_DEVICE_CPU, 1), *two = test_context(RPO_DEVICE_CPU, 2),
                *five = test_context(RPO_DEVICE_CPU, 5);
    contrast_cases_compare(one, two, "1 and 2 threads");
    contrast_cases_compare(one, five, "1 and 5 threads");
    rpo_context_free(five);
    rpo_context_free(two);
    rpo_context_free(one);
}

/* A bad value in any input that the kind reads must show in the loss. */
Test(contrast_loss, non_finite_input_gives_non_finite_loss) {
    const float bad_values[] = {NAN, INFINITY, -INFINITY};
    rpo_context *context = test_context(RPO_DEVICE_CPU, 2);
    for (int kind = 0; kind < RPO_LOSS_KIND_COUNT; ++kind)
        for (int where = 0; where < 6; ++where)
            for (int b = 0; b < 3; ++b) {
                const contrast_case c = {.name = rpo_loss_kind_name((rpo_loss_kind)kind),
                                         .kind = (rpo_loss_kind)kind,
                                         .m = 19,
                                         .n = 19,
                                         .dim = 6,
                                         .beta = 0.1f,
                                         .tau = 0.5f,
                                         .spread = 20,
                                         .diagonal_weight = 0.8f,
                                         .epsilon = 0.1f};
                contrast_data data = contrast_data_new(&c, 7);
                float *inputs[] = {data.chosen,
                                   data.rejected,
                                   data.reference_chosen,
                                   data.reference_rejected,
                                   data.chosen_embeddings,
                                   data.rejected_embeddings};
                const bool reads = inputs[where] != NULL && (kind != RPO_LOSS_SFT || where == 0);
                if (reads) {
                    inputs[where][where < 4 ? 18 : 18 * 6] = bad_values[b];
                    contrast_run run = contrast_run_new(context, &data, c.name);
                    cr_assert(!isfinite(*(float *)run.loss.data), "%s: %g in input %d gave loss %g", c.name,
                              (double)bad_values[b], where, (double)*(float *)run.loss.data);
                    contrast_run_free(&run);
                }
                contrast_data_free(&data);
            }
    rpo_context_free(context);
}

Test(contrast_loss, every_output_but_the_loss_may_be_null) {
    rpo_context *context = test_context(RPO_DEVICE_CPU, 2);
    for (int k = 0; k < CONTRAST_CASES; ++k) {
        const contrast_case *c = &contrast_cases[k];
        contrast_data data = contrast_data_new(c, 1000 + (uint64_t)k);
        contrast_run run = contrast_run_new(context, &data, c->name);
        float loss = NAN;
        const rpo_contrast_outputs outputs = {.struct_size = sizeof outputs, .loss = &loss};
        size_t size = 0;
        cr_assert_eq(rpo_contrast_loss_workspace_size(context, &size, &data.inputs, &data.options), RPO_OK);
        guarded workspace = guarded_new(size);
        cr_assert_eq(rpo_contrast_loss(context, &outputs, &data.inputs, &data.options, workspace.data, size),
                     RPO_OK, "%s: %s", c->name, rpo_last_error());
        cr_assert(same_bits(&loss, run.loss.data, sizeof loss), "%s: another loss without other outputs",
                  c->name);
        guarded_free(&workspace);
        contrast_run_free(&run);
        contrast_data_free(&data);
    }
    rpo_context_free(context);
}

/* When policy = reference theory fixes the loss: log 2 for every sigmoid loss with weights, whatever they
 * are. */
Test(contrast_loss, policy_equal_to_reference_gives_log_2) {
    rpo_context *context = test_context(RPO_DEVICE_CPU, 2);
    const rpo_loss_kind kinds[] = {RPO_LOSS_RPO_PAIRED,   RPO_LOSS_RPO_UNPAIRED, RPO_LOSS_RPO_UNIFORM,
                                   RPO_LOSS_RPO_DIAGONAL, RPO_LOSS_DPO,          RPO_LOSS_CDPO};
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; ++k) {
        const contrast_case c = {.name = rpo_loss_kind_name(kinds[k]),
                                 .kind = kinds[k],
                                 .m = 37,
                                 .n = 37,
                                 .dim = 12,
                                 .beta = 0.3f,
                                 .tau = 0.5f,
                                 .spread = 0.0f,
                                 .diagonal_weight = 0.8f,
                                 .epsilon = 0.1f};
        contrast_data data = contrast_data_new(&c, 3);
        contrast_run run = contrast_run_new(context, &data, c.name);
        cr_assert(fabs((double)*(float *)run.loss.data - log(2.0)) <= 2e-7, "%s: %.9g", c.name,
                  (double)*(float *)run.loss.data);
        contrast_run_free(&run);
        contrast_data_free(&data);
    }
    rpo_context_free(context);
}

/* kto-simple starts a run exactly at the clamp's kink; the published code's torch.clamp lets the gradient
 * through. */
Test(contrast_loss, kto_at_its_starting_point_follows_torch_clamp) {
    rpo_context *context = test_context(RPO_DEVICE_CPU, 1);
    const contrast_case c = {
        .name = "kto", .kind = RPO_LOSS_KTO_SIMPLE, .m = 4, .n = 2, .beta = 0.4f, .spread = 0.0f};
    contrast_data data = contrast_data_new(&c, 3);
    contrast_run run = contrast_run_new(context, &data, c.name);
    const double slope = 0.4 * 0.25 / 6.0; /* beta sigmoid(0) sigmoid(0) / (m + n) */
    const float *grad_a = run.grad_chosen.data, *grad_b = run.grad_rejected.data;
    for (int i = 0; i < 4; ++i)
        cr_assert(fabs((double)grad_a[i] + slope * (1.0 + 2.0 / 4.0)) <= 1e-8);
    for (int j = 0; j < 2; ++j)
        cr_assert(fabs((double)grad_b[j] - slope * (1.0 + 4.0 / 2.0)) <= 1e-8);
    contrast_run_free(&run);
    contrast_data_free(&data);
    rpo_context_free(context);
}

Test(contrast_loss, workspace_is_linear_in_m_and_n) {
    rpo_context *context = test_context(RPO_DEVICE_CPU, 2);
    rpo_contrast_inputs inputs = {.struct_size = sizeof inputs, .dim = 384};
    size_t sizes[3] = {0};
    for (int k = 0; k < 3; ++k) {
        inputs.m = inputs.n = (int64_t)100000 << k;
        cr_assert_eq(rpo_contrast_loss_workspace_size(context, &sizes[k], &inputs, NULL), RPO_OK, "%s",
                     rpo_last_error());
    }
    cr_assert_leq(sizes[1], 2 * sizes[0]);
    cr_assert_leq(sizes[2], 2 * sizes[1]);
    cr_assert_leq(sizes[0], (size_t)100000 * 100000 * sizeof(float) / 500);
    rpo_context_free(context);
}
