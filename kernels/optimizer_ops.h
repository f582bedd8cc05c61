/*
 * optimizer_ops.h - the ops of the optimizer step, called by host/train through the op table. Nothing here waits: the
 * norm, the clip factor and the decision to skip stay on the device, where the update reads them.
 *
 * Arrays are float32 and live on the context's device. Every op is elementwise or a reduction in a fixed order: the same
 * input gives the same bits whatever the number of threads.
 */
#ifndef RPO_KERNELS_OPTIMIZER_OPS_H
#define RPO_KERNELS_OPTIMIZER_OPS_H

#include <stddef.h>
#include <stdint.h>

#include "rpo/context.h"

typedef enum rpo_skip_reason {
    RPO_SKIP_NOTHING = 0,
    RPO_SKIP_LOSS = 1,    /* a loss is NaN or infinite */
    RPO_SKIP_GRADIENT = 2 /* the norm is */
} rpo_skip_reason;

/* One on the device; the host zeroes it, sets `updates` when a run is resumed, and reads it with the step's other
 * figures. */
typedef struct rpo_step_control {
    int64_t updates;  /* that changed the weights, this one included: bias correction counts them */
    double grad_norm; /* 2-norm of all gradients together, before clipping */
    float clip_scale; /* the gradient is multiplied with this */
    int32_t skip;     /* rpo_skip_reason: the update leaves everything as it is */
} rpo_step_control;

/* A run of the flat space that shares its weight decay. Runs ascend and do not overlap; what lies between them is left
 * alone. */
typedef struct rpo_optimizer_run {
    int64_t first, count;
    float weight_decay; /* decoupled (adamw); rmsprop adds weight_decay * parameter to the gradient */
    float reserved;     /* 0 */
} rpo_optimizer_run;

typedef struct rpo_optimizer_arrays {
    float *master;          /* the parameters */
    const float *gradients; /* as all arrays here: of the same layout */
    float *moments[2];      /* adamw: first and second; rmsprop: square average, NULL */
    void
        *working; /* receives the new parameters in working_dtype, to nearest even; NULL = none; not master */
    rpo_dtype working_dtype;
    const rpo_optimizer_run *runs; /* [num_runs], on the device */
    int64_t num_runs;
    int64_t count; /* elements of the flat space: the last run ends at or before it */
} rpo_optimizer_arrays;

typedef struct rpo_optimizer_options {
    float learning_rate;
    float beta1, beta2; /* adamw */
    float alpha;        /* rmsprop smoothing */
    float eps;
} rpo_optimizer_options;

typedef size_t rpo_grad_norm_workspace_size_op(rpo_context *context, int64_t count);
/*
 * Fills `control`: grad_norm = sqrt(sum of squares), in double and in a fixed order; clip_scale as
 * torch.nn.utils.clip_grad_norm_, min(1, max_grad_norm / (norm + 1e-6)), 1 with max_grad_norm 0; skip where one of
 * `losses` [num_losses] or the norm is not finite (the loss is named first); updates + 1 unless skipped.
 */
typedef rpo_status rpo_grad_norm_op(rpo_context *context, rpo_step_control *control, const float *gradients,
                                    int64_t count, const float *losses, int64_t num_losses,
                                    float max_grad_norm, void *workspace, size_t workspace_size);

/*
 * One update of all runs, in one launch; nothing where control->skip. control->updates is 1 or more, as grad_norm
 * leaves it; a backend that can see that it is not refuses.
 *   adamw    torch.optim.AdamW (Loshchilov and Hutter 2019)
 *   rmsprop  torch.optim.RMSprop, not centred, no momentum
 */
typedef rpo_status rpo_optimizer_op(rpo_context *context, const rpo_optimizer_arrays *arrays,
                                    const rpo_step_control *control, const rpo_optimizer_options *options);

typedef struct rpo_optimizer_ops {
    rpo_grad_norm_workspace_size_op *grad_norm_workspace_size;
    rpo_grad_norm_op *grad_norm;
    rpo_optimizer_op *adamw;
    rpo_optimizer_op *rmsprop;
} rpo_optimizer_ops;

#endif
