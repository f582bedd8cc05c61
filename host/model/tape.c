/*
 * tape.c - how a batch's activations lie in memory.
 *
 * Kept for the backward, per row and layer: 2 hidden + (heads + 2 kv heads) head_dim + heads head_dim + heads +
 * 2 intermediate + 2 floats. Outputs of the norms and the SwiGLU product cost no matmul and are computed again.
 */
#include "host/model/tape.h"

#include "host/model/model_internal.h"

static float *take(rpo_bump *from, int64_t rows, int64_t columns) {
    return rpo_bump_take(from, rows * columns, sizeof(float));
}

static void lay_out_layer(rpo_layer_tape *layer, const rpo_model *model, rpo_bump *from, int64_t rows) {
    const rpo_model_config *config = &model->config;
    layer->residual_in = take(from, rows, config->hidden_size);
    layer->residual_middle = take(from, rows, config->hidden_size);
    layer->qkv = take(from, rows, model->qkv_size);
    layer->attention = take(from, rows, model->query_size);
    layer->gate_up = take(from, rows, 2 * config->intermediate_size);
    layer->attention_rms = take(from, rows, 1);
    layer->mlp_rms = take(from, rows, 1);
    layer->logsumexp = take(from, rows, config->num_attention_heads);
}

void rpo_tape_lay_out(rpo_tape *tape, const rpo_model *model, rpo_bump *from, int64_t rows) {
    const size_t start = rpo_bump_size(from);
    rpo_layer_tape other;
    *tape = (rpo_tape){0};
    for (int64_t layer = 0; layer < model->config.num_hidden_layers; ++layer) {
        lay_out_layer(layer == 0 ? &tape->first : &other, model, from, rows);
        if (layer == 0)
            tape->layer_bytes = rpo_bump_size(from) - start;
    }
    tape->residual_out = take(from, rows, model->config.hidden_size);
    tape->final_rms = take(from, rows, 1);
    tape->final_hidden = take(from, rows, model->config.hidden_size);
    tape->head_logsumexp = take(from, rows, 1);
}

void rpo_tape_lay_out_flat(rpo_tape *tape, const rpo_model *model, rpo_bump *from, int64_t rows) {
    const rpo_model_config *config = &model->config;
    *tape = (rpo_tape){0};
    tape->first.residual_in = take(from, rows, config->hidden_size);
    tape->first.residual_middle = tape->first.residual_in;
    tape->first.qkv = take(from, rows, model->qkv_size);
    tape->first.attention = take(from, rows, model->query_size);
    tape->first.gate_up = take(from, rows, 2 * config->intermediate_size);
    tape->residual_out = tape->first.residual_in;
    tape->final_hidden = take(from, rows, config->hidden_size);
}

size_t rpo_tape_bytes(const rpo_model *model, int64_t rows) {
    rpo_tape tape;
    rpo_bump sizes = rpo_bump_from(NULL);
    rpo_tape_lay_out(&tape, model, &sizes, rows);
    return rpo_bump_size(&sizes);
}

static float *move(float *start, size_t bytes) {
    return start == NULL ? NULL : (float *)(void *)((char *)start + bytes);
}

rpo_layer_tape rpo_tape_layer(const rpo_tape *tape, int64_t layer) {
    const size_t bytes = (size_t)layer * tape->layer_bytes;
    const rpo_layer_tape *first = &tape->first;
    return (rpo_layer_tape){
        .residual_in = move(first->residual_in, bytes),
        .residual_middle = move(first->residual_middle, bytes),
        .qkv = move(first->qkv, bytes),
        .attention = move(first->attention, bytes),
        .gate_up = move(first->gate_up, bytes),
        .attention_rms = move(first->attention_rms, bytes),
        .mlp_rms = move(first->mlp_rms, bytes),
        .logsumexp = move(first->logsumexp, bytes),
    };
}

size_t rpo_scratch_lay_out(rpo_scratch *scratch, const rpo_model *model, void *base, int64_t rows) {
    const rpo_model_config *config = &model->config;
    rpo_bump from = rpo_bump_from(base);
    scratch->norm = take(&from, rows, config->hidden_size);
    scratch->product = take(&from, rows, config->intermediate_size);
    rpo_bump flat = from; /* both begin here; the larger one counts */
    rpo_tape_lay_out_flat(&scratch->flat, model, &flat, rows);
    scratch->grad_residual = take(&from, rows, config->hidden_size);
    scratch->grad_norm = take(&from, rows, config->hidden_size);
    scratch->grad_qkv = take(&from, rows, model->qkv_size);
    scratch->grad_attention = take(&from, rows, model->query_size);
    const size_t with_gradients = rpo_bump_size(&from), without = rpo_bump_size(&flat);
    return with_gradients > without ? with_gradients : without;
}
