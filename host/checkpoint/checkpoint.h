/*
 * checkpoint.h - RUN/checkpoints/step-N: model, optimizer and trainer state, written so that a kill at any
 * moment leaves the one before intact: temp folder, write, fsync, checksums, rename, fsync of the parent.
 */
#ifndef RPO_HOST_CHECKPOINT_CHECKPOINT_H
#define RPO_HOST_CHECKPOINT_CHECKPOINT_H

#include "core/core.h"
#include "host/metrics/figures.h"
#include "host/model/model.h"

/* Everything besides weights and optimizer moments that the next step depends on. */
typedef struct rpo_trainer_state {
    int64_t step;          /* finished steps */
    int64_t updates;       /* of those, the ones that changed the weights: bias correction counts them */
    int64_t epoch;         /* current pass over the data */
    int64_t position;      /* records consumed of this epoch's permutation */
    int64_t skipped_steps; /* consecutive non-finite steps so far */
    bool eval_pending; /* stopped between a step and its evaluation: the evaluation comes first on resume */
    uint64_t seed;
    int64_t metrics_bytes;   /* length of metrics.jsonl when the checkpoint was taken */
    char config_hash[33];    /* of the keys that must not change on resume */
    char data_hash[33];      /* of the training and held-out records */
    char start_hash[33];     /* of the model the run began with */
    char reference_hash[33]; /* of the frozen model; "" for sft */
    rpo_figures before,
        latest;     /* held out (without held-out data: of a training batch), for the closing table */
    int64_t tokens; /* trained so far */
    double seconds; /* spent on it */
} rpo_trainer_state;

typedef struct rpo_optimizer_state {
    rpo_context *context;
    int num_moments;
    const char *names[RPO_MAX_MOMENTS]; /* what optimizer.safetensors calls them */
    float *moments[RPO_MAX_MOMENTS];    /* device, [count]: flat arrays of the trainable space */
    int64_t count;
} rpo_optimizer_state;

/* What stands beside a model in its folder, the tokenizer: `write` is called before the checksums are taken. */
typedef struct rpo_checkpoint_extras {
    rpo_status (*write)(const void *owner, const char *folder);
    const void *owner;
} rpo_checkpoint_extras;

/*
 * Writes RUN/checkpoints/step-N, then removes all but the `keep` newest up to there and sets later ones aside. On
 * failure what was there before is untouched. Old ones that cannot be removed are no failure of the save: each is one
 * line in `warnings`. `extras` and `warnings` may be NULL.
 */
rpo_status rpo_checkpoint_save(const char *run_folder, const rpo_model *model,
                               const rpo_optimizer_state *optimizer, const rpo_trainer_state *state,
                               int64_t keep, const rpo_checkpoint_extras *extras, rpo_text *warnings);

/*
 * Reads the trainer state of the newest checkpoint that is whole, and its path (rpo_free). Damaged ones, that is such
 * as fail their checksums, are passed over, each with one line in `warnings` that says what is wrong with it. *folder
 * NULL when there is none at all. A checkpoint that could not be read for any other reason is not passed over: the
 * status says why (IO, OUT_OF_MEMORY, INTERRUPTED; INVALID_INPUT for one that is whole but of another version or
 * renamed).
 */
rpo_status rpo_checkpoint_find_latest(const char *run_folder, char **folder, rpo_trainer_state *state,
                                      rpo_text *warnings);

/*
 * Renames every checkpoint of a later step than `step` to RUN/checkpoints/aside-step-N, with one line in `warnings` for
 * each. For a run that goes on from `step`: those are the damaged ones, which nobody looks at again and nobody deletes.
 */
rpo_status rpo_checkpoint_set_later_aside(const char *run_folder, int64_t step, rpo_text *warnings);

/* Loads weights and moments of a checkpoint folder found so into existing memory of the same layout. */
rpo_status rpo_checkpoint_load(const char *folder, rpo_model *model, const rpo_optimizer_state *optimizer);

/* RUN/final: the model and `extras` (may be NULL), through the same temp folder and rename. */
rpo_status rpo_checkpoint_save_final(const char *run_folder, const rpo_model *model,
                                     const rpo_checkpoint_extras *extras, rpo_text *warnings);

/* Removes what a killed run left half-written, and puts back what it had moved out of its successor's way: to be called
 * under the run folder's lock, before any checkpoint is looked for. */
rpo_status rpo_checkpoint_clean(const char *run_folder);

/* Bytes that must be free before a run starts: `checkpoints` of them (the newest and the one being written)
 * and RUN/final. */
uint64_t rpo_checkpoint_bytes_needed(int64_t parameters, int num_moments, int checkpoints);

#endif
