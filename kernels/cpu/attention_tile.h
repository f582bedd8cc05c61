/*
 * attention_tile.h - how the attention's forward and backward cut a head into tiles.
 *
 * Rows are those of one sequence, counted from its first. A query tile meets the key tiles from 0 to its own
 * diagonal; ATTENTION_KEYS is a multiple of ATTENTION_QUERIES, so every row of a tile sees at least its first
 * key.
 */
#ifndef RPO_KERNELS_CPU_ATTENTION_TILE_H
#define RPO_KERNELS_CPU_ATTENTION_TILE_H

#include "kernels/cpu/blas.h"
#include "kernels/cpu/model.h"

enum { ATTENTION_QUERIES = 64, ATTENTION_KEYS = 256, ATTENTION_TILE = ATTENTION_QUERIES * ATTENTION_KEYS };

static inline int64_t rpo_attention_row_size(const rpo_attention_shape *shape) {
    return (shape->num_heads + 2 * shape->num_kv_heads) * shape->head_dim;
}

static inline int64_t rpo_attention_min(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* Keys of the tile [key, key_end) that query row `row` may see. */
static inline int64_t rpo_attention_visible(int64_t row, int64_t key, int64_t key_end) {
    return rpo_attention_min(key_end, row + 1) - key;
}

static inline rpo_cpu_matrix rpo_attention_matrix(const float *data, int64_t stride, bool transposed) {
    const rpo_cpu_matrix matrix = {data, stride, transposed};
    return matrix;
}

#endif
