/*
 * test_linear_logprob_simt.c - the CUDA linear log-prob, run by simt on the CPU, against float64: every
 * dtype, every way to the gradient (kept, recomputed, cached), masked NaN, hints, red zones, every schedule
 * bit for bit.
 *
 * Tolerance: twice the error of the plain formula at the same dtype, which is computed beside the reference
 * (logits rounded to the dtype, their gradient too), plus what float32 sums of this length may lose.
 */
#include "kernels/cuda/linear_logprob_plan.h"
#include "kernels/simt/schedule.h"
#include "tests/device_buffer.h"

typedef struct linear_case {
    const char *name;
    int64_t rows, num_sequences, hidden_size, vocab_size;
    mask_kind mask;
    rpo_reduction reduction;
    size_t chunk_bytes;
    float head_scale, coef_scale;
    size_t misaligned; /* elements the inputs lie past a 16-byte boundary */
    bool costly;       /* one dtype and one schedule */
} linear_case;

#define SUM     RPO_REDUCTION_SUM
#define AVERAGE RPO_REDUCTION_AVERAGE
enum { MEBIBYTE = 1 << 20 }; /* of chunk: enough for all rows of a small case, with small buffers elsewhere */

static const linear_case cases[] = {
    {"one of everything", 1, 1, 1, 1, MASK_NONE, SUM, MEBIBYTE, 1.0f, 1.0f, 1, false},
    {"one row", 1, 1, 17, 33, MASK_NONE, SUM, MEBIBYTE, 0.5f, 1.0f, 0, false},
    {"vocabulary of one", 9, 2, 5, 1, MASK_NONE, SUM, MEBIBYTE, 0.5f, 1.0f, 3, false},
    {"ragged, one row a chunk", 15, 4, 29, 61, MASK_HALF, SUM, 1, 0.5f, 1.0f, 1, false},
    {"ragged, some rows a chunk", 37, 4, 29, 61, MASK_PROMPT, AVERAGE, 5 * 64 * 4, 0.5f, 1.0f, 0, false},
    {"ragged, one chunk", 37, 4, 29, 61, MASK_HALF, AVERAGE, (size_t)1 << 30, 0.5f, 1.0f, 5, false},
    {"two tiles", 21, 3, 24, 411, MASK_HALF, SUM, 9 * 256 * 4, 0.3f, 1.0f, 0, false},
    {"several sweeps", 450, 5, 4, 24, MASK_NONE, SUM, 24 * 4 * 300, 0.5f, 1.0f, 0, false},
    {"wide hidden", 12, 2, 700, 31, MASK_HALF, SUM, 4096, 0.1f, 1.0f, 0, false},
    {"Qwen vocabulary", 3, 2, 8, 151936, MASK_NONE, SUM, 0, 0.5f, 1.0f, 0, true},
    {"more rows than 16 bits", 65540, 9, 2, 3, MASK_PROMPT, AVERAGE, 0, 0.5f, 1.0f, 0, true},
    {"nothing counts", 11, 3, 6, 13, MASK_ALL, AVERAGE, MEBIBYTE, 0.5f, 1.0f, 0, false},
    {"no rows", 0, 2, 6, 13, MASK_NONE, SUM, MEBIBYTE, 0.5f, 1.0f, 0, false},
    {"no sequences", 0, 0, 6, 13, MASK_NONE, SUM, MEBIBYTE, 0.5f, 1.0f, 0, false},
    {"logits of thousands", 10, 2, 16, 100, MASK_HALF, SUM, MEBIBYTE, 300.0f, 1.0f, 0, false},
    {"gradients of 1e4", 10, 2, 16, 100, MASK_HALF, SUM, MEBIBYTE, 0.5f, 1e4f, 0, false},
    {"gradients of 1e-4", 10, 2, 16, 100, MASK_HALF, SUM, MEBIBYTE, 0.5f, 1e-4f, 0, false},
};

typedef struct linear_run {
    device_buffer hidden, head, grad_hidden, grad_head, sequence_logps, token_logps;
    device_buffer labels, cu_seqlens, coef;
    device_scratch workspace, backward_workspace, cache;
    rpo_linear_logprob_shape shape;
    packed batch;
    const char *name;
} linear_run;

