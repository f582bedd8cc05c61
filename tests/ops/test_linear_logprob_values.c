/*
 * test_linear_logprob_values.c - linear log-prob on the CPU: the case table against float64, ways that must give
 * the same bits, the gather op, finite differences.
 */
#include "tests/ops/linear_cases.h"

Test(linear_logprob, every_case_agrees_with_float64) {
    rpo_context *context = test_context(RPO_DEVICE_CPU, 2);
    for (int k = 0; k < LINEAR_CASES; ++k)
        linear_case_run(&linear_cases[k], RPO_FLOAT32, context, 500 + (uint64_t)k);
    rpo_context_free(context);
}

static linear_run run_with(const linear_case *one, linear_variant variant, rpo_context *context,
                           uint64_t seed) {
    variant.name = "a change";
    linear_run run = linear_run_new(one, &variant, RPO_FLOAT32, context, seed);
    linear_forward(&run);
    linear_backward(&run);
    return run;
}

/* Neither a second run nor what is known of the rows nor a cache changes a bit; a head without a gradient changes
 * none of the hidden states'. */
Test(linear_logprob, ways_that_give_the_same_bits) {
    static const linear_variant same[] = {{.hint = HINT_NONE},
                                          {.hint = HINT_EXACT},
                                          {.hint = HINT_ROWS},
                                          {.hint = HINT_EXACT, .cache = CACHE_ALL},
                                          {.hint = HINT_EXACT, .cache = CACHE_THIRD},
                                          {.hint = HINT_NONE, .flags = NO_GRAD_HEAD},
                                          {.hint = HINT_NONE, .flags = NO_GRAD_HEAD | NO_LOGPS},
                                          {.hint = HINT_NONE, .frozen_head = true}};
    rpo_context *context = test_context(RPO_DEVICE_CPU, 2);
    for (int k = 0; k < LINEAR_CASES; ++k) {
        const linear_case *one = &linear_cases[k];
        linear_run plain = run_with(one, linear_variants[0], context, 700 + (uint64_t)k);
        for (size_t v = 0; v < sizeof same / sizeof same[0]; ++v) {
            linear_run run = run_with(one, same[v], context, 700 + (uint64_t)k);
            if (run.flags == 0)
                linear_expect_same_bits(&plain, &run, "another way");
            cr_assert(buffer_same(&plain.grad_hidden, &run.grad_hidden), "%s: way %zu changes grad_hidden",
                      one->name, v);
            linear_run_free(&run);
        }
        linear_run_free(&plain);
    }
    rpo_context_free(context);
}

/* The backward really starts from what the forward left: with other exponents in the cache, other gradients.
 */
Test(linear_logprob, backward_reads_the_cache) {
    const linear_case one = {"cache",           20,   2,    8, 30, MASK_NONE,
                             RPO_REDUCTION_SUM, 4096, 0.5f, 1, 0,  ONE_SCHEDULE};
    const linear_variant cached = {
        .name = "cached", .cache = CACHE_ALL, .frozen_head = true, .flags = NO_LOGPS};
    rpo_context *context = test_context(RPO_DEVICE_CPU, 2);
    linear_run plain = run_with(&one, cached, context, 41);
    linear_run run = linear_run_new(&one, &cached, RPO_FLOAT32, context, 41);
    linear_forward(&run);
    ((float *)scratch_device(&run.cache))[5] += 3.0f;
    linear_backward(&run);
    for (int64_t row = 0; row < one.rows; ++row) {
        bool differs = false;
        for (int64_t h = 0; h < one.hidden_size; ++h)
            differs = differs || buffer_get(&run.grad_hidden, row * one.hidden_size + h) !=
                                     buffer_get(&plain.grad_hidden, row * one.hidden_size + h);
        cr_assert_eq(differs, row == 0, "row %lld", (long long)row);
    }
    linear_run_free(&run);
    linear_run_free(&plain);
    rpo_context_free(context);
}

/* It really takes the forward's log-sum-exp: a NaN there spoils its row and no other. Whether the logits come from
 * the cache or are computed again makes no bit of difference. */
