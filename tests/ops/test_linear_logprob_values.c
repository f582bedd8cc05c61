/*
 * test_linear_logprob_values.c - linear log-prob, forward and backward, against float64, against the gather
 * op and against differences; every chunk size; guards, repeats, masked NaN.
 */
#include "tests/logprob_testing.h"

typedef struct linear_case {
    const char *name;
    int64_t rows, num_sequences, hidden_size, vocab_size;
    mask_kind mask;
    rpo_reduction reduction;
    size_t chunk_bytes;
    float head_scale;
} linear_case;

static const linear_case cases[] = {
    {"one of everything", 1, 1, 1, 1, MASK_NONE, RPO_REDUCTION_SUM, 0, 1.0f},
    {"one row", 1, 1, 17, 33, MASK_NONE, RPO_REDUCTION_SUM, 0, 0.5f},
    {"vocabulary of one", 9, 2, 5, 1, MASK_NONE, RPO_REDUCTION_SUM, 0, 0.5f},
    {"ragged, one row a chunk", 37, 4, 29, 61, MASK_HALF, RPO_REDUCTION_SUM, 1, 0.5f},
    {"ragged, five rows a chunk", 37, 4, 29, 61, MASK_PROMPT, RPO_REDUCTION_AVERAGE, 5 * 61 * 4, 0.5f},
    {"ragged, one chunk", 37, 4, 29, 61, MASK_HALF, RPO_REDUCTION_AVERAGE, (size_t)1 << 30, 0.5f},
    {"no mask, contiguous chunks", 64, 3, 48, 257, MASK_NONE, RPO_REDUCTION_SUM, 7 * 257 * 4, 0.3f},
    {"wide hidden", 12, 2, 700, 31, MASK_HALF, RPO_REDUCTION_SUM, 4096, 0.1f},
    {"Qwen vocabulary", 3, 2, 8, 151936, MASK_NONE, RPO_REDUCTION_SUM, 0, 0.5f},
    {"more rows than 16 bits", 66000, 9, 2, 3, MASK_HALF, RPO_REDUCTION_AVERAGE, 64 * 1024, 0.5f},
    {"nothing counts", 11, 3, 6, 13, MASK_ALL, RPO_REDUCTION_AVERAGE, 0, 0.5f},
    {"no rows", 0, 2, 6, 13, MASK_NONE, RPO_REDUCTION_SUM, 0, 0.5f},
    {"logits of thousands", 10, 2, 16, 100, MASK_HALF, RPO_REDUCTION_SUM, 0, 300.0f},
};

typedef struct linear_run {
    guarded hidden, head, grad_hidden, grad_head, sequence_logps, token_logps, workspace, workspace_backward;
    rpo_linear_logprob_shape shape;
    packed batch;
} linear_run;

static void fill(guarded *buffer, float scale, uint64_t seed) {
    uint64_t state = seed;
    for (size_t i = 0; i < buffer->bytes / sizeof(float); ++i)
        ((float *)buffer->data)[i] = test_uniform(&state, scale);
}

static linear_run run_new(const linear_case *one, rpo_context *context, uint64_t seed) {
    linear_run run = {.shape = {.struct_size = sizeof(rpo_linear_logprob_shape),
                                .rows = one->rows,
                                .hidden_size = one->hidden_size,
                                .vocab_size = one->vocab_size,
                                .num_sequences = one->num_sequences,
                                .dtype = RPO_FLOAT32,
                                .reduction = one->reduction,
                                .chunk_bytes = one->chunk_bytes}};
    run.batch = packed_new(one->rows, one->num_sequences, one->vocab_size, one->mask, 1.0f, seed);
    run.hidden = guarded_new((size_t)(one->rows * one->hidden_size) * sizeof(float));
    run.head = guarded_new((size_t)(one->vocab_size * one->hidden_size) * sizeof(float));
    run.grad_hidden = guarded_new(run.hidden.bytes);
    run.grad_head = guarded_new(run.head.bytes);
    run.sequence_logps = guarded_new((size_t)one->num_sequences * sizeof(float));
    run.token_logps = guarded_new((size_t)one->rows * sizeof(float));
    size_t bytes = 0;
    cr_assert_eq(rpo_linear_logprob_workspace_size(context, &bytes, &run.shape, 0), RPO_OK, "%s",
                 rpo_last_error());
    run.workspace = guarded_new(bytes);
    cr_assert_eq(rpo_linear_logprob_workspace_size(context, &bytes, &run.shape, 1), RPO_OK);
    run.workspace_backward = guarded_new(bytes);

    fill(&run.head, one->head_scale, seed + 1);
    fill(&run.grad_head, 0.25f, seed + 2); /* what the gradient is added to */
    uint64_t state = seed + 3;
    for (int64_t t = 0; t < one->rows; ++t)
        for (int64_t h = 0; h < one->hidden_size; ++h) {
            const float value = test_uniform(&state, 1.0f);
            if (run.batch.labels[t] != RPO_IGNORE_LABEL)
                ((float *)run.hidden.data)[t * one->hidden_size + h] = value;
        }
    return run;
}