/* The workspaces of both directions, exactly as large as asked for. */
static void make_workspaces(linear_run *run, rpo_context *context) {
    size_t bytes = 0;
    cr_assert_eq(rpo_linear_logprob_workspace_size(context, &bytes, &run->shape, 0), RPO_OK, "%s",
                 rpo_last_error());
    run->workspace = scratch_new(context, bytes);
    cr_assert_eq(rpo_linear_logprob_workspace_size(context, &bytes, &run->shape, 1), RPO_OK, "%s",
                 rpo_last_error());
    run->backward_workspace = scratch_new(context, bytes);
}

static void fill(linear_run *run, const linear_case *one, uint64_t seed) {
    uint64_t state = seed;
    for (int64_t i = 0; i < one->vocab_size * one->hidden_size; ++i) {
        buffer_set(&run->head, i, test_uniform(&state, one->head_scale));
        buffer_set(&run->grad_head, i, test_uniform(&state, 0.25f)); /* what the gradient is added to */
    }
    for (int64_t i = 0; i < one->rows * one->hidden_size; ++i) {
        const float value = test_uniform(&state, 1.0f);
        if (run->batch.labels[i / one->hidden_size] != RPO_IGNORE_LABEL)
            buffer_set(&run->hidden, i, value);
    }
    buffer_push(&run->head);
    buffer_push(&run->grad_head);
    buffer_push(&run->hidden);
}

static linear_run run_new(const linear_case *one, rpo_dtype dtype, rpo_context *context, uint64_t seed) {
    linear_run run = {.shape = {.struct_size = sizeof(rpo_linear_logprob_shape),
                                .rows = one->rows,
                                .hidden_size = one->hidden_size,
                                .vocab_size = one->vocab_size,
                                .num_sequences = one->num_sequences,
                                .dtype = dtype,
                                .reduction = one->reduction,
                                .chunk_bytes = one->chunk_bytes},
                      .name = one->name};
    const size_t misaligned = one->misaligned * rpo_dtype_size(dtype);
    run.batch = packed_new(one->rows, one->num_sequences, one->vocab_size, one->mask, one->coef_scale, seed);
    run.hidden = buffer_new(context, one->rows * one->hidden_size, dtype, misaligned);
    run.head = buffer_new(context, one->vocab_size * one->hidden_size, dtype, misaligned);
    run.grad_hidden = buffer_new(context, one->rows * one->hidden_size, dtype, misaligned);
    run.grad_head = buffer_new(context, one->vocab_size * one->hidden_size, RPO_FLOAT32, 4);
    run.sequence_logps = buffer_new(context, one->num_sequences, RPO_FLOAT32, 4);
    run.token_logps = buffer_new(context, one->rows, RPO_FLOAT32, 4);
    run.labels = buffer_of_ints(context, run.batch.labels, one->rows);
    run.cu_seqlens = buffer_of_ints(context, run.batch.cu_seqlens, one->num_sequences + 1);
    run.coef = buffer_of_floats(context, run.batch.coef, one->num_sequences);
    fill(&run, one, seed + 1);
    make_workspaces(&run, context);
    return run;
}

static void run_free(linear_run *run) {
    device_buffer *buffers[] = {&run->hidden,    &run->head,           &run->grad_hidden,
                                &run->grad_head, &run->sequence_logps, &run->token_logps,
                                &run->labels,    &run->cu_seqlens,     &run->coef};
    for (size_t i = 0; i < sizeof buffers / sizeof buffers[0]; ++i)
        buffer_free(buffers[i]);
    scratch_free(&run->workspace);
    scratch_free(&run->backward_workspace);
    scratch_free(&run->cache);
    packed_free(&run->batch);
}

/* After the shape has changed. */
static void remake_workspaces(linear_run *run, rpo_context *context) {
    scratch_free(&run->workspace);
    scratch_free(&run->backward_workspace);
    make_workspaces(run, context);
}

static void pull_results(linear_run *run) {
    buffer_pull(&run->sequence_logps, "sequence_logps");
    buffer_pull(&run->token_logps, "token_logps");
    buffer_pull(&run->grad_hidden, "grad_hidden");
    buffer_pull(&run->grad_head, "grad_head");
    scratch_check(&run->workspace, "workspace");
    scratch_check(&run->backward_workspace, "workspace of the backward");
    if (run->cache.device != NULL)
        scratch_check(&run->cache, "cache");
}

static void run_forward(linear_run *run, rpo_context *context) {
    cr_assert_eq(rpo_linear_logprob(context, buffer_device(&run->sequence_logps),
                                    buffer_device(&run->token_logps), buffer_device(&run->hidden),
                                    buffer_device(&run->head), buffer_device(&run->labels),
                                    buffer_device(&run->cu_seqlens), &run->shape,
                                    scratch_device(&run->workspace), run->workspace.bytes),
                 RPO_OK, "%s: %s", run->name, rpo_last_error());
    pull_results(run);
}

