/*
 * gather_cases.h - the table of log-prob gather cases and what every backend must show on each of them, in any
 * dtype it has: values against float64, gradients three ways, masked NaN, red zones. A backend's test calls
 * gather_case_run() for each case and adds what is its own.
 */
#ifndef RPO_TESTS_OPS_GATHER_CASES_H
#define RPO_TESTS_OPS_GATHER_CASES_H

#include "tests/device_buffer.h"

typedef struct gather_case {
    const char *name;
    int64_t rows, num_sequences, vocab_size, row_stride;
    mask_kind mask;
    rpo_reduction reduction;
    float logit_scale, coef_scale; /* of the uniform logits; of the upstream gradients, see packed_coef() */
    int misaligned;                /* elements the logits lie past a 16-byte boundary */
    case_cost cost;
} gather_case;

#define SUM     RPO_REDUCTION_SUM
#define AVERAGE RPO_REDUCTION_AVERAGE

static const gather_case gather_cases[] = {
    {"one row", 1, 1, 7, 0, MASK_NONE, SUM, 3, 1, 0, EVERY_SCHEDULE},
    {"one row, ignored", 1, 1, 7, 0, MASK_ALL, AVERAGE, 3, 1, 1, EVERY_SCHEDULE},
    {"one row, vocabulary of one", 1, 1, 1, 0, MASK_NONE, AVERAGE, 3, 1, 1, EVERY_SCHEDULE},
    {"one row, Qwen vocabulary", 1, 1, 151936, 0, MASK_NONE, AVERAGE, 8, 1, 0, ONE_SCHEDULE},
    {"vocabulary of one", 5, 2, 1, 0, MASK_NONE, SUM, 3, 1, 1, EVERY_SCHEDULE},
    {"vocabulary of two", 9, 3, 2, 0, MASK_HALF, AVERAGE, 3, 1, 1, EVERY_SCHEDULE},
    {"odd, strided", 33, 5, 61, 77, MASK_PROMPT, SUM, 5, 1, 3, EVERY_SCHEDULE},
    {"odd, strided, average", 33, 5, 61, 64, MASK_HALF, AVERAGE, 5, 1, 0, EVERY_SCHEDULE},
    {"a warp's unrolled loads and some", 9, 2, 1101, 1103, MASK_HALF, SUM, 5, 1, 1, EVERY_SCHEDULE},
    {"the CPU's block", 6, 2, 2048, 0, MASK_NONE, SUM, 5, 1, 0, EVERY_SCHEDULE},
    {"the CPU's block and one", 6, 2, 2049, 0, MASK_NONE, SUM, 5, 1, 0, EVERY_SCHEDULE},
    {"a block a row, unaligned", 5, 2, 4099, 4101, MASK_HALF, SUM, 8, 1, 5, EVERY_SCHEDULE},
    {"a block a row, aligned", 3, 2, 8192, 0, MASK_NONE, AVERAGE, 8, 1, 0, EVERY_SCHEDULE},
    {"Qwen vocabulary", 5, 2, 151936, 0, MASK_HALF, SUM, 8, 1, 0, ONE_SCHEDULE},
    {"vocabulary of 2^18, odd stride", 3, 2, 262144, 262147, MASK_NONE, SUM, 8, 1, 1, ONE_SCHEDULE},
    {"more rows than 16 bits, odd stride", 65545, 40, 3, 5, MASK_HALF, AVERAGE, 3, 1, 1, ONE_DTYPE},
    {"nothing counts", 12, 4, 19, 0, MASK_ALL, AVERAGE, 3, 1, 0, EVERY_SCHEDULE},
    {"nothing counts, strided", 12, 4, 2101, 2103, MASK_ALL, SUM, 3, 1, 3, EVERY_SCHEDULE},
    {"no rows", 0, 3, 19, 0, MASK_NONE, SUM, 3, 1, 0, EVERY_SCHEDULE},
    {"no sequences", 0, 0, 19, 0, MASK_NONE, SUM, 3, 1, 0, EVERY_SCHEDULE},
    {"logits of 1e4", 20, 3, 300, 0, MASK_HALF, SUM, 1e4f, 1, 0, EVERY_SCHEDULE},
    {"logits of 1e4, a block a row", 4, 2, 4097, 0, MASK_NONE, AVERAGE, 1e4f, 1, 1, EVERY_SCHEDULE},
    {"gradients of 1e4", 20, 3, 300, 0, MASK_HALF, SUM, 4, 1e4f, 0, EVERY_SCHEDULE},
    {"gradients of 1e-4", 20, 3, 300, 0, MASK_HALF, AVERAGE, 4, 1e-4f, 0, EVERY_SCHEDULE},
    {"negative gradients", 20, 3, 300, 0, MASK_HALF, SUM, 4, -1, 0, EVERY_SCHEDULE},
    {"negative gradients of 1e4, logits of 1e4", 20, 3, 300, 0, MASK_HALF, SUM, 1e4f, -1e4f, 0,
     EVERY_SCHEDULE},
    {"gradients of 0", 20, 3, 300, 0, MASK_HALF, SUM, 4, 0, 0, EVERY_SCHEDULE},
    {"gradients of 0, logits of 1e4", 5, 2, 4099, 0, MASK_HALF, AVERAGE, 1e4f, 0, 1, EVERY_SCHEDULE},
};

