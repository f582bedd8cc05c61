/*
 * test_linear_logprob_simt.c - the CUDA linear log-prob, run by simt on the CPU: the case table against float64
 * and against the CPU's op in every dtype, hints that are too small, bad labels, memory, every schedule bit for
 * bit.
 */
#include "kernels/cuda/linear_logprob_plan.h"
#include "kernels/simt/schedule.h"
#include "tests/ops/linear_cases.h"

/* Every schedule; where there is only one, a second run. */
static void check_schedules(const linear_case *one, const linear_variant *variant, rpo_dtype dtype,
                            rpo_context *context, uint64_t seed) {
    linear_run first = linear_run_new(one, variant, dtype, context, seed);
    linear_forward(&first);
    linear_backward(&first);
    const int schedules = rpo_simt_schedules();
    for (int k = 1; k < schedules || k == 1; ++k) {
        rpo_simt_set_schedule(k % schedules);
        linear_run again = linear_run_new(one, variant, dtype, context, seed);
        linear_forward(&again);
        linear_backward(&again);
        linear_expect_same_bits(&first, &again, rpo_simt_schedule_name(k % schedules));
        linear_run_free(&again);
    }
    rpo_simt_set_schedule(0);
    linear_run_free(&first);
}

static void check_dtype(rpo_dtype dtype) {
    rpo_context *context = test_context(RPO_DEVICE_CUDA, 1);
    for (int k = 0; k < LINEAR_CASES; ++k) {
        const linear_case *one = &linear_cases[k];
        const uint64_t seed = 500 + (uint64_t)k;
        if (one->cost == ONE_DTYPE && dtype != RPO_BFLOAT16)
            continue;
        linear_case_run(one, dtype, context, seed);
        if (one->cost == EVERY_SCHEDULE)
            check_schedules(one, &linear_variants[0], dtype, context, seed);
    }
    rpo_context_free(context);
}

Test(linear_logprob_simt, float32) {
    check_dtype(RPO_FLOAT32);
}

Test(linear_logprob_simt, bfloat16) {
    check_dtype(RPO_BFLOAT16);
}

Test(linear_logprob_simt, float16) {
    check_dtype(RPO_FLOAT16);
}

Test(linear_logprob_simt, agrees_with_the_cpu) {
    rpo_context *context = test_context(RPO_DEVICE_CUDA, 1), *cpu = test_context(RPO_DEVICE_CPU, 1);
    for (int k = 0; k < LINEAR_CASES; ++k)
        if (linear_cases[k].cost != ONE_DTYPE)
            linear_case_compare(&linear_cases[k], context, cpu, 500 + (uint64_t)k);
    rpo_context_free(cpu);
    rpo_context_free(context);
}

Test(linear_logprob_simt, workspace_is_bounded) {
    rpo_context *context = test_context(RPO_DEVICE_CUDA, 1);
    for (int dtype = RPO_FLOAT32; dtype <= RPO_FLOAT16; ++dtype)
        linear_workspace_is_bounded(context, (rpo_dtype)dtype);
    rpo_context_free(context);
}

enum { KEPT, SEVERAL_SWEEPS, RECOMPUTED, CACHED, CACHED_AND_KEPT, CACHED_AND_RECOMPUTED, WAYS };

static void note_ways(int taken[WAYS], const rpo_linear_plan *plan) {
    const bool none = plan->cached_rows == 0, all = plan->cached_rows == plan->capacity;
    taken[KEPT] += none && !plan->recompute;
    taken[SEVERAL_SWEEPS] += none && !plan->recompute && plan->sweep_rows < plan->capacity;
    taken[RECOMPUTED] += none && plan->recompute;
    taken[CACHED] += all && !none;
    taken[CACHED_AND_KEPT] += !none && !all && !plan->recompute;
    taken[CACHED_AND_RECOMPUTED] += !none && !all && plan->recompute;
}

/* The table and its variants do lead through every branch of the backward, in every dtype. */
Test(linear_logprob_simt, every_way_is_taken) {
    rpo_context *context = test_context(RPO_DEVICE_CUDA, 1);
    for (int dtype = RPO_FLOAT32; dtype <= RPO_FLOAT16; ++dtype) {
        int taken[WAYS] = {0};
        for (int k = 0; k < LINEAR_CASES; ++k)
            for (int v = 0; v < LINEAR_VARIANTS && linear_cases[k].rows < 1000; ++v) {
                if (linear_cases[k].cost >= ONE_WAY && v != 1)
                    continue;
                linear_run run =
                    linear_run_new(&linear_cases[k], &linear_variants[v], (rpo_dtype)dtype, context, 1);
                const rpo_linear_plan plan =
                    rpo_linear_plan_choose(rpo_cuda_state_of(context), &run.shape, true);
                note_ways(taken, &plan);
                linear_run_free(&run);
            }
        for (int way = 0; way < WAYS; ++way)
            cr_assert_gt(taken[way], 0, "%s: no case takes way %d", rpo_dtype_name((rpo_dtype)dtype), way);
    }
    rpo_context_free(context);
}

/* With everything cached and the head frozen, the backward does not even look at the hidden states. */
Test(linear_logprob_simt, cached_backward_starts_from_the_cache) {
    const linear_case one = {"cached",          25, 3,    16, 70, MASK_HALF,
                             RPO_REDUCTION_SUM, 0,  0.5f, 1,  0,  ONE_SCHEDULE};
    const linear_variant variant = {.name = "cached", .cache = CACHE_ALL, .frozen_head = true};
    rpo_context *context = test_context(RPO_DEVICE_CUDA, 1);
    linear_run run = linear_run_new(&one, &variant, RPO_BFLOAT16, context, 11);
    linear_reference expected = linear_expect(&run, &one);
    linear_forward(&run);
    for (int64_t i = 0; i < one.rows * one.hidden_size; ++i)
        buffer_set(&run.hidden, i, NAN);
    buffer_push(&run.hidden);
    linear_backward(&run);
    linear_check_gradients(&run, &expected);
    linear_reference_free(&expected);
    linear_run_free(&run);
    rpo_context_free(context);
}