static void run_backward(linear_run *run, rpo_context *context) {
    cr_assert_eq(rpo_linear_logprob_backward(context, buffer_device(&run->grad_hidden),
                                             run->shape.frozen_head ? NULL : buffer_device(&run->grad_head),
                                             buffer_device(&run->sequence_logps), buffer_device(&run->hidden),
                                             buffer_device(&run->head), buffer_device(&run->labels),
                                             buffer_device(&run->cu_seqlens), buffer_device(&run->coef),
                                             &run->shape, scratch_device(&run->backward_workspace),
                                             run->backward_workspace.bytes),
                 RPO_OK, "%s: %s", run->name, rpo_last_error());
    pull_results(run);
}

/* One result in double, and how far the plain formula at the dtype is from it. */
typedef struct expected_array {
    double *values, *plain;
    int64_t count;
} expected_array;

static expected_array expected_new(int64_t count) {
    return (expected_array){calloc((size_t)count + 1, sizeof(double)),
                            calloc((size_t)count + 1, sizeof(double)), count};
}

static void expected_free(expected_array *array) {
    free(array->values);
    free(array->plain);
}

/* Everything the op computes. */
typedef struct reference {
    expected_array token_logps, sequence_logps, grad_hidden, grad_head;
} reference;

/* Logits of a row in double; with `plain` rounded to the dtype as a framework's matmul leaves them. */
static void reference_logits(double *row, const linear_run *run, int64_t t, bool plain) {
    const int64_t hidden_size = run->shape.hidden_size;
    for (int64_t v = 0; v < run->shape.vocab_size; ++v) {
        row[v] = 0.0;
        for (int64_t h = 0; h < hidden_size; ++h)
            row[v] += (double)buffer_get(&run->hidden, t * hidden_size + h) *
                      (double)buffer_get(&run->head, v * hidden_size + h);
        if (plain)
            row[v] = (double)round_to(run->shape.dtype, (float)row[v]);
    }
}

/* Adds a row to the gradients; `row` holds the logits and is used up. Returns the row's log-prob. */
static double reference_row(double *row, const linear_run *run, int64_t t, double scale, double *grad_hidden,
                            double *grad_head, bool plain) {
    const int64_t hidden_size = run->shape.hidden_size;
    const int32_t label = run->batch.labels[t];
    const double lse = reference_logsumexp(row, run->shape.vocab_size), logp = row[label] - lse;
    for (int64_t v = 0; v < run->shape.vocab_size; ++v) {
        double gradient = scale * ((v == label ? 1.0 : 0.0) - exp(row[v] - lse));
        if (plain)
            gradient = (double)round_to(run->shape.dtype, (float)gradient);
        for (int64_t h = 0; h < hidden_size; ++h) {
            grad_hidden[t * hidden_size + h] +=
                gradient * (double)buffer_get(&run->head, v * hidden_size + h);
            grad_head[v * hidden_size + h] +=
                gradient * (double)buffer_get(&run->hidden, t * hidden_size + h);
        }
    }
    for (int64_t h = 0; plain && h < hidden_size; ++h)
        grad_hidden[t * hidden_size + h] =
            (double)round_to(run->shape.dtype, (float)grad_hidden[t * hidden_size + h]);
    return logp;
}

static void reference_sequence(reference *expected, const linear_run *run, int64_t s, double *row) {
    const int64_t valid = packed_valid(&run->batch, s);
    if (valid == 0)
        return;
    const double scale = packed_row_scale(&run->batch, s, run->shape.reduction);
    const double share = run->shape.reduction == AVERAGE ? 1.0 / (double)valid : 1.0;
    for (int32_t t = run->batch.cu_seqlens[s]; t < run->batch.cu_seqlens[s + 1]; ++t) {
        if (run->batch.labels[t] == RPO_IGNORE_LABEL)
            continue;
        reference_logits(row, run, t, false);
        expected->token_logps.values[t] = reference_row(row, run, t, scale, expected->grad_hidden.values,
                                                        expected->grad_head.values, false);
        expected->sequence_logps.values[s] += share * expected->token_logps.values[t];
        reference_logits(row, run, t, true);
        expected->token_logps.plain[t] =
            reference_row(row, run, t, scale, expected->grad_hidden.plain, expected->grad_head.plain, true);
        expected->sequence_logps.plain[s] += share * expected->token_logps.plain[t];
    }
}

