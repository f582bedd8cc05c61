/*
 * batch.h - packed rows: what a model's forward reads.
 *
 * A batch is a list of segments, each a run of rows of one sequence. A sequence may stand whole in one segment; or its
 * prompt stands in a segment of its own, once for all responses that follow it, and each response's segment names that
 * prefix. A row carries the token it holds, the position of that token in its sequence, and the token it predicts.
 */
#ifndef RPO_HOST_MODEL_BATCH_H
#define RPO_HOST_MODEL_BATCH_H

#include "core/core.h"
#include "host/device/staging.h"
#include "kernels/op_table.h"

typedef struct rpo_batch {
    int32_t *tokens;    /* [num_rows] */
    int32_t *labels;    /* [num_rows] the token a row predicts, RPO_IGNORE_LABEL where that does not count */
    int32_t *positions; /* [num_rows] in the sequence, from 0 */
    int32_t *cu_seqlens, *prefix; /* [num_segments + 1] rows; [num_segments] a segment before it, or -1 */
    int64_t num_rows, num_segments, num_labels;
    int64_t max_context;                   /* rows that a segment's last row sees, at most */
    int64_t *keys;                         /* [row_capacity] scratch of rpo_batch_stage */
    size_t row_capacity, segment_capacity; /* of the arrays; managed by the functions below */
} rpo_batch;

void rpo_batch_clear(rpo_batch *batch); /* keeps the memory */
void rpo_batch_free(rpo_batch *batch);

/* Room for that many rows and segments in all: adding within it allocates nothing. */
rpo_status rpo_batch_reserve(rpo_batch *batch, int64_t rows, int64_t segments);

/* Rows of a sequence of `length` tokens whose labels begin at token `label_start` (>= 1). */
typedef struct rpo_segment_rows {
    const int32_t *tokens; /* [length] the whole sequence */
    int64_t length, label_start;
    int64_t first, end; /* its rows: tokens [first, end); row t predicts token t + 1 */
    int64_t prefix;     /* segment that holds tokens [0, first); -1 = none, and then first is 0 */
} rpo_segment_rows;

/* Appends a segment; its number is num_segments - 1 afterwards. */
rpo_status rpo_batch_add_rows(rpo_batch *batch, const rpo_segment_rows *rows);

/* Appends a whole sequence as one segment, the last token's row included. */
rpo_status rpo_batch_add(rpo_batch *batch, const int32_t *tokens, int64_t length, int64_t label_start);

/* A batch on the device. The arrays lie in what the staging buffer uploads and last as long as its contents. */
typedef struct rpo_device_batch {
    const int32_t *tokens, *labels, *positions;
    rpo_segments segments;
    rpo_token_order order;
    int64_t num_rows, num_segments, num_labels;
} rpo_device_batch;

/* Bytes that staging a batch takes at most. */
size_t rpo_batch_staged_bytes(int64_t rows, int64_t segments);

/* Puts a batch and what the ops want to know of it (tiles, users of prefixes, rows by token) into the staging buffer. */
rpo_status rpo_batch_stage(rpo_batch *batch, rpo_staging *staging, rpo_device_batch *staged);

#endif
