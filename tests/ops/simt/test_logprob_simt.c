/*
 * test_logprob_simt.c - the CUDA log-prob gather, run by simt on the CPU: the case table against float64 and
 * against the CPU's op in every dtype, gradients that lie otherwise than the logits, bad labels, every
 * schedule bit for bit.
 */
#include "kernels/simt/schedule.h"
#include "tests/ops/gather_cases.h"

/* The gradient's rows lie otherwise in their 16 bytes than the logits'; then in their place, with the forward's
 * log-sum-exp. */
static void check_placement(const gather_case *one, rpo_dtype dtype, rpo_context *context, uint64_t seed) {
    gather_run run = gather_run_new(one, dtype, context, seed);
    gather_reference expected = gather_reference_new(&run);
    device_buffer shifted = buffer_new(context, one->rows * run.stride, dtype, 6 * rpo_dtype_size(dtype));
    gather_forward(&run);
    gather_backward(&run, &shifted, true);
    gather_check_backward(&run, &shifted, &expected);
    gather_backward(&run, &run.logits, true);
    gather_check_backward(&run, &run.logits, &expected);
    buffer_free(&shifted);
    gather_reference_free(&expected);
    gather_run_free(&run);
}

/* Every schedule; where there is only one, a second run. */
static void check_schedules(const gather_case *one, rpo_dtype dtype, rpo_context *context, uint64_t seed) {
    gather_run first = gather_run_new(one, dtype, context, seed);
    gather_forward(&first);
    gather_backward(&first, &first.gradient, true);
    const int schedules = rpo_simt_schedules();
    for (int k = 1; k < schedules || k == 1; ++k) {
        rpo_simt_set_schedule(k % schedules);
        gather_run again = gather_run_new(one, dtype, context, seed);
        gather_forward(&again);
        gather_backward(&again, &again.gradient, true);
        gather_expect_same_bits(&first, &again, rpo_simt_schedule_name(k % schedules));
        gather_run_free(&again);
    }
    rpo_simt_set_schedule(0);
    gather_run_free(&first);
}

static void check_dtype(rpo_dtype dtype) {
    rpo_context *context = test_context(RPO_DEVICE_CUDA, 1);
    gather_workspace_is_bounded(context, dtype);
    for (int k = 0; k < GATHER_CASES; ++k) {
        const gather_case *one = &gather_cases[k];
        const uint64_t seed = 100 + (uint64_t)k;
        if (one->cost == ONE_DTYPE && dtype != RPO_BFLOAT16)
            continue;
        gather_case_run(one, dtype, context, seed);
        if (one->cost == EVERY_SCHEDULE) {
            check_placement(one, dtype, context, seed);
            check_schedules(one, dtype, context, seed);
        }
    }
    rpo_context_free(context);
}

Test(logprob_simt, float32) {
    check_dtype(RPO_FLOAT32);
}

Test(logprob_simt, bfloat16) {
    check_dtype(RPO_BFLOAT16);
}

Test(logprob_simt, float16) {
    check_dtype(RPO_FLOAT16);
}

Test(logprob_simt, agrees_with_the_cpu) {
    rpo_context *context = test_context(RPO_DEVICE_CUDA, 1), *cpu = test_context(RPO_DEVICE_CPU, 1);
    for (int k = 0; k < GATHER_CASES; ++k)
        if (gather_cases[k].cost != ONE_DTYPE)
            gather_case_compare(&gather_cases[k], context, cpu, 100 + (uint64_t)k);
    rpo_context_free(cpu);
    rpo_context_free(context);
}

/* The device cannot refuse labels: they spoil their own sequence, and nothing is read or written outside. */
Test(logprob_simt, labels_out_of_range) {
    const gather_case one = {"bad label",   12, 3, 40, 0, MASK_NONE, RPO_REDUCTION_SUM, 3, 1, 0,
                             EVERY_SCHEDULE};
    static const int32_t bad[] = {40, -1, -99, -101, INT32_MAX, INT32_MIN};
    rpo_context *context = test_context(RPO_DEVICE_CUDA, 1);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; ++i) {
        gather_run run = gather_run_new(&one, RPO_BFLOAT16, context, 7);
        const int32_t last = (int32_t)one.rows - 1;
        memcpy(run.labels.host + run.labels.offset + (size_t)last * sizeof(int32_t), &bad[i],
               sizeof(int32_t));
        buffer_push(&run.labels);
        gather_forward(&run);
        gather_backward(&run, &run.gradient, true);
        for (int64_t s = 0; s < one.num_sequences; ++s) {
            const bool spoiled = run.batch.cu_seqlens[s] <= last && last < run.batch.cu_seqlens[s + 1];
            cr_assert_eq(isnan(buffer_get(&run.sequence_logps, s)) != 0, spoiled, "label %d, sequence %lld",
                         bad[i], (long long)s);
        }
        cr_assert(isnan(buffer_get(&run.gradient, last * one.vocab_size)) &&
                  isfinite(buffer_get(&run.gradient, (last - 1) * one.vocab_size)));
        gather_run_free(&run);
    }
    rpo_context_free(context);
}

/* -inf is a logit like any other as long as one is finite; NaN and +inf are not hidden. */
Test(logprob_simt, infinite_and_nan_logits) {
    const gather_case one = {"special", 4, 1, 5000, 0, MASK_NONE, RPO_REDUCTION_SUM, 3, 1, 0, EVERY_SCHEDULE};
    rpo_context *context = test_context(RPO_DEVICE_CUDA, 1);
    gather_run run = gather_run_new(&one, RPO_FLOAT32, context, 9);
    for (int64_t v = 0; v < one.vocab_size; ++v)
        if (v != run.batch.labels[0])
            buffer_set(&run.logits, v, -INFINITY);
    buffer_set(&run.logits, one.vocab_size + 4321, NAN);
    buffer_set(&run.logits, 2 * one.vocab_size + 17, INFINITY);
    buffer_push(&run.logits);
    gather_forward(&run);
    cr_assert_eq(buffer_get(&run.token_logps, 0), 0.0f);
    cr_assert(isnan(buffer_get(&run.token_logps, 1)) && !isfinite(buffer_get(&run.token_logps, 2)) &&
              isfinite(buffer_get(&run.token_logps, 3)) && isnan(buffer_get(&run.sequence_logps, 0)));
    gather_backward(&run, &run.gradient, true);
    for (int64_t v = 0; v < one.vocab_size; ++v)
        cr_assert_eq(buffer_get(&run.gradient, v), 0.0f, "a certain token has no gradient");
    gather_run_free(&run);
    rpo_context_free(context);
}
