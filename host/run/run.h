/*
 * run.h - the training run: load, reference pass, steps, evaluation, checkpoints, closing table.
 */
#ifndef RPO_HOST_RUN_RUN_H
#define RPO_HOST_RUN_RUN_H

#include "host/comm/comm.h"
#include "host/config/config.h"

/* Runs a whole training (or continues one). INTERRUPTED after SIGTERM/SIGINT once the checkpoint is on disk.
 * `command` is the command line, for the records of the run. */
rpo_status rpo_run_training(const rpo_config *config, rpo_comm *comm, bool resume, const char *command);

/* Held-out metrics of model.path against reference.path (default: itself): a table on stderr, one JSON object
 * in `json`. */
rpo_status rpo_run_evaluation(const rpo_config *config, rpo_comm *comm, rpo_text *json);

#endif
