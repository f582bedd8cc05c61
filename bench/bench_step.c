/*
 * bench_step.c - a whole training step of a small Llama-architecture model: forward with log-probs, DPO loss,
 * backward seeded with one scalar a sequence, gradient norm, clipping, RMSprop.
 */
#include <math.h>
#include <string.h>

#include "bench/bench.h"
#include "host/model/model.h"

typedef struct step_case {
    rpo_context *context;
    rpo_model *model;
    rpo_batch batch;
    int64_t pairs;             /* sequences 0 .. pairs - 1 are chosen, the others rejected */
    float *logps, *start;      /* [2 pairs] under the policy, and under the policy's start: the reference */
    float *sequence_gradients; /* [2 pairs] */
    float *square_average;     /* of RMSprop, one a parameter */
    float loss;
    void *workspace, *norm_workspace;
    size_t workspace_size, norm_workspace_size;
} step_case;

typedef struct step_size {
    int64_t layers, hidden, intermediate, heads, kv_heads, vocab, rows, sequences, valid_percent;
} step_size;

static rpo_status add_sequences(rpo_batch *batch, const step_size *size) {
    int32_t *tokens = rpo_alloc_array((size_t)size->rows, sizeof *tokens);
    if (tokens == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    for (int64_t t = 0; t < size->rows; ++t)
        tokens[t] = (int32_t)(rpo_random_u64(51, 0, (uint64_t)t) % (uint64_t)size->vocab);
    rpo_status status = RPO_OK;
    for (int64_t s = 0; s < size->sequences && status == RPO_OK; ++s) {
        const int64_t begin = s * size->rows / size->sequences, end = (s + 1) * size->rows / size->sequences;
        const int64_t prompt = (end - begin) * (100 - size->valid_percent) / 100;
        status = rpo_batch_add(batch, tokens + begin, end - begin, prompt > 1 ? prompt : 1);
    }
    rpo_free(tokens);
    return status;
}

static rpo_loss_options loss_options(void) {
    rpo_loss_options options = RPO_LOSS_OPTIONS_INIT;
    options.kind = RPO_LOSS_DPO;
    return options;
}

static rpo_contrast_inputs loss_inputs(const step_case *one) {
    return (rpo_contrast_inputs){.struct_size = sizeof(rpo_contrast_inputs),
                                 .policy_chosen_logps = one->logps,
                                 .policy_rejected_logps = one->logps + one->pairs,
                                 .reference_chosen_logps = one->start,
                                 .reference_rejected_logps = one->start + one->pairs,
                                 .m = one->pairs,
                                 .n = one->pairs};
}

static rpo_status step_case_new(step_case *one, rpo_context *context, const step_size *size) {
    *one = (step_case){.context = context, .pairs = size->sequences / 2};
    if (size->sequences % 2 != 0 || size->rows < 2 * size->sequences || size->valid_percent > 100)
        return rpo_error_set(RPO_ERROR_INVALID_INPUT,
                             "--shape: sequences must be even, rows at least twice as "
                             "many, valid_percent at most 100");
    rpo_model_config config = rpo_model_config_default();
    config.vocab_size = size->vocab;
    config.hidden_size = size->hidden;
    config.intermediate_size = size->intermediate;
    config.num_hidden_layers = size->layers;
    config.num_attention_heads = size->heads;
    config.num_key_value_heads = size->kv_heads;
    config.head_dim = size->hidden / size->heads;
    config.max_position_embeddings = size->rows;
    RPO_TRY(rpo_model_create(&one->model, context, &config, 1));
    RPO_TRY(add_sequences(&one->batch, size));
    int64_t count = 0;
    (void)rpo_model_weights(one->model, &count);
    one->logps = rpo_calloc_array((size_t)size->sequences, sizeof(float));
    one->start = rpo_calloc_array((size_t)size->sequences, sizeof(float));
    one->sequence_gradients = rpo_calloc_array((size_t)size->sequences, sizeof(float));
    one->square_average = rpo_calloc_array((size_t)count, sizeof(float));
    if (one->logps == NULL || one->start == NULL || one->sequence_gradients == NULL ||
        one->square_average == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    RPO_TRY(rpo_model_forward(one->model, &one->batch, false, one->start, NULL));
    const rpo_contrast_inputs inputs = loss_inputs(one);
    const rpo_loss_options options = loss_options();
    RPO_TRY(rpo_contrast_loss_workspace_size(context, &one->workspace_size, &inputs, &options));
    one->workspace = rpo_alloc_array(one->workspace_size, 1);
    one->norm_workspace_size = context->backend->optimizer.grad_norm_workspace_size(context, count);
    one->norm_workspace = rpo_alloc_array(one->norm_workspace_size, 1);
    return one->workspace != NULL && one->norm_workspace != NULL ? RPO_OK : RPO_ERROR_OUT_OF_MEMORY;
}

static void step_case_free(step_case *one) {
    rpo_free(one->norm_workspace);
    rpo_free(one->workspace);
    rpo_free(one->square_average);
    rpo_free(one->sequence_gradients);
    rpo_free(one->start);
    rpo_free(one->logps);
    rpo_batch_free(&one->batch);
    rpo_model_free(one->model);
}

static rpo_status update(step_case *one) {
    float *gradients = NULL;
    int64_t count = 0;
    RPO_TRY(rpo_model_gradients(one->model, &gradients, &count));
    const rpo_optimizer_ops *ops = &one->context->backend->optimizer;
    const rpo_optimizer_run all = {.first = 0, .count = count};
    const rpo_optimizer_arrays arrays = {.master = rpo_model_weights(one->model, &count),
                                         .gradients = gradients,
                                         .moments = {one->square_average},
                                         .runs = &all,
                                         .num_runs = 1,
                                         .count = count};
    const rpo_optimizer_options options = {.learning_rate = 5e-7f, .alpha = 0.99f, .eps = 1e-8f};
    rpo_step_control control = {0};
    RPO_TRY(ops->grad_norm(one->context, &control, gradients, count, &one->loss, 1, 10.0f,
                           one->norm_workspace, one->norm_workspace_size));
    return ops->rmsprop(one->context, &arrays, &control, &options);
}

static rpo_status step_run(void *state) {
    step_case *one = state;
    const rpo_loss_options options = loss_options();
    const rpo_contrast_inputs inputs = loss_inputs(one);
    const rpo_contrast_outputs outputs = {.struct_size = sizeof outputs,
                                          .loss = &one->loss,
                                          .grad_chosen_logps = one->sequence_gradients,
                                          .grad_rejected_logps = one->sequence_gradients + one->pairs};
    RPO_TRY(rpo_model_zero_gradients(one->model));
    RPO_TRY(rpo_model_forward(one->model, &one->batch, true, one->logps, NULL));
    RPO_TRY(
        rpo_contrast_loss(one->context, &outputs, &inputs, &options, one->workspace, one->workspace_size));
    RPO_TRY(rpo_model_backward(one->model, &one->batch, one->sequence_gradients, NULL));
    return update(one);
}

/* sum_s g_s logp_s with the weights moved by `step` along a seeded direction. */
static rpo_status moved_value(step_case *one, const float *base, double step, double *value) {
    int64_t count = 0;
    float *weights = rpo_model_weights(one->model, &count);
    for (int64_t i = 0; i < count; ++i)
        weights[i] = (float)((double)base[i] + step * rpo_random_normal(61, 0, (uint64_t)i));
    RPO_TRY(rpo_model_forward(one->model, &one->batch, false, one->logps, NULL));
    *value = 0.0;
    for (int64_t s = 0; s < one->batch.num_sequences; ++s)
        *value += (double)one->sequence_gradients[s] * (double)one->logps[s];
    return RPO_OK;
}

/* The gradient along a direction against central differences of the forward. */
static rpo_status slope_error(step_case *one, double *error) {
    int64_t count = 0;
    float *gradients = NULL;
    const double step = 2e-4;
    double low = 0.0, high = 0.0, expected = 0.0, squares = 0.0;
    for (int64_t s = 0; s < one->batch.num_sequences; ++s)
        one->sequence_gradients[s] = s % 2 == 0 ? 1.0f : -0.5f;
    RPO_TRY(rpo_model_zero_gradients(one->model));
    RPO_TRY(rpo_model_forward(one->model, &one->batch, true, NULL, NULL));
    RPO_TRY(rpo_model_backward(one->model, &one->batch, one->sequence_gradients, NULL));
    RPO_TRY(rpo_model_gradients(one->model, &gradients, &count));
    for (int64_t i = 0; i < count; ++i) {
        expected += (double)gradients[i] * rpo_random_normal(61, 0, (uint64_t)i);
        squares += (double)gradients[i] * (double)gradients[i];
    }
    float *base = rpo_alloc_array((size_t)count, sizeof *base);
    if (base == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    memcpy(base, rpo_model_weights(one->model, &count), (size_t)count * sizeof *base);
    rpo_status status = moved_value(one, base, -step, &low);
    if (status == RPO_OK)
        status = moved_value(one, base, step, &high);
    *error = bench_worse(*error, (high - low) / (2.0 * step), expected, sqrt(squares));
    rpo_free(base);
    return status;
}

static rpo_status check_twin(bench_run *run) {
    const step_size size = {.layers = 2,
                            .hidden = 32,
                            .intermediate = 80,
                            .heads = 4,
                            .kv_heads = 2,
                            .vocab = 97,
                            .rows = 61,
                            .sequences = 4,
                            .valid_percent = 70};
    step_case twin;
    rpo_status status = step_case_new(&twin, run->context, &size);
    if (status == RPO_OK)
        status = slope_error(&twin, &run->row->error);
    step_case_free(&twin);
    return status;
}

/* Multiply-adds of every matmul, two flops each; attention counts the causal half. */
static double step_flops(const step_size *size) {
    const double rows = (double)size->rows, hidden = (double)size->hidden;
    const double head_dim = hidden / (double)size->heads;
    const double weights = hidden * (hidden + 2.0 * (double)size->kv_heads * head_dim) + hidden * hidden +
                           3.0 * hidden * (double)size->intermediate;
    const double attention = 2.0 * hidden * rows / (double)size->sequences / 2.0;
    const double valid = rows * (double)size->valid_percent / 100.0;
    return 6.0 * rows * (double)size->layers * (weights + attention) +
           6.0 * valid * hidden * (double)size->vocab;
}

rpo_status bench_training_step(bench_run *run) {
    bench_row *row = run->row;
    step_size size;
    if (run->context->backend->model.linear == NULL)
        return rpo_error_set(RPO_ERROR_UNSUPPORTED, "the backend %s has no model ops; use --backend cpu",
                             run->context->backend->name);
    size.layers = bench_size(run, "layers", 4);
    size.hidden = bench_size(run, "hidden", 256);
    size.intermediate = bench_size(run, "intermediate", 688);
    size.heads = bench_size(run, "heads", 4);
    size.kv_heads = bench_size(run, "kv_heads", 4);
    size.vocab = bench_size(run, "vocab", 32000);
    size.rows = bench_size(run, "rows", 2048);
    size.sequences = bench_size(run, "sequences", 8);
    size.valid_percent = bench_size(run, "valid_percent", 100);
    RPO_TRY(bench_sizes_check(run));
    RPO_TRY(check_twin(run));

    step_case one;
    rpo_status status = step_case_new(&one, run->context, &size);
    if (status == RPO_OK) {
        int64_t count = 0;
        (void)rpo_model_weights(one.model, &count);
        row->bytes = 5.0 * (double)count * sizeof(float); /* the optimizer's, a lower bound */
        row->workspace_bytes = one.workspace_size;
        status = bench_time(run, step_run, &one);
    }
    row->flops = step_flops(&size);
    row->limit = BENCH_LIMIT_MATMUL;
    row->tokens = (double)size.rows;
    row->tolerance = 5e-3;
    row->checked = "slope of a two-layer twin against differences";
    step_case_free(&one);
    return status;
}
