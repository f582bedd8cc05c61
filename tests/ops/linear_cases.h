/*
 * linear_cases.h - the table of linear log-prob cases, the ways to call the op, and what every backend must show
 * on each of them in any dtype it has. A backend's test calls linear_case_run() for each case and adds what is
 * its own.
 */
#ifndef RPO_TESTS_OPS_LINEAR_CASES_H
#define RPO_TESTS_OPS_LINEAR_CASES_H

#include "tests/ops/linear_reference.h"

typedef struct linear_case {
    const char *name;
    int64_t rows, num_sequences, hidden_size, vocab_size;
    mask_kind mask;
    rpo_reduction reduction;
    size_t chunk_bytes;
    float head_scale, coef_scale; /* of the uniform head; of the upstream gradients, see packed_coef() */
    size_t misaligned;            /* elements the inputs lie past a 16-byte boundary */
    case_cost cost;
} linear_case;

#define SUM     RPO_REDUCTION_SUM
#define AVERAGE RPO_REDUCTION_AVERAGE
enum { MEBIBYTE = 1 << 20 }; /* of chunk: enough for all rows of a small case, with small buffers elsewhere */

static const linear_case linear_cases[] = {
    {"one of everything", 1, 1, 1, 1, MASK_NONE, SUM, MEBIBYTE, 1, 1, 1, EVERY_SCHEDULE},
    {"one row", 1, 1, 17, 33, MASK_NONE, SUM, MEBIBYTE, 0.5f, 1, 0, EVERY_SCHEDULE},
    {"one row, ignored", 1, 1, 17, 33, MASK_ALL, AVERAGE, MEBIBYTE, 0.5f, 1, 1, ONE_SCHEDULE},
    {"one row, Qwen vocabulary", 1, 1, 4, 151936, MASK_NONE, AVERAGE, MEBIBYTE, 0.5f, 1, 0, ONE_WAY},
    {"vocabulary of one", 9, 2, 5, 1, MASK_NONE, SUM, MEBIBYTE, 0.5f, 1, 3, EVERY_SCHEDULE},
    {"ragged, one row a chunk", 37, 4, 29, 61, MASK_HALF, SUM, 1, 0.5f, 1, 1, EVERY_SCHEDULE},
    {"ragged, five rows a chunk", 37, 4, 29, 61, MASK_PROMPT, AVERAGE, 5 * 64 * 4, 0.5f, 1, 5,
     EVERY_SCHEDULE},
    {"ragged, one chunk", 37, 4, 29, 61, MASK_HALF, AVERAGE, (size_t)1 << 30, 0.5f, 1, 1, EVERY_SCHEDULE},
    {"no mask, contiguous chunks", 64, 3, 48, 257, MASK_NONE, SUM, 7 * 257 * 4, 0.3f, 1, 0, ONE_SCHEDULE},
    {"two tiles", 21, 3, 24, 411, MASK_HALF, SUM, 9 * 256 * 4, 0.3f, 1, 0, EVERY_SCHEDULE},
    {"several sweeps", 450, 5, 4, 24, MASK_NONE, SUM, 24 * 4 * 300, 0.5f, 1, 0, EVERY_SCHEDULE},
    {"several sweeps, 16 bits", 580, 5, 4, 24, MASK_NONE, SUM, 24 * 2 * 576, 0.5f, 1, 0, ONE_WAY},
    {"wide hidden", 12, 2, 700, 31, MASK_HALF, SUM, 4096, 0.1f, 1, 0, EVERY_SCHEDULE},
    {"Qwen vocabulary", 3, 2, 8, 151936, MASK_NONE, SUM, 0, 0.5f, 1, 0, ONE_WAY},
    {"Qwen vocabulary, masked, recomputed", 5, 2, 8, 151936, MASK_PROMPT, SUM, MEBIBYTE / 4, 0.5f, 1, 1,
     ONE_WAY},
    {"vocabulary of 2^18", 3, 1, 8, 262144, MASK_NONE, SUM, MEBIBYTE, 0.5f, 1, 0, ONE_DTYPE},
    {"more rows than 16 bits", 66000, 9, 2, 3, MASK_HALF, AVERAGE, 64 * 1024, 0.5f, 1, 0, ONE_DTYPE},
    {"nothing counts", 11, 3, 6, 13, MASK_ALL, AVERAGE, MEBIBYTE, 0.5f, 1, 0, EVERY_SCHEDULE},
    {"no rows", 0, 2, 6, 13, MASK_NONE, SUM, MEBIBYTE, 0.5f, 1, 0, EVERY_SCHEDULE},
    {"no sequences", 0, 0, 6, 13, MASK_NONE, SUM, MEBIBYTE, 0.5f, 1, 0, EVERY_SCHEDULE},
    {"logits of thousands", 10, 2, 16, 100, MASK_HALF, SUM, MEBIBYTE, 300, 1, 0, EVERY_SCHEDULE},
    {"logits of 1e4", 10, 2, 1, 100, MASK_HALF, SUM, MEBIBYTE, 1e4f, 1, 0, ONE_SCHEDULE},
    {"gradients of 1e4", 10, 2, 16, 100, MASK_HALF, SUM, MEBIBYTE, 0.5f, 1e4f, 0, EVERY_SCHEDULE},
    {"gradients of 1e-4", 10, 2, 16, 100, MASK_HALF, SUM, MEBIBYTE, 0.5f, 1e-4f, 0, EVERY_SCHEDULE},
    {"negative gradients", 10, 2, 16, 100, MASK_HALF, AVERAGE, MEBIBYTE, 0.5f, -1, 0, ONE_SCHEDULE},
    {"gradients of 0", 10, 2, 16, 100, MASK_HALF, SUM, MEBIBYTE, 0.5f, 0, 0, ONE_SCHEDULE},
    {"gradients of 0, logits of 1e4", 10, 2, 1, 100, MASK_HALF, SUM, MEBIBYTE, 1e4f, 0, 0, ONE_SCHEDULE},
};

