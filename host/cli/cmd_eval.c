/* cmd_eval.c - `rpo eval CONFIG.json`: held-out figures, a table on stderr and one JSON object on stdout. */
#include <stdio.h>

#include "host/cli/cli.h"
#include "host/cli/config_arguments.h"
#include "host/run/run.h"

typedef struct eval_arguments {
    rpo_config_arguments config;
} eval_arguments;

static const rpo_option options[] = {RPO_OPTION_CONFIG(eval_arguments), RPO_OPTION_SET(eval_arguments)};

static int run(int argc, char **argv);

const rpo_command rpo_command_eval = {
    .spec = {.program = "rpo",
             .command = "eval",
             .summary = "held-out metrics of a model, no training",
             .options = options,
             .num_options = RPO_COUNT(options)},
    .run = run,
};

static int run(int argc, char **argv) {
    eval_arguments arguments = {0};
    rpo_config *config = NULL;
    rpo_comm *comm = NULL;
    rpo_text json = {0};
    rpo_status status = rpo_options_read(&rpo_command_eval.spec, &arguments, argc, argv);
    if (status == RPO_OK)
        status = rpo_config_arguments_load(&config, &arguments.config);
    if (status == RPO_OK)
        status = rpo_comm_open(&comm);
    if (status == RPO_OK)
        status = rpo_run_evaluation(config, comm, &json);
    if (status == RPO_OK && comm->rank == 0)
        printf("%s\n", json.data);
    rpo_text_free(&json);
    rpo_comm_close(comm);
    rpo_config_free(config);
    rpo_options_free(&rpo_command_eval.spec, &arguments);
    return rpo_cli_report(status);
}
