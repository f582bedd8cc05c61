/*
 * test_logprob_gather.c - log-prob gather, forward and backward, against the formula in float64: ragged
 * shapes, extreme logits, masked NaN, guards around every buffer, repeats and thread counts bit for bit.
 */
#include "tests/logprob_testing.h"

typedef struct gather_case {
    const char *name;
    int64_t rows, num_sequences, vocab_size, row_stride;
    mask_kind mask;
    rpo_reduction reduction;
    float logit_scale, coef_scale;
} gather_case;

static const gather_case cases[] = {
    {"one row", 1, 1, 7, 0, MASK_NONE, RPO_REDUCTION_SUM, 3.0f, 1.0f},
    {"vocabulary of one", 5, 2, 1, 0, MASK_NONE, RPO_REDUCTION_SUM, 3.0f, 1.0f},
    {"vocabulary of two", 9, 3, 2, 0, MASK_HALF, RPO_REDUCTION_AVERAGE, 3.0f, 1.0f},
    {"odd, strided", 33, 5, 61, 77, MASK_PROMPT, RPO_REDUCTION_SUM, 5.0f, 1.0f},
    {"odd, strided, average", 33, 5, 61, 64, MASK_HALF, RPO_REDUCTION_AVERAGE, 5.0f, 1.0f},
    {"block edge", 6, 2, 2048, 0, MASK_NONE, RPO_REDUCTION_SUM, 5.0f, 1.0f},
    {"block edge and one", 6, 2, 2049, 0, MASK_NONE, RPO_REDUCTION_SUM, 5.0f, 1.0f},
    {"Qwen vocabulary", 5, 2, 151936, 0, MASK_HALF, RPO_REDUCTION_SUM, 8.0f, 1.0f},
    {"more rows than 16 bits", 70001, 40, 3, 0, MASK_HALF, RPO_REDUCTION_AVERAGE, 3.0f, 1.0f},
    {"nothing counts", 12, 4, 19, 0, MASK_ALL, RPO_REDUCTION_AVERAGE, 3.0f, 1.0f},
    {"no rows", 0, 3, 19, 0, MASK_NONE, RPO_REDUCTION_SUM, 3.0f, 1.0f},
    {"no sequences", 0, 0, 19, 0, MASK_NONE, RPO_REDUCTION_SUM, 3.0f, 1.0f},
    {"logits of 1e4", 20, 3, 300, 0, MASK_HALF, RPO_REDUCTION_SUM, 1e4f, 1.0f},
    {"gradients of 1e4", 20, 3, 300, 0, MASK_HALF, RPO_REDUCTION_SUM, 4.0f, 1e4f},
    {"gradients of 1e-4", 20, 3, 300, 0, MASK_HALF, RPO_REDUCTION_AVERAGE, 4.0f, 1e-4f},
};

/* Buffers of one run of one case. */
typedef struct gather_run {
    guarded logits, gradient, sequence_logps, token_logps, logsumexp, workspace;
    rpo_logprob_shape shape;
    packed batch;
} gather_run;

static gather_run run_new(const gather_case *one, rpo_context *context, uint64_t seed) {
    gather_run run = {.shape = {.struct_size = sizeof(rpo_logprob_shape),
                                .rows = one->rows,
                                .vocab_size = one->vocab_size,
                                .num_sequences = one->num_sequences,
                                .row_stride = one->row_stride,
                                .dtype = RPO_FLOAT32,
                                .reduction = one->reduction}};
    const int64_t stride = one->row_stride > 0 ? one->row_stride : one->vocab_size;
    run.batch = packed_new(one->rows, one->num_sequences, one->vocab_size, one->mask, one->coef_scale, seed);
    run.logits = guarded_new((size_t)(one->rows * stride) * sizeof(float));
    run.gradient = guarded_new(run.logits.bytes);
    run.sequence_logps = guarded_new((size_t)one->num_sequences * sizeof(float));
    run.token_logps = guarded_new((size_t)one->rows * sizeof(float));
    run.logsumexp = guarded_new((size_t)one->rows * sizeof(float));
    size_t bytes = 0;
    cr_assert_eq(rpo_logprob_gather_workspace_size(context, &bytes, &run.shape), RPO_OK, "%s",
                 rpo_last_error());
    run.workspace = guarded_new(bytes);

    /* Ignored rows and the gap between rows keep their NaN. */
    uint64_t state = seed + 1;
    float *logits = run.logits.data;
    for (int64_t t = 0; t < one->rows; ++t)
        for (int64_t v = 0; v < one->vocab_size; ++v) {
            const float value = test_uniform(&state, one->logit_scale);
            if (run.batch.labels[t] != RPO_IGNORE_LABEL)
                logits[t * stride + v] = value;
        }
    return run;
}

static void run_free(gather_run *run) {
    guarded_free(&run->workspace);
    guarded_free(&run->logsumexp);
    guarded_free(&run->token_logps);
    guarded_free(&run->sequence_logps);
    guarded_free(&run->gradient);
    guarded_free(&run->logits);
    packed_free(&run->batch);
}

