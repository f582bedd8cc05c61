/* cmd_train.c - `rpo train CONFIG.json`: preference data in, a trained model out. */
#include "host/cli/cli.h"
#include "host/cli/run_config.h"
#include "host/run/run.h"

int rpo_cmd_train(int argc, char **argv) {
    rpo_config *config = NULL;
    rpo_comm *comm = NULL;
    bool resume = false;
    rpo_status status = rpo_run_config_load(&config, &resume, argc, argv, "train");
    if (status == RPO_OK)
        status = rpo_comm_open(&comm);
    if (status == RPO_OK)
        status = rpo_run_training(config, comm, resume);
    rpo_comm_close(comm);
    rpo_config_free(config);
    return rpo_cli_report(status);
}