#undef SUM
#undef AVERAGE

enum { LINEAR_CASES = sizeof linear_cases / sizeof linear_cases[0] };

/* ---- the ways to the same results ---- */

typedef enum hint_kind { HINT_NONE, HINT_EXACT, HINT_LARGER, HINT_ROWS } hint_kind; /* valid_rows */

/* Of the size that is enough for all rows; or 8 bytes, which hold none. */
typedef enum cache_kind { CACHE_NONE, CACHE_ALL, CACHE_MOST, CACHE_THIRD, CACHE_TINY } cache_kind;

/* The case's own budget; enough to keep all rows' exponentials from the first product on; enough for a sixth of
 * the rows, few enough that an accelerator computes them twice instead. */
typedef enum chunk_kind { CHUNK_OWN, CHUNK_ALL, CHUNK_SIXTH } chunk_kind;

/* Outputs of the backward that are NULL; a gradient of the head that overwrites NaN instead of being added; a forward
 * that leaves its log-sum-exp to the backward. */
enum { NO_GRAD_HEAD = 1, NO_GRAD_HIDDEN = 2, NO_LOGPS = 4, OVERWRITE_HEAD = 8, SAVE_LOGSUMEXP = 16 };

typedef struct linear_variant {
    const char *name;
    hint_kind hint;
    chunk_kind chunk;
    cache_kind cache;
    bool frozen_head;
    int flags;
} linear_variant;

