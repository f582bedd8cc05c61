/*
 * test_logprob_simt.c - the CUDA log-prob gather, run by simt on the CPU, against float64: every dtype,
 * ragged and unaligned rows, extreme logits, masked NaN, red zones around every buffer, every schedule bit
 * for bit.
 */
#include "kernels/simt/schedule.h"
#include "tests/device_buffer.h"

typedef struct gather_case {
    const char *name;
    int64_t rows, num_sequences, vocab_size, row_stride;
    mask_kind mask;
    rpo_reduction reduction;
    float logit_scale, coef_scale;
    int misaligned; /* elements the logits lie past a 16-byte boundary */
    bool costly;    /* one dtype and one schedule */
} gather_case;

#define SUM     RPO_REDUCTION_SUM
#define AVERAGE RPO_REDUCTION_AVERAGE
static const gather_case cases[] = {
    {"one row", 1, 1, 7, 0, MASK_NONE, SUM, 3.0f, 1.0f, 0, false},
    {"vocabulary of one", 5, 2, 1, 0, MASK_NONE, SUM, 3.0f, 1.0f, 1, false},
    {"vocabulary of two", 9, 3, 2, 0, MASK_HALF, AVERAGE, 3.0f, 1.0f, 1, false},
    {"odd, strided", 17, 5, 61, 77, MASK_PROMPT, SUM, 5.0f, 1.0f, 3, false},
    {"odd, strided, average", 17, 5, 61, 64, MASK_HALF, AVERAGE, 5.0f, 1.0f, 0, false},
    {"a warp's unrolled loads and some", 9, 2, 1101, 1103, MASK_HALF, SUM, 5.0f, 1.0f, 1, false},
    {"a block a row, unaligned", 5, 2, 4099, 4101, MASK_HALF, SUM, 8.0f, 1.0f, 5, false},
    {"a block a row, aligned", 3, 2, 8192, 0, MASK_NONE, AVERAGE, 8.0f, 1.0f, 0, false},
    {"Qwen vocabulary", 3, 2, 151936, 0, MASK_NONE, SUM, 8.0f, 1.0f, 0, true},
    {"more rows than 16 bits", 65545, 7, 3, 0, MASK_HALF, AVERAGE, 3.0f, 1.0f, 0, true},
    {"nothing counts", 12, 4, 19, 0, MASK_ALL, AVERAGE, 3.0f, 1.0f, 0, false},
    {"no rows", 0, 3, 19, 0, MASK_NONE, SUM, 3.0f, 1.0f, 0, false},
    {"no sequences", 0, 0, 19, 0, MASK_NONE, SUM, 3.0f, 1.0f, 0, false},
    {"logits of 1e4", 20, 3, 300, 0, MASK_HALF, SUM, 1e4f, 1.0f, 0, false},
    {"gradients of 1e4", 20, 3, 300, 0, MASK_HALF, SUM, 4.0f, 1e4f, 0, false},
    {"gradients of 1e-4", 20, 3, 300, 0, MASK_HALF, AVERAGE, 4.0f, 1e-4f, 0, false},
};

/* Buffers of one run of one case. */
typedef struct gather_run {
    device_buffer logits, gradient, sequence_logps, token_logps, logsumexp;
    device_scratch workspace;
    device_buffer labels, cu_seqlens, coef;
    rpo_logprob_shape shape;
    int64_t stride;
    packed batch;
    const char *name;
} gather_run;