enum { GATHER_CASES = sizeof gather_cases / sizeof gather_cases[0] };

/* ---- one run ---- */

typedef struct gather_run {
    rpo_context *context;
    device_buffer logits, gradient, sequence_logps, token_logps, logsumexp, labels, cu_seqlens, coef;
    device_scratch workspace;
    rpo_logprob_shape shape;
    int64_t stride;
    packed batch;
    const char *name;
} gather_run;

/* Ignored rows and the gap between rows keep their NaN. */
static inline void gather_fill(gather_run *run, float scale, uint64_t seed) {
    uint64_t state = seed;
    for (int64_t t = 0; t < run->shape.rows; ++t)
        for (int64_t v = 0; v < run->shape.vocab_size; ++v) {
            const float value = test_uniform(&state, scale);
            if (run->batch.labels[t] != RPO_IGNORE_LABEL)
                buffer_set(&run->logits, t * run->stride + v, value);
        }
    buffer_push(&run->logits);
}

static inline gather_run gather_run_new(const gather_case *one, rpo_dtype dtype, rpo_context *context,
                                        uint64_t seed) {
    gather_run run = {.context = context,
                      .shape = {.struct_size = sizeof(rpo_logprob_shape),
                                .rows = one->rows,
                                .vocab_size = one->vocab_size,
                                .num_sequences = one->num_sequences,
                                .row_stride = one->row_stride,
                                .dtype = dtype,
                                .reduction = one->reduction},
                      .stride = one->row_stride > 0 ? one->row_stride : one->vocab_size,
                      .name = one->name};
    const size_t misaligned = (size_t)one->misaligned * rpo_dtype_size(dtype);
    run.batch = packed_new(one->rows, one->num_sequences, one->vocab_size, one->mask, one->coef_scale, seed);
    run.logits = buffer_new(context, one->rows * run.stride, dtype, misaligned);
    run.gradient = buffer_new(context, one->rows * run.stride, dtype, misaligned);
    run.sequence_logps = buffer_new(context, one->num_sequences, RPO_FLOAT32, 4);
    run.token_logps = buffer_new(context, one->rows, RPO_FLOAT32, 4);
    run.logsumexp = buffer_new(context, one->rows, RPO_FLOAT32, 4);
    run.labels = buffer_of_ints(context, run.batch.labels, one->rows);
    run.cu_seqlens = buffer_of_ints(context, run.batch.cu_seqlens, one->num_sequences + 1);
    run.coef = buffer_of_floats(context, run.batch.coef, one->num_sequences);
    size_t bytes = 0;
    cr_assert_eq(rpo_logprob_gather_workspace_size(context, &bytes, &run.shape), RPO_OK, "%s",
                 rpo_last_error());
    run.workspace = scratch_new(context, bytes);
    gather_fill(&run, one->logit_scale, seed + 1);
    return run;
}

static inline void gather_run_free(gather_run *run) {
    device_buffer *buffers[] = {&run->logits,    &run->gradient, &run->sequence_logps, &run->token_logps,
                                &run->logsumexp, &run->labels,   &run->cu_seqlens,     &run->coef};
    for (size_t i = 0; i < sizeof buffers / sizeof buffers[0]; ++i)
        buffer_free(buffers[i]);
    scratch_free(&run->workspace);
    packed_free(&run->batch);
}

/* What no call may write. */
static inline void gather_check_inputs(gather_run *run) {
    buffer_check(&run->logits, "logits");
    buffer_check(&run->labels, "labels");
    buffer_check(&run->cu_seqlens, "cu_seqlens");
    buffer_check(&run->coef, "grad_sequence_logps");
    scratch_check(&run->workspace, "workspace");
}

