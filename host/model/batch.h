/*
 * batch.h - packed sequences: what a model's forward reads.
 */
#ifndef RPO_HOST_MODEL_BATCH_H
#define RPO_HOST_MODEL_BATCH_H

#include "core/core.h"
#include "kernels/model_ops.h"

typedef struct rpo_batch {
    int32_t *tokens;     /* [num_tokens] */
    int32_t *labels;     /* [num_tokens] labels[t] = token t predicts, RPO_IGNORE_LABEL elsewhere */
    int32_t *positions;  /* [num_tokens] position inside the sequence, from 0 */
    int32_t *cu_seqlens; /* [num_sequences + 1] */
    int32_t *no_prefix;  /* [num_sequences] -1: no sequence shares rows with another */
    int32_t *no_users;   /* [num_sequences + 1] 0 */
    int32_t *tiles;      /* [num_tiles][2] sequence, first row in it */
    int64_t num_tokens, num_sequences, num_labels, num_tiles, max_length;
    size_t token_capacity, sequence_capacity,
        tile_capacity; /* of the arrays; managed by the functions below */
} rpo_batch;

void rpo_batch_clear(rpo_batch *batch); /* keeps the memory */
void rpo_batch_free(rpo_batch *batch);

/* Appends a sequence; label_start is the index of the first token that is a label (>= 1). */
rpo_status rpo_batch_add(rpo_batch *batch, const int32_t *tokens, int64_t length, int64_t label_start);

/* The sequences as the attention sees them; valid until the batch changes. */
rpo_segments rpo_batch_segments(const rpo_batch *batch);

/* The batch's rows by token. The arrays are one allocation, *memory, which the caller frees with rpo_free. */
rpo_status rpo_batch_token_order(const rpo_batch *batch, rpo_token_order *order, int32_t **memory);

#endif