/* The first is the case as it stands, the second what a costly case is run with. */
static const linear_variant linear_variants[] = {
    {"plain", HINT_NONE, CHUNK_OWN, CACHE_NONE, false, 0},
    {"valid rows known", HINT_EXACT, CHUNK_OWN, CACHE_NONE, false, 0},
    {"valid rows fewer than said", HINT_LARGER, CHUNK_OWN, CACHE_NONE, false, 0},
    {"valid rows said to be all", HINT_ROWS, CHUNK_OWN, CACHE_THIRD, false, 0},
    {"all kept", HINT_EXACT, CHUNK_ALL, CACHE_NONE, false, 0},
    {"recomputed", HINT_EXACT, CHUNK_SIXTH, CACHE_NONE, false, 0},
    {"cached", HINT_EXACT, CHUNK_OWN, CACHE_ALL, false, 0},
    {"cached in part", HINT_EXACT, CHUNK_OWN, CACHE_MOST, false, 0},
    {"cached in part, the rest recomputed", HINT_EXACT, CHUNK_SIXTH, CACHE_THIRD, false, 0},
    {"a cache for no row", HINT_EXACT, CHUNK_OWN, CACHE_TINY, false, 0},
    {"frozen head", HINT_NONE, CHUNK_OWN, CACHE_NONE, true, 0},
    {"frozen head, recomputed", HINT_LARGER, CHUNK_SIXTH, CACHE_NONE, true, NO_LOGPS},
    {"frozen head, cached", HINT_EXACT, CHUNK_OWN, CACHE_ALL, true, 0},
    {"no gradient of the head", HINT_NONE, CHUNK_OWN, CACHE_NONE, false, NO_GRAD_HEAD | NO_LOGPS},
    {"no gradient of hidden", HINT_NONE, CHUNK_OWN, CACHE_NONE, false, NO_GRAD_HIDDEN},
    {"log-sum-exp saved", HINT_NONE, CHUNK_OWN, CACHE_NONE, false, SAVE_LOGSUMEXP},
    {"log-sum-exp saved, cached", HINT_EXACT, CHUNK_OWN, CACHE_ALL, false, SAVE_LOGSUMEXP},
    {"head overwritten", HINT_NONE, CHUNK_OWN, CACHE_NONE, false, OVERWRITE_HEAD},
    {"head overwritten, cached in part", HINT_EXACT, CHUNK_OWN, CACHE_MOST, false, OVERWRITE_HEAD},
    {"head overwritten, cached in part, the rest recomputed", HINT_EXACT, CHUNK_SIXTH, CACHE_THIRD, false,
     OVERWRITE_HEAD | SAVE_LOGSUMEXP},
};

enum { LINEAR_VARIANTS = sizeof linear_variants / sizeof linear_variants[0] };

/* ---- one run ---- */

typedef struct linear_run {
    rpo_context *context;
    device_buffer hidden, head, grad_hidden, grad_head, sequence_logps, token_logps, logsumexp;
    device_buffer labels, cu_seqlens, coef;
    device_scratch workspace, backward_workspace, cache;
    rpo_linear_logprob_shape shape;
    rpo_linear_logprob_saved saved;
    packed batch;
    int flags;
    const char *name, *variant;
} linear_run;

/* The workspaces of both directions, exactly as large as asked for; again after the shape has changed. */
static inline void linear_make_workspaces(linear_run *run) {
    size_t bytes = 0;
    scratch_free(&run->workspace);
    scratch_free(&run->backward_workspace);
    cr_assert_eq(rpo_linear_logprob_workspace_size(run->context, &bytes, &run->shape, 0), RPO_OK, "%s",
                 rpo_last_error());
    run->workspace = scratch_new(run->context, bytes);
    cr_assert_eq(rpo_linear_logprob_workspace_size(run->context, &bytes, &run->shape, 1), RPO_OK, "%s",
                 rpo_last_error());
    run->backward_workspace = scratch_new(run->context, bytes);
}

static inline void linear_make_cache(linear_run *run, cache_kind kind) {
    size_t bytes = 0;
    if (kind == CACHE_NONE)
        return;
    cr_assert_eq(rpo_linear_logprob_cache_size(run->context, &bytes, &run->shape), RPO_OK, "%s",
                 rpo_last_error());
    if (kind == CACHE_TINY)
        bytes = bytes < 8 ? bytes : 8;
    else
        bytes = kind == CACHE_ALL ? bytes : kind == CACHE_MOST ? bytes * 2 / 3 : bytes / 3;
    run->cache = scratch_new(run->context, bytes);
    run->saved.cache = scratch_device(&run->cache);
    run->shape.cache_bytes = bytes;
}

