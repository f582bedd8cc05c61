/* inputs.c - loading what a run works on, and checking that the parts fit each other. */
#include "host/run/inputs_internal.h"

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

static rpo_status embed(rpo_inputs *inputs, const char *cache_folder) {
    const rpo_config *config = inputs->config;
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

static bool needs_embeddings(const rpo_inputs *inputs) {
    return rpo_loss_kind_needs_embeddings(inputs->config->loss.kind) != 0;
}

rpo_status rpo_inputs_embed(rpo_inputs *inputs, const char *cache_folder) {
    const bool are_there = inputs->train_embeddings.rows != NULL || inputs->eval_embeddings.rows != NULL;
    return needs_embeddings(inputs) && !are_there ? embed(inputs, cache_folder) : RPO_OK;
}

rpo_status rpo_inputs_open(rpo_inputs *inputs, const rpo_config *config, rpo_comm *comm, rpo_inputs_use use) {
    *inputs = (rpo_inputs){.config = config, .comm = comm};
    rpo_status status = open_context(inputs);
    if (status == RPO_OK)
        status = open_data(inputs, use == RPO_INPUTS_TRAIN);
    /* Rows of a file are not cached, and only the file says how wide they are: the memory's size needs that. */
    if (status == RPO_OK && needs_embeddings(inputs) && config->embedding.kind == RPO_EMBEDDING_FILE)
        status = embed(inputs, NULL);
    if (status == RPO_OK)
        status = rpo_inputs_open_model(inputs, use);
    if (status != RPO_OK)
        rpo_inputs_close(inputs);
    return status;
}

void rpo_inputs_close(rpo_inputs *inputs) {
    rpo_free(inputs->trainable);
    rpo_embeddings_free(&inputs->eval_embeddings);
    rpo_embeddings_free(&inputs->train_embeddings);
    rpo_model_free(inputs->model);
    rpo_memory_free(inputs->memory);
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
