/* forward.c - packed rows to sequence log-probs. */
#include "host/model/model_internal.h"

rpo_status rpo_model_check_batch(const rpo_model *model, const rpo_batch *batch) {
    const int64_t vocab = model->config.vocab_size, longest = model->config.max_position_embeddings;
    if (batch->max_context > longest)
        return rpo_error_set(RPO_ERROR_INVALID_INPUT,
                             "a sequence of the batch: has %lld tokens; the model takes at most %lld "
                             "(max_position_embeddings)",
                             (long long)batch->max_context, (long long)longest);
    for (int64_t s = 0; s < batch->num_segments; ++s)
        for (int64_t t = batch->cu_seqlens[s]; t < batch->cu_seqlens[s + 1]; ++t) {
            const bool label_fits = batch->labels[t] == RPO_IGNORE_LABEL || batch->labels[t] < vocab;
            if (batch->tokens[t] >= 0 && batch->tokens[t] < vocab && label_fits)
                continue;
            return rpo_error_set(
                RPO_ERROR_INVALID_INPUT,
                "token id %d (token %lld of segment %lld of the batch): is not in the model's vocabulary; "
                "allowed are 0..%lld (vocab_size is %lld)",
                label_fits ? batch->tokens[t] : batch->labels[t],
                (long long)(t - batch->cu_seqlens[s] + !label_fits), (long long)s, (long long)(vocab - 1),
                (long long)vocab);
        }
    return RPO_OK;
}

/* residual_middle = residual_in + attention(norm(residual_in)) */
static rpo_status attention_block(const rpo_model *model, const rpo_device_batch *batch,
                                  const rpo_layer_tape *kept, const rpo_scratch *scratch, int64_t layer) {
    const rpo_model_ops *ops = model->ops;
    const rpo_memory *memory = model->memory;
    const int64_t rows = batch->num_rows, hidden = model->config.hidden_size;
    const rpo_norm_shape norm = rpo_model_norm_shape(model, rows);
    const rpo_linear_shape into = rpo_model_linear_shape(rows, hidden, model->qkv_size);
    const rpo_linear_shape out = rpo_model_linear_shape(rows, model->query_size, hidden);
    const rpo_rope_shape rope = rpo_model_rope_shape(model, rows);
    const rpo_attention_shape attention = rpo_model_attention_shape(model, rows);
    RPO_TRY(ops->rmsnorm(model->context, scratch->norm, kept->attention_rms, kept->residual_in,
                         rpo_layer_weight(model, layer, RPO_LAYER_ATTENTION_NORM), &norm));
    RPO_TRY(ops->linear(model->context, kept->qkv, scratch->norm,
                        rpo_layer_weight(model, layer, RPO_LAYER_QUERY), NULL, &into));
    RPO_TRY(ops->rope(model->context, kept->qkv, memory->rope, batch->positions, &rope, false));
    RPO_TRY(ops->attention(model->context, kept->attention, kept->logsumexp, kept->qkv, &batch->segments,
                           &attention, memory->workspace, memory->workspace_bytes));
    return ops->linear(model->context, kept->residual_middle, kept->attention,
                       rpo_layer_weight(model, layer, RPO_LAYER_OUTPUT), kept->residual_in, &out);
}

/* next_residual = residual_middle + mlp(norm(residual_middle)) */
static rpo_status mlp_block(const rpo_model *model, int64_t rows, const rpo_layer_tape *kept,
                            const rpo_scratch *scratch, int64_t layer, float *next_residual) {
    const rpo_model_ops *ops = model->ops;
    const int64_t hidden = model->config.hidden_size, intermediate = model->config.intermediate_size;
    const rpo_norm_shape norm = rpo_model_norm_shape(model, rows);
    const rpo_linear_shape into = rpo_model_linear_shape(rows, hidden, 2 * intermediate);
    const rpo_linear_shape out = rpo_model_linear_shape(rows, intermediate, hidden);
    RPO_TRY(ops->rmsnorm(model->context, scratch->norm, kept->mlp_rms, kept->residual_middle,
                         rpo_layer_weight(model, layer, RPO_LAYER_MLP_NORM), &norm));
    RPO_TRY(ops->linear(model->context, kept->gate_up, scratch->norm,
                        rpo_layer_weight(model, layer, RPO_LAYER_GATE), NULL, &into));
    RPO_TRY(ops->swiglu(model->context, scratch->product, kept->gate_up, rows, intermediate, RPO_FLOAT32));
    return ops->linear(model->context, next_residual, scratch->product,
                       rpo_layer_weight(model, layer, RPO_LAYER_DOWN), kept->residual_middle, &out);
}

