/* model_internal.h - what a model consists of, between creation, loading, forward and backward. */
#ifndef RPO_HOST_MODEL_MODEL_INTERNAL_H
#define RPO_HOST_MODEL_MODEL_INTERNAL_H

#include "host/model/model.h"
#include "kernels/op_table.h"

/* ---- parameters.c: the one table that all sizes and names come from ---- */

typedef enum rpo_layer_parameter {
    RPO_LAYER_ATTENTION_NORM,
    RPO_LAYER_QUERY,
    RPO_LAYER_KEY,
    RPO_LAYER_VALUE,
    RPO_LAYER_OUTPUT,
    RPO_LAYER_MLP_NORM,
    RPO_LAYER_GATE,
    RPO_LAYER_UP,
    RPO_LAYER_DOWN,
    RPO_LAYER_PARAMETERS
} rpo_layer_parameter;

enum { RPO_PARAMETER_NAME_SIZE = 64, RPO_PARAMETER_ALIGNMENT = 64 /* elements: 256 bytes */ };

typedef struct rpo_parameter_table {
    rpo_parameter *items; /* embedding, layers in order, final norm, head unless tied */
    char (*names)[RPO_PARAMETER_NAME_SIZE];
    size_t count;
    int64_t total;                       /* elements, padding included */
    int64_t embedding, final_norm, head; /* offsets; head = embedding when tied */
} rpo_parameter_table;

rpo_status rpo_parameter_table_build(rpo_parameter_table *table, const rpo_model_config *config);
void rpo_parameter_table_free(rpo_parameter_table *table);
int64_t rpo_parameter_offset(const rpo_parameter_table *table, int64_t layer, rpo_layer_parameter which);

/* ---- activations.c: the arena of a batch ---- */

/* What the backward reads of one layer. [T] is the number of packed tokens. */
typedef struct rpo_layer_activations {
    float *residual_in;     /* [T][hidden] */
    float *attention_rms;   /* [T] */
    float *qkv;             /* [T][qkv_size], after the rotation */
    float *attention;       /* [T][query_size] */
    float *logsumexp;       /* [T][heads] */
    float *residual_middle; /* [T][hidden] */
    float *mlp_rms;         /* [T] */
    float *gate_up;         /* [T][2 * intermediate] */
} rpo_layer_activations;

typedef struct rpo_activations {
    float *memory; /* one growing block that everything below points into */
    size_t capacity;
    rpo_layer_activations
        *layers;           /* [num_hidden_layers]; without a backward all of them are the same memory */
    float *residual_out;   /* [T][hidden], the last layer's */
    float *final_rms;      /* [T] */
    float *final_hidden;   /* [T][hidden], after the final norm */
    float *norm;           /* [T][hidden], scratch: a norm's output */
    float *product;        /* [T][intermediate], scratch: the SwiGLU product, and its gradient */
    float *grad_residual;  /* [T][hidden]; this and below: NULL without a backward */
    float *grad_norm;      /* [T][hidden] */
    float *grad_qkv;       /* [T][qkv_size] */
    float *grad_attention; /* [T][query_size] */
} rpo_activations;

struct rpo_model {
    rpo_context *context;
    const rpo_model_ops *ops;
    rpo_model_config config;
    int64_t query_size, key_size,
        qkv_size; /* elements of a row: query heads, key heads, both and the values */
    rpo_parameter_table parameters;
    float *weights, *gradients; /* [parameters.total]; gradients NULL until asked for */
    rpo_activations activations;
    void *workspace; /* of the ops, as large as the hungriest */
    size_t workspace_size;
    float *rope; /* [rope_positions][head_dim] */
    int64_t rope_positions;
    int64_t kept_tokens, kept_sequences; /* of the forward whose activations are kept; 0 = none */
    void *head_cache;       /* between a forward with log-probs and its backward (rpo_linear_logprob_saved) */
    size_t head_cache_size; /* allocated */
    size_t head_cached_bytes; /* told to the forward whose activations are kept; 0 = none */
};

/* Of the head's cache: 2,048 labels of a vocabulary of 32,000. What does not fit is computed twice. */
enum { RPO_HEAD_CACHE_LIMIT = 256 << 20 };

/* No backward may follow any more. */
static inline void rpo_model_forget_activations(rpo_model *model) {
    model->kept_tokens = 0;
    model->kept_sequences = 0;
    model->head_cached_bytes = 0;
}

/* Points the activations at memory for `tokens` rows; grows the arena when it is too small. */
rpo_status rpo_activations_prepare(rpo_model *model, int64_t tokens, bool for_backward);
void rpo_activations_free(rpo_activations *activations);

/* At least `size` bytes in model->workspace. */
rpo_status rpo_model_reserve_workspace(rpo_model *model, size_t size);

/* At least `size` bytes in model->head_cache. */
rpo_status rpo_model_reserve_head_cache(rpo_model *model, size_t size);

/* ---- model.c ---- */

/* A model without weights: the table, and nothing of the parameters' size. */
rpo_status rpo_model_new(rpo_model **model, rpo_context *context, const rpo_model_config *config);

/* ---- forward.c and backward.c ---- */

rpo_norm_shape rpo_model_norm_shape(const rpo_model *model, int64_t rows);
rpo_rope_shape rpo_model_rope_shape(const rpo_model *model, int64_t rows);
rpo_linear_shape rpo_model_linear_shape(const rpo_model *model, int64_t rows, int64_t in, int64_t out);
rpo_attention_shape rpo_model_attention_shape(const rpo_model *model, const rpo_batch *batch);
rpo_linear_logprob_shape rpo_model_head_shape(const rpo_model *model, const rpo_batch *batch);
rpo_linear_logprob_inputs rpo_model_head_inputs(const rpo_model *model, const rpo_batch *batch,
                                                const float *sequence_gradients);

static inline const float *rpo_layer_weight(const rpo_model *model, int64_t layer,
                                            rpo_layer_parameter which) {
    return model->weights + rpo_parameter_offset(&model->parameters, layer, which);
}

static inline float *rpo_layer_gradient(const rpo_model *model, int64_t layer, rpo_layer_parameter which) {
    return model->gradients + rpo_parameter_offset(&model->parameters, layer, which);
}

#endif
