/* cmd_preview.c - `rpo preview CONFIG.json [--records N] [--set ...]`: what training will see. No model is
 * needed. */
#include <stdio.h>

#include "host/cli/cli.h"
#include "host/cli/preview.h"

static rpo_status print_lists(const rpo_data_run *run, const rpo_preview_style *style) {
    RPO_TRY(rpo_preview_print_list("data.train", run->train, &run->config->data.train, style));
    if (run->eval != NULL)
        RPO_TRY(rpo_preview_print_list("data.eval", run->eval, &run->config->data.eval, style));
    return RPO_OK;
}

static rpo_status print_records(const rpo_data_run *run, const rpo_preview_style *style) {
    const int64_t size = rpo_dataset_size(run->train);
    const int64_t shown = run->records < size ? run->records : size;
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

int rpo_cmd_preview(int argc, char **argv) {
    rpo_data_run run = {.records = 3};
    const rpo_preview_style style = rpo_preview_style_for_stdout();
    rpo_status status = rpo_data_run_open(&run, argc, argv, "preview", true);
    if (status == RPO_OK)
        status = print_lists(&run, &style);
    if (status == RPO_OK)
        status = print_records(&run, &style);
    rpo_data_run_close(&run);
    return status == RPO_OK ? RPO_EXIT_OK : rpo_cli_report(status);
}