/* Ignored rows of hidden keep their NaN, and so does a grad_head that is overwritten; else it holds what the gradient
 * is added to. */
static inline void linear_fill(linear_run *run, float head_scale, uint64_t seed) {
    const int64_t hidden_size = run->shape.hidden_size;
    uint64_t state = seed;
    for (int64_t i = 0; i < run->shape.vocab_size * hidden_size; ++i) {
        buffer_set(&run->head, i, test_uniform(&state, head_scale));
        const float start = test_uniform(&state, 0.25f);
        if (!(run->flags & OVERWRITE_HEAD))
            buffer_set(&run->grad_head, i, start);
    }
    for (int64_t i = 0; i < run->shape.rows * hidden_size; ++i) {
        const float value = test_uniform(&state, 1.0f);
        if (run->batch.labels[i / hidden_size] != RPO_IGNORE_LABEL)
            buffer_set(&run->hidden, i, value);
    }
    buffer_push(&run->head);
    buffer_push(&run->grad_head);
    buffer_push(&run->hidden);
}

static inline int64_t linear_hint(const packed *batch, hint_kind hint) {
    int64_t valid = 0;
    for (int64_t s = 0; s < batch->num_sequences; ++s)
        valid += packed_valid(batch, s);
    return hint == HINT_NONE     ? 0
           : hint == HINT_EXACT  ? valid
           : hint == HINT_LARGER ? valid + (batch->rows - valid + 1) / 2
                                 : batch->rows;
}

static inline size_t linear_chunk_bytes(const linear_case *one, chunk_kind kind, rpo_dtype dtype) {
    const size_t logits = (size_t)(one->rows * one->vocab_size) * rpo_dtype_size(dtype);
    return kind == CHUNK_OWN ? one->chunk_bytes : kind == CHUNK_ALL ? logits + MEBIBYTE : logits / 6 + 1;
}

static inline linear_run linear_run_new(const linear_case *one, const linear_variant *variant,
                                        rpo_dtype dtype, rpo_context *context, uint64_t seed) {
    const size_t misaligned = one->misaligned * rpo_dtype_size(dtype);
    const int64_t head_size = one->vocab_size * one->hidden_size;
    linear_run run = {
        .context = context,
        .batch = packed_new(one->rows, one->num_sequences, one->vocab_size, one->mask, one->coef_scale, seed),
        .saved = RPO_LINEAR_LOGPROB_SAVED_INIT,
        .flags = variant->flags | (variant->frozen_head ? NO_GRAD_HEAD : 0),
        .name = one->name,
        .variant = variant->name};
    run.shape = (rpo_linear_logprob_shape){.struct_size = sizeof run.shape,
                                           .rows = one->rows,
                                           .hidden_size = one->hidden_size,
                                           .vocab_size = one->vocab_size,
                                           .num_sequences = one->num_sequences,
                                           .dtype = dtype,
                                           .reduction = one->reduction,
                                           .chunk_bytes = linear_chunk_bytes(one, variant->chunk, dtype),
                                           .valid_rows = linear_hint(&run.batch, variant->hint),
                                           .frozen_head = variant->frozen_head};
    run.hidden = buffer_new(context, one->rows * one->hidden_size, dtype, misaligned);
    run.head = buffer_new(context, head_size, dtype, misaligned);
    run.grad_hidden = buffer_new(context, one->rows * one->hidden_size, dtype, misaligned);
    run.grad_head = buffer_new(context, head_size, RPO_FLOAT32, 4);
    run.sequence_logps = buffer_new(context, one->num_sequences, RPO_FLOAT32, 4);
    run.token_logps = buffer_new(context, one->rows, RPO_FLOAT32, 4);
    run.logsumexp = buffer_new(context, one->rows, RPO_FLOAT32, 4);
    if (run.flags & SAVE_LOGSUMEXP)
        run.saved.logsumexp = buffer_device(&run.logsumexp);
    run.labels = buffer_of_ints(context, run.batch.labels, one->rows);
    run.cu_seqlens = buffer_of_ints(context, run.batch.cu_seqlens, one->num_sequences + 1);
    run.coef = buffer_of_floats(context, run.batch.coef, one->num_sequences);
    linear_fill(&run, one->head_scale, seed + 1);
    linear_make_cache(&run, variant->cache);
    linear_make_workspaces(&run);
    return run;
}

