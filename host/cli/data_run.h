/* data_run.h - what `rpo preview` and `rpo embed` have in common: the configuration and its data. */
#ifndef RPO_HOST_CLI_DATA_RUN_H
#define RPO_HOST_CLI_DATA_RUN_H

#include "host/cli/config_arguments.h"

typedef struct rpo_data_run {
    rpo_config *config;
    rpo_tokenizer *tokenizer;
    rpo_dataset *train, *eval; /* eval NULL when the configuration names no held-out files */
} rpo_data_run;

/* Loads the configuration, the tokenizer and the data. Free with rpo_data_run_close, after a failure too. */
rpo_status rpo_data_run_open(rpo_data_run *run, const rpo_config_arguments *arguments);
void rpo_data_run_close(rpo_data_run *run);

/* Embeddings of the training (eval false) or held-out prompts, as a training run would compute them. */
rpo_status rpo_data_run_embed(const rpo_data_run *run, bool eval, const char *cache_folder,
                              rpo_embeddings *embeddings);

#endif
