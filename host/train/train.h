/*
 * train.h - the training run: load, reference pass, steps, evaluation, checkpoints, closing table.
 */
#ifndef RPO_HOST_TRAIN_TRAIN_H
#define RPO_HOST_TRAIN_TRAIN_H

#include "host/comm/comm.h"
#include "host/config/config.h"

/* Runs a whole training (or continues one). INTERRUPTED after SIGTERM/SIGINT once the checkpoint is on disk.
 */
rpo_status rpo_train_run(const rpo_config *config, rpo_comm *comm, bool resume);

/* Held-out metrics of model.path against reference.path (default: itself): a table on stderr, one JSON object
 * in `json`. */
rpo_status rpo_eval_run(const rpo_config *config, rpo_comm *comm, rpo_text *json);

/* The signal that asked the run to stop, or 0. */
int rpo_train_stop_signal(void);

#endif
