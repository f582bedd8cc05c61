/*
 * optimizer.h - the update of all trainable tensors, after clipping by the global norm; one table of the kinds.
 */
#ifndef RPO_HOST_TRAIN_OPTIMIZER_H
#define RPO_HOST_TRAIN_OPTIMIZER_H

#include "host/checkpoint/checkpoint.h"
#include "host/model/model.h"

typedef enum rpo_optimizer_kind { RPO_OPTIMIZER_RMSPROP, RPO_OPTIMIZER_ADAMW } rpo_optimizer_kind;
enum { RPO_OPTIMIZER_KINDS = 2 };

/* "rmsprop", "adamw": in configurations, checkpoints and lines for people. */
const char *rpo_optimizer_kind_name(rpo_optimizer_kind kind);
/* Moments of the kind, and what a checkpoint calls each. */
int rpo_optimizer_num_moments(rpo_optimizer_kind kind);
const char *rpo_optimizer_moment_name(rpo_optimizer_kind kind, int moment);

typedef struct rpo_optimizer_settings {
    rpo_optimizer_kind kind;
    double weight_decay, max_grad_norm; /* max_grad_norm 0: no clipping */
} rpo_optimizer_settings;

typedef struct rpo_optimizer {
    rpo_optimizer_settings settings;
    rpo_optimizer_run *runs; /* host [num_runs]: tensors side by side that share their weight decay */
    int64_t num_runs;
    const rpo_optimizer_run *staged; /* device, of this step */
} rpo_optimizer;

/* Nothing of the parameters' size: the moments lie in the model's memory. */
rpo_status rpo_optimizer_open(rpo_optimizer *optimizer, const rpo_optimizer_settings *settings,
                              const rpo_model *model);
void rpo_optimizer_close(rpo_optimizer *optimizer);

/* What a checkpoint keeps of it; refers to the model's memory. */
rpo_optimizer_state rpo_optimizer_state_of(const rpo_optimizer *optimizer, const rpo_model *model);

/* Bytes that the step's upload holds for it. */
size_t rpo_optimizer_staged_bytes(const rpo_model *model);
rpo_status rpo_optimizer_stage(rpo_optimizer *optimizer, const rpo_model *model, rpo_staging *staging);

/*
 * Enqueues norm, clip factor, skip decision and update: two launches. `control` and `losses` [num_losses] are the
 * device's; control->updates counts the updates of the run and stands at their number before.
 */
rpo_status rpo_optimizer_update(const rpo_optimizer *optimizer, rpo_model *model, rpo_step_control *control,
                                const float *losses, int64_t num_losses, double learning_rate);

/* The step's workspace must hold this. */
size_t rpo_optimizer_workspace_bytes(const rpo_model *model);

/* Sets control->updates on the device: a run begins, or goes on. */
rpo_status rpo_optimizer_begin(const rpo_model *model, rpo_step_control *control, int64_t updates);

#endif
