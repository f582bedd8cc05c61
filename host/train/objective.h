/*
 * objective.h - what is trained or evaluated, on which data, against which reference; and the desk it is done on: plans,
 * arrays and device memory, made once and used again by every step.
 */
#ifndef RPO_HOST_TRAIN_OBJECTIVE_H
#define RPO_HOST_TRAIN_OBJECTIVE_H

#include "host/train/contrast.h"
#include "host/train/options.h"
#include "host/train/trace.h"

typedef struct rpo_objective {
    rpo_comm *comm;
    rpo_model *model; /* the policy */
    const rpo_dataset *dataset;
    const rpo_embeddings *embeddings; /* NULL for kinds without */
    int64_t embedding_dim;            /* of them; 0 for kinds without */
    const rpo_scores *reference;      /* log-probs under the frozen model; NULL for sft */
    rpo_contrast_options contrast;
    int64_t micro_batch_tokens;
    rpo_prefix_sharing prefix_sharing;
    int64_t rows_at_once; /* most rows of one batch: of a step, or of a part of an evaluation */
    bool scores_only;     /* log-probs of both sides and no loss: the reference pass */
} rpo_objective;

static inline bool rpo_objective_is_sft(const rpo_objective *objective) {
    return objective->contrast.loss.kind == RPO_LOSS_SFT;
}

/* Is there anything to contrast? */
static inline bool rpo_objective_contrasts(const rpo_objective *objective) {
    return !objective->scores_only && !rpo_objective_is_sft(objective);
}

/* Rows of one batch of a pass over a dataset: about a micro-batch's worth, in whole contrast blocks where the loss has
 * them, so that a signal is not kept waiting. */
int64_t rpo_objective_rows_of_pass(const rpo_objective *objective);

rpo_plan_options rpo_objective_plan_options(const rpo_objective *objective);

/* Raises `request` to what the objective needs of its model's memory. Training adds a tape for the largest micro-batch
 * and, up to `tape_budget` bytes, for more of them; and a cache of the head's logits of at most `head_cache_limit`. */
rpo_status rpo_objective_request(rpo_memory_request *request, const rpo_objective *objective,
                                 const rpo_model *model, bool train, size_t tape_budget,
                                 size_t head_cache_limit);

/* One batch at a time. */
typedef struct rpo_desk {
    rpo_global_batch batch;
    rpo_plan plan;
    rpo_contrast_arrays contrast;
    rpo_tape *tapes; /* [tape_capacity] of the micro-batches that keep one */
    size_t tape_capacity;
    rpo_step_control *control;     /* on the device, always in the same place */
    const rpo_step_control *found; /* on the host, after a download */
    float *segment_logps;          /* device [num_segments] */
    float *segment_gradients;      /* device [num_segments] */
    const float *segment_logps_host;
    float *sequence_logps; /* host [sequences]: ranks' log-probs, and sft's */
    size_t sequence_capacity;
    rpo_trace trace;
} rpo_desk;

/* Room for everything the objective may put on the desk. */
rpo_status rpo_desk_open(rpo_desk *desk, const rpo_objective *objective);
void rpo_desk_close(rpo_desk *desk);

/* Plans `num_rows` rows (`records` NULL: from first_record on). Nothing is uploaded yet. */
rpo_status rpo_desk_lay_out(rpo_desk *desk, const rpo_objective *objective, const int64_t *records,
                            int64_t first_record, int64_t num_rows);

/* Log-probs of this rank's sequences by segment, in a forward that keeps nothing. Enqueues. */
rpo_status rpo_desk_score(rpo_desk *desk, const rpo_objective *objective);

/* Brings a group's log-probs into contrast order, from other ranks as well. Waits only where there are several. */
rpo_status rpo_desk_gather_group(rpo_desk *desk, const rpo_objective *objective, int64_t group,
                                 rpo_status status);

/* Downloads the figures and waits. */
rpo_status rpo_desk_finish(rpo_desk *desk, const rpo_objective *objective);

/* Log-probs of every sequence of the batch into desk->sequence_logps, after rpo_desk_finish: sft and scoring. */
rpo_status rpo_desk_collect(rpo_desk *desk, const rpo_objective *objective, rpo_status status);

#endif
