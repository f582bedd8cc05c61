/* forward.c - packed tokens to sequence log-probs. */
#include <math.h>

#include "host/model/model_internal.h"

rpo_linear_shape rpo_model_linear_shape(const rpo_model *model, int64_t rows, int64_t in, int64_t out) {
    (void)model;
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

/* Queries and keys of a row of qkv. */
rpo_rope_shape rpo_model_rope_shape(const rpo_model *model, int64_t rows) {
    return (rpo_rope_shape){
        .rows = rows,
        .num_heads = model->config.num_attention_heads + model->config.num_key_value_heads,
        .head_dim = model->config.head_dim,
        .stride = model->qkv_size,
        .dtype = RPO_FLOAT32,
    };
}

rpo_attention_shape rpo_model_attention_shape(const rpo_model *model, const rpo_batch *batch) {
    return (rpo_attention_shape){
        .rows = batch->num_tokens,
        .num_heads = model->config.num_attention_heads,
        .num_kv_heads = model->config.num_key_value_heads,
        .head_dim = model->config.head_dim,
        .scale = (float)(1.0 / sqrt((double)model->config.head_dim)),
        .dtype = RPO_FLOAT32,
    };
}

rpo_linear_logprob_shape rpo_model_head_shape(const rpo_model *model, const rpo_batch *batch) {
    return (rpo_linear_logprob_shape){
        .struct_size = sizeof(rpo_linear_logprob_shape),
        .rows = batch->num_tokens,
        .hidden_size = model->config.hidden_size,
        .vocab_size = model->config.vocab_size,
        .num_sequences = batch->num_sequences,
        .dtype = RPO_FLOAT32,
        .reduction = RPO_REDUCTION_SUM,
        .valid_rows = batch->num_labels,
        .cache_bytes = model->head_cached_bytes,
    };
}

rpo_linear_logprob_inputs rpo_model_head_inputs(const rpo_model *model, const rpo_batch *batch,
                                                const float *sequence_gradients) {
    return (rpo_linear_logprob_inputs){
        .struct_size = sizeof(rpo_linear_logprob_inputs),
        .hidden = model->activations.final_hidden,
        .head = model->weights + model->parameters.head,
        .labels = batch->labels,
        .cu_seqlens = batch->cu_seqlens,
        .grad_sequence_logps = sequence_gradients,
    };
}

static rpo_status check_batch(const rpo_model *model, const rpo_batch *batch) {
    const int64_t vocab = model->config.vocab_size;
    for (int64_t s = 0; s < batch->num_sequences; ++s) {
        const int64_t first = batch->cu_seqlens[s];
        const int64_t length = batch->cu_seqlens[s + 1] - first;
        if (length > model->config.max_position_embeddings)
            return rpo_error_set(RPO_ERROR_INVALID_INPUT,
                                 "sequence %lld of the batch: has %lld tokens; the model takes at most %lld "
                                 "(max_position_embeddings)",
                                 (long long)s, (long long)length,
                                 (long long)model->config.max_position_embeddings);
        for (int64_t t = first; t < first + length; ++t)
            if (batch->tokens[t] < 0 || batch->tokens[t] >= vocab)
                return rpo_error_set(
                    RPO_ERROR_INVALID_INPUT,
                    "token id %d (token %lld of sequence %lld of the batch): is not in the model's "
                    "vocabulary; allowed are 0..%lld (vocab_size is %lld)",
                    batch->tokens[t], (long long)(t - first), (long long)s, (long long)(vocab - 1),
                    (long long)vocab);
    }
    return RPO_OK;
}

/* The table of angles reaches as far as the longest sequence met; it grows by doubling. */
static rpo_status reserve_rope(rpo_model *model, const rpo_batch *batch) {
    int64_t longest = 0;
    for (int64_t s = 0; s < batch->num_sequences; ++s) {
        const int64_t length = batch->cu_seqlens[s + 1] - batch->cu_seqlens[s];
        longest = length > longest ? length : longest;
    }
    if (longest <= model->rope_positions)
        return RPO_OK;
    const int64_t limit = model->config.max_position_embeddings;
    int64_t positions = 2 * model->rope_positions > longest ? 2 * model->rope_positions : longest;
    positions = positions < limit ? positions : limit;
    float *table = rpo_alloc_array((size_t)(positions * model->config.head_dim), sizeof *table);
    if (table == NULL)
        return rpo_error_prefix(RPO_ERROR_OUT_OF_MEMORY, "rotary table: ");
    rpo_free(model->rope);
    model->rope = table;
    model->rope_positions = 0;
    RPO_TRY(model->ops->rope_table(model->context, table, 0, positions, model->config.head_dim,
                                   model->config.rope_theta));
    model->rope_positions = positions;
    return RPO_OK;
}

static rpo_status rmsnorm(const rpo_model *model, float *out, float *inverse_rms, const float *x,
                          const float *weight, int64_t rows) {
    const rpo_norm_shape shape = rpo_model_norm_shape(model, rows);
    return model->ops->rmsnorm(model->context, out, inverse_rms, x, weight, &shape);
}

/* residual_middle = residual_in + attention(norm(residual_in)) */
static rpo_status attention_block(rpo_model *model, const rpo_batch *batch, int64_t layer) {
    const rpo_model_ops *ops = model->ops;
    const rpo_layer_activations *kept = &model->activations.layers[layer];
    float *norm = model->activations.norm;
    const int64_t rows = batch->num_tokens;
    const int64_t hidden = model->config.hidden_size;
    RPO_TRY(rmsnorm(model, norm, kept->attention_rms, kept->residual_in,
                    rpo_layer_weight(model, layer, RPO_LAYER_ATTENTION_NORM), rows));

    rpo_linear_shape into = rpo_model_linear_shape(model, rows, hidden, model->query_size);
    into.out_stride = model->qkv_size;
    RPO_TRY(ops->linear(model->context, kept->qkv, norm, rpo_layer_weight(model, layer, RPO_LAYER_QUERY),
                        NULL, &into));
    into.out_features = model->key_size;
    RPO_TRY(ops->linear(model->context, kept->qkv + model->query_size, norm,
                        rpo_layer_weight(model, layer, RPO_LAYER_KEY), NULL, &into));
    RPO_TRY(ops->linear(model->context, kept->qkv + model->query_size + model->key_size, norm,
                        rpo_layer_weight(model, layer, RPO_LAYER_VALUE), NULL, &into));

    const rpo_rope_shape rotated = rpo_model_rope_shape(model, rows);
    RPO_TRY(ops->rope(model->context, kept->qkv, model->rope, batch->positions, &rotated, false));
    const rpo_segments segments = rpo_batch_segments(batch);
    const rpo_attention_shape shape = rpo_model_attention_shape(model, batch);
    RPO_TRY(rpo_model_reserve_workspace(
        model, ops->attention_workspace_size(model->context, &segments, &shape, false)));
    RPO_TRY(ops->attention(model->context, kept->attention, kept->logsumexp, kept->qkv, &segments, &shape,
                           model->workspace, model->workspace_size));
    const rpo_linear_shape out = rpo_model_linear_shape(model, rows, model->query_size, hidden);
    return ops->linear(model->context, kept->residual_middle, kept->attention,
                       rpo_layer_weight(model, layer, RPO_LAYER_OUTPUT), kept->residual_in, &out);
}

/* next_residual = residual_middle + mlp(norm(residual_middle)) */
static rpo_status mlp_block(rpo_model *model, const rpo_batch *batch, int64_t layer, float *next_residual) {
    const rpo_model_ops *ops = model->ops;
    const rpo_layer_activations *kept = &model->activations.layers[layer];
    float *norm = model->activations.norm;
    float *product = model->activations.product;
    const int64_t rows = batch->num_tokens;
    const int64_t hidden = model->config.hidden_size;
    const int64_t intermediate = model->config.intermediate_size;
    rpo_linear_shape into = rpo_model_linear_shape(model, rows, hidden, intermediate);
    into.out_stride = 2 * intermediate;
    const rpo_linear_shape out = rpo_model_linear_shape(model, rows, intermediate, hidden);
    RPO_TRY(rmsnorm(model, norm, kept->mlp_rms, kept->residual_middle,
                    rpo_layer_weight(model, layer, RPO_LAYER_MLP_NORM), rows));
    RPO_TRY(ops->linear(model->context, kept->gate_up, norm, rpo_layer_weight(model, layer, RPO_LAYER_GATE),
                        NULL, &into));
    RPO_TRY(ops->linear(model->context, kept->gate_up + intermediate, norm,
                        rpo_layer_weight(model, layer, RPO_LAYER_UP), NULL, &into));
    RPO_TRY(ops->swiglu(model->context, product, kept->gate_up, rows, intermediate, RPO_FLOAT32));
    return ops->linear(model->context, next_residual, product, rpo_layer_weight(model, layer, RPO_LAYER_DOWN),
                       kept->residual_middle, &out);
}

/* Everything up to final_hidden, the head's input. */
static rpo_status run_layers(rpo_model *model, const rpo_batch *batch, bool keep_activations) {
    rpo_activations *all = &model->activations;
    const int64_t rows = batch->num_tokens;
    rpo_model_forget_activations(model);
    RPO_TRY(check_batch(model, batch));
    RPO_TRY(rpo_activations_prepare(model, rows, keep_activations));
    RPO_TRY(reserve_rope(model, batch));
    const rpo_embedding_shape embedding = {rows, model->config.vocab_size, model->config.hidden_size,
                                           RPO_FLOAT32};
    RPO_TRY(model->ops->embedding(model->context, all->layers[0].residual_in,
                                  model->weights + model->parameters.embedding, batch->tokens, &embedding));
    for (int64_t layer = 0; layer < model->config.num_hidden_layers; ++layer) {
        const bool is_last = layer + 1 == model->config.num_hidden_layers;
        RPO_TRY(attention_block(model, batch, layer));
        RPO_TRY(
            mlp_block(model, batch, layer, is_last ? all->residual_out : all->layers[layer + 1].residual_in));
    }
    return rmsnorm(model, all->final_hidden, all->final_rms, all->residual_out,
                   model->weights + model->parameters.final_norm, rows);
}

/* The head's forward will leave what its backward would compute again, as many rows of it as the limit allows. */
static rpo_status keep_head(rpo_model *model, const rpo_batch *batch) {
    const rpo_linear_logprob_shape shape = rpo_model_head_shape(model, batch);
    size_t size = 0;
    RPO_TRY(rpo_linear_logprob_cache_size(model->context, &size, &shape));
    size = size < RPO_HEAD_CACHE_LIMIT ? size : RPO_HEAD_CACHE_LIMIT;
    RPO_TRY(rpo_model_reserve_head_cache(model, size));
    model->head_cached_bytes = size;
    return RPO_OK;
}

rpo_status rpo_model_forward(rpo_model *model, const rpo_batch *batch, bool keep_activations,
                             float *sequence_logps, float *token_logps) {
    if (batch->num_sequences == 0)
        return RPO_OK;
    RPO_TRY(run_layers(model, batch, keep_activations));
    if (sequence_logps != NULL) {
        if (keep_activations)
            RPO_TRY(keep_head(model, batch));
        const rpo_linear_logprob_shape shape = rpo_model_head_shape(model, batch);
        size_t size = 0;
        RPO_TRY(rpo_linear_logprob_workspace_size(model->context, &size, &shape, 0));
        RPO_TRY(rpo_model_reserve_workspace(model, size));
        const rpo_linear_logprob_inputs inputs = rpo_model_head_inputs(model, batch, NULL);
        const rpo_linear_logprob_outputs outputs = {sizeof outputs, sequence_logps, token_logps};
        const rpo_linear_logprob_saved saved = {.struct_size = sizeof saved, .cache = model->head_cache};
        RPO_TRY(rpo_linear_logprob(model->context, &outputs, &saved, &inputs, &shape, model->workspace,
                                   model->workspace_size));
    }
    if (keep_activations) {
        model->kept_tokens = batch->num_tokens;
        model->kept_sequences = batch->num_sequences;
    }
    return RPO_OK;
}

rpo_status rpo_model_logits(rpo_model *model, const rpo_batch *batch, float *logits) {
    if (batch->num_sequences == 0)
        return RPO_OK;
    RPO_TRY(run_layers(model, batch, false));
    const rpo_linear_shape shape =
        rpo_model_linear_shape(model, batch->num_tokens, model->config.hidden_size, model->config.vocab_size);
    return model->ops->linear(model->context, logits, model->activations.final_hidden,
                              model->weights + model->parameters.head, NULL, &shape);
}
