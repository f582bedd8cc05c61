/*
 * linear_logprob_plan.h - how a linear log-prob call is cut into products, and where its buffers lie.
 *
 *     capacity                       compacted rows the call can hold
 *       sweep (sweep_rows)           rows whose exponentials are held together: one weight-gradient product
 * each chunk (chunk_rows)         rows of one logit product and one hidden-gradient product tile
 * (tile_columns)      columns of one logit product: chunk x tile in float32, meant to stay in L2
 */
#ifndef RPO_CUDA_LINEAR_LOGPROB_PLAN_H
#define RPO_CUDA_LINEAR_LOGPROB_PLAN_H

#include "kernels/cuda/cuda.h"

/* Columns one block of the tile kernels takes: 512 threads, 16 each. */
enum { RPO_TILE_COLUMNS = 8192, RPO_TILE_ALIGNMENT = 8 };

typedef struct rpo_linear_plan {
    int64_t capacity, cached_rows; /* the first cached_rows of the compacted rows use the caller's cache */
    int64_t sweep_rows, chunk_rows;
    int64_t tile_columns, num_tiles;
    int64_t vocab_stride, hidden_stride; /* vocab_size and hidden_size up to whole 16-byte vectors */
    bool recompute; /* logits a second time for the gradient, nothing kept beyond a tile */
} rpo_linear_plan;

/* Running log-sum-exp of a compacted row and the logit of its label. */
typedef struct rpo_row_state {
    float maximum, sum, label_logit;
} rpo_row_state;

/* Exponentials of some compacted rows, in the dtype of the call, with what scales them: a tile's are relative
 * to its own maximum, so that rounding to 8 bits of mantissa costs 8 bits of the probability whatever its
 * size. */
typedef struct rpo_exp_store {
    rpo_row_state *states; /* [rows] */
    float *shifts;         /* [rows][num_tiles], the maxima */
    void *exps;            /* [rows][vocab_stride]; later the gradient of the logits; NULL = not kept */
} rpo_exp_store;

/* The workspace's parts. Unused ones are NULL. */
typedef struct rpo_linear_buffers {
    size_t gemm_bytes;
    void *gemm;
    float *logits;       /* [chunk_rows][tile_columns] */
    void *grad_logits;   /* [chunk_rows][tile_columns], `dtype`; recompute only */
    void *hidden;        /* [sweep_rows][hidden_stride], `dtype` */
    float *grad_hidden;  /* [chunk_rows][hidden_stride] */
    rpo_exp_store store; /* sweep_rows; exps only where rows beyond the cache are kept */
    float *row_logps;    /* [rows] */
    float *scales;       /* [rows] */
    int32_t *valid;      /* [capacity] indices of the valid rows, ascending */
    int32_t *num_valid;  /* [1] */
} rpo_linear_buffers;

#ifdef __cplusplus
extern "C" {
#endif

rpo_linear_plan rpo_linear_plan_choose(const rpo_cuda_state *state, const rpo_linear_logprob_shape *shape,
                                       bool backward);

/* Lays the buffers out in `workspace` (NULL to learn the size alone) and returns the bytes needed. */
size_t rpo_linear_plan_lay_out(rpo_linear_buffers *buffers, const rpo_linear_plan *plan,
                               const rpo_linear_logprob_shape *shape, bool backward, void *workspace);

/* The caller's cache, laid out for plan->cached_rows rows. */
rpo_exp_store rpo_linear_plan_cache(const rpo_linear_plan *plan, const rpo_linear_logprob_shape *shape,
                                    void *cache);

/* Bytes of a cache for `rows` rows. */
size_t rpo_linear_cache_bytes(const rpo_linear_plan *plan, const rpo_linear_logprob_shape *shape,
                              int64_t rows);

#ifdef __cplusplus
}
#endif
#endif
