/* model.c - a model's life, and the shapes its ops are called with. */
#include "host/model/model_internal.h"

#include <math.h>

rpo_status rpo_model_new(rpo_model **model, rpo_context *context, const rpo_model_config *config) {
    *model = NULL;
    if (!context->backend->supports(RPO_OP_MODEL, RPO_FLOAT32))
        return rpo_error_set(RPO_ERROR_UNSUPPORTED, "model: the %s backend has no model ops",
                             context->backend->name);
    rpo_model *created = rpo_calloc_array(1, sizeof *created);
    if (created == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    created->context = context;
    created->ops = &context->backend->model;
    created->config = *config;
    created->query_size = config->num_attention_heads * config->head_dim;
    created->key_size = config->num_key_value_heads * config->head_dim;
    created->qkv_size = created->query_size + 2 * created->key_size;
    const rpo_status status = rpo_tensor_table_build(&created->tensors, config);
    if (status != RPO_OK) {
        rpo_model_free(created);
        return status;
    }
    *model = created;
    return RPO_OK;
}

void rpo_model_free(rpo_model *model) {
    if (model == NULL)
        return;
    rpo_tensor_table_free(&model->tensors);
    rpo_free(model);
}

void rpo_model_attach(rpo_model *model, rpo_memory *memory) {
    model->memory = memory;
}

rpo_context *rpo_model_context(const rpo_model *model) {
    return model->context;
}

const rpo_model_config *rpo_model_get_config(const rpo_model *model) {
    return &model->config;
}

void rpo_model_set_token_ids(rpo_model *model, int64_t bos, int64_t eos, int64_t pad) {
    model->config.bos_token_id = bos;
    model->config.eos_token_id = eos;
    model->config.pad_token_id = pad;
}

const rpo_tensor_table *rpo_model_tensors(const rpo_model *model) {
    return &model->tensors;
}

rpo_memory *rpo_model_memory(const rpo_model *model) {
    return model->memory;
}

/* ---- shapes ---- */

rpo_linear_shape rpo_model_linear_shape(int64_t rows, int64_t in, int64_t out) {
    return (rpo_linear_shape){
        .rows = rows,
        .in_features = in,
        .out_features = out,
        .in_stride = in,
        .out_stride = out,
        .dtype = RPO_FLOAT32,
    };
}

rpo_norm_shape rpo_model_norm_shape(const rpo_model *model, int64_t rows) {
    return (rpo_norm_shape){
        .rows = rows,
        .hidden_size = model->config.hidden_size,
        .eps = (float)model->config.rms_norm_eps,
        .dtype = RPO_FLOAT32,
    };
}

rpo_attention_shape rpo_model_attention_shape(const rpo_model *model, int64_t rows) {
    return (rpo_attention_shape){
        .rows = rows,
        .num_heads = model->config.num_attention_heads,
        .num_kv_heads = model->config.num_key_value_heads,
        .head_dim = model->config.head_dim,
        .scale = (float)(1.0 / sqrt((double)model->config.head_dim)),
        .dtype = RPO_FLOAT32,
    };
}

/* Query and key heads lie side by side and turn alike. */
rpo_rope_shape rpo_model_rope_shape(const rpo_model *model, int64_t rows) {
    return (rpo_rope_shape){
        .rows = rows,
        .num_heads = model->config.num_attention_heads + model->config.num_key_value_heads,
        .head_dim = model->config.head_dim,
        .stride = model->qkv_size,
        .dtype = RPO_FLOAT32,
    };
}

rpo_embedding_shape rpo_model_embedding_shape(const rpo_model *model, int64_t rows) {
    return (rpo_embedding_shape){
        .rows = rows,
        .vocab_size = model->config.vocab_size,
        .hidden_size = model->config.hidden_size,
        .dtype = RPO_FLOAT32,
    };
}

rpo_linear_logprob_shape rpo_model_head_shape(const rpo_model *model, const rpo_device_batch *batch,
                                              size_t cache_bytes) {
    return (rpo_linear_logprob_shape){
        .struct_size = sizeof(rpo_linear_logprob_shape),
        .rows = batch->num_rows,
        .hidden_size = model->config.hidden_size,
        .vocab_size = model->config.vocab_size,
        .num_sequences = batch->num_segments,
        .dtype = RPO_FLOAT32,
        .reduction = RPO_REDUCTION_SUM,
        .valid_rows = batch->num_labels,
        .cache_bytes = cache_bytes,
    };
}

/* ---- where things lie ---- */

const float *rpo_model_weight(const rpo_model *model, const rpo_tensor *tensor) {
    return model->memory->weights + tensor->offset;
}

float *rpo_model_gradient(const rpo_model *model, const rpo_tensor *tensor) {
    return model->memory->gradients + tensor->slot;
}

const float *rpo_layer_weight(const rpo_model *model, int64_t layer, rpo_layer_tensor which) {
    return rpo_model_weight(model, rpo_tensor_table_layer(&model->tensors, layer, which));
}

float *rpo_layer_gradient(const rpo_model *model, int64_t layer, rpo_layer_tensor which) {
    return rpo_model_gradient(model, rpo_tensor_table_layer(&model->tensors, layer, which));
}

rpo_scratch rpo_model_scratch(const rpo_model *model, int64_t rows) {
    rpo_scratch scratch;
    (void)rpo_scratch_lay_out(&scratch, model, model->memory->scratch, rows);
    return scratch;
}
