/* objective.h - what a step and an evaluation share: which data, under which model, against which reference. */
#ifndef RPO_HOST_TRAIN_OBJECTIVE_H
#define RPO_HOST_TRAIN_OBJECTIVE_H

#include "host/metrics/metrics.h"
#include "host/train/contrast.h"

/* One figure per record and side; 0 where a record lacks the side. */
typedef struct rpo_scores {
    float *chosen, *rejected; /* [count] */
    int64_t count;
} rpo_scores;

typedef struct rpo_objective {
    rpo_comm *comm;
    rpo_context *context;
    rpo_model *model; /* the policy */
    const rpo_dataset *dataset;
    const rpo_embeddings *embeddings; /* NULL for kinds without */
    const rpo_scores *reference;      /* log-probs under the frozen model; NULL for sft */
    rpo_contrast_options contrast;
    int64_t micro_batch_tokens;
} rpo_objective;

/* Memory of a scope's worth of work, reused from one to the next. */
typedef struct rpo_objective_memory {
    rpo_global_batch scope;
    rpo_batch batch;
    float *policy, *reference, *gradients; /* [sequences] */
    size_t policy_capacity, reference_capacity, gradient_capacity;
} rpo_objective_memory;

void rpo_objective_memory_free(rpo_objective_memory *memory);

/* Lays rows of the objective's dataset out in `memory` and looks their reference log-probs up. */
rpo_status rpo_objective_prepare(const rpo_objective *objective, rpo_objective_memory *memory,
                                 const int64_t *records, int64_t num_rows);

static inline bool rpo_objective_is_sft(const rpo_objective *objective) {
    return objective->contrast.loss.kind == RPO_LOSS_SFT;
}

rpo_status rpo_scores_create(rpo_scores *scores, int64_t count);
void rpo_scores_free(rpo_scores *scores);

#endif
