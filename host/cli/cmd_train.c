/* cmd_train.c - `rpo train CONFIG.json`: preference data in, a trained model out. */
#include "host/cli/cli.h"
#include "host/cli/config_arguments.h"
#include "host/run/run.h"

typedef struct train_arguments {
    rpo_config_arguments config;
    bool resume;
} train_arguments;

static const rpo_option options[] = {
    RPO_OPTION_CONFIG(train_arguments),
    RPO_OPTION_SET(train_arguments),
    {.name = "--resume",
     .type = RPO_OPTION_FLAG,
     .offset = offsetof(train_arguments, resume),
     .meaning = "continues the run in run.dir from its newest checkpoint"},
};

static int run(int argc, char **argv);

const rpo_command rpo_command_train = {
    .spec = {.program = "rpo",
             .command = "train",
             .summary = "trains a model on preference data",
             .options = options,
             .num_options = RPO_COUNT(options)},
    .run = run,
};

static int run(int argc, char **argv) {
    train_arguments arguments = {0};
    rpo_config *config = NULL;
    rpo_comm *comm = NULL;
    rpo_status status = rpo_options_read(&rpo_command_train.spec, &arguments, argc, argv);
    if (status == RPO_OK)
        status = rpo_config_arguments_load(&config, &arguments.config);
    if (status == RPO_OK)
        status = rpo_comm_open(&comm);
    if (status == RPO_OK)
        status = rpo_run_training(config, comm, arguments.resume);
    rpo_comm_close(comm);
    rpo_config_free(config);
    rpo_options_free(&rpo_command_train.spec, &arguments);
    return rpo_cli_report(status);
}