static void run_free(linear_run *run) {
    guarded_free(&run->workspace_backward);
    guarded_free(&run->workspace);
    guarded_free(&run->token_logps);
    guarded_free(&run->sequence_logps);
    guarded_free(&run->grad_head);
    guarded_free(&run->grad_hidden);
    guarded_free(&run->head);
    guarded_free(&run->hidden);
    packed_free(&run->batch);
}

static void run_forward(linear_run *run, rpo_context *context) {
    cr_assert_eq(rpo_linear_logprob(context, run->sequence_logps.data, run->token_logps.data,
                                    run->hidden.data, run->head.data, run->batch.labels,
                                    run->batch.cu_seqlens, &run->shape, run->workspace.data,
                                    run->workspace.bytes),
                 RPO_OK, "%s", rpo_last_error());
}

static void run_backward(linear_run *run, rpo_context *context, float *sequence_logps, bool frozen) {
    cr_assert_eq(rpo_linear_logprob_backward(context, run->grad_hidden.data,
                                             frozen ? NULL : run->grad_head.data, sequence_logps,
                                             run->hidden.data, run->head.data, run->batch.labels,
                                             run->batch.cu_seqlens, run->batch.coef, &run->shape,
                                             run->workspace_backward.data, run->workspace_backward.bytes),
                 RPO_OK, "%s", rpo_last_error());
}

/* Everything the op computes, in double. */
typedef struct reference {
    double *token_logps, *sequence_logps, *grad_hidden, *grad_head;
} reference;

/* Logits and, from them, the gradient of one row; returns its log-prob. */
static double reference_row(double *row, const linear_run *run, int64_t t, double scale) {
    const int64_t hidden_size = run->shape.hidden_size, vocab_size = run->shape.vocab_size;
    const float *hidden = (const float *)run->hidden.data + t * hidden_size, *head = run->head.data;
    for (int64_t v = 0; v < vocab_size; ++v) {
        row[v] = 0.0;
        for (int64_t h = 0; h < hidden_size; ++h)
            row[v] += (double)hidden[h] * (double)head[v * hidden_size + h];
    }
    const double lse = reference_logsumexp(row, vocab_size);
    const double logp = row[run->batch.labels[t]] - lse;
    for (int64_t v = 0; v < vocab_size; ++v)
        row[v] = scale * ((v == run->batch.labels[t] ? 1.0 : 0.0) - exp(row[v] - lse));
    return logp;
}

static reference reference_new(const linear_run *run) {
    const int64_t hidden_size = run->shape.hidden_size, vocab_size = run->shape.vocab_size;
    const size_t rows = (size_t)run->shape.rows;
    reference expected = {.token_logps = calloc(rows + 1, sizeof(double)),
                          .sequence_logps = calloc((size_t)run->shape.num_sequences + 1, sizeof(double)),
                          .grad_hidden = calloc(rows * (size_t)hidden_size + 1, sizeof(double)),
                          .grad_head = calloc((size_t)(vocab_size * hidden_size), sizeof(double))};
    double *row = malloc((size_t)vocab_size * sizeof *row);
    const float *head = run->head.data, *hidden = run->hidden.data, *start = run->grad_head.data;
    for (int64_t i = 0; i < vocab_size * hidden_size; ++i)
        expected.grad_head[i] = (double)start[i];
    for (int64_t s = 0; s < run->shape.num_sequences; ++s) {
        for (int32_t t = run->batch.cu_seqlens[s]; t < run->batch.cu_seqlens[s + 1]; ++t) {
            if (run->batch.labels[t] == RPO_IGNORE_LABEL)
                continue;
            const double scale = packed_row_scale(&run->batch, s, run->shape.reduction);
            expected.token_logps[t] = reference_row(row, run, t, scale);
            expected.sequence_logps[s] += expected.token_logps[t];
            for (int64_t v = 0; v < vocab_size; ++v)
                for (int64_t h = 0; h < hidden_size; ++h) {
                    expected.grad_hidden[t * hidden_size + h] += row[v] * (double)head[v * hidden_size + h];
                    expected.grad_head[v * hidden_size + h] += row[v] * (double)hidden[t * hidden_size + h];
                }
        }
        const int64_t valid = packed_valid(&run->batch, s);
        if (run->shape.reduction == RPO_REDUCTION_AVERAGE && valid > 0)
            expected.sequence_logps[s] /= (double)valid;
    }
    free(row);
    return expected;
}