static gather_run run_new(const gather_case *one, rpo_dtype dtype, rpo_context *context, uint64_t seed) {
    gather_run run = {.shape = {.struct_size = sizeof(rpo_logprob_shape),
                                .rows = one->rows,
                                .vocab_size = one->vocab_size,
                                .num_sequences = one->num_sequences,
                                .row_stride = one->row_stride,
                                .dtype = dtype,
                                .reduction = one->reduction},
                      .name = one->name};
    run.stride = one->row_stride > 0 ? one->row_stride : one->vocab_size;
    const size_t misaligned = (size_t)one->misaligned * rpo_dtype_size(dtype);
    run.batch = packed_new(one->rows, one->num_sequences, one->vocab_size, one->mask, one->coef_scale, seed);
    run.logits = buffer_new(one->rows * run.stride, dtype, misaligned);
    run.gradient = buffer_new(one->rows * run.stride, dtype, misaligned);
    run.sequence_logps = buffer_new(one->num_sequences, RPO_FLOAT32, 4);
    run.token_logps = buffer_new(one->rows, RPO_FLOAT32, 4);
    run.logsumexp = buffer_new(one->rows, RPO_FLOAT32, 4);
    run.labels = buffer_of_ints(run.batch.labels, one->rows);
    run.cu_seqlens = buffer_of_ints(run.batch.cu_seqlens, one->num_sequences + 1);
    run.coef = buffer_of_floats(run.batch.coef, one->num_sequences);
    size_t bytes = 0;
    cr_assert_eq(rpo_logprob_gather_workspace_size(context, &bytes, &run.shape), RPO_OK, "%s",
                 rpo_last_error());
    run.workspace = scratch_new(bytes);

    /* Ignored rows and the gap between rows keep their NaN. */
    uint64_t state = seed + 1;
    for (int64_t t = 0; t < one->rows; ++t)
        for (int64_t v = 0; v < one->vocab_size; ++v) {
            const float value = test_uniform(&state, one->logit_scale);
            if (run.batch.labels[t] != RPO_IGNORE_LABEL)
                buffer_set(&run.logits, t * run.stride + v, value);
        }
    buffer_push(&run.logits);
    return run;
}

static void run_free(gather_run *run) {
    device_buffer *buffers[] = {&run->logits,    &run->gradient, &run->sequence_logps, &run->token_logps,
                                &run->logsumexp, &run->labels,   &run->cu_seqlens,     &run->coef};
    for (size_t i = 0; i < sizeof buffers / sizeof buffers[0]; ++i)
        buffer_free(buffers[i]);
    scratch_free(&run->workspace);
    packed_free(&run->batch);
}

static void run_forward(gather_run *run, rpo_context *context) {
    cr_assert_eq(rpo_logprob_gather(context, buffer_device(&run->sequence_logps),
                                    buffer_device(&run->token_logps), buffer_device(&run->logsumexp),
                                    buffer_device(&run->logits), buffer_device(&run->labels),
                                    buffer_device(&run->cu_seqlens), &run->shape,
                                    scratch_device(&run->workspace), run->workspace.bytes),
                 RPO_OK, "%s: %s", run->name, rpo_last_error());
    buffer_pull(&run->sequence_logps, "sequence_logps");
    buffer_pull(&run->token_logps, "token_logps");
    buffer_pull(&run->logsumexp, "logsumexp");
    scratch_check(&run->workspace, "workspace");
}

static void run_backward(gather_run *run, rpo_context *context, device_buffer *gradient,
                         bool with_logsumexp) {
    cr_assert_eq(rpo_logprob_gather_backward(context, buffer_device(gradient), buffer_device(&run->logits),
                                             with_logsumexp ? buffer_device(&run->logsumexp) : NULL,
                                             buffer_device(&run->labels), buffer_device(&run->cu_seqlens),
                                             buffer_device(&run->coef), &run->shape,
                                             scratch_device(&run->workspace), run->workspace.bytes),
                 RPO_OK, "%s: %s", run->name, rpo_last_error());
    buffer_pull(gradient, "gradient");
    scratch_check(&run->workspace, "workspace");
}

/* One row of the reference; returns its logsumexp. */
static double reference_row(double *row, const gather_run *run, int64_t t) {
    for (int64_t v = 0; v < run->shape.vocab_size; ++v)
        row[v] = (double)buffer_get(&run->logits, t * run->stride + v);
    return reference_logsumexp(row, run->shape.vocab_size);
}