static inline rpo_logprob_inputs gather_inputs(const gather_run *run, bool with_logsumexp) {
    return (rpo_logprob_inputs){.struct_size = sizeof(rpo_logprob_inputs),
                                .logits = buffer_device(&run->logits),
                                .labels = buffer_device(&run->labels),
                                .cu_seqlens = buffer_device(&run->cu_seqlens),
                                .logsumexp = with_logsumexp ? buffer_device(&run->logsumexp) : NULL,
                                .grad_sequence_logps = buffer_device(&run->coef)};
}

static inline void gather_forward(gather_run *run) {
    const rpo_logprob_inputs inputs = gather_inputs(run, false);
    const rpo_logprob_outputs outputs = {.struct_size = sizeof outputs,
                                         .sequence_logps = buffer_device(&run->sequence_logps),
                                         .token_logps = buffer_device(&run->token_logps),
                                         .logsumexp = buffer_device(&run->logsumexp)};
    cr_assert_eq(rpo_logprob_gather(run->context, &outputs, &inputs, &run->shape,
                                    scratch_device(&run->workspace), run->workspace.bytes),
                 RPO_OK, "%s: %s", run->name, rpo_last_error());
    buffer_pull(&run->sequence_logps, "sequence_logps");
    buffer_pull(&run->token_logps, "token_logps");
    buffer_pull(&run->logsumexp, "logsumexp");
    gather_check_inputs(run);
}

/* `gradient` may be the run's logits. */
static inline void gather_backward(gather_run *run, device_buffer *gradient, bool with_logsumexp) {
    const rpo_logprob_inputs inputs = gather_inputs(run, with_logsumexp);
    cr_assert_eq(rpo_logprob_gather_backward(run->context, buffer_device(gradient), &inputs, &run->shape,
                                             scratch_device(&run->workspace), run->workspace.bytes),
                 RPO_OK, "%s: %s", run->name, rpo_last_error());
    buffer_pull(gradient, "gradient");
    buffer_check(&run->logsumexp, "logsumexp");
    gather_check_inputs(run);
}

static inline void gather_expect_same_bits(const gather_run *a, const gather_run *b, const char *what) {
    cr_assert(buffer_same(&a->sequence_logps, &b->sequence_logps) &&
                  buffer_same(&a->token_logps, &b->token_logps) &&
                  buffer_same(&a->logsumexp, &b->logsumexp) && buffer_same(&a->gradient, &b->gradient),
              "%s: %s gives other bits", a->name, what);
}

/* ---- the formula in float64 ---- */

typedef struct gather_reference {
    double *logits;                  /* [rows][vocab_size], as the op reads them; NaN where ignored */
    double *logsumexp, *token_logps; /* [rows], 0 where ignored */
    double *sequence_logps, *sizes;  /* [num_sequences]; sizes: the same sums of absolute values */
    double *scales;                  /* [rows] gradient of the row's log-prob, 0 where ignored */
} gather_reference;

static inline void gather_reference_sequence(gather_reference *expected, const gather_run *run, int64_t s) {
    const int64_t vocab_size = run->shape.vocab_size, valid = packed_valid(&run->batch, s);
    for (int32_t t = run->batch.cu_seqlens[s]; t < run->batch.cu_seqlens[s + 1]; ++t) {
        const int32_t label = run->batch.labels[t];
        double *row = expected->logits + t * vocab_size;
        for (int64_t v = 0; v < vocab_size; ++v)
            row[v] = (double)buffer_get(&run->logits, t * run->stride + v);
        if (label == RPO_IGNORE_LABEL)
            continue;
        expected->scales[t] = packed_row_scale(&run->batch, s, run->shape.reduction);
        expected->logsumexp[t] = reference_logsumexp(row, vocab_size);
        expected->token_logps[t] = row[label] - expected->logsumexp[t];
        expected->sequence_logps[s] += expected->token_logps[t];
        expected->sizes[s] += fabs(expected->token_logps[t]);
    }
    if (run->shape.reduction == AVERAGE && valid > 0) {
        expected->sequence_logps[s] /= (double)valid;
        expected->sizes[s] /= (double)valid;
    }
}

