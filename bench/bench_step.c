/*
 * bench_step.c - a whole training step of a small Llama-architecture model, from packed rows on the host to figures on
 * the host, as host/train enqueues it: one upload, forward with log-probs, DPO loss, backward seeded with one scalar a
 * sequence, gradient norm, clipping, RMSprop, one download.
 */
#include <math.h>
#include <string.h>

#include "bench/bench.h"
#include "core/bump.h"
#include "host/model/model.h"
#include "host/train/optimizer.h"

typedef struct step_size {
    int64_t layers, hidden, intermediate, heads, kv_heads, vocab;
    int64_t rows, sequences; /* as if every sequence stood whole */
    int64_t valid_percent;   /* rows that predict a token of a response; the others hold the prompt */
    int64_t shared;          /* 1: the responses of a pair share the rows of their prompt */
} step_size;

/* What a step leaves, on the device. It lies among the figures from the first step to the last. */
typedef struct step_figures {
    rpo_step_control *control;
    float *loss;
    float *policy, *gradients; /* [sequences] log-probs in the order of the contrast, and dL / d them */
    float *segment_logps, *segment_gradients; /* [segments] the same in the order of the batch */
} step_figures;

typedef struct step_case {
    rpo_context *context;
    rpo_model *model;
    rpo_memory *memory;
    rpo_optimizer optimizer;
    rpo_batch batch;
    int64_t
        sequences; /* the first half is chosen, the others rejected; sequence i + half is the partner of i */
    int32_t *segment_at;  /* [sequences] the segment that tells a sequence's log-prob */
    int32_t *sequence_at; /* [segments] the sequence of a segment; -1: a prompt's */
    float *reference;     /* [sequences] log-probs under the policy's start */
    float loss;           /* of the last step */
    rpo_tape tape;
    step_figures figures;
    const rpo_step_control *found; /* figures.control and loss on the host, after the download */
    const float *found_loss;

    /* Of the step under way, on the device. */
    rpo_device_batch staged;
    const int32_t *staged_segment_at, *staged_sequence_at;
    const float *staged_reference;
} step_case;

/* ---- the batch ---- */

/* Tokens of a sequence of `length`: the prompt's follow from the pair, the others from the sequence. */
static void draw_tokens(int32_t *tokens, int64_t length, int64_t prompt, int64_t pair, int64_t sequence,
                        int64_t vocab) {
    for (int64_t t = 0; t < length; ++t) {
        const uint64_t stream = t < prompt ? (uint64_t)(2 * pair) : (uint64_t)(2 * sequence + 1);
        tokens[t] = (int32_t)(rpo_random_u64(51, stream, (uint64_t)t) % (uint64_t)vocab);
    }
}

/* One sequence of `rows` rows: whole, or the rows after what its prompt's segment holds. */
static rpo_status add_sequence(step_case *one, const step_size *size, int64_t s, int64_t *prompt_segment,
                               int32_t *tokens) {
    const int64_t pairs = size->sequences / 2, mean = size->rows / size->sequences;
    const int64_t rows = (s + 1) * size->rows / size->sequences - s * size->rows / size->sequences;
    const int64_t prompt = 1 + mean * (100 - size->valid_percent) / 100;
    const bool shares = size->shared == 1 && prompt > 1;
    rpo_segment_rows segment = {.tokens = tokens, .length = rows + 1, .label_start = prompt, .prefix = -1};
    draw_tokens(tokens, rows + 1, prompt, s % pairs, s, size->vocab);
    if (shares && s < pairs) {
        segment.end = prompt - 1;
        RPO_TRY(rpo_batch_add_rows(&one->batch, &segment));
        prompt_segment[s] = one->batch.num_segments - 1;
        one->sequence_at[prompt_segment[s]] = -1;
    }
    segment.first = shares ? prompt - 1 : 0;
    segment.end = rows;
    segment.prefix = shares ? prompt_segment[s % pairs] : -1;
    RPO_TRY(rpo_batch_add_rows(&one->batch, &segment));
    one->segment_at[s] = (int32_t)(one->batch.num_segments - 1);
    one->sequence_at[one->segment_at[s]] = (int32_t)s;
    return RPO_OK;
}

