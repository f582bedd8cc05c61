/*
 * attention_tile.h - how the attention's forward and backward cut their work into tiles.
 *
 * A query tile meets two spans of keys: all rows of its segment's prefix, then the segment's own rows up to the
 * tile's diagonal. Each span is walked in key tiles from its first row; ATTENTION_KEYS is a multiple of the query
 * tile's rows, so every row of a query tile sees at least the first key of every key tile that it meets.
 */
#ifndef RPO_KERNELS_CPU_ATTENTION_TILE_H
#define RPO_KERNELS_CPU_ATTENTION_TILE_H

#include "kernels/cpu/blas.h"
#include "kernels/cpu/model.h"

enum {
    ATTENTION_QUERIES = RPO_ATTENTION_TILE_ROWS,
    ATTENTION_KEYS = 256,
    ATTENTION_TILE = ATTENTION_QUERIES * ATTENTION_KEYS /* scores */
};

/* Rows are those of the batch. */
typedef struct rpo_attention_span {
    int64_t first, rows; /* the keys that the tile's last row sees */
    int64_t diagonal;    /* row r of the tile sees the first diagonal + r + 1 of them, at most `rows` */
} rpo_attention_span;

typedef struct rpo_attention_tile {
    int64_t first, rows;         /* of queries */
    rpo_attention_span spans[2]; /* the prefix (0 rows where there is none), the segment itself */
} rpo_attention_tile;

static inline int64_t rpo_attention_min(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static inline int64_t rpo_attention_length(const rpo_segments *segments, int64_t segment) {
    return segments->cu_seqlens[segment + 1] - segments->cu_seqlens[segment];
}

/* The tile that begins at row `query` of a segment. */
static inline rpo_attention_tile rpo_attention_tile_at(const rpo_segments *segments, int64_t segment,
                                                       int64_t query) {
    const int64_t first = segments->cu_seqlens[segment];
    const int64_t end = rpo_attention_min(query + ATTENTION_QUERIES, rpo_attention_length(segments, segment));
    rpo_attention_tile tile = {
        .first = first + query,
        .rows = end - query,
        .spans[1] = {.first = first, .rows = end, .diagonal = query},
    };
    const int64_t prefix = segments->prefix[segment];
    if (prefix >= 0) {
        const int64_t rows = rpo_attention_length(segments, prefix);
        tile.spans[0] =
            (rpo_attention_span){.first = segments->cu_seqlens[prefix], .rows = rows, .diagonal = rows};
    }
    return tile;
}

/* Keys of the key tile [key, key + width) of a span that row r of the query tile sees. */
static inline int64_t rpo_attention_visible(const rpo_attention_span *span, int64_t r, int64_t key,
                                            int64_t width) {
    return rpo_attention_min(width, span->diagonal + r + 1 - key);
}

/* Elements from the beginning of a row of qkv. */
typedef struct rpo_attention_head {
    int64_t index; /* of the query head */
    int64_t query_at, key_at, value_at;
} rpo_attention_head;

static inline rpo_attention_head rpo_attention_head_at(const rpo_attention_shape *shape, int64_t index) {
    const int64_t kv = index / (shape->num_heads / shape->num_kv_heads);
    return (rpo_attention_head){
        .index = index,
        .query_at = index * shape->head_dim,
        .key_at = (shape->num_heads + kv) * shape->head_dim,
        .value_at = (shape->num_heads + shape->num_kv_heads + kv) * shape->head_dim,
    };
}

static inline int64_t rpo_attention_row_size(const rpo_attention_shape *shape) {
    return (shape->num_heads + 2 * shape->num_kv_heads) * shape->head_dim;
}

static inline rpo_cpu_matrix rpo_attention_matrix(const float *data, int64_t stride, bool transposed) {
    const rpo_cpu_matrix matrix = {data, stride, transposed};
    return matrix;
}

/* attention_backward.c: what one of its threads needs. */
size_t rpo_attention_backward_scratch_size(void);

#endif