/* Before a backward in place takes the logits away. */
static inline gather_reference gather_reference_new(const gather_run *run) {
    const size_t rows = (size_t)run->shape.rows + 1, sequences = (size_t)run->shape.num_sequences + 1;
    gather_reference expected = {.logits = calloc(rows * (size_t)run->shape.vocab_size, sizeof(double)),
                                 .logsumexp = calloc(rows, sizeof(double)),
                                 .token_logps = calloc(rows, sizeof(double)),
                                 .sequence_logps = calloc(sequences, sizeof(double)),
                                 .sizes = calloc(sequences, sizeof(double)),
                                 .scales = calloc(rows, sizeof(double))};
    for (int64_t s = 0; s < run->shape.num_sequences; ++s)
        gather_reference_sequence(&expected, run, s);
    return expected;
}

static inline void gather_reference_free(gather_reference *expected) {
    free(expected->scales);
    free(expected->sizes);
    free(expected->sequence_logps);
    free(expected->token_logps);
    free(expected->logsumexp);
    free(expected->logits);
    *expected = (gather_reference){0};
}

/* ---- what is expected of a run ---- */

/* Log-probs are float32 whatever the logits' dtype: so is the framework's error, and 1e-6 bounds it. */
static inline void gather_check_forward(const gather_run *run, const gather_reference *expected) {
    for (int64_t t = 0; t < run->shape.rows; ++t) {
        const double logp = (double)buffer_get(&run->token_logps, t);
        const double lse = (double)buffer_get(&run->logsumexp, t);
        if (run->batch.labels[t] == RPO_IGNORE_LABEL) {
            cr_assert(logp == 0.0 && lse == 0.0, "%s: row %lld is ignored", run->name, (long long)t);
            continue;
        }
        cr_assert(is_close(logp, expected->token_logps[t], 1e-6, 0.0) && logp <= 0.0,
                  "%s: row %lld: %.9g, expected %.9g", run->name, (long long)t, logp,
                  expected->token_logps[t]);
        cr_assert(is_close(lse, expected->logsumexp[t], 1e-6, 0.0), "%s: logsumexp %lld: %.9g, expected %.9g",
                  run->name, (long long)t, lse, expected->logsumexp[t]);
    }
    for (int64_t s = 0; s < run->shape.num_sequences; ++s) {
        const double logp = (double)buffer_get(&run->sequence_logps, s);
        cr_assert(is_close(logp, expected->sequence_logps[s], 1e-6, expected->sizes[s]) && logp <= 0.0,
                  "%s: sequence %lld: %.9g, expected %.9g", run->name, (long long)s, logp,
                  expected->sequence_logps[s]);
    }
}

/* 1e-6 of the row's largest gradient; in 16 bits twice the rounding to the dtype, too, which the framework
 * pays as well. No upstream gradient, no gradient: exactly. */
static inline double gather_tolerance(const gather_run *run, double scale, double expected) {
    const rpo_dtype dtype = run->shape.dtype;
    if (scale == 0.0)
        return 0.0;
    if (dtype == RPO_FLOAT32)
        return 1e-6 * fabs(scale);
    return 2.0 * rounding_of(dtype) * fabs(expected) + 1e-6 * fabs(scale) + 2.0 * underflow_of(dtype);
}

static inline void gather_check_row(const gather_run *run, const device_buffer *gradient,
                                    const gather_reference *expected, int64_t t) {
    const int64_t vocab_size = run->shape.vocab_size;
    const double *row = expected->logits + t * vocab_size;
    const double scale = expected->scales[t], lse = expected->logsumexp[t];
    const bool ignored = run->batch.labels[t] == RPO_IGNORE_LABEL;
    for (int64_t v = 0; v < vocab_size; ++v) {
        const double onehot = v == run->batch.labels[t] ? 1.0 : 0.0;
        const double value = ignored ? 0.0 : scale * (onehot - exp(row[v] - lse));
        const double found = (double)buffer_get(gradient, t * run->stride + v);
        cr_assert(fabs(found - value) <= gather_tolerance(run, scale, value),
                  "%s, %s: gradient [%lld][%lld]: %.9g, expected %.9g", run->name,
                  rpo_dtype_name(run->shape.dtype), (long long)t, (long long)v, found, value);
    }
}

/* Nothing between the rows may be written. */
static inline void gather_check_gaps(const gather_run *run, const device_buffer *gradient) {
    static const unsigned char untouched[sizeof(float)] = {0xff, 0xff, 0xff, 0xff};
    const size_t size = rpo_dtype_size(gradient->dtype);
    for (int64_t t = 0; t < run->shape.rows; ++t)
        for (int64_t v = run->shape.vocab_size; v < run->stride; ++v)
            cr_assert(same_bits(gradient->host + gradient->offset + (size_t)(t * run->stride + v) * size,
                                untouched, size),
                      "%s: written between rows %lld and %lld", run->name, (long long)t, (long long)(t + 1));
}