static reference reference_new(const linear_run *run) {
    const int64_t head_size = run->shape.vocab_size * run->shape.hidden_size;
    reference expected = {expected_new(run->shape.rows), expected_new(run->shape.num_sequences),
                          expected_new(run->shape.rows * run->shape.hidden_size), expected_new(head_size)};
    for (int64_t i = 0; i < head_size; ++i)
        expected.grad_head.values[i] = expected.grad_head.plain[i] = (double)buffer_get(&run->grad_head, i);
    double *row = malloc((size_t)run->shape.vocab_size * sizeof *row);
    for (int64_t s = 0; s < run->shape.num_sequences; ++s)
        reference_sequence(&expected, run, s, row);
    free(row);
    return expected;
}

static void reference_free(reference *expected) {
    expected_free(&expected->token_logps);
    expected_free(&expected->sequence_logps);
    expected_free(&expected->grad_hidden);
    expected_free(&expected->grad_head);
}

static void check_array(const linear_run *run, const char *what, const device_buffer *found,
                        const expected_array *expected, double float_error) {
    double largest = 1e-30, plain_error = 0.0;
    for (int64_t i = 0; i < expected->count; ++i) {
        largest = fmax(largest, fabs(expected->values[i]));
        plain_error = fmax(plain_error, fabs(expected->plain[i] - expected->values[i]));
    }
    const double tolerance = 2.0 * plain_error + float_error * largest;
    for (int64_t i = 0; i < expected->count; ++i) {
        const double value = (double)buffer_get(found, i);
        cr_assert(fabs(value - expected->values[i]) <= tolerance,
                  "%s, %s: %s[%lld]: %.9g, expected %.9g within %.3g", run->name,
                  rpo_dtype_name(run->shape.dtype), what, (long long)i, value, expected->values[i],
                  tolerance);
    }
}

/* What float32 products of these sizes may lose, as in the CPU's test. */
static double float_error(const linear_case *one) {
    return 2e-6 * fmax(1.0, (double)one->head_scale * sqrt((double)one->hidden_size));
}

static void check_logps(const linear_run *run, const reference *expected, const linear_case *one) {
    check_array(run, "token_logps", &run->token_logps, &expected->token_logps, float_error(one));
    check_array(run, "sequence_logps", &run->sequence_logps, &expected->sequence_logps, float_error(one));
    for (int64_t t = 0; t < one->rows; ++t)
        cr_assert(buffer_get(&run->token_logps, t) <= 0.0f, "%s: row %lld is positive", one->name,
                  (long long)t);
}

static void check_gradients(const linear_run *run, const reference *expected, const linear_case *one) {
    check_array(run, "sequence_logps of the backward", &run->sequence_logps, &expected->sequence_logps,
                float_error(one));
    check_array(run, "grad_hidden", &run->grad_hidden, &expected->grad_hidden, float_error(one));
    if (!run->shape.frozen_head)
        check_array(run, "grad_head", &run->grad_head, &expected->grad_head, float_error(one));
}

/* A fresh run with a changed shape: forward, backward, values. */
typedef void (*shape_change)(rpo_linear_logprob_shape *shape, const linear_run *run);

static void give_hint(rpo_linear_logprob_shape *shape, const linear_run *run) {
    for (int64_t s = 0; s < run->batch.num_sequences; ++s)
        shape->valid_rows += packed_valid(&run->batch, s);
}

static void freeze_head(rpo_linear_logprob_shape *shape, const linear_run *run) {
    (void)run;
    shape->frozen_head = 1;
}

static void check_variant(const linear_case *one, rpo_dtype dtype, rpo_context *context, uint64_t seed,
                          const reference *expected, shape_change change) {
    linear_run run = run_new(one, dtype, context, seed);
    device_buffer untouched = buffer_new(context, one->vocab_size * one->hidden_size, RPO_FLOAT32, 4);
    memcpy(untouched.host, run.grad_head.host, untouched.offset + untouched.bytes);
    change(&run.shape, &run);
    remake_workspaces(&run, context);
    run_forward(&run, context);
    check_logps(&run, expected, one);
    run_backward(&run, context);
    check_gradients(&run, expected, one);
    if (run.shape.frozen_head)
        cr_assert(buffer_same(&run.grad_head, &untouched), "%s: a frozen head has a gradient", one->name);
    buffer_free(&untouched);
    run_free(&run);
}

