/*
 * linear_logprob_tile.h - what happens to a tile of logits between the matrix products.
 */
#ifndef RPO_CUDA_LINEAR_LOGPROB_TILE_H
#define RPO_CUDA_LINEAR_LOGPROB_TILE_H

#include "kernels/cuda/compaction.h"
#include "kernels/cuda/linear_logprob_plan.h"

/* What the kernels need of a call besides the tile; device pointers. */
typedef struct rpo_tile_job {
    const int32_t *labels;
    const float *scales; /* [rows]; NULL in the forward */
    float *row_logps;    /* [rows] */
    float *logsumexp;    /* [rows], written by the forward; or NULL */
    rpo_compacted rows;  /* the rows at hand */
    rpo_exp_store store; /* of these rows */
    int64_t vocab_size, vocab_stride, num_tiles, tile_columns;
    rpo_dtype dtype;
} rpo_tile_job;

#ifdef __cplusplus
extern "C" {
#endif

/* Merges columns [tile * tile_columns, ...) of the logits, float32 [count][tile_columns], into the rows'
 * states; keeps their exponentials if the store has room for them; writes the log-probs after the last tile.
 */
rpo_status rpo_cuda_tile_logsumexp(rpo_context *context, const rpo_tile_job *job, const float *logits,
                                   int64_t tile);

/* Turns the kept exponentials of whole rows into the gradient of the logits, in place; writes the log-probs.
 * Rows that do not exist become 0. */
rpo_status rpo_cuda_kept_gradient(rpo_context *context, const rpo_tile_job *job);

/* grad_logits [count][tile_columns], `dtype`, from logits computed again and the rows' final states. */
rpo_status rpo_cuda_tile_gradient(rpo_context *context, const rpo_tile_job *job, void *grad_logits,
                                  const float *logits, int64_t tile);

#ifdef __cplusplus
}
#endif
#endif