static void run_forward(gather_run *run, rpo_context *context) {
    cr_assert_eq(rpo_logprob_gather(context, run->sequence_logps.data, run->token_logps.data,
                                    run->logsumexp.data, run->logits.data, run->batch.labels,
                                    run->batch.cu_seqlens, &run->shape, run->workspace.data,
                                    run->workspace.bytes),
                 RPO_OK, "%s", rpo_last_error());
}

static void run_backward(gather_run *run, rpo_context *context, void *gradient, bool with_logsumexp) {
    cr_assert_eq(rpo_logprob_gather_backward(context, gradient, run->logits.data,
                                             with_logsumexp ? run->logsumexp.data : NULL, run->batch.labels,
                                             run->batch.cu_seqlens, run->batch.coef, &run->shape,
                                             run->workspace.data, run->workspace.bytes),
                 RPO_OK, "%s", rpo_last_error());
}

/* One row of the reference; returns its logsumexp. */
static double reference_row(double *row, const gather_run *run, int64_t t) {
    const int64_t stride = run->shape.row_stride > 0 ? run->shape.row_stride : run->shape.vocab_size;
    for (int64_t v = 0; v < run->shape.vocab_size; ++v)
        row[v] = (double)((const float *)run->logits.data)[t * stride + v];
    return reference_logsumexp(row, run->shape.vocab_size);
}

static void check_forward(const gather_run *run, const char *name) {
    double *row = malloc((size_t)run->shape.vocab_size * sizeof *row);
    const float *token_logps = run->token_logps.data, *sequence_logps = run->sequence_logps.data;
    const float *logsumexp = run->logsumexp.data;
    for (int64_t s = 0; s < run->batch.num_sequences; ++s) {
        double sum = 0.0, size = 0.0;
        for (int32_t t = run->batch.cu_seqlens[s]; t < run->batch.cu_seqlens[s + 1]; ++t) {
            if (run->batch.labels[t] == RPO_IGNORE_LABEL) {
                cr_assert(token_logps[t] == 0.0f && logsumexp[t] == 0.0f, "%s: row %d is ignored", name, t);
                continue;
            }
            const double lse = reference_row(row, run, t);
            const double logp = row[run->batch.labels[t]] - lse;
            cr_assert(is_close((double)token_logps[t], logp, 1e-6, 0.0), "%s: row %d: %.9g, expected %.9g",
                      name, t, (double)token_logps[t], logp);
            cr_assert(is_close((double)logsumexp[t], lse, 1e-6, 0.0), "%s: logsumexp %d", name, t);
            cr_assert(token_logps[t] <= 0.0f, "%s: row %d has a positive log-prob", name, t);
            sum += logp;
            size += fabs(logp);
        }
        const int64_t valid = packed_valid(&run->batch, s);
        if (run->shape.reduction == RPO_REDUCTION_AVERAGE && valid > 0)
            sum /= (double)valid, size /= (double)valid;
        cr_assert(is_close((double)sequence_logps[s], sum, 1e-6, size),
                  "%s: sequence %lld: %.9g, expected %.9g", name, (long long)s, (double)sequence_logps[s],
                  sum);
        cr_assert(sequence_logps[s] <= 0.0f, "%s: sequence %lld is positive", name, (long long)s);
    }
    free(row);
}

static void check_backward(const gather_run *run, const float *gradient, const char *name) {
    double *row = malloc((size_t)run->shape.vocab_size * sizeof *row);
    const int64_t stride = run->shape.row_stride > 0 ? run->shape.row_stride : run->shape.vocab_size;
    for (int64_t s = 0; s < run->batch.num_sequences; ++s)
        for (int32_t t = run->batch.cu_seqlens[s]; t < run->batch.cu_seqlens[s + 1]; ++t) {
            const float *found = gradient + t * stride;
            const bool ignored = run->batch.labels[t] == RPO_IGNORE_LABEL;
            const double lse = ignored ? 0.0 : reference_row(row, run, t);
            const double scale = ignored ? 0.0 : packed_row_scale(&run->batch, s, run->shape.reduction);
            for (int64_t v = 0; v < run->shape.vocab_size; ++v) {
                const double onehot = v == run->batch.labels[t] ? 1.0 : 0.0;
                const double expected = ignored ? 0.0 : scale * (onehot - exp(row[v] - lse));
                cr_assert(fabs((double)found[v] - expected) <= 1e-6 * fabs(scale),
                          "%s: gradient [%d][%lld]: %.9g, expected %.9g", name, t, (long long)v,
                          (double)found[v], expected);
            }
        }
    free(row);
}

/* Nothing between the rows may be written: it still is NaN. */
static void check_gap(const gather_run *run, const char *name) {
    const unsigned char untouched[sizeof(float)] = {0xff, 0xff, 0xff, 0xff};
    for (int64_t t = 0; t < run->shape.rows && run->shape.row_stride > 0; ++t)
        for (int64_t v = run->shape.vocab_size; v < run->shape.row_stride; ++v)
            cr_assert(same_bits((const float *)run->gradient.data + t * run->shape.row_stride + v, untouched,
                                sizeof untouched),
                      "%s: gap after row %lld was written", name, (long long)t);
}

