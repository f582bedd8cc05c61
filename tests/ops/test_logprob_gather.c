/*
 * test_logprob_gather.c - log-prob gather on the CPU: the case table against float64, thread counts bit for
 * bit, finite differences, infinite and NaN logits.
 */
#include "tests/ops/gather_cases.h"

Test(logprob_gather, every_case_agrees_with_float64) {
    rpo_context *context = test_context(RPO_DEVICE_CPU, 2);
    for (int k = 0; k < GATHER_CASES; ++k)
        gather_case_run(&gather_cases[k], RPO_FLOAT32, context, 100 + (uint64_t)k);
    rpo_context_free(context);
}

Test(logprob_gather, thread_count_changes_no_bit) {
    rpo_context *contexts[] = {test_context(RPO_DEVICE_CPU, 1), test_context(RPO_DEVICE_CPU, 2),
                               test_context(RPO_DEVICE_CPU, 5)};
    for (int k = 0; k < GATHER_CASES; ++k) {
        gather_run runs[3];
        for (int c = 0; c < 3; ++c) {
            runs[c] = gather_run_new(&gather_cases[k], RPO_FLOAT32, contexts[c], 100 + (uint64_t)k);
            gather_forward(&runs[c]);
            gather_backward(&runs[c], &runs[c].gradient, true);
        }
        gather_expect_same_bits(&runs[0], &runs[1], "2 threads");
        gather_expect_same_bits(&runs[0], &runs[2], "5 threads");
        for (int c = 0; c < 3; ++c)
            gather_run_free(&runs[c]);
    }
    for (int c = 0; c < 3; ++c)
        rpo_context_free(contexts[c]);
}

Test(logprob_gather, workspace_is_bounded) {
    rpo_context *context = test_context(RPO_DEVICE_CPU, 2);
    gather_workspace_is_bounded(context, RPO_FLOAT32);
    rpo_context_free(context);
}

/* d/de of sum_s coef_s logp_s(logits + e direction) in float64 differences of the op itself. */
Test(logprob_gather, directional_derivative) {
    const gather_case one = {"difference",  40, 4, 97, 0, MASK_HALF, RPO_REDUCTION_AVERAGE, 3, 1, 0,
                             EVERY_SCHEDULE};
    rpo_context *context = test_context(RPO_DEVICE_CPU, 2);
    gather_run run = gather_run_new(&one, RPO_FLOAT32, context, 7);
    gather_backward(&run, &run.gradient, false);

    const double step = 1e-2;
    const int64_t count = one.rows * one.vocab_size;
    float *base = malloc((size_t)count * sizeof *base);
    for (int64_t i = 0; i < count; ++i)
        base[i] = buffer_get(&run.logits, i);
    double value[2] = {0.0, 0.0}, expected = 0.0, moved = 0.0;
    for (int side = 0; side < 2; ++side) {
        uint64_t state = 99;
        for (int64_t i = 0; i < count; ++i) {
            const double direction = (double)test_uniform(&state, 1.0f);
            const double slope = (double)buffer_get(&run.gradient, i);
            buffer_set(&run.logits, i, (float)((double)base[i] + (side == 0 ? -step : step) * direction));
            if (side == 0 && run.batch.labels[i / one.vocab_size] != RPO_IGNORE_LABEL) {
                expected += direction * slope;
                moved += fabs(direction * slope);
            }
        }
        gather_forward(&run);
        for (int64_t s = 0; s < one.num_sequences; ++s)
            value[side] += (double)run.batch.coef[s] * (double)buffer_get(&run.sequence_logps, s);
    }
    const double difference = (value[1] - value[0]) / (2.0 * step);
    cr_assert(fabs(difference - expected) <= 1e-3 * moved, "%.9g, expected %.9g", difference, expected);
    free(base);
    gather_run_free(&run);
    rpo_context_free(context);
}

/* Vocabulary entries masked with -infinity, a whole first block of them included, cost nothing but
 * themselves. */
Test(logprob_gather, minus_infinity_masks_entries) {
    const gather_case one = {"masked entries", 2, 1, 5000, 0, MASK_NONE, RPO_REDUCTION_SUM, 2, 1, 0,
                             EVERY_SCHEDULE};
    rpo_context *context = test_context(RPO_DEVICE_CPU, 2);
    gather_run run = gather_run_new(&one, RPO_FLOAT32, context, 11);
    int32_t *labels = buffer_device(&run.labels);
    for (int64_t t = 0; t < one.rows; ++t) {
        for (int64_t v = 0; v < 3000; ++v)
            buffer_set(&run.logits, t * one.vocab_size + v, -INFINITY);
        labels[t] = run.batch.labels[t] = 4000 + (int32_t)t;
    }
    gather_reference expected = gather_reference_new(&run);
    gather_forward(&run);
    gather_check_forward(&run, &expected);
    gather_backward(&run, &run.gradient, false);
    gather_check_backward(&run, &run.gradient, &expected);
    gather_reference_free(&expected);
    gather_run_free(&run);
    rpo_context_free(context);
}

/* A non-finite logit in a counted row reaches its own sequence and no other. */
Test(logprob_gather, nan_stays_in_its_sequence) {
    rpo_context *context = test_context(RPO_DEVICE_CPU, 2);
    float logits[4][3] = {{1.0f, 2.0f, 3.0f}, {0.0f, NAN, 1.0f}, {1.0f, 1.0f, 1.0f}, {INFINITY, 0.0f, 0.0f}};
    const int32_t labels[4] = {0, 2, 1, 1}, cu_seqlens[5] = {0, 1, 2, 3, 4};
    const rpo_logprob_shape shape = {sizeof shape, 4, 3, 4, 0, RPO_FLOAT32, RPO_REDUCTION_SUM};
    float logps[4];
    size_t bytes = 0;
    cr_assert_eq(rpo_logprob_gather_workspace_size(context, &bytes, &shape), RPO_OK);
    guarded workspace = guarded_new(bytes);
    const rpo_logprob_inputs inputs = {
        .struct_size = sizeof inputs, .logits = logits, .labels = labels, .cu_seqlens = cu_seqlens};
    const rpo_logprob_outputs outputs = {.struct_size = sizeof outputs, .sequence_logps = logps};
    cr_assert_eq(rpo_logprob_gather(context, &outputs, &inputs, &shape, workspace.data, bytes), RPO_OK);
    cr_assert(is_close((double)logps[0], -2.40760596, 1e-6, 0.0));
    cr_assert(isnan(logps[1]));
    cr_assert(is_close((double)logps[2], -1.09861229, 1e-6, 0.0));
    cr_assert(!(logps[3] > -INFINITY)); /* NaN, or a certain miss */
    guarded_free(&workspace);
    rpo_context_free(context);
}
