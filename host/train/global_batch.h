/*
 * global_batch.h - the contrast scope: rows of a dataset (a global batch, a held-out set) as a list of sequences,
 * this rank's run of them, and the micro-batches that run is forwarded in.
 *
 * Sequences stand in row order, a row's chosen response before its rejected one. Ranks own consecutive rows,
 * so gathering what every rank computed gives the figures of the whole scope in sequence order.
 */
#ifndef RPO_HOST_TRAIN_GLOBAL_BATCH_H
#define RPO_HOST_TRAIN_GLOBAL_BATCH_H

#include "host/comm/comm.h"
#include "host/data/dataset.h"
#include "host/model/model.h"

typedef struct rpo_batch_sequence {
    const rpo_sequence *tokens;
    int64_t row; /* in the scope */
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
    int64_t *ends;                  /* micro-batch k of this rank holds sequences [ends[k], ends[k + 1]) */
    int64_t num_micro_batches;
    size_t record_capacity, sequence_capacity, rank_capacity, end_capacity;
} rpo_global_batch;

typedef struct rpo_global_batch_options {
    int64_t micro_batch_tokens; /* most tokens of one forward, > 0; a longer sequence goes alone */
    bool chosen_only;           /* sft: the rejected side is never run */
} rpo_global_batch_options;

/* Fills `scope`, whose memory is reused. `records` NULL = records 0 .. num_rows - 1. */
rpo_status rpo_global_batch_build(rpo_global_batch *scope, const rpo_comm *comm, const rpo_dataset *dataset,
                                  const int64_t *records, int64_t num_rows,
                                  const rpo_global_batch_options *options);
void rpo_global_batch_free(rpo_global_batch *scope);

/* Packs micro-batch k into `batch`. */
rpo_status rpo_global_batch_pack(const rpo_global_batch *scope, int64_t k, rpo_batch *batch);

/* Called after every micro-batch; a status other than RPO_OK ends the forward. */
typedef rpo_status rpo_global_batch_tick(void *user, int64_t micro_batches_done, int64_t micro_batches,
                                         int64_t tokens_done);

/* Log-probs of this rank's sequences into logps[first .. last): a forward without activations. */
rpo_status rpo_global_batch_forward(const rpo_global_batch *scope, rpo_model *model, rpo_batch *batch,
                                    float *logps, rpo_global_batch_tick *tick, void *user);

/* Completes logps [num_sequences] with the other ranks' parts. `status` is how this rank fared so far: where
 * one failed, all of them fail. */
rpo_status rpo_global_batch_gather(const rpo_global_batch *scope, rpo_comm *comm, float *logps,
                                   rpo_status status);

#endif