static inline void linear_run_free(linear_run *run) {
    device_buffer *buffers[] = {&run->hidden,         &run->head,        &run->grad_hidden, &run->grad_head,
                                &run->sequence_logps, &run->token_logps, &run->labels,      &run->cu_seqlens,
                                &run->coef,           &run->logsumexp};
    for (size_t i = 0; i < sizeof buffers / sizeof buffers[0]; ++i)
        buffer_free(buffers[i]);
    scratch_free(&run->workspace);
    scratch_free(&run->backward_workspace);
    scratch_free(&run->cache);
    packed_free(&run->batch);
}

static inline void linear_pull(linear_run *run) {
    buffer_pull(&run->sequence_logps, "sequence_logps");
    buffer_pull(&run->token_logps, "token_logps");
    buffer_pull(&run->grad_hidden, "grad_hidden");
    buffer_pull(&run->grad_head, "grad_head");
    buffer_pull(&run->logsumexp, "logsumexp");
    buffer_check(&run->hidden, "hidden");
    buffer_check(&run->head, "head");
    buffer_check(&run->labels, "labels");
    buffer_check(&run->cu_seqlens, "cu_seqlens");
    buffer_check(&run->coef, "grad_sequence_logps");
    scratch_check(&run->workspace, "workspace");
    scratch_check(&run->backward_workspace, "workspace of the backward");
    if (run->cache.device != NULL)
        scratch_check(&run->cache, "cache");
}

static inline rpo_linear_logprob_inputs linear_inputs(const linear_run *run) {
    return (rpo_linear_logprob_inputs){.struct_size = sizeof(rpo_linear_logprob_inputs),
                                       .hidden = buffer_device(&run->hidden),
                                       .head = buffer_device(&run->head),
                                       .labels = buffer_device(&run->labels),
                                       .cu_seqlens = buffer_device(&run->cu_seqlens),
                                       .grad_sequence_logps = buffer_device(&run->coef)};
}

static inline void linear_forward(linear_run *run) {
    const rpo_linear_logprob_inputs inputs = linear_inputs(run);
    const rpo_linear_logprob_outputs outputs = {.struct_size = sizeof outputs,
                                                .sequence_logps = buffer_device(&run->sequence_logps),
                                                .token_logps = buffer_device(&run->token_logps)};
    cr_assert_eq(rpo_linear_logprob(run->context, &outputs, &run->saved, &inputs, &run->shape,
                                    scratch_device(&run->workspace), run->workspace.bytes),
                 RPO_OK, "%s, %s: %s", run->name, run->variant, rpo_last_error());
    linear_pull(run);
}

static inline void linear_backward(linear_run *run) {
    const int flags = run->flags;
    const rpo_linear_logprob_inputs inputs = linear_inputs(run);
    const rpo_linear_logprob_gradients gradients = {
        .struct_size = sizeof gradients,
        .grad_hidden = flags & NO_GRAD_HIDDEN ? NULL : buffer_device(&run->grad_hidden),
        .grad_head = flags & NO_GRAD_HEAD ? NULL : buffer_device(&run->grad_head),
        .accumulate_head = !(flags & OVERWRITE_HEAD),
        .sequence_logps = flags & NO_LOGPS ? NULL : buffer_device(&run->sequence_logps)};
    cr_assert_eq(rpo_linear_logprob_backward(run->context, &gradients, &run->saved, &inputs, &run->shape,
                                             scratch_device(&run->backward_workspace),
                                             run->backward_workspace.bytes),
                 RPO_OK, "%s, %s: %s", run->name, run->variant, rpo_last_error());
    linear_pull(run);
}

