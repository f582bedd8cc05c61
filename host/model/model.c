/* model.c - a model's life: creation, initialisation, gradients, hash. */
#include <string.h>

#include "host/model/model_internal.h"

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
    const rpo_status status = rpo_parameter_table_build(&created->parameters, config);
    if (status != RPO_OK) {
        rpo_model_free(created);
        return status;
    }
    *model = created;
    return RPO_OK;
}

/* Matrices normal(0, initializer_range), norms 1, as transformers does; element i of parameter p is a pure
 * function of (seed, p, i). */
static void initialise(rpo_model *model, uint64_t seed) {
    const double deviation = model->config.initializer_range;
    for (size_t p = 0; p < model->parameters.count; ++p) {
        const rpo_parameter *parameter = &model->parameters.items[p];
        float *values = model->weights + parameter->offset;
        const bool is_norm = parameter->shape[1] == 0;
        const uint64_t stream = rpo_random_stream(RPO_RANDOM_INITIAL_WEIGHTS, p);
#pragma omp parallel for num_threads(rpo_context_num_threads(model->context)) schedule(static)
        for (int64_t i = 0; i < parameter->count; ++i)
            values[i] = is_norm ? 1.0f : (float)(deviation * rpo_random_normal(seed, stream, (uint64_t)i));
    }
}

rpo_status rpo_model_create(rpo_model **model, rpo_context *context, const rpo_model_config *config,
                            uint64_t seed) {
    rpo_model *created = NULL;
    *model = NULL;
    RPO_TRY(rpo_model_new(&created, context, config));
    created->weights = rpo_calloc_array((size_t)created->parameters.total, sizeof *created->weights);
    if (created->weights == NULL) {
        rpo_model_free(created);
        return rpo_error_prefix(RPO_ERROR_OUT_OF_MEMORY, "weights of the model: ");
    }
    initialise(created, seed);
    *model = created;
    return RPO_OK;
}

void rpo_model_free(rpo_model *model) {
    if (model == NULL)
        return;
    rpo_free(model->rope);
    rpo_free(model->head_cache);
    rpo_free(model->workspace);
    rpo_activations_free(&model->activations);
    rpo_free(model->gradients);
    rpo_free(model->weights);
    rpo_parameter_table_free(&model->parameters);
    rpo_free(model);
}

const rpo_model_config *rpo_model_get_config(const rpo_model *model) {
    return &model->config;
}

const rpo_parameter *rpo_model_parameters(const rpo_model *model, size_t *count) {
    *count = model->parameters.count;
    return model->parameters.items;
}

float *rpo_model_weights(rpo_model *model, int64_t *count) {
    *count = model->parameters.total;
    return model->weights;
}

rpo_status rpo_model_gradients(rpo_model *model, float **gradients, int64_t *count) {
    if (model->gradients == NULL)
        model->gradients = rpo_calloc_array((size_t)model->parameters.total, sizeof *model->gradients);
    *gradients = model->gradients;
    *count = model->parameters.total;
    return model->gradients != NULL ? RPO_OK
                                    : rpo_error_prefix(RPO_ERROR_OUT_OF_MEMORY, "gradients of the model: ");
}

rpo_status rpo_model_zero_gradients(rpo_model *model) {
    float *gradients = NULL;
    int64_t count = 0;
    RPO_TRY(rpo_model_gradients(model, &gradients, &count));
    memset(gradients, 0, (size_t)count * sizeof *gradients);
    return RPO_OK;
}

rpo_status rpo_model_hash(const rpo_model *model, char hex[33]) {
    rpo_text config = {0};
    rpo_hash *hash = NULL;
    rpo_status status = rpo_model_config_append_json(&model->config, &config);
    if (status != RPO_OK)
        goto cleanup;
    hash = rpo_hash_new();
    if (hash == NULL) {
        status = RPO_ERROR_OUT_OF_MEMORY;
        goto cleanup;
    }
    rpo_hash_add_string(hash, config.data);
    rpo_hash_add(hash, model->weights, (size_t)model->parameters.total * sizeof *model->weights);
    rpo_hash_finish(hash, hex);

cleanup:
    rpo_text_free(&config);
    return status;
}