static inline void gather_check_backward(const gather_run *run, const device_buffer *gradient,
                                         const gather_reference *expected) {
    for (int64_t t = 0; t < run->shape.rows; ++t)
        gather_check_row(run, gradient, expected, t);
    gather_check_gaps(run, gradient);
}

/* Forward, then the gradient from its log-sum-exp, without it, and in the place of the logits. */
static inline void gather_case_run(const gather_case *one, rpo_dtype dtype, rpo_context *context,
                                   uint64_t seed) {
    gather_run run = gather_run_new(one, dtype, context, seed);
    gather_reference expected = gather_reference_new(&run);
    gather_forward(&run);
    gather_check_forward(&run, &expected);
    gather_backward(&run, &run.gradient, true);
    gather_check_backward(&run, &run.gradient, &expected);
    if (one->cost != ONE_DTYPE) {
        gather_backward(&run, &run.gradient, false);
        gather_check_backward(&run, &run.gradient, &expected);
    }
    gather_backward(&run, &run.logits, false);
    gather_check_backward(&run, &run.logits, &expected);
    gather_reference_free(&expected);
    gather_run_free(&run);
}

/* ---- two backends on the same inputs ---- */

/* Both are within a tolerance of the reference, so they are within the two of each other. */
static inline void gather_expect_close(const gather_run *a, const gather_run *b,
                                       const gather_reference *expected) {
    for (int64_t t = 0; t < a->shape.rows; ++t) {
        cr_assert(is_close((double)buffer_get(&a->token_logps, t), (double)buffer_get(&b->token_logps, t),
                           2e-6, 0.0) &&
                      is_close((double)buffer_get(&a->logsumexp, t), (double)buffer_get(&b->logsumexp, t),
                               2e-6, 0.0),
                  "%s: row %lld differs between the backends", a->name, (long long)t);
        for (int64_t v = 0; v < a->shape.vocab_size; ++v) {
            const double x = (double)buffer_get(&a->gradient, t * a->stride + v);
            const double y = (double)buffer_get(&b->gradient, t * b->stride + v);
            cr_assert(fabs(x - y) <= 2e-6 * fabs(expected->scales[t]),
                      "%s: gradient [%lld][%lld] is %.9g and %.9g", a->name, (long long)t, (long long)v, x,
                      y);
        }
    }
    for (int64_t s = 0; s < a->shape.num_sequences; ++s)
        cr_assert(is_close((double)buffer_get(&a->sequence_logps, s),
                           (double)buffer_get(&b->sequence_logps, s), 2e-6, expected->sizes[s]),
                  "%s: sequence %lld differs between the backends", a->name, (long long)s);
}

static inline void gather_case_compare(const gather_case *one, rpo_context *context, rpo_context *other,
                                       uint64_t seed) {
    gather_run a = gather_run_new(one, RPO_FLOAT32, context, seed);
    gather_run b = gather_run_new(one, RPO_FLOAT32, other, seed);
    gather_reference expected = gather_reference_new(&a);
    gather_forward(&a);
    gather_backward(&a, &a.gradient, true);
    gather_forward(&b);
    gather_backward(&b, &b.gradient, true);
    gather_expect_close(&a, &b, &expected);
    gather_reference_free(&expected);
    gather_run_free(&b);
    gather_run_free(&a);
}

/* ---- memory ---- */

/* A few bytes a row, whatever the vocabulary and the dtype. */
static inline void gather_workspace_is_bounded(rpo_context *context, rpo_dtype dtype) {
    const int64_t vocabularies[] = {1, 32000, 262144};
    for (int64_t rows = 0; rows <= 1 << 20; rows = rows == 0 ? 1 : rows * 32)
        for (int k = 0; k < 3; ++k) {
            const rpo_logprob_shape shape = {.struct_size = sizeof shape,
                                             .rows = rows,
                                             .vocab_size = vocabularies[k],
                                             .num_sequences = rows,
                                             .dtype = dtype};
            size_t bytes = 0;
            cr_assert_eq(rpo_logprob_gather_workspace_size(context, &bytes, &shape), RPO_OK, "%s",
                         rpo_last_error());
            cr_assert(bytes <= (size_t)rows * 8 + 256, "%zu bytes for %lld rows of %lld", bytes,
                      (long long)rows, (long long)shape.vocab_size);
        }
}

#undef SUM
#undef AVERAGE

#endif
