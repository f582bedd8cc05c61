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
    rpo_embeddings train_embeddings, eval_embeddings;
    int64_t *trainable; /* records that take part in training: all; for sft those with a chosen response */
    int64_t num_trainable;
    int64_t micro_batch_tokens;
    char data_hash[33], start_hash[33];
} rpo_inputs;

/*
 * Loads data and model and checks that they fit each other and the loss. `needs_training_data` false:
 * data.train only serves the embedder's document frequencies. Faults are INVALID_INPUT with the file or key
 * at fault.
 */
rpo_status rpo_inputs_open(rpo_inputs *inputs, const rpo_config *config, rpo_comm *comm,
                           bool needs_training_data);

/* Embeddings of both datasets, where the loss reads them. `cache_folder` may be NULL. */
rpo_status rpo_inputs_embed(rpo_inputs *inputs, const char *cache_folder);

void rpo_inputs_close(rpo_inputs *inputs);

/* Loads another model of the same tokenizer: the frozen one. */
rpo_status rpo_inputs_load_model(const rpo_inputs *inputs, rpo_model **model, const char *key,
                                 const char *path);

/* What is written beside the model: its tokenizer. Refers to `inputs`. */
rpo_checkpoint_extras rpo_inputs_extras(const rpo_inputs *inputs);

/* Creates the fresh model of model.init and run.seed. */
rpo_status rpo_inputs_create_model(const rpo_inputs *inputs, rpo_model **model);

/* The objective of training or evaluating, without its reference. */
rpo_objective rpo_inputs_objective(const rpo_inputs *inputs, const rpo_dataset *dataset,
                                   const rpo_embeddings *embeddings);

#endif
