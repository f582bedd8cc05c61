/*
 * optimizer_ops.h - the ops of the optimizer step, called by host/train through the op table.
 * All arrays are float32 on the context's device; `count` elements; every op is elementwise or a reduction in a
 * fixed order, so the same input gives the same bits whatever the number of threads.
 */
#ifndef RPO_KERNELS_OPTIMIZER_OPS_H
#define RPO_KERNELS_OPTIMIZER_OPS_H

#include <stdint.h>

#include "rpo/context.h"

typedef struct rpo_optimizer_options {
    float learning_rate;
    float weight_decay; /* decoupled (AdamW); rmsprop adds weight_decay * parameter to the gradient */
    float beta1, beta2; /* adamw */
    float alpha;        /* rmsprop smoothing */
    float eps;
    float gradient_scale; /* the gradient is multiplied with this first (clipping) */
    int64_t step;         /* 1 at the first update: bias correction */
} rpo_optimizer_options;

typedef struct rpo_optimizer_ops {
    /* torch.optim.AdamW (Loshchilov and Hutter 2019): parameter, first and second moments updated in place. */
    rpo_status (*adamw)(rpo_context *context, float *parameter, float *first_moment, float *second_moment,
                        const float *gradient, int64_t count, const rpo_optimizer_options *options);
    /* torch.optim.RMSprop, not centred, no momentum: parameter and square average updated in place. */
    rpo_status (*rmsprop)(rpo_context *context, float *parameter, float *square_average,
                          const float *gradient, int64_t count, const rpo_optimizer_options *options);
    /* *sum = sum of squares in double, in a fixed order. *sum lives on the host. */
    rpo_status (*sum_of_squares)(rpo_context *context, double *sum, const float *values, int64_t count);
} rpo_optimizer_ops;

#endif