Test(linear_logprob, backward_reads_the_logsumexp) {
    const linear_case one = {"logsumexp",       20,   2,    8, 30, MASK_NONE,
                             RPO_REDUCTION_SUM, 4096, 0.5f, 1, 0,  ONE_SCHEDULE};
    const linear_variant plain = {.name = "saved", .flags = SAVE_LOGSUMEXP};
    const linear_variant cached = {.name = "saved", .cache = CACHE_ALL, .flags = SAVE_LOGSUMEXP};
    rpo_context *context = test_context(RPO_DEVICE_CPU, 2);
    linear_run a = run_with(&one, plain, context, 41), b = run_with(&one, cached, context, 41);
    linear_expect_same_bits(&a, &b, "a cache");
    linear_run run = linear_run_new(&one, &plain, RPO_FLOAT32, context, 41);
    linear_forward(&run);
    buffer_set(&run.logsumexp, 7, NAN);
    linear_backward(&run);
    for (int64_t i = 0; i < one.rows * one.hidden_size; ++i)
        cr_assert_eq(isnan(buffer_get(&run.grad_hidden, i)) != 0, i / one.hidden_size == 7, "element %lld",
                     (long long)i);
    linear_run_free(&run);
    linear_run_free(&b);
    linear_run_free(&a);
    rpo_context_free(context);
}

/* One pass where float32 holds the log-sum-exp well enough, two where it does not: both within the tolerance of a
 * gradient, up to log-sum-exps of 1e5. */
Test(linear_logprob, logsumexp_of_any_size) {
    const linear_case sizes[] = {
        {"near 0", 40, 2, 4, 50, MASK_NONE, RPO_REDUCTION_SUM, 4096, 1e-3f, 1, 0, ONE_SCHEDULE},
        {"near 16", 40, 2, 4, 50, MASK_NONE, RPO_REDUCTION_SUM, 4096, 8.0f, 1, 0, ONE_SCHEDULE},
        {"some 100", 40, 2, 4, 50, MASK_NONE, RPO_REDUCTION_SUM, 4096, 60.0f, 1, 0, ONE_SCHEDULE},
        {"some 1e5", 40, 2, 1, 50, MASK_NONE, RPO_REDUCTION_SUM, 4096, 1e5f, 1, 0, ONE_SCHEDULE},
    };
    rpo_context *context = test_context(RPO_DEVICE_CPU, 2);
    for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; ++k) {
        const linear_variant plain = {.name = "found anew"},
                             saved = {.name = "saved", .flags = SAVE_LOGSUMEXP};
        linear_run a = run_with(&sizes[k], plain, context, 17), b = run_with(&sizes[k], saved, context, 17);
        double largest = 0.0;
        for (int64_t i = 0; i < sizes[k].rows * sizes[k].hidden_size; ++i)
            largest = fmax(largest, fabs((double)buffer_get(&a.grad_hidden, i)));
        for (int64_t i = 0; i < sizes[k].rows * sizes[k].hidden_size; ++i) {
            const double x = (double)buffer_get(&a.grad_hidden, i), y = (double)buffer_get(&b.grad_hidden, i);
            cr_assert(fabs(x - y) <= 1e-6 * largest, "%s: grad_hidden[%lld]: %.9g and %.9g", sizes[k].name,
                      (long long)i, x, y);
        }
        linear_run_free(&b);
        linear_run_free(&a);
    }
    rpo_context_free(context);
}

