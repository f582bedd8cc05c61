/*
 * activations.c - the memory of one batch: a single block, cut anew for every batch, grown when a larger one
 * comes.
 *
 * Kept for the backward, per token and layer: 2 hidden + (heads + 2 kv heads) head_dim + heads head_dim +
 * heads + 2 intermediate + 2 floats. Outputs of the norms and the SwiGLU product cost no matmul and are
 * computed again. A forward without a backward uses one layer's worth, in place where it can.
 */
#include "host/model/model_internal.h"

enum { ALIGNMENT = 16 }; /* floats: a cache line */

/* Hands out consecutive pieces of a block, or (base NULL) only counts them. */
typedef struct cutter {
    float *base;
    int64_t used;
} cutter;

static float *cut(cutter *from, int64_t rows, int64_t columns) {
    float *piece = from->base != NULL ? from->base + from->used : NULL;
    from->used += (rows * columns + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return piece;
}

static void cut_layer(rpo_layer_activations *layer, cutter *from, const rpo_model *model, int64_t tokens,
                      bool for_backward) {
    const rpo_model_config *config = &model->config;
    layer->residual_in = cut(from, tokens, config->hidden_size);
    layer->residual_middle = for_backward ? cut(from, tokens, config->hidden_size) : layer->residual_in;
    layer->qkv = cut(from, tokens, model->qkv_size);
    layer->attention = cut(from, tokens, model->query_size);
    layer->gate_up = cut(from, tokens, 2 * config->intermediate_size);
    layer->attention_rms = for_backward ? cut(from, tokens, 1) : NULL;
    layer->mlp_rms = for_backward ? cut(from, tokens, 1) : NULL;
    layer->logsumexp = for_backward ? cut(from, tokens, config->num_attention_heads) : NULL;
}

static void cut_all(rpo_activations *all, cutter *from, const rpo_model *model, int64_t tokens,
                    bool for_backward) {
    const rpo_model_config *config = &model->config;
    for (int64_t layer = 0; layer < config->num_hidden_layers; ++layer)
        if (layer == 0 || for_backward)
            cut_layer(&all->layers[layer], from, model, tokens, for_backward);
        else
            all->layers[layer] = all->layers[0];
    all->residual_out = for_backward ? cut(from, tokens, config->hidden_size) : all->layers[0].residual_in;
    all->final_rms = for_backward ? cut(from, tokens, 1) : NULL;
    all->norm = cut(from, tokens, config->hidden_size);
    all->final_hidden = for_backward ? cut(from, tokens, config->hidden_size) : all->norm;
    all->product = cut(from, tokens, config->intermediate_size);
    all->grad_residual = for_backward ? cut(from, tokens, config->hidden_size) : NULL;
    all->grad_norm = for_backward ? cut(from, tokens, config->hidden_size) : NULL;
    all->grad_qkv = for_backward ? cut(from, tokens, model->qkv_size) : NULL;
    all->grad_attention = for_backward ? cut(from, tokens, model->query_size) : NULL;
}

rpo_status rpo_activations_prepare(rpo_model *model, int64_t tokens, bool for_backward) {
    rpo_activations *all = &model->activations;
    if (all->layers == NULL) {
        all->layers = rpo_calloc_array((size_t)model->config.num_hidden_layers, sizeof *all->layers);
        if (all->layers == NULL)
            return RPO_ERROR_OUT_OF_MEMORY;
    }
    cutter counter = {NULL, 0};
    cut_all(all, &counter, model, tokens, for_backward);
    if ((size_t)counter.used > all->capacity) {
        rpo_free(all->memory); /* before the larger block is asked for: nothing of it is needed */
        all->capacity = 0;
        all->memory = rpo_alloc_array((size_t)counter.used, sizeof *all->memory);
        if (all->memory == NULL)
            return rpo_error_prefix(RPO_ERROR_OUT_OF_MEMORY,
                                    "activations of %lld tokens: ", (long long)tokens);
        all->capacity = (size_t)counter.used;
    }
    cutter cutting = {all->memory, 0};
    cut_all(all, &cutting, model, tokens, for_backward);
    return RPO_OK;
}

void rpo_activations_free(rpo_activations *activations) {
    rpo_free(activations->layers);
    rpo_free(activations->memory);
    *activations = (rpo_activations){0};
}

/* At least `size` bytes, whose contents may be lost. */
static rpo_status reserve(void **memory, size_t *capacity, size_t size, const char *what) {
    if (size <= *capacity)
        return RPO_OK;
    rpo_free(*memory);
    *capacity = 0;
    *memory = rpo_alloc_array(size, 1);
    if (*memory == NULL)
        return rpo_error_prefix(RPO_ERROR_OUT_OF_MEMORY, "%s: ", what);
    *capacity = size;
    return RPO_OK;
}

rpo_status rpo_model_reserve_workspace(rpo_model *model, size_t size) {
    return reserve(&model->workspace, &model->workspace_size, size, "workspace of the model's ops");
}

rpo_status rpo_model_reserve_head_cache(rpo_model *model, size_t size) {
    return reserve(&model->head_cache, &model->head_cache_size, size, "logits kept for the backward");
}
