/*
 * inputs_model.c - the model of a run: checked against the data, its memory sized for every step that will come and
 * allocated once, and only then its weights.
 */
#include "host/run/inputs_internal.h"

#include "host/train/optimizer.h"

/* What a step keeps between forward and backward, where it can be kept: about what one micro-batch takes by default. */
static const size_t tape_budget = (size_t)1 << 30;
/* Of the head's logits between both: 2,048 labels of a vocabulary of 32,000. What does not fit is computed twice. */
static const size_t head_cache_limit = (size_t)256 << 20;

/* ---- objectives ---- */

/* Rows of a block: pairs, or twice as many unpaired records. Block 0 is the global batch, in training as held out. */
static int64_t block_rows(const rpo_config *config, const rpo_dataset *dataset) {
    const int64_t pairs =
        config->loss.contrast_block > 0 ? config->loss.contrast_block : config->train.batch_size;
    return rpo_dataset_is_paired(dataset) ? pairs : 2 * pairs;
}

/* sft counts responses, and so takes as many records as there are pairs otherwise. */
int64_t rpo_inputs_rows_a_step(const rpo_inputs *inputs) {
    const bool paired = rpo_dataset_is_paired(inputs->train) || inputs->config->loss.kind == RPO_LOSS_SFT;
    return paired ? inputs->config->train.batch_size : 2 * inputs->config->train.batch_size;
}

static rpo_loss_options loss_options(const rpo_config *config) {
    rpo_loss_options loss = RPO_LOSS_OPTIONS_INIT;
    loss.kind = config->loss.kind;
    loss.beta = (float)config->loss.beta;
    loss.tau = (float)config->loss.distance_temperature;
    loss.diagonal_weight = (float)config->loss.diagonal_weight;
    loss.epsilon = (float)config->loss.epsilon;
    loss.weight_scale = config->loss.weight_scale;
    return loss;
}

static int64_t embedding_dim(const rpo_config *config, const rpo_embeddings *embeddings) {
    if (!rpo_loss_kind_needs_embeddings(config->loss.kind))
        return 0;
    return embeddings->rows != NULL ? embeddings->dim : RPO_EMBEDDING_HASHED_DIM;
}

rpo_objective rpo_inputs_objective(const rpo_inputs *inputs, const rpo_dataset *dataset,
                                   const rpo_embeddings *embeddings) {
    const rpo_config *config = inputs->config;
    rpo_objective objective = {
        .comm = inputs->comm,
        .model = inputs->model,
        .dataset = dataset,
        .embeddings = embeddings->rows != NULL ? embeddings : NULL,
        .embedding_dim = embedding_dim(config, embeddings),
        .contrast = {.loss = loss_options(config), .block_rows = block_rows(config, dataset)},
        .micro_batch_tokens = inputs->micro_batch_tokens,
        .prefix_sharing = config->train.prefix_sharing,
    };
    objective.rows_at_once =
        dataset == inputs->train ? rpo_inputs_rows_a_step(inputs) : rpo_objective_rows_of_pass(&objective);
    return objective;
}

rpo_objective rpo_inputs_scoring(const rpo_inputs *inputs, rpo_model *model, const rpo_dataset *dataset) {
    rpo_objective scoring = {
        .comm = inputs->comm,
        .model = model,
        .dataset = dataset,
        .contrast = {.loss = loss_options(inputs->config), .block_rows = 1},
        .micro_batch_tokens = inputs->micro_batch_tokens,
        .prefix_sharing = inputs->config->train.prefix_sharing,
        .scores_only = true,
    };
    const bool follows_steps = dataset == inputs->train && inputs->trainable != NULL;
    scoring.rows_at_once =
        follows_steps ? rpo_inputs_rows_a_step(inputs) : rpo_objective_rows_of_pass(&scoring);
    return scoring;
}

/* ---- checks ---- */