static rpo_status add_sequences(step_case *one, const step_size *size) {
    int32_t *tokens = rpo_alloc_array((size_t)size->rows + 1, sizeof *tokens);
    int64_t *prompt_segment = rpo_calloc_array((size_t)size->sequences, sizeof *prompt_segment);
    rpo_status status = tokens != NULL && prompt_segment != NULL ? RPO_OK : RPO_ERROR_OUT_OF_MEMORY;
    for (int64_t s = 0; s < size->sequences && status == RPO_OK; ++s)
        status = add_sequence(one, size, s, prompt_segment, tokens);
    rpo_free(prompt_segment);
    rpo_free(tokens);
    return status;
}

/* ---- the loss ---- */

static rpo_loss_options loss_options(void) {
    rpo_loss_options options = RPO_LOSS_OPTIONS_INIT;
    options.kind = RPO_LOSS_DPO;
    return options;
}

static rpo_contrast_inputs loss_inputs(const step_case *one) {
    const int64_t pairs = one->sequences / 2;
    return (rpo_contrast_inputs){.struct_size = sizeof(rpo_contrast_inputs),
                                 .policy_chosen_logps = one->figures.policy,
                                 .policy_rejected_logps = one->figures.policy + pairs,
                                 .reference_chosen_logps = one->staged_reference,
                                 .reference_rejected_logps = one->staged_reference + pairs,
                                 .m = pairs,
                                 .n = pairs};
}

/* Sizes follow from the numbers of rows; the pointers only say that there are arrays. */
static rpo_status loss_workspace(const step_case *one, size_t *bytes) {
    static const float none[2] = {0};
    const int64_t pairs = one->sequences / 2;
    const rpo_contrast_inputs inputs = {.struct_size = sizeof inputs,
                                        .policy_chosen_logps = none,
                                        .policy_rejected_logps = none,
                                        .m = pairs,
                                        .n = pairs};
    const rpo_loss_options options = loss_options();
    return rpo_contrast_loss_workspace_size(one->context, bytes, &inputs, &options);
}

/* ---- memory ---- */

/* The head's logits, as far as host/run keeps them. */
static rpo_status head_cache_bytes(const step_case *one, size_t *bytes) {
    const size_t most = (size_t)256 << 20;
    const rpo_model_config *config = rpo_model_get_config(one->model);
    const rpo_linear_logprob_shape shape = {.struct_size = sizeof shape,
                                            .rows = one->batch.num_rows,
                                            .hidden_size = config->hidden_size,
                                            .vocab_size = config->vocab_size,
                                            .num_sequences = one->batch.num_segments,
                                            .dtype = RPO_FLOAT32};
    RPO_TRY(rpo_linear_logprob_cache_size(one->context, bytes, &shape));
    *bytes = *bytes < most ? *bytes : most;
    return RPO_OK;
}

static size_t floats_of(int64_t count) {
    return rpo_bump_align((size_t)count * sizeof(float));
}

static rpo_status create_memory(step_case *one) {
    const int64_t rows = one->batch.num_rows, segments = one->batch.num_segments;
    const size_t sequences = floats_of(one->sequences);
    size_t loss = 0;
    rpo_memory_request request = {
        .batch_rows = rows,
        .batch_segments = segments,
        .longest = one->batch.max_context,
        .train = true,
        .moments = rpo_optimizer_num_moments(one->optimizer.settings.kind),
        .tape_bytes = rpo_tape_bytes(one->model, rows),
        .batch_bytes = rpo_batch_staged_bytes(rows, segments) + 2 * sequences + floats_of(segments) +
                       rpo_optimizer_staged_bytes(one->model),
        .figure_bytes = (size_t)2 * RPO_BUMP_ALIGNMENT + 2 * sequences + 2 * floats_of(segments),
    };
    RPO_TRY(head_cache_bytes(one, &request.head_cache_bytes));
    RPO_TRY(loss_workspace(one, &loss));
    const size_t norm = rpo_optimizer_workspace_bytes(one->model);
    request.workspace_bytes = loss > norm ? loss : norm;
    return rpo_memory_create(&one->memory, one->model, &request);
}

static void *place(step_case *one, int64_t count, size_t size, const void **found) {
    void *device = NULL;
    const void *host = rpo_staging_put(one->memory->figures, NULL, count, size, &device);
    if (found != NULL)
        *found = host;
    return device;
}

static void place_figures(step_case *one) {
    const void *control = NULL, *loss = NULL;
    const int64_t segments = one->batch.num_segments;
    rpo_staging_reset(one->memory->figures);
    one->figures = (step_figures){
        .control = place(one, 1, sizeof(rpo_step_control), &control),
        .loss = place(one, 1, sizeof(float), &loss),
        .policy = place(one, one->sequences, sizeof(float), NULL),
        .gradients = place(one, one->sequences, sizeof(float), NULL),
        .segment_logps = place(one, segments, sizeof(float), NULL),
        .segment_gradients = place(one, segments, sizeof(float), NULL),
    };
    one->found = control;
    one->found_loss = loss;
}