/* ---- what is expected of it ---- */

/* A float32 dot product of logits as large as head_scale * hidden_size, and what that does to exp. */
static inline double linear_float_error(const linear_case *one) {
    return 2e-6 * fmax(1.0, (double)one->head_scale * sqrt((double)one->hidden_size));
}

static inline linear_reference linear_expect(const linear_run *run, const linear_case *one) {
    return linear_reference_new(&run->hidden, &run->head,
                                run->flags & OVERWRITE_HEAD ? NULL : &run->grad_head, &run->batch,
                                &run->shape, linear_float_error(one));
}

static inline void linear_check_array(const linear_run *run, const char *what, const device_buffer *found,
                                      const expected_array *expected) {
    for (int64_t i = 0; i < expected->count; ++i) {
        const double value = (double)buffer_get(found, i);
        cr_assert(fabs(value - expected->values[i]) <= expected->tolerance,
                  "%s, %s, %s: %s[%lld]: %.9g, expected %.9g within %.3g", run->name, run->variant,
                  rpo_dtype_name(run->shape.dtype), what, (long long)i, value, expected->values[i],
                  expected->tolerance);
    }
}

static inline void linear_check_logps(const linear_run *run, const linear_reference *expected) {
    linear_check_array(run, "token_logps", &run->token_logps, &expected->token_logps);
    linear_check_array(run, "sequence_logps", &run->sequence_logps, &expected->sequence_logps);
    for (int64_t t = 0; t < run->shape.rows; ++t) {
        const float logp = buffer_get(&run->token_logps, t);
        cr_assert(logp <= 0.0f && (run->batch.labels[t] != RPO_IGNORE_LABEL || logp == 0.0f),
                  "%s, %s: row %lld has a log-prob of %g", run->name, run->variant, (long long)t,
                  (double)logp);
    }
}

/* Every row's, or of none where it was not asked for. */
static inline void linear_check_logsumexp(const linear_run *run, const linear_reference *expected) {
    const bool saved = (run->flags & SAVE_LOGSUMEXP) != 0;
    if (saved)
        linear_check_array(run, "logsumexp", &run->logsumexp, &expected->logsumexp);
    for (int64_t t = 0; t < run->shape.rows; ++t) {
        const float value = buffer_get(&run->logsumexp, t);
        cr_assert(saved ? run->batch.labels[t] != RPO_IGNORE_LABEL || value == 0.0f : isnan(value),
                  "%s, %s: row %lld has a log-sum-exp of %g", run->name, run->variant, (long long)t,
                  (double)value);
    }
}

static inline void linear_check_exactly(const linear_run *run, const char *what, const device_buffer *found,
                                        int64_t index, double value) {
    cr_assert((double)buffer_get(found, index) == value, "%s, %s: %s[%lld] is %.9g; must be %.9g", run->name,
              run->variant, what, (long long)index, (double)buffer_get(found, index), value);
}

/* What holds to the bit: nothing for ignored rows, nothing without an upstream gradient, and an output that is
 * not asked for stays as it was. */
static inline void linear_check_zeros(const linear_run *run, const linear_reference *expected) {
    const int64_t hidden_size = run->shape.hidden_size;
    bool silent = true;
    for (int64_t s = 0; s < run->batch.num_sequences; ++s) {
        silent = silent && run->batch.coef[s] == 0.0f;
        for (int64_t t = run->batch.cu_seqlens[s]; t < run->batch.cu_seqlens[s + 1]; ++t)
            for (int64_t h = 0; h < hidden_size && !(run->flags & NO_GRAD_HIDDEN); ++h)
                if (run->batch.labels[t] == RPO_IGNORE_LABEL || run->batch.coef[s] == 0.0f)
                    linear_check_exactly(run, "grad_hidden", &run->grad_hidden, t * hidden_size + h, 0.0);
    }
    for (int64_t i = 0; i < expected->grad_head.count && (silent || run->flags & NO_GRAD_HEAD); ++i)
        linear_check_exactly(run, "grad_head", &run->grad_head, i, expected->start[i]);
    for (int64_t i = 0; i < expected->grad_hidden.count && run->flags & NO_GRAD_HIDDEN; ++i)
        cr_assert(isnan(buffer_get(&run->grad_hidden, i)), "%s, %s: grad_hidden was not asked for", run->name,
                  run->variant);
}