/* A hint too small: NaN where rows are missing, in every gradient computed, and nothing written outside. */
Test(linear_logprob_simt, hint_too_small) {
    const linear_case one = {"small hint",      30, 3,    12, 40, MASK_NONE,
                             RPO_REDUCTION_SUM, 0,  0.5f, 1,  0,  ONE_SCHEDULE};
    rpo_context *context = test_context(RPO_DEVICE_CUDA, 1);
    linear_run run = linear_run_new(&one, &linear_variants[0], RPO_BFLOAT16, context, 3);
    const int32_t kept = run.batch.cu_seqlens[1] + 1; /* one row of the second sequence that has rows */
    run.shape.valid_rows = kept;
    linear_make_workspaces(&run);
    linear_forward(&run);
    for (int64_t s = 0; s < one.num_sequences; ++s) {
        const bool lost =
            run.batch.cu_seqlens[s + 1] > kept && run.batch.cu_seqlens[s + 1] > run.batch.cu_seqlens[s];
        cr_assert_eq(isnan(buffer_get(&run.sequence_logps, s)) != 0, lost, "sequence %lld", (long long)s);
    }
    linear_backward(&run);
    for (int64_t i = 0; i < one.rows * one.hidden_size; ++i)
        cr_assert(isnan(buffer_get(&run.grad_hidden, i)), "grad_hidden[%lld] looks right", (long long)i);
    cr_assert(isnan(buffer_get(&run.grad_head, 0)));
    linear_run_free(&run);
    rpo_context_free(context);
}

Test(linear_logprob_simt, labels_out_of_range) {
    const linear_case one = {"bad label",       12, 3,    8, 40, MASK_NONE,
                             RPO_REDUCTION_SUM, 0,  0.5f, 1, 0,  ONE_SCHEDULE};
    static const int32_t bad[] = {40, -1, -99, INT32_MAX, INT32_MIN};
    rpo_context *context = test_context(RPO_DEVICE_CUDA, 1);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; ++i) {
        linear_run run = linear_run_new(&one, &linear_variants[0], RPO_FLOAT32, context, 5);
        const int32_t last = (int32_t)one.rows - 1;
        memcpy(run.labels.host + run.labels.offset + (size_t)last * sizeof(int32_t), &bad[i],
               sizeof(int32_t));
        buffer_push(&run.labels);
        linear_forward(&run);
        linear_backward(&run);
        for (int64_t s = 0; s < one.num_sequences; ++s) {
            const bool spoiled = run.batch.cu_seqlens[s] <= last && last < run.batch.cu_seqlens[s + 1];
            cr_assert_eq(isnan(buffer_get(&run.sequence_logps, s)) != 0, spoiled, "label %d", bad[i]);
        }
        cr_assert(isnan(buffer_get(&run.grad_hidden, last * one.hidden_size)) &&
                  isfinite(buffer_get(&run.grad_hidden, 0)));
        linear_run_free(&run);
    }
    rpo_context_free(context);
}

/* Bytes a backward asks for at Llama-3-8B, half of 8192 rows valid, on a device with an L2 of this size. */
static double megabytes(rpo_linear_logprob_shape *shape, size_t l2_bytes, bool backward) {
    const rpo_cuda_state state = {.compute_capability = 90, .num_sms = 132, .l2_bytes = l2_bytes};
    const rpo_linear_plan plan = rpo_linear_plan_choose(&state, shape, backward);
    rpo_linear_buffers buffers;
    return (double)rpo_linear_plan_lay_out(&buffers, &plan, shape, backward, NULL) / MEBIBYTE;
}

/* The targets for memory beside the results; plans are made for real devices although none is here. */
Test(linear_logprob_simt, workspace_is_bounded_on_real_devices) {
    static const size_t l2[] = {40 << 20, 50 << 20, 60 << 20};
    for (size_t i = 0; i < sizeof l2 / sizeof l2[0]; ++i) {
        rpo_linear_logprob_shape shape = linear_llama_shape(RPO_BFLOAT16);
        const double full = megabytes(&shape, l2[i], true);
        cr_assert(full <= 1.1 * 1024, "full head: %.1f MiB", full);

        const rpo_cuda_state state = {.l2_bytes = l2[i]};
        const rpo_linear_plan plan = rpo_linear_plan_choose(&state, &shape, false);
        const size_t cache_bytes = rpo_linear_cache_bytes(&plan, &shape, plan.capacity);
        rpo_linear_logprob_shape cached = shape;
        cached.cache_bytes = cache_bytes;
        cr_assert_eq(rpo_linear_plan_choose(&state, &cached, true).cached_rows, 4096);
        const double both = megabytes(&cached, l2[i], true) + (double)cache_bytes / MEBIBYTE;
        cr_assert(both <= 1.1 * 1024, "cache and workspace: %.1f MiB", both);

        shape.frozen_head = 1;
        const double frozen = megabytes(&shape, l2[i], true);
        cr_assert(frozen <= 256, "frozen head: %.1f MiB", frozen);
        shape.chunk_bytes = (size_t)24 << 20;
        for (int variant = 0; variant < 4; ++variant) {
            shape.frozen_head = variant % 2;
            const double low = megabytes(&shape, l2[i], variant / 2);
            cr_assert(low <= 64, "low memory: %.1f MiB", low);
        }
    }
}