static void check_guards(const gather_run *run) {
    guarded_check(&run->logits, "logits");
    guarded_check(&run->gradient, "gradient");
    guarded_check(&run->sequence_logps, "sequence_logps");
    guarded_check(&run->token_logps, "token_logps");
    guarded_check(&run->logsumexp, "logsumexp");
    guarded_check(&run->workspace, "workspace");
}

static void check_case(const gather_case *one, rpo_device device, uint64_t seed) {
    rpo_context *context = test_context(device, 2), *single = test_context(device, 1);
    gather_run run = run_new(one, context, seed), again = run_new(one, single, seed);

    run_forward(&run, context);
    check_forward(&run, one->name);
    run_backward(&run, context, run.gradient.data, true);
    check_backward(&run, run.gradient.data, one->name);
    check_gap(&run, one->name);

    run_forward(&again, single);
    run_backward(&again, single, again.gradient.data, true);
    cr_assert(same_bits(run.sequence_logps.data, again.sequence_logps.data, run.sequence_logps.bytes) &&
                  same_bits(run.token_logps.data, again.token_logps.data, run.token_logps.bytes) &&
                  same_bits(run.gradient.data, again.gradient.data, run.gradient.bytes),
              "%s: one and two threads differ", one->name);

    run_backward(&again, context, again.logits.data, false); /* in place, log-sum-exp recomputed */
    check_guards(&again);
    check_backward(&run, again.logits.data, one->name);
    check_guards(&run);

    run_free(&again);
    run_free(&run);
    rpo_context_free(single);
    rpo_context_free(context);
}

Test(logprob_gather, agrees_with_float64) {
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; ++i)
        check_case(&cases[i], RPO_DEVICE_CPU, 100 + i);
}

/* d/de of sum_s coef_s logp_s(logits + e direction) in float64 differences of the op itself. */
Test(logprob_gather, directional_derivative) {
    const gather_case one = {"difference", 40, 4, 97, 0, MASK_HALF, RPO_REDUCTION_AVERAGE, 3.0f, 1.0f};
    rpo_context *context = test_context(RPO_DEVICE_CPU, 2);
    gather_run run = run_new(&one, context, 7);
    run_backward(&run, context, run.gradient.data, false);

    const double step = 1e-2;
    const int64_t count = one.rows * one.vocab_size;
    float *base = malloc((size_t)count * sizeof *base);
    memcpy(base, run.logits.data, (size_t)count * sizeof *base);
    double value[2] = {0.0, 0.0}, expected = 0.0, moved = 0.0;
    for (int side = 0; side < 2; ++side) {
        uint64_t state = 99;
        float *logits = run.logits.data;
        for (int64_t i = 0; i < count; ++i) {
            const double direction = (double)test_uniform(&state, 1.0f);
            logits[i] = (float)((double)base[i] + (side == 0 ? -step : step) * direction);
            if (side == 0 && run.batch.labels[i / one.vocab_size] != RPO_IGNORE_LABEL) {
                expected += direction * (double)((const float *)run.gradient.data)[i];
                moved += fabs(direction * (double)((const float *)run.gradient.data)[i]);
            }
        }
        run_forward(&run, context);
        for (int64_t s = 0; s < one.num_sequences; ++s)
            value[side] += (double)run.batch.coef[s] * (double)((const float *)run.sequence_logps.data)[s];
    }
    const double difference = (value[1] - value[0]) / (2.0 * step);
    cr_assert(fabs(difference - expected) <= 1e-3 * moved, "%.9g, expected %.9g", difference, expected);
    free(base);
    run_free(&run);
    rpo_context_free(context);
}

/* Vocabulary entries masked with -infinity, a whole first block of them included, cost nothing but
 * themselves. */
Test(logprob_gather, minus_infinity_masks_entries) {
    rpo_context *context = test_context(RPO_DEVICE_CPU, 2);
    const gather_case one = {"masked entries", 2, 1, 5000, 0, MASK_NONE, RPO_REDUCTION_SUM, 2.0f, 1.0f};
    gather_run run = run_new(&one, context, 11);
    float *logits = run.logits.data;
    for (int64_t t = 0; t < one.rows; ++t) {
        for (int64_t v = 0; v < 3000; ++v)
            logits[t * one.vocab_size + v] = -INFINITY;
        run.batch.labels[t] = 4000 + (int32_t)t;
    }
    run_forward(&run, context);
    check_forward(&run, one.name);
    run_backward(&run, context, run.gradient.data, false);
    check_backward(&run, run.gradient.data, one.name);
    run_free(&run);
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
    cr_assert_eq(rpo_logprob_gather(context, logps, NULL, NULL, logits, labels, cu_seqlens, &shape,
                                    workspace.data, bytes),
                 RPO_OK);
    cr_assert(is_close((double)logps[0], -2.40760596, 1e-6, 0.0));
    cr_assert(isnan(logps[1]));
    cr_assert(is_close((double)logps[2], -1.09861229, 1e-6, 0.0));
    cr_assert(!(logps[3] > -INFINITY)); /* NaN, or a certain miss */
    guarded_free(&workspace);
    rpo_context_free(context);
}