static void reference_free(reference *expected) {
    free(expected->grad_head);
    free(expected->grad_hidden);
    free(expected->sequence_logps);
    free(expected->token_logps);
}

/* Relative to the largest entry: a matmul's error is absolute in the size of what it sums. */
static void check_array(const char *name, const char *what, const float *found, const double *expected,
                        int64_t count, double tolerance) {
    double largest = 1e-30;
    for (int64_t i = 0; i < count; ++i)
        largest = fmax(largest, fabs(expected[i]));
    for (int64_t i = 0; i < count; ++i)
        cr_assert(fabs((double)found[i] - expected[i]) <= tolerance * largest,
                  "%s: %s[%lld]: %.9g, expected %.9g", name, what, (long long)i, (double)found[i],
                  expected[i]);
}

static void check_guards(const linear_run *run) {
    guarded_check(&run->hidden, "hidden");
    guarded_check(&run->head, "head");
    guarded_check(&run->grad_hidden, "grad_hidden");
    guarded_check(&run->grad_head, "grad_head");
    guarded_check(&run->sequence_logps, "sequence_logps");
    guarded_check(&run->token_logps, "token_logps");
    guarded_check(&run->workspace, "workspace");
    guarded_check(&run->workspace_backward, "workspace of the backward");
}

static void check_case(const linear_case *one, rpo_device device, uint64_t seed) {
    /* A float32 dot product of logits as large as head_scale * hidden_size, and what that does to exp. */
    const double spread = fmax(1.0, (double)one->head_scale * sqrt((double)one->hidden_size));
    const double tolerance = 2e-6 * spread;
    rpo_context *context = test_context(device, 2);
    linear_run run = run_new(one, context, seed), again = run_new(one, context, seed);
    reference expected = reference_new(&run);

    run_forward(&run, context);
    check_array(one->name, "token_logps", run.token_logps.data, expected.token_logps, one->rows, tolerance);
    check_array(one->name, "sequence_logps", run.sequence_logps.data, expected.sequence_logps,
                one->num_sequences, tolerance);
    for (int64_t t = 0; t < one->rows; ++t)
        cr_assert(((float *)run.token_logps.data)[t] <= 0.0f, "%s: row %lld is positive", one->name,
                  (long long)t);

    run_backward(&run, context, run.sequence_logps.data, false);
    check_array(one->name, "sequence_logps of the backward", run.sequence_logps.data, expected.sequence_logps,
                one->num_sequences, tolerance);
    check_array(one->name, "grad_hidden", run.grad_hidden.data, expected.grad_hidden,
                one->rows * one->hidden_size, tolerance);
    check_array(one->name, "grad_head", run.grad_head.data, expected.grad_head,
                one->vocab_size * one->hidden_size, tolerance);

    run_backward(&again, context, again.sequence_logps.data, false);
    cr_assert(same_bits(run.grad_hidden.data, again.grad_hidden.data, run.grad_hidden.bytes) &&
                  same_bits(run.grad_head.data, again.grad_head.data, run.grad_head.bytes) &&
                  same_bits(run.sequence_logps.data, again.sequence_logps.data, run.sequence_logps.bytes),
              "%s: two runs differ", one->name);

    /* A frozen head leaves grad_head alone and changes nothing else. */
    memset(again.grad_hidden.data, 0xff, again.grad_hidden.bytes);
    run_backward(&again, context, NULL, true);
    cr_assert(same_bits(run.grad_hidden.data, again.grad_hidden.data, run.grad_hidden.bytes),
              "%s: a frozen head changes grad_hidden", one->name);
    cr_assert(same_bits(run.grad_head.data, again.grad_head.data, run.grad_head.bytes),
              "%s: a frozen head has a gradient", one->name);
    check_guards(&run);
    check_guards(&again);

    reference_free(&expected);
    run_free(&again);
    run_free(&run);
    rpo_context_free(context);
}

