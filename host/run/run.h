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

/*
 * Held-out metrics, of each file of data.eval and together: tables on stderr, one JSON object in `json`, a row of metrics.jsonl with
 * "files": {PATH: {...}} behind it.
 *
 * run_folder  NULL: the configuration's model against reference.path (default: itself). Otherwise the configuration is that of this
 *             run, and its final model is evaluated against the run's own reference: reference.path, or else the model it began with.
 *             INVALID_INPUT where the run has not ended, or the reference's weights are no longer those of the run.
 */
rpo_status rpo_run_evaluation(const rpo_config *config, const char *run_folder, rpo_comm *comm,
                              rpo_text *json);

#endif
