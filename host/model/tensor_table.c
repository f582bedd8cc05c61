/* tensor_table.c - names, shapes and places, all from one list of kinds. */
#include "host/model/tensor_table.h"

#include <stdio.h>
#include <string.h>

/* What a dimension is called in the table below. */
typedef enum dimension { ONE, VOCAB, HIDDEN, INTERMEDIATE, QUERY, KEY } dimension;

typedef struct tensor_kind {
    const char *name;
    dimension rows, columns; /* columns ONE: a vector */
    rpo_tensor_role role;
    bool continues; /* the one before, without a gap */
} tensor_kind;

static const tensor_kind embedding_kind = {"model.embed_tokens.weight", VOCAB, HIDDEN, RPO_TENSOR_EMBEDDING,
                                           false};
static const tensor_kind final_norm_kind = {"model.norm.weight", HIDDEN, ONE, RPO_TENSOR_NORM, false};
static const tensor_kind head_kind = {"lm_head.weight", VOCAB, HIDDEN, RPO_TENSOR_EMBEDDING, false};

/* Of every layer, after "model.layers.N.". */
static const tensor_kind layer_kinds[RPO_LAYER_TENSORS] = {
    [RPO_LAYER_ATTENTION_NORM] = {"input_layernorm.weight", HIDDEN, ONE, RPO_TENSOR_NORM, false},
    [RPO_LAYER_QUERY] = {"self_attn.q_proj.weight", QUERY, HIDDEN, RPO_TENSOR_MATRIX, false},
    [RPO_LAYER_KEY] = {"self_attn.k_proj.weight", KEY, HIDDEN, RPO_TENSOR_MATRIX, true},
    [RPO_LAYER_VALUE] = {"self_attn.v_proj.weight", KEY, HIDDEN, RPO_TENSOR_MATRIX, true},
    [RPO_LAYER_OUTPUT] = {"self_attn.o_proj.weight", HIDDEN, QUERY, RPO_TENSOR_MATRIX, false},
    [RPO_LAYER_MLP_NORM] = {"post_attention_layernorm.weight", HIDDEN, ONE, RPO_TENSOR_NORM, false},
    [RPO_LAYER_GATE] = {"mlp.gate_proj.weight", INTERMEDIATE, HIDDEN, RPO_TENSOR_MATRIX, false},
    [RPO_LAYER_UP] = {"mlp.up_proj.weight", INTERMEDIATE, HIDDEN, RPO_TENSOR_MATRIX, true},
    [RPO_LAYER_DOWN] = {"mlp.down_proj.weight", HIDDEN, INTERMEDIATE, RPO_TENSOR_MATRIX, false},
};

enum { FIRST_LAYER_ITEM = 1 }; /* the embedding stands before the layers */

static int64_t size_of(dimension which, const rpo_model_config *config) {
    switch (which) {
    case ONE:
        return 1;
    case VOCAB:
        return config->vocab_size;
    case HIDDEN:
        return config->hidden_size;
    case INTERMEDIATE:
        return config->intermediate_size;
    case QUERY:
        return config->num_attention_heads * config->head_dim;
    case KEY:
        return config->num_key_value_heads * config->head_dim;
    }
    return 0;
}

static int64_t aligned(int64_t elements) {
    return (elements + RPO_TENSOR_ALIGNMENT - 1) / RPO_TENSOR_ALIGNMENT * RPO_TENSOR_ALIGNMENT;
}

/* Appends one tensor behind those there are; returns its place. */
static size_t append(rpo_tensor_table *table, const rpo_model_config *config, const tensor_kind *kind,
                     int64_t layer) {
    rpo_tensor *item = &table->items[table->count];
    char *name = table->names[table->count];
    if (layer >= 0)
        snprintf(name, RPO_TENSOR_NAME_SIZE, "model.layers.%lld.%s", (long long)layer, kind->name);
    else
        snprintf(name, RPO_TENSOR_NAME_SIZE, "%s", kind->name);
    const int64_t rows = size_of(kind->rows, config), columns = size_of(kind->columns, config);
    *item = (rpo_tensor){
        .name = name,
        .shape = {rows, kind->columns == ONE ? 0 : columns},
        .count = rows * columns,
        .dtype = RPO_FLOAT32,
        .role = kind->role,
        .trainable = true,
        .offset = kind->continues ? table->weights : aligned(table->weights),
        .slot = kind->continues ? table->trainable : aligned(table->trainable),
    };
    table->weights = item->offset + item->count;
    table->trainable = item->slot + item->count;
    return table->count++;
}

rpo_status rpo_tensor_table_build(rpo_tensor_table *table, const rpo_model_config *config) {
    const size_t count = (size_t)config->num_hidden_layers * RPO_LAYER_TENSORS + 3;
    *table = (rpo_tensor_table){0};
    table->items = rpo_calloc_array(count, sizeof *table->items);
    table->names = rpo_calloc_array(count, sizeof *table->names);
    if (table->items == NULL || table->names == NULL) {
        rpo_tensor_table_free(table);
        return RPO_ERROR_OUT_OF_MEMORY;
    }
    table->embedding = append(table, config, &embedding_kind, -1);
    for (int64_t layer = 0; layer < config->num_hidden_layers; ++layer)
        for (int which = 0; which < RPO_LAYER_TENSORS; ++which)
            append(table, config, &layer_kinds[which], layer);
    table->final_norm = append(table, config, &final_norm_kind, -1);
    table->head = config->tie_word_embeddings ? table->embedding : append(table, config, &head_kind, -1);
    table->weights = aligned(table->weights);
    table->trainable = aligned(table->trainable);
    return RPO_OK;
}

void rpo_tensor_table_free(rpo_tensor_table *table) {
    rpo_free(table->names);
    rpo_free(table->items);
    *table = (rpo_tensor_table){0};
}

const rpo_tensor *rpo_tensor_table_layer(const rpo_tensor_table *table, int64_t layer,
                                         rpo_layer_tensor which) {
    return &table->items[FIRST_LAYER_ITEM + layer * RPO_LAYER_TENSORS + which];
}

bool rpo_tensor_decays(const rpo_tensor *tensor) {
    return tensor->role == RPO_TENSOR_EMBEDDING || tensor->role == RPO_TENSOR_MATRIX ||
           tensor->role == RPO_TENSOR_ADAPTER;
}

bool rpo_tensor_is_continued_by(const rpo_tensor *tensor, const rpo_tensor *next) {
    return tensor->slot >= 0 && tensor->slot + tensor->count == next->slot;
}

int64_t rpo_tensor_table_elements(const rpo_tensor_table *table) {
    int64_t sum = 0;
    for (size_t i = 0; i < table->count; ++i)
        sum += table->items[i].count;
    return sum;
}
