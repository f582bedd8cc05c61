/* parameters.c - the table of parameters: names, shapes and offsets in the one flat array. */
#include <stdio.h>
#include <string.h>

#include "host/model/model_internal.h"

/* What a dimension is called in the table below. */
typedef enum dimension { ONE, VOCAB, HIDDEN, INTERMEDIATE, QUERY, KEY } dimension;

typedef struct parameter_kind {
    const char *name;
    dimension rows, columns; /* columns ONE: a vector */
} parameter_kind;

static const parameter_kind embedding_kind = {"model.embed_tokens.weight", VOCAB, HIDDEN};
static const parameter_kind final_norm_kind = {"model.norm.weight", HIDDEN, ONE};
static const parameter_kind head_kind = {"lm_head.weight", VOCAB, HIDDEN};

/* Of every layer, after "model.layers.N.". */
static const parameter_kind layer_kinds[RPO_LAYER_PARAMETERS] = {
    [RPO_LAYER_ATTENTION_NORM] = {"input_layernorm.weight", HIDDEN, ONE},
    [RPO_LAYER_QUERY] = {"self_attn.q_proj.weight", QUERY, HIDDEN},
    [RPO_LAYER_KEY] = {"self_attn.k_proj.weight", KEY, HIDDEN},
    [RPO_LAYER_VALUE] = {"self_attn.v_proj.weight", KEY, HIDDEN},
    [RPO_LAYER_OUTPUT] = {"self_attn.o_proj.weight", HIDDEN, QUERY},
    [RPO_LAYER_MLP_NORM] = {"post_attention_layernorm.weight", HIDDEN, ONE},
    [RPO_LAYER_GATE] = {"mlp.gate_proj.weight", INTERMEDIATE, HIDDEN},
    [RPO_LAYER_UP] = {"mlp.up_proj.weight", INTERMEDIATE, HIDDEN},
    [RPO_LAYER_DOWN] = {"mlp.down_proj.weight", HIDDEN, INTERMEDIATE},
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

/* Appends one parameter behind those there are; returns its offset. */
static int64_t append(rpo_parameter_table *table, const rpo_model_config *config, const parameter_kind *kind,
                      int64_t layer) {
    rpo_parameter *item = &table->items[table->count];
    char *name = table->names[table->count];
    if (layer >= 0)
        snprintf(name, RPO_PARAMETER_NAME_SIZE, "model.layers.%lld.%s", (long long)layer, kind->name);
    else
        snprintf(name, RPO_PARAMETER_NAME_SIZE, "%s", kind->name);
    const bool is_vector = kind->columns == ONE;
    const int64_t rows = size_of(kind->rows, config);
    const int64_t columns = size_of(kind->columns, config);
    *item = (rpo_parameter){
        .name = name,
        .shape = {rows, is_vector ? 0 : columns},
        .offset = table->total,
        .count = rows * columns,
        .decay = !is_vector,
    };
    table->total +=
        (item->count + RPO_PARAMETER_ALIGNMENT - 1) / RPO_PARAMETER_ALIGNMENT * RPO_PARAMETER_ALIGNMENT;
    table->count += 1;
    return item->offset;
}

rpo_status rpo_parameter_table_build(rpo_parameter_table *table, const rpo_model_config *config) {
    const size_t count = (size_t)config->num_hidden_layers * RPO_LAYER_PARAMETERS + 3;
    *table = (rpo_parameter_table){0};
    table->items = rpo_calloc_array(count, sizeof *table->items);
    table->names = rpo_calloc_array(count, sizeof *table->names);
    if (table->items == NULL || table->names == NULL) {
        rpo_parameter_table_free(table);
        return RPO_ERROR_OUT_OF_MEMORY;
    }
    table->embedding = append(table, config, &embedding_kind, -1);
    for (int64_t layer = 0; layer < config->num_hidden_layers; ++layer)
        for (int which = 0; which < RPO_LAYER_PARAMETERS; ++which)
            append(table, config, &layer_kinds[which], layer);
    table->final_norm = append(table, config, &final_norm_kind, -1);
    table->head = config->tie_word_embeddings ? table->embedding : append(table, config, &head_kind, -1);
    return RPO_OK;
}

void rpo_parameter_table_free(rpo_parameter_table *table) {
    rpo_free(table->names);
    rpo_free(table->items);
    *table = (rpo_parameter_table){0};
}

int64_t rpo_parameter_offset(const rpo_parameter_table *table, int64_t layer, rpo_layer_parameter which) {
    return table->items[FIRST_LAYER_ITEM + layer * RPO_LAYER_PARAMETERS + which].offset;
}
