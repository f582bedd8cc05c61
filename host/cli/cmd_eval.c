/* cmd_eval.c - `rpo eval CONFIG.json`: held-out figures, a table on stderr and one JSON object on stdout. */
#include <stdio.h>

#include "host/cli/cli.h"
#include "host/cli/run_config.h"
#include "host/run/run.h"

int rpo_cmd_eval(int argc, char **argv) {
    rpo_config *config = NULL;
    rpo_comm *comm = NULL;
    rpo_text json = {0};
    rpo_status status = rpo_run_config_load(&config, NULL, argc, argv, "eval");
    if (status == RPO_OK)
        status = rpo_comm_open(&comm);
    if (status == RPO_OK)
        status = rpo_run_evaluation(config, comm, &json);
    if (status == RPO_OK && comm->rank == 0)
        printf("%s\n", json.data);
    rpo_text_free(&json);
    rpo_comm_close(comm);
    rpo_config_free(config);
    return rpo_cli_report(status);
}