static int32_t longest_sequence(const rpo_dataset *dataset) {
    int32_t longest = 0;
    for (int64_t i = 0; dataset != NULL && i < rpo_dataset_size(dataset); ++i) {
        const rpo_record *record = rpo_dataset_record(dataset, i);
        longest = record->chosen.length > longest ? record->chosen.length : longest;
        longest = record->rejected.length > longest ? record->rejected.length : longest;
    }
    return longest;
}

static rpo_status check_model(const rpo_inputs *inputs, const rpo_model_config *model, const char *key) {
    const int64_t vocabulary = rpo_tokenizer_vocab_size(inputs->tokenizer);
    if (model->vocab_size < vocabulary)
        return rpo_config_fault(
            inputs->config, key,
            "has a vocabulary of %lld, but the %s tokenizer has %lld ids; vocab_size must be at "
            "least that",
            (long long)model->vocab_size, rpo_tokenizer_name(inputs->tokenizer), (long long)vocabulary);
    const int32_t train = longest_sequence(inputs->train), eval = longest_sequence(inputs->eval);
    const int32_t longest = train > eval ? train : eval;
    if (longest > model->max_position_embeddings)
        return rpo_config_fault(
            inputs->config, "data.max_length",
            "lets a sequence have %d tokens, but the model of %s has max_position_embeddings "
            "%lld; must be at most that",
            longest, key, (long long)model->max_position_embeddings);
    return RPO_OK;
}

/* What is written of the model says which ids it was fed. */
static void set_token_ids(const rpo_inputs *inputs, rpo_model *model) {
    rpo_model_set_token_ids(model, rpo_tokenizer_bos(inputs->tokenizer), rpo_tokenizer_eos(inputs->tokenizer),
                            rpo_tokenizer_pad(inputs->tokenizer));
}

/*
 * Tokens of one forward where the user leaves it to us: about a gigabyte of activations. It follows from the
 * model alone, not from the memory that happens to be free, so that a run resumed elsewhere packs the same.
 */
static int64_t choose_micro_batch_tokens(const rpo_model_config *model) {
    const int64_t budget = INT64_C(1) << 30, least = 512, most = 16384;
    const int64_t heads = (model->num_attention_heads + 2 * model->num_key_value_heads) * model->head_dim;
    const int64_t floats = 4 * model->hidden_size + 2 * heads + 3 * model->intermediate_size;
    const int64_t tokens = budget / (4 * floats * model->num_hidden_layers);
    return tokens < least ? least : tokens > most ? most : tokens;
}

/* ---- memory ---- */

static rpo_status request_scoring(rpo_memory_request *request, const rpo_inputs *inputs, rpo_model *model) {
    const rpo_dataset *const datasets[2] = {inputs->trainable != NULL ? inputs->train : NULL, inputs->eval};
    for (int i = 0; i < 2; ++i) {
        if (datasets[i] == NULL)
            continue;
        const rpo_objective scoring = rpo_inputs_scoring(inputs, model, datasets[i]);
        RPO_TRY(rpo_objective_request(request, &scoring, model, false, 0, 0));
    }
    return RPO_OK;
}

static size_t larger(size_t a, size_t b) {
    return a > b ? a : b;
}

static rpo_status request_training(rpo_memory_request *request, const rpo_inputs *inputs) {
    const rpo_objective train = rpo_inputs_objective(inputs, inputs->train, &inputs->train_embeddings);
    RPO_TRY(rpo_objective_request(request, &train, inputs->model, true, tape_budget, head_cache_limit));
    request->moments = rpo_optimizer_num_moments(inputs->config->train.optimizer);
    request->batch_bytes += rpo_optimizer_staged_bytes(inputs->model);
    request->workspace_bytes = larger(request->workspace_bytes, rpo_optimizer_workspace_bytes(inputs->model));
    return RPO_OK;
}

