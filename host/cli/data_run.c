/* data_run.c - configuration, tokenizer and data of the commands that need no model. */
#include "host/cli/data_run.h"

#include <inttypes.h>

static rpo_status check_vocabulary(const rpo_data_run *run) {
    const int64_t needed = rpo_tokenizer_vocab_size(run->tokenizer);
    if (run->config->model.has_init && run->config->model.init.vocab_size < needed)
        return rpo_config_fault(run->config, "model.init.vocab_size",
                                "is %" PRId64 "; must be at least %" PRId64 ", the size of the %s tokenizer",
                                run->config->model.init.vocab_size, needed,
                                rpo_tokenizer_name(run->tokenizer));
    return RPO_OK;
}

static rpo_status load_list(rpo_dataset **dataset, const rpo_data_run *run, const rpo_string_list *paths) {
    return rpo_dataset_load(dataset, (const char *const *)paths->items, paths->count,
                            &run->config->data.options, run->tokenizer);
}

static rpo_status load_data(rpo_data_run *run) {
    const rpo_config *config = run->config;
    if (config->data.train.count == 0)
        return rpo_config_fault(config, "data.train",
                                "is missing; must be a list of .jsonl or .jsonl.gz files");
    RPO_TRY(load_list(&run->train, run, &config->data.train));
    if (config->data.eval.count == 0)
        return RPO_OK;
    RPO_TRY(load_list(&run->eval, run, &config->data.eval));
    if (rpo_dataset_is_paired(run->train) != rpo_dataset_is_paired(run->eval))
        return rpo_config_fault(config, "data.eval", "holds %s records; must be of data.train's kind, %s",
                                rpo_dataset_is_paired(run->eval) ? "paired" : "unpaired",
                                rpo_dataset_is_paired(run->train) ? "paired" : "unpaired");
    return RPO_OK;
}

rpo_status rpo_data_run_open(rpo_data_run *run, const rpo_config_arguments *arguments) {
    *run = (rpo_data_run){0};
    RPO_TRY(rpo_config_arguments_load(&run->config, arguments));
    RPO_TRY(rpo_tokenizer_open(&run->tokenizer, run->config->model.path, run->config->model.tokenizer));
    RPO_TRY(check_vocabulary(run));
    return load_data(run);
}

void rpo_data_run_close(rpo_data_run *run) {
    rpo_dataset_free(run->eval);
    rpo_dataset_free(run->train);
    rpo_tokenizer_free(run->tokenizer);
    rpo_config_free(run->config);
    *run = (rpo_data_run){0};
}

rpo_status rpo_data_run_embed(const rpo_data_run *run, bool eval, const char *cache_folder,
                              rpo_embeddings *embeddings) {
    const rpo_config *config = run->config;
    const rpo_embedding_options options = {
        .kind = config->embedding.kind, .path = eval ? config->embedding.eval_path : config->embedding.path};
    return rpo_embeddings_compute(embeddings, eval ? run->eval : run->train, run->train, &options,
                                  cache_folder, (int)config->run.threads);
}
