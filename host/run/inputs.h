/* inputs.h - everything a training or an evaluation works on, loaded and checked before anything is written. */
#ifndef RPO_HOST_RUN_INPUTS_H
#define RPO_HOST_RUN_INPUTS_H

#include "host/config/config.h"
#include "host/train/objective.h"

typedef struct rpo_inputs {
    const rpo_config *config;
    rpo_comm *comm;
    rpo_context *context;
    rpo_tokenizer *tokenizer;
    rpo_dataset *train, *eval; /* NULL where there is no such data */
    rpo_model *model;          /* the policy, as it starts */
    rpo_memory *memory;        /* of the policy: everything that a run works with on the device */
    rpo_embeddings train_embeddings, eval_embeddings;
    int64_t *trainable; /* records that take part in training: all; for sft those with a chosen response */
    int64_t num_trainable;
    int64_t micro_batch_tokens;
    char data_hash[33], start_hash[33];
} rpo_inputs;

/* What the inputs are for: training needs gradients, moments and a tape. */
typedef enum rpo_inputs_use { RPO_INPUTS_TRAIN, RPO_INPUTS_EVALUATE } rpo_inputs_use;

/*
 * Loads data and model and checks that they fit each other and the loss; the memory of every step is sized and allocated
 * here, before weights are read. Evaluating, data.train only serves the embedder's document frequencies. Faults are
 * INVALID_INPUT with the file or key at fault.
 */
rpo_status rpo_inputs_open(rpo_inputs *inputs, const rpo_config *config, rpo_comm *comm, rpo_inputs_use use);

/* Embeddings of both datasets, where the loss reads them. `cache_folder` may be NULL. */
rpo_status rpo_inputs_embed(rpo_inputs *inputs, const char *cache_folder);

void rpo_inputs_close(rpo_inputs *inputs);

/* A frozen model of the same tokenizer, with memory of its own that scores the datasets and no more. */
typedef struct rpo_frozen_model {
    rpo_model *model; /* NULL: there is none */
    rpo_memory *memory;
} rpo_frozen_model;

rpo_status rpo_inputs_load_frozen(const rpo_inputs *inputs, rpo_frozen_model *frozen, const char *key,
                                  const char *path);
/* The fresh model of model.init and run.seed. */
rpo_status rpo_inputs_create_frozen(const rpo_inputs *inputs, rpo_frozen_model *frozen);
void rpo_frozen_model_free(rpo_frozen_model *frozen);

/* What is written beside the model: its tokenizer. Refers to `inputs`. */
rpo_checkpoint_extras rpo_inputs_extras(const rpo_inputs *inputs);

/* The objective of training or evaluating, without its reference. */
rpo_objective rpo_inputs_objective(const rpo_inputs *inputs, const rpo_dataset *dataset,
                                   const rpo_embeddings *embeddings);

/* Records of a training step: pairs, or twice as many unpaired ones. */
int64_t rpo_inputs_rows_a_step(const rpo_inputs *inputs);

/* Log-probs of a dataset under `model`: the reference pass. */
rpo_objective rpo_inputs_scoring(const rpo_inputs *inputs, rpo_model *model, const rpo_dataset *dataset);

#endif
