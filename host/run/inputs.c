/* inputs.c - loading what a run works on, and checking that the parts fit each other. */
#include "host/run/inputs.h"

static rpo_status open_context(rpo_inputs *inputs) {
    rpo_context_options options = RPO_CONTEXT_OPTIONS_INIT;
    options.num_threads = (int)inputs->config->run.threads;
    options.device = rpo_config_device(inputs->config);
    return rpo_context_create(&inputs->context, &options);
}

static rpo_status load_data(rpo_dataset **dataset, const rpo_inputs *inputs, const rpo_string_list *files) {
    return rpo_dataset_load(dataset, (const char *const *)files->items, files->count,
                            &inputs->config->data.options, inputs->tokenizer);
}

static rpo_status refuse_unpaired(const rpo_inputs *inputs, const char *key) {
    rpo_text allowed = {0};
    rpo_status status = RPO_OK;
    for (int kind = 0; kind < RPO_LOSS_KIND_COUNT && status == RPO_OK; ++kind)
        if (!rpo_loss_kind_needs_pairs((rpo_loss_kind)kind))
            status = rpo_text_printf(&allowed, "%s%s", allowed.length > 0 ? ", " : "",
                                     rpo_loss_kind_name((rpo_loss_kind)kind));
    if (status == RPO_OK)
        status = rpo_config_fault(
            inputs->config, "loss.kind",
            "is %s, which needs pairs, but the records of %s are unpaired; must be one of %s",
            rpo_loss_kind_name(inputs->config->loss.kind), key, allowed.data);
    rpo_text_free(&allowed);
    return status;
}

/* Does the loss find in this dataset what it trains on? */
static rpo_status check_data(const rpo_inputs *inputs, const rpo_dataset *dataset, const char *key) {
    const rpo_loss_kind kind = inputs->config->loss.kind;
    const rpo_data_report *report = rpo_dataset_report(dataset);
    if (rpo_dataset_size(dataset) == 0)
        return rpo_config_fault(inputs->config, key, "holds no usable record; at least one is needed");
    if (rpo_loss_kind_needs_pairs(kind) && !rpo_dataset_is_paired(dataset))
        return refuse_unpaired(inputs, key);
    if (report->chosen == 0)
        return rpo_config_fault(inputs->config, key, "holds no record with \"label\": true; %s needs some",
                                rpo_loss_kind_name(kind));
    if (kind != RPO_LOSS_SFT && report->rejected == 0)
        return rpo_config_fault(inputs->config, key, "holds no record with \"label\": false; %s needs some",
                                rpo_loss_kind_name(kind));
    return RPO_OK;
}