static void lay_out_tape(step_case *one) {
    rpo_bump from = rpo_bump_from(one->memory->tape);
    rpo_tape_lay_out(&one->tape, one->model, &from, one->batch.num_rows);
    one->tape.head_cache = one->memory->head_cache;
    one->tape.head_cache_bytes = one->memory->head_cache_bytes;
}

/* ---- the step ---- */

static rpo_status put(step_case *one, const void *data, int64_t count, void *device) {
    void *where = NULL;
    if (rpo_staging_put(one->memory->plan, data, count, sizeof(float), &where) == NULL)
        return rpo_error_set(RPO_ERROR_INTERNAL, "training-step: its plan is larger than the batch segment");
    memcpy(device, &where, sizeof where);
    return RPO_OK;
}

/* Everything that the step reads, in one upload. */
static rpo_status upload(step_case *one) {
    rpo_staging *plan = one->memory->plan;
    rpo_staging_reset(plan);
    RPO_TRY(rpo_batch_stage(&one->batch, plan, &one->staged));
    RPO_TRY(put(one, one->segment_at, one->sequences, &one->staged_segment_at));
    RPO_TRY(put(one, one->sequence_at, one->batch.num_segments, &one->staged_sequence_at));
    RPO_TRY(put(one, one->reference, one->sequences, &one->staged_reference));
    RPO_TRY(rpo_optimizer_stage(&one->optimizer, one->model, plan));
    return rpo_staging_upload(plan);
}

static rpo_status download(step_case *one) {
    RPO_TRY(rpo_staging_download(one->memory->figures));
    return rpo_context_synchronize(one->context);
}

/* From the order of the batch to that of the contrast. */
static rpo_status take_logps(const step_case *one) {
    return one->context->backend->model.take(one->context, one->figures.policy, one->figures.segment_logps,
                                             one->staged_segment_at, one->sequences);
}

/* And back, through the model. */
static rpo_status seeded_backward(step_case *one) {
    RPO_TRY(one->context->backend->model.take(one->context, one->figures.segment_gradients,
                                              one->figures.gradients, one->staged_sequence_at,
                                              one->batch.num_segments));
    return rpo_model_backward(one->model, &one->tape, one->figures.segment_gradients, false, NULL);
}

static rpo_status contrast(const step_case *one) {
    const rpo_loss_options options = loss_options();
    const rpo_contrast_inputs inputs = loss_inputs(one);
    const rpo_contrast_outputs outputs = {.struct_size = sizeof outputs,
                                          .loss = one->figures.loss,
                                          .grad_chosen_logps = one->figures.gradients,
                                          .grad_rejected_logps = one->figures.gradients + one->sequences / 2};
    return rpo_contrast_loss(one->context, &outputs, &inputs, &options, one->memory->workspace,
                             one->memory->workspace_bytes);
}

static rpo_status step_run(void *state) {
    step_case *one = state;
    RPO_TRY(upload(one));
    RPO_TRY(rpo_model_record(one->model, &one->tape, &one->staged, one->figures.segment_logps));
    RPO_TRY(take_logps(one));
    RPO_TRY(contrast(one));
    RPO_TRY(seeded_backward(one));
    RPO_TRY(
        rpo_optimizer_update(&one->optimizer, one->model, one->figures.control, one->figures.loss, 1, 5e-7));
    RPO_TRY(download(one));
    one->loss = *one->found_loss;
    if (one->found->skip != RPO_SKIP_NOTHING)
        return rpo_error_set(RPO_ERROR_NONFINITE, "training-step: loss %g, gradient norm %g",
                             (double)one->loss, one->found->grad_norm);
    return RPO_OK;
}

/* Log-probs of every sequence, in the order of the contrast. */
static rpo_status score(step_case *one, float *logps) {
    RPO_TRY(upload(one));
    RPO_TRY(rpo_model_score(one->model, &one->staged, one->figures.segment_logps, NULL));
    RPO_TRY(take_logps(one));
    return rpo_device_read(one->context, logps, one->figures.policy, 0, one->sequences);
}