/* Log-probs are float32 whatever the logits' dtype: so is the framework's error, and 1e-6 bounds it. */
static void check_forward(const gather_run *run) {
    double *row = malloc((size_t)run->shape.vocab_size * sizeof *row);
    for (int64_t s = 0; s < run->batch.num_sequences; ++s) {
        double sum = 0.0, size = 0.0;
        for (int32_t t = run->batch.cu_seqlens[s]; t < run->batch.cu_seqlens[s + 1]; ++t) {
            const float found = buffer_get(&run->token_logps, t), found_lse = buffer_get(&run->logsumexp, t);
            if (run->batch.labels[t] == RPO_IGNORE_LABEL) {
                cr_assert(found == 0.0f && found_lse == 0.0f, "%s: row %d is ignored", run->name, t);
                continue;
            }
            const double lse = reference_row(row, run, t), logp = row[run->batch.labels[t]] - lse;
            cr_assert(is_close((double)found, logp, 1e-6, 0.0), "%s: row %d: %.9g, expected %.9g", run->name,
                      t, (double)found, logp);
            cr_assert(is_close((double)found_lse, lse, 1e-6, 0.0), "%s: logsumexp %d", run->name, t);
            cr_assert(found <= 0.0f, "%s: row %d has a positive log-prob", run->name, t);
            sum += logp;
            size += fabs(logp);
        }
        const int64_t valid = packed_valid(&run->batch, s);
        if (run->shape.reduction == AVERAGE && valid > 0)
            sum /= (double)valid, size /= (double)valid;
        const float found = buffer_get(&run->sequence_logps, s);
        cr_assert(is_close((double)found, sum, 1e-6, size) && found <= 0.0f,
                  "%s: sequence %lld: %.9g, expected %.9g", run->name, (long long)s, (double)found, sum);
    }
    free(row);
}

/* Twice the rounding to the dtype, which the framework pays too, and 1e-6 of the row's largest gradient. */
static void check_row(const gather_run *run, const device_buffer *gradient, int32_t t, double scale,
                      double *row) {
    const bool ignored = run->batch.labels[t] == RPO_IGNORE_LABEL;
    const double lse = ignored ? 0.0 : reference_row(row, run, t);
    for (int64_t v = 0; v < run->shape.vocab_size; ++v) {
        const double onehot = v == run->batch.labels[t] ? 1.0 : 0.0;
        const double expected = ignored ? 0.0 : scale * (onehot - exp(row[v] - lse));
        const double found = (double)buffer_get(gradient, t * run->stride + v);
        const double tolerance = 2.0 * rounding_of(run->shape.dtype) * fabs(expected) + 1e-6 * fabs(scale) +
                                 2.0 * underflow_of(run->shape.dtype);
        cr_assert(fabs(found - expected) <= (ignored ? 0.0 : tolerance),
                  "%s: gradient [%d][%lld]: %.9g, expected %.9g", run->name, t, (long long)v, found,
                  expected);
    }
    for (int64_t v = run->shape.vocab_size; v < run->stride; ++v)
        cr_assert(isnan(buffer_get(gradient, t * run->stride + v)), "%s: written between rows %d", run->name,
                  t);
}

static void check_backward(const gather_run *run, const device_buffer *gradient) {
    double *row = malloc((size_t)run->shape.vocab_size * sizeof *row);
    for (int64_t s = 0; s < run->batch.num_sequences; ++s) {
        const double scale =
            packed_valid(&run->batch, s) > 0 ? packed_row_scale(&run->batch, s, run->shape.reduction) : 0.0;
        for (int32_t t = run->batch.cu_seqlens[s]; t < run->batch.cu_seqlens[s + 1]; ++t)
            check_row(run, gradient, t, scale, row);
    }
    free(row);
}

/* Values, then the other ways to the same gradient. */
static void check_values(gather_run *run, rpo_context *context, bool costly) {
    run_forward(run, context);
    check_forward(run);
    if (!costly) {
        run_backward(run, context, &run->gradient, false);
        check_backward(run, &run->gradient);
    }
    run_backward(run, context, &run->gradient, true);
    check_backward(run, &run->gradient);
}

/* A gradient that lies otherwise in its 16 bytes than the logits, then one in their place. */
static void check_placement(gather_run *run, rpo_context *context, uint64_t seed, const gather_case *one) {
    gather_run other = run_new(one, run->shape.dtype, context, seed);
    device_buffer shifted =
        buffer_new(one->rows * run->stride, run->shape.dtype, 6 * rpo_dtype_size(run->shape.dtype));
    run_backward(run, context, &shifted, true);
    check_backward(run, &shifted);
    run_forward(&other, context);
    run_backward(&other, context, &other.logits, true);
    check_backward(run, &other.logits);
    buffer_free(&shifted);
    run_free(&other);
}

