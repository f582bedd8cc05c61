/*
 * global_batch.h - rows of a dataset (a step's batch, a part of a held-out set) as a list of sequences, and this rank's
 * run of them.
 *
 * Sequences stand in row order, a row's chosen response before its rejected one. Ranks own consecutive rows, so
 * gathering what every rank computed gives the figures of the whole batch in sequence order.
 */
#ifndef RPO_HOST_TRAIN_GLOBAL_BATCH_H
#define RPO_HOST_TRAIN_GLOBAL_BATCH_H

#include "host/comm/comm.h"
#include "host/data/dataset.h"

typedef struct rpo_batch_sequence {
    const rpo_sequence *tokens;
    int64_t row; /* in the batch */
    bool rejected;
} rpo_batch_sequence;

typedef struct rpo_global_batch {
    int64_t *records; /* [num_rows] the dataset's record of each row */
    int64_t num_rows;
    rpo_batch_sequence *sequences; /* [num_sequences] */
    int64_t num_sequences;
    int64_t num_tokens, num_labels; /* of all sequences */
    int64_t *rank_counts;           /* [comm->size] sequences of each rank */
    int64_t first, last;            /* this rank's sequences: [first, last) */
    size_t record_capacity, sequence_capacity, rank_capacity;
} rpo_global_batch;

/* Fills `batch`, whose memory is reused. `records` NULL = records first_record .. first_record + num_rows - 1.
 * chosen_only: the rejected side is left out (sft). */
rpo_status rpo_global_batch_build(rpo_global_batch *batch, const rpo_comm *comm, const rpo_dataset *dataset,
                                  const int64_t *records, int64_t first_record, int64_t num_rows,
                                  bool chosen_only);
void rpo_global_batch_free(rpo_global_batch *batch);

/* First sequence of the rows from `row` on; num_sequences where there is none. `from`: a sequence to begin looking at. */
int64_t rpo_global_batch_sequence_of(const rpo_global_batch *batch, int64_t row, int64_t from);

#endif
