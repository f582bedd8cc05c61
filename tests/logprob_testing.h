/*
 * logprob_testing.h - what the log-prob tests share: seeded data, guarded buffers, packed batches and the
 * float64 reference. Everything takes a context, so the same cases run on any backend.
 */
#ifndef RPO_TESTS_LOGPROB_TESTING_H
#define RPO_TESTS_LOGPROB_TESTING_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "rpo/rpo.h"

enum { GUARD_BYTES = 256, GUARD_VALUE = 0xa5 };

/* Memory between two guards that an op must not touch; filled with NaN. */
typedef struct guarded {
    unsigned char *base;
    size_t bytes;
    void *data;
} guarded;

static inline guarded guarded_new(size_t bytes) {
    const size_t room = (bytes + 63) / 64 * 64;
    guarded buffer = {.base = aligned_alloc(64, room + 2 * GUARD_BYTES), .bytes = bytes};
    cr_assert_not_null(buffer.base);
    memset(buffer.base, GUARD_VALUE, room + 2 * GUARD_BYTES);
    buffer.data = buffer.base + GUARD_BYTES;
    memset(buffer.data, 0xff, bytes); /* a float of all ones is NaN */
    return buffer;
}

static inline void guarded_check(const guarded *buffer, const char *what) {
    const size_t room = (buffer->bytes + 63) / 64 * 64;
    for (size_t i = 0; i < GUARD_BYTES; ++i)
        cr_assert_eq(buffer->base[i], GUARD_VALUE, "%s: written %zu bytes before its start", what,
                     GUARD_BYTES - i);
    for (size_t i = GUARD_BYTES + buffer->bytes; i < room + 2 * GUARD_BYTES; ++i)
        cr_assert_eq(buffer->base[i], GUARD_VALUE, "%s: written %zu bytes past its end", what,
                     i - GUARD_BYTES - buffer->bytes);
}

static inline void guarded_free(guarded *buffer) {
    free(buffer->base);
    *buffer = (guarded){0};
}

/* splitmix64: the same numbers everywhere, from a seed that the failing case prints. */
static inline uint64_t test_random(uint64_t *state) {
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Uniform in [-scale, scale). */
static inline float test_uniform(uint64_t *state, float scale) {
    return scale * (float)((double)(test_random(state) >> 11) / 4503599627370496.0 - 1.0);
}

static inline rpo_context *test_context(rpo_device device, int num_threads) {
    rpo_context_options options = RPO_CONTEXT_OPTIONS_INIT;
    options.device = device;
    options.num_threads = num_threads;
    rpo_context *context = NULL;
    cr_assert_eq(rpo_context_create(&context, &options), RPO_OK, "%s", rpo_last_error());
    return context;
}

/* What a case of a table is run with under simt, where every thread of a kernel is a fiber. */
typedef enum case_cost {
    EVERY_SCHEDULE, /* and every dtype, and every way to call the op */
    ONE_SCHEDULE,   /* every dtype, every way */
    ONE_WAY,        /* every dtype */
    ONE_DTYPE       /* bfloat16 */
} case_cost;

/* How many of a batch's rows carry a label. */
typedef enum mask_kind { MASK_NONE, MASK_HALF, MASK_PROMPT, MASK_ALL } mask_kind;

/* Labels and sequences of a packed batch. */
typedef struct packed {
    int64_t rows, num_sequences;
    int32_t *labels, *cu_seqlens;
    float *coef; /* upstream gradient of each sequence */
} packed;

/* Upstream gradients: some are 0, the others uniform in +-scale; with a negative scale all are negative. */
static inline float packed_coef(uint64_t *state, int64_t sequence, float scale) {
    if (scale < 0.0f)
        return 0.1f * scale - fabsf(test_uniform(state, 0.9f * scale));
    return sequence % 4 == 3 ? 0.0f : test_uniform(state, scale);
}

/* Splits `rows` into sequences of uneven length, empty ones among them, and masks rows. */
static inline packed packed_new(int64_t rows, int64_t num_sequences, int64_t vocab_size, mask_kind mask,
                                float coef_scale, uint64_t seed) {
    packed batch = {.rows = rows, .num_sequences = num_sequences};
    batch.labels = malloc((size_t)(rows + 1) * sizeof *batch.labels);
    batch.cu_seqlens = calloc((size_t)num_sequences + 1, sizeof *batch.cu_seqlens);
    batch.coef = malloc((size_t)(num_sequences + 1) * sizeof *batch.coef);
    uint64_t state = seed;
    for (int64_t s = 1; s < num_sequences; ++s) {
        const int64_t before = batch.cu_seqlens[s - 1];
        const int64_t left = rows - before;
        const bool empty = s % 3 == 2;
        batch.cu_seqlens[s] =
            (int32_t)(before +
                      (empty || left == 0 ? 0 : (int64_t)(test_random(&state) % (uint64_t)(left + 1)) / 2));
    }
    if (num_sequences > 0)
        batch.cu_seqlens[num_sequences] = (int32_t)rows;
    for (int64_t s = 0; s < num_sequences; ++s) {
        batch.coef[s] = packed_coef(&state, s, coef_scale);
        for (int32_t t = batch.cu_seqlens[s]; t < batch.cu_seqlens[s + 1]; ++t) {
            const int32_t length = batch.cu_seqlens[s + 1] - batch.cu_seqlens[s];
            const bool ignored = mask == MASK_ALL || (mask == MASK_HALF && test_random(&state) % 2 == 0) ||
                                 (mask == MASK_PROMPT && t - batch.cu_seqlens[s] < length / 2);
            batch.labels[t] =
                ignored ? RPO_IGNORE_LABEL : (int32_t)(test_random(&state) % (uint64_t)vocab_size);
        }
    }
    return batch;
}

static inline void packed_free(packed *batch) {
    free(batch->coef);
    free(batch->cu_seqlens);
    free(batch->labels);
    *batch = (packed){0};
}

static inline int64_t packed_valid(const packed *batch, int64_t sequence) {
    int64_t count = 0;
    for (int32_t t = batch->cu_seqlens[sequence]; t < batch->cu_seqlens[sequence + 1]; ++t)
        count += batch->labels[t] != RPO_IGNORE_LABEL;
    return count;
}

/* Gradient of one row's log-prob, in double. */
static inline double packed_row_scale(const packed *batch, int64_t sequence, rpo_reduction reduction) {
    const double coef = (double)batch->coef[sequence];
    const int64_t valid = packed_valid(batch, sequence);
    return reduction == RPO_REDUCTION_AVERAGE && valid > 0 ? coef / (double)valid : coef;
}

/* log sum exp of one row in double. */
static inline double reference_logsumexp(const double *row, int64_t vocab_size) {
    double max = row[0], sum = 0.0;
    for (int64_t v = 1; v < vocab_size; ++v)
        max = row[v] > max ? row[v] : max;
    for (int64_t v = 0; v < vocab_size; ++v)
        sum += exp(row[v] - max);
    return max + log(sum);
}

/* |value - expected| <= tolerance * max(1, |expected|, scale); NaN fails. */
static inline bool is_close(double value, double expected, double tolerance, double scale) {
    const double size = fmax(fmax(1.0, scale), fabs(expected));
    return fabs(value - expected) <= tolerance * size;
}

static inline bool same_bits(const void *a, const void *b, size_t bytes) {
    return memcmp(a, b, bytes) == 0;
}

#endif
