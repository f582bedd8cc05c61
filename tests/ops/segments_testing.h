/*
 * segments_testing.h - batches of segments for the attention's tests, written down as lengths and prefixes, and the
 * attention over them in double.
 */
#ifndef RPO_TESTS_OPS_SEGMENTS_TESTING_H
#define RPO_TESTS_OPS_SEGMENTS_TESTING_H

#include "tests/ops/model_ops_testing.h"

enum { SEGMENTS_MAX = 16, TILES_MAX = 64 };

/* One segment; prefix is the index of an earlier one, or -1. */
typedef struct test_segment {
    int32_t length, prefix;
} test_segment;

typedef struct batch_layout {
    int32_t cu_seqlens[SEGMENTS_MAX + 1], prefix[SEGMENTS_MAX], user_bounds[SEGMENTS_MAX + 1],
        users[SEGMENTS_MAX], tiles[TILES_MAX][2];
    int64_t rows;
    rpo_segments view;
} batch_layout;

static inline void lay_out_users(batch_layout *made, int64_t count) {
    int32_t placed = 0;
    for (int32_t s = 0; s < count; ++s) {
        made->user_bounds[s] = placed;
        for (int32_t user = 0; user < count; ++user)
            if (made->prefix[user] == s)
                made->users[placed++] = user;
    }
    made->user_bounds[count] = placed;
}

/* The view points into *made, which must stay where it is. */
static inline void lay_out_segments(batch_layout *made, const test_segment *segments, int64_t count) {
    int64_t tiles = 0, longest = 0, context = 0;
    cr_assert(count <= SEGMENTS_MAX);
    *made = (batch_layout){0};
    for (int64_t s = 0; s < count; ++s) {
        const int64_t length = segments[s].length;
        const int64_t seen = length + (segments[s].prefix >= 0 ? segments[segments[s].prefix].length : 0);
        made->prefix[s] = segments[s].prefix;
        made->cu_seqlens[s + 1] = (int32_t)(made->cu_seqlens[s] + length);
        longest = length > longest ? length : longest;
        context = seen > context ? seen : context;
        for (int64_t query = 0; query < length; query += RPO_ATTENTION_TILE_ROWS) {
            cr_assert(tiles < TILES_MAX);
            made->tiles[tiles][0] = (int32_t)s;
            made->tiles[tiles++][1] = (int32_t)query;
        }
    }
    lay_out_users(made, count);
    made->rows = made->cu_seqlens[count];
    made->view = (rpo_segments){.cu_seqlens = made->cu_seqlens,
                                .prefix = made->prefix,
                                .user_bounds = made->user_bounds,
                                .users = made->users,
                                .tiles = made->tiles[0],
                                .num_segments = count,
                                .num_tiles = tiles,
                                .max_length = longest,
                                .max_context = context};
}

typedef struct attention_reference_shape {
    rpo_attention_shape op;
    const batch_layout *layout;
} attention_reference_shape;

static inline int64_t qkv_size(const rpo_attention_shape *shape) {
    return (shape->num_heads + 2 * shape->num_kv_heads) * shape->head_dim;
}

/* The rows that row i of a segment sees, in order; returns how many. */
static inline int64_t visible_rows(const batch_layout *layout, int64_t segment, int64_t i, int64_t *rows) {
    int64_t count = 0;
    const int32_t prefix = layout->prefix[segment];
    if (prefix >= 0)
        for (int64_t j = layout->cu_seqlens[prefix]; j < layout->cu_seqlens[prefix + 1]; ++j)
            rows[count++] = j;
    for (int64_t j = layout->cu_seqlens[segment]; j <= i; ++j)
        rows[count++] = j;
    return count;
}

/* One row of one head: probabilities over the `count` rows it sees, and their log-sum-exp. */
static inline double reference_softmax(const rpo_attention_shape *shape, const double *qkv, int64_t h,
                                       int64_t i, const int64_t *rows, int64_t count, double *p) {
    const int64_t dim = shape->head_dim, size = qkv_size(shape);
    const int64_t kv = h / (shape->num_heads / shape->num_kv_heads);
    double largest = -INFINITY, sum = 0.0;
    for (int64_t k = 0; k < count; ++k) {
        p[k] = (double)shape->scale *
               dot(qkv + i * size + h * dim, qkv + rows[k] * size + (shape->num_heads + kv) * dim, dim);
        largest = fmax(largest, p[k]);
    }
    for (int64_t k = 0; k < count; ++k)
        sum += exp(p[k] - largest);
    for (int64_t k = 0; k < count; ++k)
        p[k] = exp(p[k] - largest) / sum;
    return largest + log(sum);
}

/* Calls `use` with every row of every head. */
typedef void use_row(const attention_reference_shape *s, const double *qkv, int64_t h, int64_t i,
                     const int64_t *rows, int64_t count, const double *p, double logsumexp, double *out);

static inline void for_every_row(const attention_reference_shape *s, const double *qkv, use_row *use,
                                 double *out) {
    int64_t *rows = rpo_alloc_array((size_t)s->op.rows + 1, sizeof *rows);
    double *p = rpo_alloc_array((size_t)s->op.rows + 1, sizeof *p);
    for (int64_t segment = 0; segment < s->layout->view.num_segments; ++segment)
        for (int64_t i = s->layout->cu_seqlens[segment]; i < s->layout->cu_seqlens[segment + 1]; ++i) {
            const int64_t count = visible_rows(s->layout, segment, i, rows);
            for (int64_t h = 0; h < s->op.num_heads; ++h) {
                const double logsumexp = reference_softmax(&s->op, qkv, h, i, rows, count, p);
                use(s, qkv, h, i, rows, count, p, logsumexp, out);
            }
        }
    rpo_free(p);
    rpo_free(rows);
}

static inline void sum_values(const attention_reference_shape *s, const double *qkv, int64_t h, int64_t i,
                              const int64_t *rows, int64_t count, const double *p, double logsumexp,
                              double *out) {
    (void)logsumexp;
    const int64_t dim = s->op.head_dim, kv = h / (s->op.num_heads / s->op.num_kv_heads);
    double *to = out + (i * s->op.num_heads + h) * dim;
    memset(to, 0, (size_t)dim * sizeof *to);
    for (int64_t k = 0; k < count; ++k) {
        const double *value =
            qkv + rows[k] * qkv_size(&s->op) + (s->op.num_heads + s->op.num_kv_heads + kv) * dim;
        for (int64_t d = 0; d < dim; ++d)
            to[d] += p[k] * value[d];
    }
}

static inline void keep_logsumexp(const attention_reference_shape *s, const double *qkv, int64_t h, int64_t i,
                                  const int64_t *rows, int64_t count, const double *p, double logsumexp,
                                  double *out) {
    (void)qkv, (void)rows, (void)count, (void)p;
    out[i * s->op.num_heads + h] = logsumexp;
}

static inline void reference_attention(const void *shape, const double *const inputs[], double *out) {
    for_every_row(shape, inputs[0], sum_values, out);
}

static inline void reference_logsumexp(const void *shape, const double *const inputs[], double *out) {
    for_every_row(shape, inputs[0], keep_logsumexp, out);
}

#endif
