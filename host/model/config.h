/*
 * config.h - the shape of a model by the key names of an HF config.json: read, checked, written, explained.
 */
#ifndef RPO_HOST_MODEL_CONFIG_H
#define RPO_HOST_MODEL_CONFIG_H

#include "core/core.h"

/* HF key names of LlamaConfig. */
typedef struct rpo_model_config {
    int64_t vocab_size, hidden_size, intermediate_size, num_hidden_layers, num_attention_heads,
        num_key_value_heads, head_dim, max_position_embeddings;
    double rms_norm_eps, rope_theta, initializer_range;
    bool tie_word_embeddings;
    int64_t bos_token_id, eos_token_id, pad_token_id; /* -1 = none */
} rpo_model_config;

/* Defaults of every optional key; the required ones are 0. */
rpo_model_config rpo_model_config_default(void);

struct rpo_json;
/* Fills `config` from a JSON object of HF keys (config.json, or model.init). `strict`: unknown keys are errors;
 * otherwise only keys that would change the computation and are not supported are (rope_scaling, attention_bias...). */
rpo_status rpo_model_config_read(rpo_model_config *config, const struct rpo_json *json, const void *object,
                                 bool strict);
rpo_status rpo_model_config_append_json(const rpo_model_config *config, rpo_text *text); /* HF config.json */

/* The same as a model.init: each field once, nothing that only other readers need. */
rpo_status rpo_model_config_append_init(const rpo_model_config *config, rpo_text *text);
/* Every key that model.init may hold: two lines each, what it is, then its default and what is allowed. */
rpo_status rpo_model_config_append_help(rpo_text *text);

/* FOLDER/config.json of an HF folder. */
rpo_status rpo_model_config_load(rpo_model_config *config, const char *folder);

#endif
