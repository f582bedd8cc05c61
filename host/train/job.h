/* job.h - everything a training or an evaluation works on, loaded and checked before anything is written. */
#ifndef RPO_HOST_TRAIN_JOB_H
#define RPO_HOST_TRAIN_JOB_H

#include "host/config/config.h"
#include "host/train/task.h"

typedef struct rpo_job {
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
} rpo_job;

/*
 * Loads data and model and checks that they fit each other and the loss. `needs_training_data` false:
 * data.train only serves the embedder's document frequencies. Faults are INVALID_INPUT with the file or key
 * at fault.
 */
rpo_status rpo_job_open(rpo_job *job, const rpo_config *config, rpo_comm *comm, bool needs_training_data);

/* Embeddings of both datasets, where the loss reads them. `cache_folder` may be NULL. */
rpo_status rpo_job_embed(rpo_job *job, const char *cache_folder);

void rpo_job_close(rpo_job *job);

/* Loads another model of the same tokenizer: the frozen one. */
rpo_status rpo_job_load_model(const rpo_job *job, rpo_model **model, const char *key, const char *path);

/* The task of training or evaluating, without its reference. */
rpo_task rpo_job_task(const rpo_job *job, const rpo_dataset *dataset, const rpo_embeddings *embeddings);

#endif