Test(linear_logprob, agrees_with_float64) {
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; ++i)
        check_case(&cases[i], RPO_DEVICE_CPU, 500 + i);
}

/* Forward, backward and results of a fresh run with a cache of `bytes` and the number of valid rows told. */
static void check_cached(const linear_run *plain, const linear_case *one, rpo_context *context, uint64_t seed,
                         size_t bytes) {
    linear_run run = run_new(one, context, seed);
    guarded cache = guarded_new(bytes);
    run.shape.cache = cache.data;
    run.shape.cache_bytes = bytes;
    for (int64_t s = 0; s < one->num_sequences; ++s)
        run.shape.valid_rows += packed_valid(&run.batch, s);
    run_forward(&run, context);
    cr_assert(same_bits(run.token_logps.data, plain->token_logps.data, run.token_logps.bytes),
              "%s: a cache of %zu bytes changes log-probs", one->name, bytes);
    run_backward(&run, context, run.sequence_logps.data, false);
    cr_assert(same_bits(run.grad_hidden.data, plain->grad_hidden.data, run.grad_hidden.bytes) &&
                  same_bits(run.grad_head.data, plain->grad_head.data, run.grad_head.bytes) &&
                  same_bits(run.sequence_logps.data, plain->sequence_logps.data, run.sequence_logps.bytes),
              "%s: a cache of %zu bytes changes the backward", one->name, bytes);
    guarded_check(&cache, "cache");
    check_guards(&run);
    guarded_free(&cache);
    run_free(&run);
}

Test(linear_logprob, cache_changes_nothing) {
    rpo_context *context = test_context(RPO_DEVICE_CPU, 2);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; ++i) {
        linear_run plain = run_new(&cases[i], context, 700 + i);
        size_t bytes = 0;
        cr_assert_eq(rpo_linear_logprob_cache_size(context, &bytes, &plain.shape), RPO_OK);
        run_forward(&plain, context);
        run_backward(&plain, context, plain.sequence_logps.data, false);
        check_cached(&plain, &cases[i], context, 700 + i, bytes);
        check_cached(&plain, &cases[i], context, 700 + i, bytes / 3);
        run_free(&plain);
    }
    rpo_context_free(context);
}

/* The backward really starts from what the forward left: with other exponents in the cache, other gradients.
 */
Test(linear_logprob, backward_reads_the_cache) {
    const linear_case one = {"cache", 20, 2, 8, 30, MASK_NONE, RPO_REDUCTION_SUM, 4096, 0.5f};
    rpo_context *context = test_context(RPO_DEVICE_CPU, 2);
    linear_run run = run_new(&one, context, 41), plain = run_new(&one, context, 41);
    run_backward(&plain, context, NULL, true);
    guarded cache = guarded_new((size_t)(one.rows * one.vocab_size) * sizeof(float));
    run.shape.cache = cache.data;
    run.shape.cache_bytes = cache.bytes;
    run_forward(&run, context);
    ((float *)cache.data)[5] += 3.0f;
    run_backward(&run, context, NULL, true);
    const size_t row = (size_t)one.hidden_size * sizeof(float);
    cr_assert(!same_bits(run.grad_hidden.data, plain.grad_hidden.data, row));
    cr_assert(same_bits((char *)run.grad_hidden.data + row, (char *)plain.grad_hidden.data + row,
                        run.grad_hidden.bytes - row));
    guarded_free(&cache);
    run_free(&plain);
    run_free(&run);
    rpo_context_free(context);
}