static void check_schedules(gather_run *run, rpo_context *context, uint64_t seed, const gather_case *one) {
    for (int schedule = 1; schedule < rpo_simt_schedules(); ++schedule) {
        rpo_simt_set_schedule(schedule);
        gather_run again = run_new(one, run->shape.dtype, context, seed);
        run_forward(&again, context);
        run_backward(&again, context, &again.gradient, true);
        cr_assert(buffer_same(&run->sequence_logps, &again.sequence_logps) &&
                      buffer_same(&run->token_logps, &again.token_logps) &&
                      buffer_same(&run->logsumexp, &again.logsumexp) &&
                      buffer_same(&run->gradient, &again.gradient),
                  "%s: schedule %d gives other bits", one->name, schedule);
        run_free(&again);
    }
    rpo_simt_set_schedule(0);
}

static void check_dtype(rpo_dtype dtype) {
    rpo_context *context = test_context(RPO_DEVICE_CUDA, 1);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; ++i) {
        if (cases[i].costly && dtype != RPO_BFLOAT16)
            continue;
        gather_run run = run_new(&cases[i], dtype, context, 100 + i);
        check_values(&run, context, cases[i].costly);
        if (!cases[i].costly) {
            check_schedules(&run, context, 100 + i, &cases[i]);
            check_placement(&run, context, 100 + i, &cases[i]);
        }
        run_free(&run);
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

/* The device cannot refuse labels: they spoil their own sequence, and nothing is read or written outside. */
Test(logprob_simt, labels_out_of_range) {
    const gather_case one = {"bad label", 12, 3, 40, 0, MASK_NONE, SUM, 3.0f, 1.0f, 0, false};
    static const int32_t bad[] = {40, -1, -99, -101, INT32_MAX, INT32_MIN};
    rpo_context *context = test_context(RPO_DEVICE_CUDA, 1);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; ++i) {
        gather_run run = run_new(&one, RPO_BFLOAT16, context, 7);
        const int32_t last = (int32_t)one.rows - 1;
        memcpy(run.labels.host + run.labels.offset + (size_t)last * sizeof(int32_t), &bad[i],
               sizeof(int32_t));
        buffer_push(&run.labels);
        run_forward(&run, context);
        run_backward(&run, context, &run.gradient, true);
        for (int64_t s = 0; s < one.num_sequences; ++s) {
            const bool spoiled = run.batch.cu_seqlens[s] <= last && last < run.batch.cu_seqlens[s + 1];
            cr_assert_eq(isnan(buffer_get(&run.sequence_logps, s)) != 0, spoiled, "label %d, sequence %lld",
                         bad[i], (long long)s);
        }
        cr_assert(isnan(buffer_get(&run.gradient, last * one.vocab_size)) &&
                  isfinite(buffer_get(&run.gradient, (last - 1) * one.vocab_size)));
        run_free(&run);
    }
    rpo_context_free(context);
}

/* -inf is a logit like any other as long as one is finite; NaN and +inf are not hidden. */
Test(logprob_simt, infinite_and_nan_logits) {
    const gather_case one = {"special", 4, 1, 5000, 0, MASK_NONE, SUM, 3.0f, 1.0f, 0, false};
    rpo_context *context = test_context(RPO_DEVICE_CUDA, 1);
    gather_run run = run_new(&one, RPO_FLOAT32, context, 9);
    for (int64_t v = 0; v < one.vocab_size; ++v)
        if (v != run.batch.labels[0])
            buffer_set(&run.logits, v, -INFINITY);
    buffer_set(&run.logits, one.vocab_size + 4321, NAN);
    buffer_set(&run.logits, 2 * one.vocab_size + 17, INFINITY);
    buffer_push(&run.logits);
    run_forward(&run, context);
    cr_assert_eq(buffer_get(&run.token_logps, 0), 0.0f);
    cr_assert(isnan(buffer_get(&run.token_logps, 1)) && !isfinite(buffer_get(&run.token_logps, 2)) &&
              isfinite(buffer_get(&run.token_logps, 3)) && isnan(buffer_get(&run.sequence_logps, 0)));
    run_backward(&run, context, &run.gradient, true);
    for (int64_t v = 0; v < one.vocab_size; ++v)
        cr_assert_eq(buffer_get(&run.gradient, v), 0.0f, "a certain token has no gradient");
    run_free(&run);
    rpo_context_free(context);
}