/* With a cache for all rows, for some, and for none. */
static void check_cache(const linear_case *one, rpo_dtype dtype, rpo_context *context, uint64_t seed,
                        const reference *expected) {
    for (int part = 0; part < 3; ++part) {
        linear_run run = run_new(one, dtype, context, seed);
        give_hint(&run.shape, &run);
        size_t bytes = 0;
        cr_assert_eq(rpo_linear_logprob_cache_size(context, &bytes, &run.shape), RPO_OK, "%s",
                     rpo_last_error());
        bytes = part == 0 ? bytes : part == 1 ? bytes * 2 / 3 : bytes < 8 ? bytes : 8;
        run.cache = scratch_new(context, bytes);
        run.shape.cache = scratch_device(&run.cache);
        run.shape.cache_bytes = bytes;
        remake_workspaces(&run, context);
        run_forward(&run, context);
        check_logps(&run, expected, one);
        run_backward(&run, context);
        check_gradients(&run, expected, one);
        run_free(&run);
    }
}

/* With everything cached and the head frozen, the backward does not even look at the hidden states. */
Test(linear_logprob_simt, cached_backward_starts_from_the_cache) {
    const linear_case one = {"cached", 25, 3, 16, 70, MASK_HALF, SUM, 0, 0.5f, 1.0f, 0, false};
    rpo_context *context = test_context(RPO_DEVICE_CUDA, 1);
    linear_run run = run_new(&one, RPO_BFLOAT16, context, 11);
    reference expected = reference_new(&run);
    size_t bytes = 0;
    run.shape.frozen_head = 1;
    cr_assert_eq(rpo_linear_logprob_cache_size(context, &bytes, &run.shape), RPO_OK, "%s", rpo_last_error());
    run.cache = scratch_new(context, bytes);
    run.shape.cache = scratch_device(&run.cache);
    run.shape.cache_bytes = bytes;
    remake_workspaces(&run, context);
    run_forward(&run, context);
    for (int64_t i = 0; i < one.rows * one.hidden_size; ++i)
        buffer_set(&run.hidden, i, NAN);
    buffer_push(&run.hidden);
    run_backward(&run, context);
    check_gradients(&run, &expected, &one);
    reference_free(&expected);
    run_free(&run);
    rpo_context_free(context);
}

static void check_schedules(const linear_run *run, const linear_case *one, rpo_context *context,
                            uint64_t seed) {
    for (int schedule = 0; schedule < rpo_simt_schedules(); ++schedule) {
        rpo_simt_set_schedule(schedule);
        linear_run again = run_new(one, run->shape.dtype, context, seed);
        run_forward(&again, context);
        cr_assert(buffer_same(&run->token_logps, &again.token_logps), "%s: schedule %d: token_logps",
                  one->name, schedule);
        run_backward(&again, context);
        cr_assert(buffer_same(&run->grad_hidden, &again.grad_hidden) &&
                      buffer_same(&run->grad_head, &again.grad_head) &&
                      buffer_same(&run->sequence_logps, &again.sequence_logps),
                  "%s: schedule %d gives other bits", one->name, schedule);
        run_free(&again);
    }
    rpo_simt_set_schedule(0);
}

static void check_case(const linear_case *one, rpo_dtype dtype, rpo_context *context, uint64_t seed) {
    linear_run run = run_new(one, dtype, context, seed);
    reference expected = reference_new(&run);
    if (one->costly) {
        give_hint(&run.shape, &run);
        remake_workspaces(&run, context);
    }
    run_forward(&run, context);
    check_logps(&run, &expected, one);
    run_backward(&run, context);
    check_gradients(&run, &expected, one);
    if (!one->costly) {
        check_variant(one, dtype, context, seed, &expected, give_hint);
        check_variant(one, dtype, context, seed, &expected, freeze_head);
        check_cache(one, dtype, context, seed, &expected);
        check_schedules(&run, one, context, seed);
    }
    reference_free(&expected);
    run_free(&run);
}

static void check_dtype(rpo_dtype dtype) {
    rpo_context *context = test_context(RPO_DEVICE_CUDA, 1);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; ++i)
        if (!cases[i].costly || dtype == RPO_BFLOAT16)
            check_case(&cases[i], dtype, context, 500 + i);
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

