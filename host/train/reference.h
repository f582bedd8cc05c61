/* reference.h - log-probs under the frozen model: computed once, cached beside the run, spot-checked when
 * reused. */
#ifndef RPO_HOST_TRAIN_REFERENCE_H
#define RPO_HOST_TRAIN_REFERENCE_H

#include "host/train/objective.h"

typedef struct rpo_reference {
    rpo_comm *comm;
    rpo_model *model;         /* the frozen one; only read */
    const char *model_hash;   /* rpo_model_hash of it */
    const char *cache_folder; /* NULL = no cache */
    int64_t micro_batch_tokens;
    uint64_t seed; /* of the sample that is checked */
    rpo_metrics *metrics;
} rpo_reference;

/*
 * Log-probs of every sequence of `dataset`, from CACHE/reference-HASH.bin where a whole file of that model
 * and data is there and a random sample of it computes to the same; otherwise by a pass of the model, kept in
 * that file. `scores` is created here. *from_cache tells which.
 */
rpo_status rpo_reference_scores(rpo_scores *scores, bool *from_cache, const rpo_reference *reference,
                                const rpo_dataset *dataset);

#endif