static rpo_status open_model(step_case *one, const step_size *size) {
    const rpo_optimizer_settings settings = {.kind = RPO_OPTIMIZER_RMSPROP, .max_grad_norm = 10.0};
    rpo_model_config config = rpo_model_config_default();
    config.vocab_size = size->vocab;
    config.hidden_size = size->hidden;
    config.intermediate_size = size->intermediate;
    config.num_hidden_layers = size->layers;
    config.num_attention_heads = size->heads;
    config.num_key_value_heads = size->kv_heads;
    config.head_dim = size->hidden / size->heads;
    config.max_position_embeddings = size->rows;
    RPO_TRY(rpo_model_new(&one->model, one->context, &config));
    RPO_TRY(rpo_model_check_batch(one->model, &one->batch));
    RPO_TRY(rpo_optimizer_open(&one->optimizer, &settings, one->model));
    RPO_TRY(create_memory(one));
    place_figures(one);
    lay_out_tape(one);
    RPO_TRY(rpo_model_initialise(one->model, 1));
    return rpo_optimizer_begin(one->model, one->figures.control, 0);
}

static rpo_status step_case_new(step_case *one, rpo_context *context, const step_size *size) {
    *one = (step_case){.context = context, .sequences = size->sequences};
    if (size->sequences < 2 || size->sequences % 2 != 0 || size->rows < 2 * size->sequences ||
        size->valid_percent > 100 || size->shared > 1)
        return rpo_error_set(RPO_ERROR_INVALID_INPUT,
                             "--shape: sequences must be even, rows at least twice as "
                             "many, valid_percent at most 100, shared 1 or left out");
    one->segment_at = rpo_calloc_array((size_t)size->sequences, sizeof *one->segment_at);
    one->sequence_at = rpo_calloc_array(2 * (size_t)size->sequences, sizeof *one->sequence_at);
    one->reference = rpo_calloc_array((size_t)size->sequences, sizeof *one->reference);
    if (one->segment_at == NULL || one->sequence_at == NULL || one->reference == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    RPO_TRY(add_sequences(one, size));
    RPO_TRY(open_model(one, size));
    return score(one, one->reference);
}

static void step_case_free(step_case *one) {
    rpo_optimizer_close(&one->optimizer);
    rpo_model_free(one->model);
    rpo_memory_free(one->memory);
    rpo_batch_free(&one->batch);
    rpo_free(one->reference);
    rpo_free(one->sequence_at);
    rpo_free(one->segment_at);
}

/* ---- is it right? ---- */

static double coefficient(int64_t sequence) {
    return sequence % 2 == 0 ? 1.0 : -0.5;
}

static double direction(int64_t element) {
    return rpo_random_normal(61, 0, (uint64_t)element);
}

/* sum_s coefficient_s logp_s with the weights moved by `step` along a seeded direction. */
static rpo_status moved_value(step_case *one, const float *base, float *moved, double step, double *value) {
    const int64_t count = rpo_model_tensors(one->model)->weights;
    for (int64_t i = 0; i < count; ++i)
        moved[i] = (float)((double)base[i] + step * direction(i));
    RPO_TRY(rpo_device_write(one->context, one->memory->weights, moved, 0, count));
    RPO_TRY(score(one, moved)); /* has room for them: there are more weights than sequences */
    *value = 0.0;
    for (int64_t s = 0; s < one->sequences; ++s)
        *value += coefficient(s) * (double)moved[s];
    return RPO_OK;
}

/* The gradient of that sum, into gradients [trainable]. */
static rpo_status find_gradients(step_case *one, float *gradients) {
    for (int64_t s = 0; s < one->sequences; ++s)
        gradients[s] = (float)coefficient(s);
    RPO_TRY(rpo_device_write(one->context, one->figures.gradients, gradients, 0, one->sequences));
    RPO_TRY(upload(one));
    RPO_TRY(rpo_model_record(one->model, &one->tape, &one->staged, one->figures.segment_logps));
    RPO_TRY(seeded_backward(one));
    return rpo_device_read(one->context, gradients, one->memory->gradients, 0,
                           rpo_model_tensors(one->model)->trainable);
}

/* The gradient along a direction against central differences of the forward. Weights and trainable space are laid out
 * alike: nothing is frozen. */
static rpo_status slope_error(step_case *one, double *error) {
    const int64_t count = rpo_model_tensors(one->model)->trainable;
    const double step = 2e-4;
    double low = 0.0, high = 0.0, expected = 0.0, squares = 0.0;
    float *base = rpo_alloc_array((size_t)count, sizeof *base);
    float *values = rpo_alloc_array((size_t)count, sizeof *values);
    rpo_status status = base != NULL && values != NULL ? RPO_OK : RPO_ERROR_OUT_OF_MEMORY;
    if (status == RPO_OK)
        status = rpo_device_read(one->context, base, one->memory->weights, 0, count);
    if (status == RPO_OK)
        status = find_gradients(one, values);
    for (int64_t i = 0; i < count && status == RPO_OK; ++i) {
        expected += (double)values[i] * direction(i);
        squares += (double)values[i] * (double)values[i];
    }
    if (status == RPO_OK)
        status = moved_value(one, base, values, -step, &low);
    if (status == RPO_OK)
        status = moved_value(one, base, values, step, &high);
    *error = bench_worse(*error, (high - low) / (2.0 * step), expected, sqrt(squares));
    rpo_free(values);
    rpo_free(base);
    return status;
}

/* With and without shared prompts, whatever is timed; and that a step of either runs to its end. */
static rpo_status check_twin(bench_run *run) {
    step_size size = {.layers = 2,
                      .hidden = 32,
                      .intermediate = 80,
                      .heads = 4,
                      .kv_heads = 2,
                      .vocab = 97,
                      .rows = 61,
                      .sequences = 4,
                      .valid_percent = 70};
    for (int k = 0; k < 2; ++k) {
        step_case twin;
        size.shared = k;
        rpo_status status = step_case_new(&twin, run->context, &size);
        if (status == RPO_OK)
            status = step_run(&twin);
        if (status == RPO_OK) /* policy and reference are one */
            run->row->error = bench_worse(run->row->error, (double)twin.loss, log(2.0), 0.0);
        if (status == RPO_OK)
            status = slope_error(&twin, &run->row->error);
        step_case_free(&twin);
        RPO_TRY(status);
    }
    return RPO_OK;
}

/* Multiply-adds of every matmul of the rows that stand in the batch, two flops each; attention counts the rows that a
 * row sees. */
static double step_flops(const step_case *one, const step_size *size) {
    const double rows = (double)one->batch.num_rows, hidden = (double)size->hidden;
    const double head_dim = hidden / (double)size->heads;
    const double weights = hidden * (hidden + 2.0 * (double)size->kv_heads * head_dim) + hidden * hidden +
                           3.0 * hidden * (double)size->intermediate;
    double seen = 0.0;
    for (int64_t t = 0; t < one->batch.num_rows; ++t)
        seen += (double)one->batch.positions[t] + 1.0;
    return 6.0 * (double)size->layers * (rows * weights + 2.0 * hidden * seen) +
           6.0 * (double)one->batch.num_labels * hidden * (double)size->vocab;
}

static step_size read_size(bench_run *run) {
    step_size size; /* one after another: the row names them in this order */
    size.layers = bench_size(run, "layers", 4);
    size.hidden = bench_size(run, "hidden", 256);
    size.intermediate = bench_size(run, "intermediate", 688);
    size.heads = bench_size(run, "heads", 4);
    size.kv_heads = bench_size(run, "kv_heads", 4);
    size.vocab = bench_size(run, "vocab", 32000);
    size.rows = bench_size(run, "rows", 2048);
    size.sequences = bench_size(run, "sequences", 8);
    size.valid_percent = bench_size(run, "valid_percent", 100);
    size.shared = bench_size(run, "shared", 0);
    return size;
}

rpo_status bench_training_step(bench_run *run) {
    bench_row *row = run->row;
    if (run->context->backend->model.linear == NULL)
        return rpo_error_set(RPO_ERROR_UNSUPPORTED, "the backend %s has no model ops; use --backend cpu",
                             run->context->backend->name);
    const step_size size = read_size(run);
    RPO_TRY(bench_sizes_check(run));
    RPO_TRY(check_twin(run));

    step_case one;
    rpo_status status = step_case_new(&one, run->context, &size);
    if (status == RPO_OK) {
        row->bytes = 5.0 * (double)rpo_model_tensors(one.model)->trainable *
                     sizeof(float); /* the optimizer's, a lower bound */
        row->workspace_bytes = one.memory->workspace_bytes;
        row->flops = step_flops(&one, &size);
        status = bench_time(run, step_run, &one);
    }
    row->limit = BENCH_LIMIT_MATMUL;
    row->tokens = (double)size.rows;
    row->tolerance = 5e-3;
    row->checked = "slopes of two-layer twins, prompts whole and shared, against differences";
    step_case_free(&one);
    return status;
}