/* A hint too small: NaN where rows are missing, in every gradient computed, and nothing written outside. */
Test(linear_logprob_simt, hint_too_small) {
    const linear_case one = {"small hint", 30, 3, 12, 40, MASK_NONE, SUM, 0, 0.5f, 1.0f, 0, false};
    rpo_context *context = test_context(RPO_DEVICE_CUDA, 1);
    linear_run run = run_new(&one, RPO_BFLOAT16, context, 3);
    const int32_t kept = run.batch.cu_seqlens[1] + 1; /* one row of the second sequence that has rows */
    run.shape.valid_rows = kept;
    remake_workspaces(&run, context);
    run_forward(&run, context);
    for (int64_t s = 0; s < one.num_sequences; ++s) {
        const bool lost =
            run.batch.cu_seqlens[s + 1] > kept && run.batch.cu_seqlens[s + 1] > run.batch.cu_seqlens[s];
        cr_assert_eq(isnan(buffer_get(&run.sequence_logps, s)) != 0, lost, "sequence %lld", (long long)s);
    }
    run_backward(&run, context);
    for (int64_t i = 0; i < one.rows * one.hidden_size; ++i)
        cr_assert(isnan(buffer_get(&run.grad_hidden, i)), "grad_hidden[%lld] looks right", (long long)i);
    cr_assert(isnan(buffer_get(&run.grad_head, 0)));
    run_free(&run);
    rpo_context_free(context);
}

Test(linear_logprob_simt, labels_out_of_range) {
    const linear_case one = {"bad label", 12, 3, 8, 40, MASK_NONE, SUM, 0, 0.5f, 1.0f, 0, false};
    static const int32_t bad[] = {40, -1, -99, INT32_MAX, INT32_MIN};
    rpo_context *context = test_context(RPO_DEVICE_CUDA, 1);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; ++i) {
        linear_run run = run_new(&one, RPO_FLOAT32, context, 5);
        const int32_t last = (int32_t)one.rows - 1;
        memcpy(run.labels.host + run.labels.offset + (size_t)last * sizeof(int32_t), &bad[i],
               sizeof(int32_t));
        buffer_push(&run.labels);
        run_forward(&run, context);
        run_backward(&run, context);
        for (int64_t s = 0; s < one.num_sequences; ++s) {
            const bool spoiled = run.batch.cu_seqlens[s] <= last && last < run.batch.cu_seqlens[s + 1];
            cr_assert_eq(isnan(buffer_get(&run.sequence_logps, s)) != 0, spoiled, "label %d", bad[i]);
        }
        cr_assert(isnan(buffer_get(&run.grad_hidden, last * one.hidden_size)) &&
                  isfinite(buffer_get(&run.grad_hidden, 0)));
        run_free(&run);
    }
    rpo_context_free(context);
}

/* Bytes a backward asks for at Llama-3-8B, half of 8192 rows valid, on a device with an L2 of this size. */
static double megabytes(rpo_linear_logprob_shape *shape, size_t l2_bytes, bool backward) {
    const rpo_cuda_state state = {.compute_capability = 90, .num_sms = 132, .l2_bytes = l2_bytes};
    const rpo_linear_plan plan = rpo_linear_plan_choose(&state, shape, backward);
    rpo_linear_buffers buffers;
    return (double)rpo_linear_plan_carve(&buffers, &plan, shape, backward, NULL) / MEBIBYTE;
}

/* The targets for memory beside the results; plans are made for real devices although none is here. */
Test(linear_logprob_simt, workspace_is_bounded) {
    static const size_t l2[] = {40 << 20, 50 << 20, 60 << 20};
    for (size_t i = 0; i < sizeof l2 / sizeof l2[0]; ++i) {
        rpo_linear_logprob_shape shape = {.struct_size = sizeof shape,
                                          .rows = 8192,
                                          .valid_rows = 4096,
                                          .hidden_size = 4096,
                                          .vocab_size = 128256,
                                          .num_sequences = 8,
                                          .dtype = RPO_BFLOAT16};
        const double full = megabytes(&shape, l2[i], true);
        cr_assert(full <= 1.1 * 1024, "full head: %.1f MiB", full);

        const rpo_cuda_state state = {.l2_bytes = l2[i]};
        const rpo_linear_plan plan = rpo_linear_plan_choose(&state, &shape, false);
        const size_t cache_bytes = rpo_linear_cache_bytes(&plan, &shape, plan.capacity);
        rpo_linear_logprob_shape cached = shape;
        cached.cache = &cached; /* only sizes are asked for */
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
