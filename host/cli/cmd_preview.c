/* cmd_preview.c - `rpo preview CONFIG.json [--records N] [--set ...]`: what training will see. No model is
 * needed. */
#include <stdio.h>

#include "host/cli/cli.h"
#include "host/cli/preview.h"

enum { DEFAULT_RECORDS = 3, MAX_RECORDS = 1000000 };

typedef struct preview_arguments {
    rpo_config_arguments config;
    int64_t records;
} preview_arguments;

static const rpo_option options[] = {
    RPO_OPTION_CONFIG(preview_arguments),
    {.name = "--records",
     .value = "N",
     .type = RPO_OPTION_COUNT,
     .offset = offsetof(preview_arguments, records),
     .high = MAX_RECORDS,
     .meaning = "how many records to show (default 3)"},
    RPO_OPTION_SET(preview_arguments),
};

static int run_preview(int argc, char **argv);

const rpo_command rpo_command_preview = {
    .spec = {.program = "rpo",
             .command = "preview",
             .summary = "tokens, masks, truncation, embedding neighbours: what training will see",
             .options = options,
             .num_options = RPO_COUNT(options)},
    .run = run_preview,
};

static rpo_status print_lists(const rpo_data_run *run, const rpo_preview_style *style) {
    RPO_TRY(rpo_preview_print_list("data.train", run->train, &run->config->data.train, style));
    if (run->eval != NULL)
        RPO_TRY(rpo_preview_print_list("data.eval", run->eval, &run->config->data.eval, style));
    return RPO_OK;
}

static rpo_status print_records(const rpo_data_run *run, int64_t records, const rpo_preview_style *style) {
    const int64_t size = rpo_dataset_size(run->train);
    const int64_t shown = records < size ? records : size;
    rpo_embeddings embeddings = {0};
    if (shown == 0)
        return RPO_OK;
    rpo_status status = rpo_data_run_embed(run, false, NULL, &embeddings);
    for (int64_t i = 0; i < shown && status == RPO_OK; ++i) {
        status = rpo_preview_print_record(run, i, style);
        if (status == RPO_OK)
            status = rpo_preview_print_neighbours(run, &embeddings, i, style);
        putchar('\n');
    }
    rpo_embeddings_free(&embeddings);
    return status;
}

static int run_preview(int argc, char **argv) {
    preview_arguments arguments = {.records = DEFAULT_RECORDS};
    rpo_data_run run = {0};
    const rpo_preview_style style = rpo_preview_style_for_stdout();
    rpo_status status = rpo_options_read(&rpo_command_preview.spec, &arguments, argc, argv);
    if (status == RPO_OK)
        status = rpo_data_run_open(&run, &arguments.config);
    if (status == RPO_OK)
        status = print_lists(&run, &style);
    if (status == RPO_OK)
        status = print_records(&run, arguments.records, &style);
    rpo_data_run_close(&run);
    rpo_options_free(&rpo_command_preview.spec, &arguments);
    return rpo_cli_report(status);
}
