/* model_internal.h - what a model consists of, between creation, files, forward and backward. */
#ifndef RPO_HOST_MODEL_MODEL_INTERNAL_H
#define RPO_HOST_MODEL_MODEL_INTERNAL_H

#include "host/model/model.h"
#include "kernels/op_table.h"

struct rpo_model {
    rpo_context *context;
    const rpo_model_ops *ops;
    rpo_model_config config;
    int64_t query_size, key_size,
        qkv_size; /* elements of a row: query heads, key heads, both and the values */
    rpo_tensor_table tensors;
    rpo_memory *memory; /* another's; NULL before rpo_memory_create */
};

/* memory.c tells the model where it works. */
void rpo_model_attach(rpo_model *model, rpo_memory *memory);

/* Shapes of the ops for a batch of that many rows. */
rpo_linear_shape rpo_model_linear_shape(int64_t rows, int64_t in, int64_t out);
rpo_norm_shape rpo_model_norm_shape(const rpo_model *model, int64_t rows);
rpo_attention_shape rpo_model_attention_shape(const rpo_model *model, int64_t rows);
rpo_rope_shape rpo_model_rope_shape(const rpo_model *model, int64_t rows);
rpo_embedding_shape rpo_model_embedding_shape(const rpo_model *model, int64_t rows);
rpo_linear_logprob_shape rpo_model_head_shape(const rpo_model *model, const rpo_device_batch *batch,
                                              size_t cache_bytes);

/* Weights and gradients of a tensor. */
const float *rpo_model_weight(const rpo_model *model, const rpo_tensor *tensor);
float *rpo_model_gradient(const rpo_model *model, const rpo_tensor *tensor);
const float *rpo_layer_weight(const rpo_model *model, int64_t layer, rpo_layer_tensor which);
float *rpo_layer_gradient(const rpo_model *model, int64_t layer, rpo_layer_tensor which);

/* The scratch of a batch, cut for its rows. */
rpo_scratch rpo_model_scratch(const rpo_model *model, int64_t rows);

#endif