static rpo_status select_trainable(rpo_inputs *inputs) {
    const int64_t size = rpo_dataset_size(inputs->train);
    inputs->trainable = rpo_alloc_array((size_t)size, sizeof *inputs->trainable);
    if (inputs->trainable == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    for (int64_t i = 0; i < size; ++i)
        if (inputs->config->loss.kind != RPO_LOSS_SFT ||
            rpo_dataset_record(inputs->train, i)->chosen.tokens != NULL)
            inputs->trainable[inputs->num_trainable++] = i;
    return RPO_OK;
}

static rpo_status open_data(rpo_inputs *inputs, bool needs_training_data) {
    const rpo_config *config = inputs->config;
    const bool embeds = rpo_loss_kind_needs_embeddings(config->loss.kind) != 0;
    RPO_TRY(rpo_tokenizer_open(&inputs->tokenizer, config->model.path, config->model.tokenizer));
    if (config->reference.path != NULL && config->loss.kind != RPO_LOSS_SFT)
        RPO_TRY(rpo_tokenizer_check_folder(inputs->tokenizer, config->reference.path));
    if (config->data.train.count > 0 && (needs_training_data || embeds))
        RPO_TRY(load_data(&inputs->train, inputs, &config->data.train));
    if (config->data.eval.count > 0)
        RPO_TRY(load_data(&inputs->eval, inputs, &config->data.eval));
    if (needs_training_data) {
        RPO_TRY(check_data(inputs, inputs->train, "data.train"));
        RPO_TRY(select_trainable(inputs));
    }
    if (inputs->eval != NULL)
        RPO_TRY(check_data(inputs, inputs->eval, "data.eval"));

    rpo_hash *hash = rpo_hash_new();
    if (hash == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    rpo_hash_add_string(hash, inputs->train == NULL ? "" : rpo_dataset_hash(inputs->train));
    rpo_hash_add_string(hash, inputs->eval == NULL ? "" : rpo_dataset_hash(inputs->eval));
    rpo_hash_finish(hash, inputs->data_hash);
    return RPO_OK;
}

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

rpo_status rpo_inputs_load_model(const rpo_inputs *inputs, rpo_model **model, const char *key,
                                 const char *path) {
    RPO_TRY(rpo_tokenizer_check_folder(inputs->tokenizer, path));
    RPO_TRY(rpo_model_load(model, inputs->context, path));
    const rpo_status status = check_model(inputs, rpo_model_get_config(*model), key);
    if (status != RPO_OK) {
        rpo_model_free(*model);
        *model = NULL;
        return status;
    }
    set_token_ids(inputs, *model);
    return RPO_OK;
}

rpo_status rpo_inputs_create_model(const rpo_inputs *inputs, rpo_model **model) {
    const rpo_config *config = inputs->config;
    RPO_TRY(check_model(inputs, &config->model.init, "model.init")); /* before memory is asked for */
    RPO_TRY(rpo_model_create(model, inputs->context, &config->model.init, config->run.seed));
    set_token_ids(inputs, *model);
    return RPO_OK;
}

static rpo_status open_model(rpo_inputs *inputs) {
    const rpo_config *config = inputs->config;
    if (config->model.path != NULL)
        RPO_TRY(rpo_inputs_load_model(inputs, &inputs->model, "model.path", config->model.path));
    else
        RPO_TRY(rpo_inputs_create_model(inputs, &inputs->model));
    return rpo_model_hash(inputs->model, inputs->start_hash);
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

rpo_status rpo_inputs_open(rpo_inputs *inputs, const rpo_config *config, rpo_comm *comm,
                           bool needs_training_data) {
    *inputs = (rpo_inputs){.config = config, .comm = comm};
    rpo_status status = open_context(inputs);
    if (status == RPO_OK)
        status = open_data(inputs, needs_training_data);
    if (status == RPO_OK)
        status = open_model(inputs);
    if (status != RPO_OK) {
        rpo_inputs_close(inputs);
        return status;
    }
    inputs->micro_batch_tokens = config->train.micro_batch_tokens > 0
                                     ? config->train.micro_batch_tokens
                                     : choose_micro_batch_tokens(rpo_model_get_config(inputs->model));
    return RPO_OK;
}

rpo_status rpo_inputs_embed(rpo_inputs *inputs, const char *cache_folder) {
    const rpo_config *config = inputs->config;
    if (!rpo_loss_kind_needs_embeddings(config->loss.kind))
        return RPO_OK;
    const int threads = rpo_context_num_threads(inputs->context);
    const rpo_embedding_options train = {config->embedding.kind, config->embedding.path};
    const rpo_embedding_options eval = {config->embedding.kind, config->embedding.eval_path};
    const rpo_dataset *fit = inputs->train != NULL ? inputs->train : inputs->eval;
    if (inputs->trainable != NULL)
        RPO_TRY(rpo_embeddings_compute(&inputs->train_embeddings, inputs->train, fit, &train, cache_folder,
                                       threads));
    if (inputs->eval != NULL)
        RPO_TRY(rpo_embeddings_compute(&inputs->eval_embeddings, inputs->eval, fit, &eval, cache_folder,
                                       threads));
    return RPO_OK;
}

void rpo_inputs_close(rpo_inputs *inputs) {
    rpo_free(inputs->trainable);
    rpo_embeddings_free(&inputs->eval_embeddings);
    rpo_embeddings_free(&inputs->train_embeddings);
    rpo_model_free(inputs->model);
    rpo_dataset_free(inputs->eval);
    rpo_dataset_free(inputs->train);
    rpo_tokenizer_free(inputs->tokenizer);
    rpo_context_free(inputs->context);
    *inputs = (rpo_inputs){0};
}

static rpo_status write_tokenizer(const void *tokenizer, const char *folder) {
    return rpo_tokenizer_save(tokenizer, folder);
}

rpo_checkpoint_extras rpo_inputs_extras(const rpo_inputs *inputs) {
    return (rpo_checkpoint_extras){.write = write_tokenizer, .owner = inputs->tokenizer};
}

/* Rows of a block: pairs, or twice as many unpaired records. Block 0 is the global batch, in training as held
 * out. */
static int64_t block_rows(const rpo_config *config, const rpo_dataset *dataset) {
    const int64_t pairs =
        config->loss.contrast_block > 0 ? config->loss.contrast_block : config->train.batch_size;
    return rpo_dataset_is_paired(dataset) ? pairs : 2 * pairs;
}

rpo_objective rpo_inputs_objective(const rpo_inputs *inputs, const rpo_dataset *dataset,
                                   const rpo_embeddings *embeddings) {
    const rpo_config *config = inputs->config;
    rpo_loss_options loss = RPO_LOSS_OPTIONS_INIT;
    loss.kind = config->loss.kind;
    loss.beta = (float)config->loss.beta;
    loss.tau = (float)config->loss.distance_temperature;
    loss.diagonal_weight = (float)config->loss.diagonal_weight;
    loss.epsilon = (float)config->loss.epsilon;
    loss.weight_scale = config->loss.weight_scale;
    return (rpo_objective){
        .comm = inputs->comm,
        .context = inputs->context,
        .model = inputs->model,
        .dataset = dataset,
        .embeddings = embeddings->rows != NULL ? embeddings : NULL,
        .contrast = {.loss = loss, .block_rows = block_rows(config, dataset)},
        .micro_batch_tokens = inputs->micro_batch_tokens,
    };
}
