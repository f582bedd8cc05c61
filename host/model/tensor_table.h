/*
 * tensor_table.h - every tensor of a model, once: what it is called, its shape, its part in the model, and where it
 * stands in the two flat arrays: the weights, and the trainable space that master, gradients and moments share.
 */
#ifndef RPO_HOST_MODEL_TENSOR_TABLE_H
#define RPO_HOST_MODEL_TENSOR_TABLE_H

#include "core/core.h"
#include "host/model/config.h"

typedef enum rpo_tensor_role {
    RPO_TENSOR_EMBEDDING, /* a row for every token; the head where it is not tied */
    RPO_TENSOR_MATRIX,
    RPO_TENSOR_NORM,
    RPO_TENSOR_BIAS,
    RPO_TENSOR_ADAPTER
} rpo_tensor_role;

typedef struct rpo_tensor {
    const char *name; /* as in HF files */
    int64_t shape[2]; /* row-major; shape[1] = 0 for vectors */
    int64_t count;
    rpo_dtype dtype; /* of the weights; the trainable space is float32 */
    rpo_tensor_role role;
    bool trainable;
    int64_t offset; /* elements from the start of the weights */
    int64_t slot;   /* elements from the start of the trainable space; -1 = frozen */
} rpo_tensor;

/* Tensors of a layer, in the order in which they stand in both arrays. */
typedef enum rpo_layer_tensor {
    RPO_LAYER_ATTENTION_NORM,
    RPO_LAYER_QUERY, /* query, key and value have no gap between them: one product computes all three */
    RPO_LAYER_KEY,
    RPO_LAYER_VALUE,
    RPO_LAYER_OUTPUT,
    RPO_LAYER_MLP_NORM,
    RPO_LAYER_GATE, /* so do gate and up */
    RPO_LAYER_UP,
    RPO_LAYER_DOWN,
    RPO_LAYER_TENSORS
} rpo_layer_tensor;

/* Elements: 256 bytes of float32. A tensor that does not continue the one before starts at a multiple of it. */
enum { RPO_TENSOR_NAME_SIZE = 64, RPO_TENSOR_ALIGNMENT = 64 };

typedef struct rpo_tensor_table {
    rpo_tensor *items; /* embedding, layers in order, final norm, head unless tied */
    char (*names)[RPO_TENSOR_NAME_SIZE];
    size_t count;
    int64_t weights;                    /* elements of the weights, padding included */
    int64_t trainable;                  /* elements of the trainable space, padding included */
    size_t embedding, final_norm, head; /* places in items; head = embedding when tied */
} rpo_tensor_table;

rpo_status rpo_tensor_table_build(rpo_tensor_table *table, const rpo_model_config *config);
void rpo_tensor_table_free(rpo_tensor_table *table);

const rpo_tensor *rpo_tensor_table_layer(const rpo_tensor_table *table, int64_t layer,
                                         rpo_layer_tensor which);

/* Does weight decay apply to it? To embeddings and matrices, as transformers' trainers have it. */
bool rpo_tensor_decays(const rpo_tensor *tensor);

/* True where `next` continues `tensor` without a gap, as the members of one product do. */
bool rpo_tensor_is_continued_by(const rpo_tensor *tensor, const rpo_tensor *next);

/* Elements of all tensors, without padding: the model's size as people count it. */
int64_t rpo_tensor_table_elements(const rpo_tensor_table *table);

#endif