static inline void linear_check_gradients(const linear_run *run, const linear_reference *expected) {
    linear_check_array(run, "sequence_logps of the backward", &run->sequence_logps,
                       &expected->sequence_logps);
    if (!(run->flags & NO_GRAD_HIDDEN))
        linear_check_array(run, "grad_hidden", &run->grad_hidden, &expected->grad_hidden);
    if (!(run->flags & NO_GRAD_HEAD))
        linear_check_array(run, "grad_head", &run->grad_head, &expected->grad_head);
    linear_check_zeros(run, expected);
}

/* Two ways, or two backends: each is within a tolerance of the reference, so they are within two of each other. */
static inline void linear_expect_close(const linear_run *a, const linear_run *b,
                                       const linear_reference *expected) {
    const device_buffer *of_a[] = {&a->token_logps, &a->sequence_logps, &a->grad_hidden, &a->grad_head};
    const device_buffer *of_b[] = {&b->token_logps, &b->sequence_logps, &b->grad_hidden, &b->grad_head};
    const expected_array *arrays[] = {&expected->token_logps, &expected->sequence_logps,
                                      &expected->grad_hidden, &expected->grad_head};
    const int without[] = {0, 0, NO_GRAD_HIDDEN, NO_GRAD_HEAD | OVERWRITE_HEAD};
    for (int k = 0; k < 4; ++k)
        for (int64_t i = 0; i < arrays[k]->count && !((a->flags | b->flags) & without[k]); ++i) {
            const double x = (double)buffer_get(of_a[k], i), y = (double)buffer_get(of_b[k], i);
            cr_assert(fabs(x - y) <= 2.0 * arrays[k]->tolerance,
                      "%s, %s and %s: output %d, element %lld: %.9g and %.9g", a->name, a->variant,
                      b->variant, k, (long long)i, x, y);
        }
}

static inline void linear_expect_same_bits(const linear_run *a, const linear_run *b, const char *what) {
    cr_assert(buffer_same(&a->token_logps, &b->token_logps) &&
                  buffer_same(&a->sequence_logps, &b->sequence_logps) &&
                  buffer_same(&a->grad_hidden, &b->grad_hidden) && buffer_same(&a->grad_head, &b->grad_head),
              "%s, %s: %s gives other bits", a->name, a->variant, what);
}

/* One way: forward, backward, values; `added` is what is expected where the head's gradient is added. The caller frees
 * the run. */
static inline linear_run linear_variant_run(const linear_case *one, const linear_variant *variant,
                                            rpo_dtype dtype, rpo_context *context, uint64_t seed,
                                            const linear_reference *added) {
    linear_run run = linear_run_new(one, variant, dtype, context, seed);
    linear_reference overwritten = {0};
    const linear_reference *expected = added;
    if (run.flags & OVERWRITE_HEAD) {
        overwritten = linear_expect(&run, one);
        expected = &overwritten;
    }
    linear_forward(&run);
    linear_check_logps(&run, expected);
    linear_check_logsumexp(&run, expected);
    linear_backward(&run);
    linear_check_gradients(&run, expected);
    linear_reference_free(&overwritten);
    return run;
}