static rpo_status create_memory(rpo_inputs *inputs, rpo_inputs_use use) {
    rpo_memory_request request = {0};
    RPO_TRY(request_scoring(&request, inputs, inputs->model));
    if (inputs->eval != NULL) {
        const rpo_objective eval = rpo_inputs_objective(inputs, inputs->eval, &inputs->eval_embeddings);
        RPO_TRY(rpo_objective_request(&request, &eval, inputs->model, false, 0, 0));
    }
    if (use == RPO_INPUTS_TRAIN)
        RPO_TRY(request_training(&request, inputs));
    return rpo_memory_create(&inputs->memory, inputs->model, &request);
}

/* ---- models ---- */

/* A folder's model without its weights: everything that can be checked before memory is asked for. */
static rpo_status open_folder(const rpo_inputs *inputs, rpo_model **model, const char *key,
                              const char *path) {
    rpo_model_config config;
    *model = NULL;
    RPO_TRY(rpo_tokenizer_check_folder(inputs->tokenizer, path));
    RPO_TRY(rpo_model_config_load(&config, path));
    RPO_TRY(rpo_model_new(model, inputs->context, &config));
    rpo_status status = rpo_model_check_folder(*model, path);
    if (status == RPO_OK)
        status = check_model(inputs, &config, key);
    if (status == RPO_OK)
        set_token_ids(inputs, *model);
    return status;
}

static rpo_status open_fresh(const rpo_inputs *inputs, rpo_model **model) {
    const rpo_model_config *init = &inputs->config->model.init;
    RPO_TRY(check_model(inputs, init, "model.init"));
    RPO_TRY(rpo_model_new(model, inputs->context, init));
    set_token_ids(inputs, *model);
    return RPO_OK;
}

rpo_status rpo_inputs_open_model(rpo_inputs *inputs, rpo_inputs_use use) {
    const rpo_config *config = inputs->config;
    const char *path = config->model.path;
    RPO_TRY(path != NULL ? open_folder(inputs, &inputs->model, "model.path", path)
                         : open_fresh(inputs, &inputs->model));
    inputs->micro_batch_tokens = config->train.micro_batch_tokens > 0
                                     ? config->train.micro_batch_tokens
                                     : choose_micro_batch_tokens(rpo_model_get_config(inputs->model));
    RPO_TRY(create_memory(inputs, use));
    RPO_TRY(path != NULL ? rpo_model_read(inputs->model, path)
                         : rpo_model_initialise(inputs->model, config->run.seed));
    return rpo_model_hash(inputs->model, inputs->start_hash);
}

static rpo_status allocate_frozen(const rpo_inputs *inputs, rpo_frozen_model *frozen) {
    rpo_memory_request request = {0};
    RPO_TRY(request_scoring(&request, inputs, frozen->model));
    return rpo_memory_create(&frozen->memory, frozen->model, &request);
}

rpo_status rpo_inputs_load_frozen(const rpo_inputs *inputs, rpo_frozen_model *frozen, const char *key,
                                  const char *path) {
    *frozen = (rpo_frozen_model){0};
    rpo_status status = open_folder(inputs, &frozen->model, key, path);
    if (status == RPO_OK)
        status = allocate_frozen(inputs, frozen);
    if (status == RPO_OK)
        status = rpo_model_read(frozen->model, path);
    if (status != RPO_OK)
        rpo_frozen_model_free(frozen);
    return status;
}

rpo_status rpo_inputs_create_frozen(const rpo_inputs *inputs, rpo_frozen_model *frozen) {
    *frozen = (rpo_frozen_model){0};
    rpo_status status = open_fresh(inputs, &frozen->model);
    if (status == RPO_OK)
        status = allocate_frozen(inputs, frozen);
    if (status == RPO_OK)
        status = rpo_model_initialise(frozen->model, inputs->config->run.seed);
    if (status != RPO_OK)
        rpo_frozen_model_free(frozen);
    return status;
}

void rpo_frozen_model_free(rpo_frozen_model *frozen) {
    rpo_model_free(frozen->model);
    rpo_memory_free(frozen->memory);
    *frozen = (rpo_frozen_model){0};
}
