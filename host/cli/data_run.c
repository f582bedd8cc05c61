/* data_run.c - arguments, configuration, tokenizer and data of the commands that need no model. */
#include "host/cli/data_run.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_RECORDS = 1000000 };

typedef struct rpo_data_args {
    const char *config_path;
    const char **overrides; /* [argc] at most */
    size_t num_overrides;
} rpo_data_args;

static rpo_status read_count(int64_t *count, const char *text) {
    char *end = NULL;
    errno = 0;
    const long long value = strtoll(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || value < 0 || value > MAX_RECORDS)
        return rpo_error_set(RPO_ERROR_INVALID_INPUT,
                             "--records: is \"%s\"; must be a whole number from 0 to %d", text, MAX_RECORDS);
    *count = value;
    return RPO_OK;
}

static rpo_status read_args(rpo_data_args *args, int64_t *records, int argc, char **argv, const char *command,
                            bool takes_records) {
    for (int i = 0; i < argc; ++i) {
        const bool set = strcmp(argv[i], "--set") == 0;
        const bool count = takes_records && strcmp(argv[i], "--records") == 0;
        if ((set || count) && i + 1 == argc)
            return rpo_error_set(RPO_ERROR_INVALID_INPUT,
                                 "%s: is the last argument; must be followed by a value", argv[i]);
        if (set)
            args->overrides[args->num_overrides++] = argv[++i];
        else if (count)
            RPO_TRY(read_count(records, argv[++i]));
        else if (argv[i][0] == '-' || args->config_path != NULL)
            return rpo_error_set(
                RPO_ERROR_INVALID_INPUT,
                "%s: is not an argument of rpo %s; allowed are CONFIG.json%s --set key=value", argv[i],
                command, takes_records ? " --records N" : "");
        else
            args->config_path = argv[i];
    }
    if (args->config_path == NULL)
        return rpo_error_set(RPO_ERROR_INVALID_INPUT,
                             "rpo %s: names no configuration; must be rpo %s CONFIG.json", command, command);
    return RPO_OK;
}

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

rpo_status rpo_data_run_open(rpo_data_run *run, int argc, char **argv, const char *command,
                             bool takes_records) {
    rpo_data_args args = {.overrides = rpo_alloc_array((size_t)argc, sizeof *args.overrides)};
    rpo_status status = RPO_OK;
    if (args.overrides == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    status = read_args(&args, &run->records, argc, argv, command, takes_records);
    if (status == RPO_OK)
        status = rpo_config_load(&run->config, args.config_path, args.overrides, args.num_overrides);
    if (status == RPO_OK)
        status = rpo_tokenizer_open(&run->tokenizer, run->config->model.path, run->config->model.tokenizer);
    if (status == RPO_OK)
        status = check_vocabulary(run);
    if (status == RPO_OK)
        status = load_data(run);
    rpo_free(args.overrides);
    return status;
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
