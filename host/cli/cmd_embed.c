/* cmd_embed.c - `rpo embed CONFIG.json`: computes the prompt embeddings and keeps them under RUN/cache. */
#include <inttypes.h>
#include <stdio.h>

#include "host/cli/cli.h"
#include "host/cli/data_run.h"

typedef struct embed_arguments {
    rpo_config_arguments config;
} embed_arguments;

static const rpo_option options[] = {RPO_OPTION_CONFIG(embed_arguments), RPO_OPTION_SET(embed_arguments)};

static int run_embed(int argc, char **argv);

const rpo_command rpo_command_embed = {
    .spec = {.program = "rpo",
             .command = "embed",
             .summary = "computes and caches prompt embeddings",
             .options = options,
             .num_options = RPO_COUNT(options)},
    .run = run_embed,
};

static rpo_status embed_list(const rpo_data_run *run, bool eval, const char *cache_folder) {
    const rpo_config *config = run->config;
    const bool from_file = config->embedding.kind == RPO_EMBEDDING_FILE;
    const char *file = eval ? config->embedding.eval_path : config->embedding.path;
    rpo_embeddings embeddings;
    const double start = rpo_now();
    RPO_TRY(rpo_data_run_embed(run, eval, cache_folder, &embeddings));
    const double seconds = rpo_now() - start;
    if (embeddings.warning[0] != '\0')
        fprintf(stderr, "rpo: warning: %s\n", embeddings.warning);
    const char *origin = from_file ? "read" : embeddings.from_cache ? "found in the cache" : "computed";
    const char *where = from_file                          ? file
                        : embeddings.cache_path[0] != '\0' ? embeddings.cache_path
                                                           : "not kept";
    printf("data.%-5s  %" PRId64 " prompts x %" PRId64 " dimensions, %s in %.3f s: %s\n",
           eval ? "eval" : "train", embeddings.count, embeddings.dim, origin, seconds, where);
    rpo_embeddings_free(&embeddings);
    return RPO_OK;
}

static int run_embed(int argc, char **argv) {
    embed_arguments arguments = {0};
    rpo_data_run run = {0};
    char *cache_folder = NULL;
    rpo_status status = rpo_options_read(&rpo_command_embed.spec, &arguments, argc, argv);
    if (status == RPO_OK)
        status = rpo_data_run_open(&run, &arguments.config);
    if (status != RPO_OK)
        goto cleanup;
    cache_folder = rpo_path_join(run.config->run.dir, "cache");
    if (cache_folder == NULL) {
        status = RPO_ERROR_OUT_OF_MEMORY;
        goto cleanup;
    }
    status = embed_list(&run, false, cache_folder);
    if (status == RPO_OK && run.eval != NULL)
        status = embed_list(&run, true, cache_folder);

cleanup:
    rpo_free(cache_folder);
    rpo_data_run_close(&run);
    rpo_options_free(&rpo_command_embed.spec, &arguments);
    return rpo_cli_report(status);
}