/* The gather op on the same logits, computed here, gives the same log-probs. */
Test(linear_logprob, agrees_with_gather) {
    const linear_case one = {"gather", 50, 4, 24, 130, MASK_HALF, RPO_REDUCTION_AVERAGE, 4096, 0.5f};
    rpo_context *context = test_context(RPO_DEVICE_CPU, 2);
    linear_run run = run_new(&one, context, 21);
    run_forward(&run, context);

    float *logits = malloc((size_t)(one.rows * one.vocab_size) * sizeof *logits);
    for (int64_t i = 0; i < one.rows * one.vocab_size; ++i) {
        double sum = 0.0;
        for (int64_t h = 0; h < one.hidden_size; ++h)
            sum += (double)((float *)run.hidden.data)[i / one.vocab_size * one.hidden_size + h] *
                   (double)((float *)run.head.data)[i % one.vocab_size * one.hidden_size + h];
        logits[i] = (float)sum;
    }
    const rpo_logprob_shape shape = {sizeof shape, one.rows,     one.vocab_size, one.num_sequences, 0,
                                     RPO_FLOAT32,  one.reduction};
    size_t bytes = 0;
    cr_assert_eq(rpo_logprob_gather_workspace_size(context, &bytes, &shape), RPO_OK);
    guarded workspace = guarded_new(bytes);
    float gathered[4];
    cr_assert_eq(rpo_logprob_gather(context, gathered, NULL, NULL, logits, run.batch.labels,
                                    run.batch.cu_seqlens, &shape, workspace.data, bytes),
                 RPO_OK, "%s", rpo_last_error());
    for (int s = 0; s < 4; ++s)
        cr_assert(is_close((double)gathered[s], (double)((float *)run.sequence_logps.data)[s], 3e-6, 0.0));
    guarded_free(&workspace);
    free(logits);
    run_free(&run);
    rpo_context_free(context);
}

/* sum_s coef_s logp_s from one forward. */
static double objective(linear_run *run, rpo_context *context) {
    run_forward(run, context);
    double sum = 0.0;
    for (int64_t s = 0; s < run->shape.num_sequences; ++s)
        sum += (double)run->batch.coef[s] * (double)((float *)run->sequence_logps.data)[s];
    return sum;
}

/* Moves one input along a random direction and compares the slope with the gradient. */
static void check_slope(linear_run *run, rpo_context *context, guarded *input, const float *gradient,
                        const char *what) {
    const double step = 1e-3;
    const size_t count = input->bytes / sizeof(float);
    float *values = input->data, *base = malloc(input->bytes);
    memcpy(base, values, input->bytes);
    double value[2], expected = 0.0, moved = 0.0;
    for (int side = 0; side < 2; ++side) {
        uint64_t state = 77;
        for (size_t i = 0; i < count; ++i) {
            const double direction = (double)test_uniform(&state, 1.0f);
            values[i] = (float)((double)base[i] + (side == 0 ? -step : step) * direction);
            if (side == 0) {
                expected += direction * (double)gradient[i];
                moved += fabs(direction * (double)gradient[i]);
            }
        }
        value[side] = objective(run, context);
    }
    memcpy(values, base, input->bytes);
    const double slope = (value[1] - value[0]) / (2.0 * step);
    cr_assert(moved > 0.0 && fabs(slope - expected) <= 2e-3 * moved, "%s: slope %.9g, gradient says %.9g",
              what, slope, expected);
    free(base);
}

Test(linear_logprob, directional_derivatives) {
    const linear_case one = {"difference", 30, 3, 20, 70, MASK_HALF, RPO_REDUCTION_AVERAGE, 2048, 0.7f};
    rpo_context *context = test_context(RPO_DEVICE_CPU, 2);
    linear_run run = run_new(&one, context, 31);
    memset(run.grad_head.data, 0, run.grad_head.bytes);
    run_backward(&run, context, NULL, false);
    check_slope(&run, context, &run.hidden, run.grad_hidden.data, "hidden");
    check_slope(&run, context, &run.head, run.grad_head.data, "head");
    run_free(&run);
    rpo_context_free(context);
}

/* The memory asked for grows with the chunk, not with rows x vocabulary, and knows no vocabulary x hidden. */
Test(linear_logprob, workspace_is_bounded) {
    rpo_context *context = test_context(RPO_DEVICE_CPU, 2);
    rpo_linear_logprob_shape shape = {.struct_size = sizeof shape,
                                      .rows = 8192,
                                      .hidden_size = 4096,
                                      .vocab_size = 128256,
                                      .num_sequences = 8};
    size_t bytes = 0;
    cr_assert_eq(rpo_linear_logprob_workspace_size(context, &bytes, &shape, 1), RPO_OK);
    cr_assert(bytes <= ((size_t)64 << 20), "%zu bytes", bytes);
    shape.chunk_bytes = 1; /* one row */
    cr_assert_eq(rpo_linear_logprob_workspace_size(context, &bytes, &shape, 1), RPO_OK);
    cr_assert(bytes <= ((size_t)1 << 20), "%zu bytes", bytes);
    rpo_context_free(context);
}