/* The gather op on the same logits, computed here, gives the same log-probs. */
Test(linear_logprob, agrees_with_gather) {
    const linear_case one = {"gather", 50,   4, 24, 130,         MASK_HALF, RPO_REDUCTION_AVERAGE,
                             4096,     0.5f, 1, 0,  ONE_SCHEDULE};
    rpo_context *context = test_context(RPO_DEVICE_CPU, 2);
    linear_run run = linear_run_new(&one, &linear_variants[0], RPO_FLOAT32, context, 21);
    linear_forward(&run);

    float *logits = malloc((size_t)(one.rows * one.vocab_size) * sizeof *logits);
    for (int64_t i = 0; i < one.rows * one.vocab_size; ++i) {
        double sum = 0.0;
        for (int64_t h = 0; h < one.hidden_size; ++h)
            sum += (double)buffer_get(&run.hidden, i / one.vocab_size * one.hidden_size + h) *
                   (double)buffer_get(&run.head, i % one.vocab_size * one.hidden_size + h);
        logits[i] = (float)sum;
    }
    const rpo_logprob_shape shape = {sizeof shape, one.rows,     one.vocab_size, one.num_sequences, 0,
                                     RPO_FLOAT32,  one.reduction};
    size_t bytes = 0;
    cr_assert_eq(rpo_logprob_gather_workspace_size(context, &bytes, &shape), RPO_OK);
    device_scratch workspace = scratch_new(context, bytes);
    float gathered[4];
    const rpo_logprob_inputs inputs = {.struct_size = sizeof inputs,
                                       .logits = logits,
                                       .labels = run.batch.labels,
                                       .cu_seqlens = run.batch.cu_seqlens};
    const rpo_logprob_outputs outputs = {.struct_size = sizeof outputs, .sequence_logps = gathered};
    cr_assert_eq(rpo_logprob_gather(context, &outputs, &inputs, &shape, scratch_device(&workspace), bytes),
                 RPO_OK, "%s", rpo_last_error());
    for (int s = 0; s < 4; ++s)
        cr_assert(is_close((double)gathered[s], (double)buffer_get(&run.sequence_logps, s), 3e-6, 0.0));
    scratch_free(&workspace);
    free(logits);
    linear_run_free(&run);
    rpo_context_free(context);
}

/* sum_s coef_s logp_s from one forward. */
static double objective(linear_run *run) {
    linear_forward(run);
    double sum = 0.0;
    for (int64_t s = 0; s < run->shape.num_sequences; ++s)
        sum += (double)run->batch.coef[s] * (double)buffer_get(&run->sequence_logps, s);
    return sum;
}

/* Moves one input along a random direction and compares the slope with the gradient. */
static void check_slope(linear_run *run, device_buffer *input, const device_buffer *gradient,
                        const char *what) {
    const double step = 1e-3;
    const int64_t count = (int64_t)(input->bytes / sizeof(float));
    double *base = doubles_of(input, count), value[2], expected = 0.0, moved = 0.0;
    for (int side = 0; side < 2; ++side) {
        uint64_t state = 77;
        for (int64_t i = 0; i < count; ++i) {
            const double direction = (double)test_uniform(&state, 1.0f);
            const double slope = (double)buffer_get(gradient, i);
            buffer_set(input, i, (float)(base[i] + (side == 0 ? -step : step) * direction));
            if (side == 0) {
                expected += direction * slope;
                moved += fabs(direction * slope);
            }
        }
        value[side] = objective(run);
    }
    for (int64_t i = 0; i < count; ++i)
        buffer_set(input, i, (float)base[i]);
    const double slope = (value[1] - value[0]) / (2.0 * step);
    cr_assert(moved > 0.0 && fabs(slope - expected) <= 2e-3 * moved, "%s: slope %.9g, gradient says %.9g",
              what, slope, expected);
    free(base);
}

Test(linear_logprob, directional_derivatives) {
    const linear_case one = {"difference",          30,   3,    20, 70, MASK_HALF,
                             RPO_REDUCTION_AVERAGE, 2048, 0.7f, 1,  0,  ONE_SCHEDULE};
    rpo_context *context = test_context(RPO_DEVICE_CPU, 2);
    linear_run run = linear_run_new(&one, &linear_variants[0], RPO_FLOAT32, context, 31);
    const int64_t head_size = one.vocab_size * one.hidden_size;
    for (int64_t i = 0; i < head_size; ++i)
        buffer_set(&run.grad_head, i, 0.0f);
    linear_backward(&run);
    check_slope(&run, &run.hidden, &run.grad_hidden, "hidden");
    check_slope(&run, &run.head, &run.grad_head, "head");
    linear_run_free(&run);
    rpo_context_free(context);
}

/* The CPU's default chunk is smaller than an accelerator's. */
Test(linear_logprob, workspace_is_bounded) {
    rpo_context *context = test_context(RPO_DEVICE_CPU, 2);
    linear_workspace_is_bounded(context, RPO_FLOAT32);
    const rpo_linear_logprob_shape shape = {.struct_size = sizeof shape,
                                            .rows = 8192,
                                            .hidden_size = 4096,
                                            .vocab_size = 128256,
                                            .num_sequences = 8};
    cr_assert(linear_megabytes(context, &shape, 1) <= 64);
    rpo_context_free(context);
}