/* Every way to the results of a case; of a costly one the way that costs least. */
static inline void linear_case_run(const linear_case *one, rpo_dtype dtype, rpo_context *context,
                                   uint64_t seed) {
    const int first = one->cost >= ONE_WAY ? 1 : 0, last = one->cost >= ONE_WAY ? 1 : LINEAR_VARIANTS - 1;
    linear_run inputs = linear_run_new(one, &linear_variants[first], dtype, context, seed);
    linear_reference expected = linear_expect(&inputs, one);
    linear_run plain = linear_variant_run(one, &linear_variants[first], dtype, context, seed, &expected);
    for (int v = first + 1; v <= last; ++v) {
        linear_run run = linear_variant_run(one, &linear_variants[v], dtype, context, seed, &expected);
        linear_expect_close(&plain, &run, &expected);
        linear_run_free(&run);
    }
    linear_run_free(&plain);
    linear_reference_free(&expected);
    linear_run_free(&inputs);
}

/* Two backends on the same inputs. */
static inline void linear_case_compare(const linear_case *one, rpo_context *context, rpo_context *other,
                                       uint64_t seed) {
    const linear_variant *variant = &linear_variants[1];
    linear_run inputs = linear_run_new(one, variant, RPO_FLOAT32, context, seed);
    linear_reference expected = linear_expect(&inputs, one);
    linear_run a = linear_variant_run(one, variant, RPO_FLOAT32, context, seed, &expected);
    linear_run b = linear_variant_run(one, variant, RPO_FLOAT32, other, seed, &expected);
    linear_expect_close(&a, &b, &expected);
    linear_run_free(&b);
    linear_run_free(&a);
    linear_reference_free(&expected);
    linear_run_free(&inputs);
}

/* ---- memory ---- */

static inline double linear_megabytes(rpo_context *context, const rpo_linear_logprob_shape *shape,
                                      int backward) {
    size_t bytes = 0;
    cr_assert_eq(rpo_linear_logprob_workspace_size(context, &bytes, shape, backward), RPO_OK, "%s",
                 rpo_last_error());
    return (double)bytes / MEBIBYTE;
}

/* Llama-3-8B with half of 8192 rows valid: what the targets for memory are named for. */
static inline rpo_linear_logprob_shape linear_llama_shape(rpo_dtype dtype) {
    return (rpo_linear_logprob_shape){.struct_size = sizeof(rpo_linear_logprob_shape),
                                      .rows = 8192,
                                      .valid_rows = 4096,
                                      .hidden_size = 4096,
                                      .vocab_size = 128256,
                                      .num_sequences = 8,
                                      .dtype = dtype};
}

/* What Llama-3-8B asks for beside its inputs and results: within the chunk's budget, a few bytes a row, and no
 * more for a longer vocabulary. Logits of all rows would be 2 to 4 GiB, another head 1 to 2. */
static inline void linear_workspace_is_bounded(rpo_context *context, rpo_dtype dtype) {
    rpo_linear_logprob_shape shape = linear_llama_shape(dtype);
    cr_assert(linear_megabytes(context, &shape, 0) <= 256 &&
              linear_megabytes(context, &shape, 1) <= 1.1 * 1024);
    shape.frozen_head = 1;
    cr_assert(linear_megabytes(context, &shape, 0) <= 256 && linear_megabytes(context, &shape, 1) <= 256);
    for (int variant = 0; variant < 4; ++variant) {
        const int backward = variant / 2;
        shape.frozen_head = variant % 2;
        shape.chunk_bytes = (size_t)24 * MEBIBYTE;
        const double low = linear_megabytes(context, &shape, backward);
        cr_assert(low <= 64, "24 MiB of chunk: %.2f MiB", low);
        rpo_linear_logprob_shape larger = shape;
        larger.rows = 16 * shape.rows;
        larger.valid_rows = 16 * shape.valid_rows;
        const double more = linear_megabytes(context, &larger, backward) - low;
        cr_assert(more <= (double)(larger.rows - shape.rows) * 32 / MEBIBYTE,
                  "%.2f MiB more for 16 times the rows", more);
        larger = shape;
        larger.vocab_size = 4 * shape.vocab_size;
        cr_assert(linear_megabytes(context, &larger, backward) <= 64);
        shape.chunk_bytes = 1;
        const double least = linear_megabytes(context, &shape, backward);
        cr_assert(least <= 1, "one row a chunk: %.2f MiB", least);
    }
}

#endif
