/*
 * model.h - a Llama-architecture decoder in HF layout: forward to sequence log-probs, backward from one gradient
 * scalar per sequence.
 */
#ifndef RPO_HOST_MODEL_MODEL_H
#define RPO_HOST_MODEL_MODEL_H

#include "core/core.h"
#include "host/model/batch.h"

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

typedef struct rpo_model rpo_model;

/* One named parameter: a view into the model's one allocation. HF tensor names. */
typedef struct rpo_parameter {
    const char *name;
    int64_t shape[2]; /* shape[1] = 0 for vectors */
    int64_t offset;   /* elements from the start of the flat parameter array, 64-element aligned */
    int64_t count;
    bool decay; /* weight decay applies (matrices yes, norms no) */
} rpo_parameter;

rpo_status rpo_model_create(rpo_model **model, rpo_context *context, const rpo_model_config *config,
                            uint64_t seed);
rpo_status rpo_model_load(rpo_model **model, rpo_context *context, const char *folder);
/* Writes config.json and model.safetensors into an existing folder, each synced to disk. */
rpo_status rpo_model_save(const rpo_model *model, const char *folder);
void rpo_model_free(rpo_model *model);

const rpo_model_config *rpo_model_get_config(const rpo_model *model);
/* The special tokens that config.json will name; nothing is computed from them. -1 = none. */
void rpo_model_set_token_ids(rpo_model *model, int64_t bos, int64_t eos, int64_t pad);
const rpo_parameter *rpo_model_parameters(const rpo_model *model, size_t *count);
float *rpo_model_weights(rpo_model *model, int64_t *count); /* flat float32 array of all parameters */
/* Flat gradient array of the same layout; allocated (zeroed) at the first call. Padding between parameters stays 0. */
rpo_status rpo_model_gradients(rpo_model *model, float **gradients, int64_t *count);
rpo_status rpo_model_zero_gradients(rpo_model *model);
/* Hash of the config and of every weight: key of reference caches. */
rpo_status rpo_model_hash(const rpo_model *model, char hex[33]);

/*
 * Forward of a packed batch. sequence_logps [num_sequences], summed over labels (RPO_REDUCTION_SUM); NULL skips the
 * head (the activations are kept for the backward, which computes log-probs itself).
 * keep_activations true: a backward of the same batch may follow; with log-probs computed as well, up to 256 MiB of the
 * head's logits are kept for it. token_logps may be NULL.
 * Errors: INVALID_INPUT for a token id outside the vocabulary or a sequence longer than max_position_embeddings.
 */
rpo_status rpo_model_forward(rpo_model *model, const rpo_batch *batch, bool keep_activations,
                             float *sequence_logps, float *token_logps);

/*
 * Backward of the last forward with keep_activations, seeded with g [num_sequences] = dL / d sequence_logps. ADDS to
 * the gradient array. sequence_logps [num_sequences] may be NULL.
 */
rpo_status rpo_model_backward(rpo_model *model, const rpo_batch *batch, const float *sequence_gradients,
                              float *sequence_logps);

/* Logits of every row, float32 [num_tokens][vocab_size]: tests and debugging only. */
rpo_status rpo_model_logits(rpo_model *model, const rpo_batch *batch, float *logits);

#endif
