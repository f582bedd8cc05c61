/* optimizer.h - RMSprop or AdamW over the model's flat arrays, after clipping by the global norm. */
#ifndef RPO_HOST_TRAIN_OPTIMIZER_H
#define RPO_HOST_TRAIN_OPTIMIZER_H

#include "host/checkpoint/checkpoint.h"
#include "kernels/optimizer_ops.h"

typedef enum rpo_optimizer_kind { RPO_OPTIMIZER_RMSPROP, RPO_OPTIMIZER_ADAMW } rpo_optimizer_kind;

typedef struct rpo_optimizer_settings {
    rpo_optimizer_kind kind;
    double weight_decay, max_grad_norm; /* max_grad_norm 0: no clipping */
} rpo_optimizer_settings;

typedef struct rpo_optimizer {
    rpo_optimizer_kind kind;
    rpo_optimizer_state state; /* what a checkpoint keeps of it */
    double max_grad_norm;
    rpo_optimizer_run *runs; /* one a parameter */
    size_t num_runs;
} rpo_optimizer;

rpo_status rpo_optimizer_create(rpo_optimizer *optimizer, const rpo_optimizer_settings *settings,
                                rpo_model *model);
void rpo_optimizer_free(rpo_optimizer *optimizer);

/* Moments of the kind: 2 for adamw, 1 for rmsprop. */
int rpo_optimizer_num_moments(rpo_optimizer_kind kind);

/* *norm = the 2-norm of all gradients together, before clipping. */
rpo_status rpo_optimizer_grad_norm(double *norm, rpo_context *context, rpo_model *model);

/* One update; `update` counts from 1. `grad_norm` is what rpo_optimizer_grad_norm found. */
rpo_status rpo_optimizer_update(rpo_optimizer *optimizer, rpo_context *context, rpo_model *model,
                                double grad_norm, double learning_rate, int64_t update);

#endif