/* Everything up to final_hidden, the head's input. */
static rpo_status run_layers(const rpo_model *model, const rpo_device_batch *batch, const rpo_tape *tape,
                             const rpo_scratch *scratch) {
    const int64_t rows = batch->num_rows, layers = model->config.num_hidden_layers;
    const rpo_embedding_shape embedding = rpo_model_embedding_shape(model, rows);
    const rpo_norm_shape norm = rpo_model_norm_shape(model, rows);
    RPO_TRY(model->ops->embedding(model->context, tape->first.residual_in,
                                  rpo_model_weight(model, &model->tensors.items[model->tensors.embedding]),
                                  batch->tokens, &embedding));
    for (int64_t layer = 0; layer < layers; ++layer) {
        const rpo_layer_tape kept = rpo_tape_layer(tape, layer);
        float *next = layer + 1 < layers ? rpo_tape_layer(tape, layer + 1).residual_in : tape->residual_out;
        RPO_TRY(attention_block(model, batch, &kept, scratch, layer));
        RPO_TRY(mlp_block(model, rows, &kept, scratch, layer, next));
    }
    return model->ops->rmsnorm(model->context, tape->final_hidden, tape->final_rms, tape->residual_out,
                               rpo_model_weight(model, &model->tensors.items[model->tensors.final_norm]),
                               &norm);
}

static rpo_status run_head(const rpo_model *model, const rpo_device_batch *batch, const rpo_tape *tape,
                           float *sequence_logps, float *token_logps) {
    const rpo_linear_logprob_shape shape = rpo_model_head_shape(model, batch, tape->head_cache_bytes);
    const rpo_linear_logprob_inputs inputs = {
        .struct_size = sizeof inputs,
        .hidden = tape->final_hidden,
        .head = rpo_model_weight(model, &model->tensors.items[model->tensors.head]),
        .labels = batch->labels,
        .cu_seqlens = batch->segments.cu_seqlens,
    };
    const rpo_linear_logprob_saved saved = {
        .struct_size = sizeof saved, .logsumexp = tape->head_logsumexp, .cache = tape->head_cache};
    const rpo_linear_logprob_outputs outputs = {
        .struct_size = sizeof outputs, .sequence_logps = sequence_logps, .token_logps = token_logps};
    return rpo_linear_logprob(model->context, &outputs, &saved, &inputs, &shape, model->memory->workspace,
                              model->memory->workspace_bytes);
}

rpo_status rpo_model_score(rpo_model *model, const rpo_device_batch *batch, float *sequence_logps,
                           float *token_logps) {
    if (batch->num_segments == 0)
        return RPO_OK;
    const rpo_scratch scratch = rpo_model_scratch(model, batch->num_rows);
    RPO_TRY(run_layers(model, batch, &scratch.flat, &scratch));
    return run_head(model, batch, &scratch.flat, sequence_logps, token_logps);
}

rpo_status rpo_model_record(rpo_model *model, rpo_tape *tape, const rpo_device_batch *batch,
                            float *sequence_logps) {
    tape->batch.num_segments = 0; /* until everything is recorded */
    tape->has_logps = sequence_logps != NULL;
    if (batch->num_segments == 0)
        return RPO_OK;
    const rpo_scratch scratch = rpo_model_scratch(model, batch->num_rows);
    RPO_TRY(run_layers(model, batch, tape, &scratch));
    if (sequence_logps != NULL)
        RPO_TRY(run_head(model, batch, tape, sequence_logps, NULL));
    tape->batch = *batch;
    return RPO_OK;
}

rpo_status rpo_model_logits(rpo_model *model, const rpo_device_batch *batch, float *logits) {
    if (batch->num_segments == 0)
        return RPO_OK;
    const rpo_scratch scratch = rpo_model_scratch(model, batch->num_rows);
    const rpo_linear_shape shape =
        rpo_model_linear_shape(batch->num_rows, model->config.hidden_size, model->config.vocab_size);
    RPO_TRY(run_layers(model, batch, &scratch.flat, &scratch));
    return model->ops->linear(model->context, logits, scratch.flat.final_hidden,
                              rpo_model_weight(model, &model->tensors.items[model->tensors.head]), NULL,
                              &shape);
}
