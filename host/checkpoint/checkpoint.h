/*
 * checkpoint.h - RUN/checkpoints/step-N: model, optimizer and trainer state, written so that a kill at any moment
 * leaves the one before intact: temp folder, write, fsync, checksums, rename, fsync of the parent.
 */
#ifndef RPO_HOST_CHECKPOINT_CHECKPOINT_H
#define RPO_HOST_CHECKPOINT_CHECKPOINT_H

#include "host/core/core.h"
#include "host/model/model.h"

/* Everything besides weights and optimizer moments that the next step depends on. */
typedef struct rpo_trainer_state {
    int64_t step;          /* finished steps */
    int64_t epoch;         /* current pass over the data */
    int64_t position;      /* records consumed of this epoch's permutation */
    uint64_t seed;
    int64_t metrics_bytes; /* length of metrics.jsonl when the checkpoint was taken */
    int64_t skipped_steps; /* consecutive non-finite steps so far */
    char config_hash[33];  /* of the keys that must not change on resume */
    char data_hash[33];
    double before[8];      /* held-out figures before training, for the closing table; see train/ */
    int64_t tokens;        /* trained so far */
    double seconds;
} rpo_trainer_state;

typedef struct rpo_optimizer_state {
    const char *kind; /* "adamw", "rmsprop" */
    float *moments[2]; /* flat arrays of the model's layout; moments[1] NULL for rmsprop */
    int64_t count;
} rpo_optimizer_state;

rpo_status rpo_checkpoint_save(const char *run_folder, const rpo_model *model, const rpo_optimizer_state *optimizer,
                               const rpo_trainer_state *state, int64_t keep);

/*
 * Loads the newest checkpoint that is whole into existing model and optimizer memory. Damaged ones are passed over,
 * each with one warning line on stderr that says what is wrong with it and which one is used instead.
 * *found false when there is none at all.
 */
rpo_status rpo_checkpoint_load_latest(const char *run_folder, rpo_model *model, rpo_optimizer_state *optimizer,
                                      rpo_trainer_state *state, bool *found);

/* RUN/final: the model alone, through the same temp folder and rename. */
rpo_status rpo_checkpoint_save_final(const char *run_folder, const rpo_model *model);

#endif
