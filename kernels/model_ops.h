/*
 * model_ops.h - the ops a Llama-architecture decoder needs, called by host/model through the op table.
 *
 * Activations and weights are `dtype` (the CPU: float32 only), gradients of weights float32 and ADDED to; every
 * other output is overwritten. T = packed rows, sequences given by cu_seqlens [num_sequences + 1], no padding.
 */
#ifndef RPO_KERNELS_MODEL_OPS_H
#define RPO_KERNELS_MODEL_OPS_H

#include <stdint.h>

#include "rpo/context.h"

typedef struct rpo_model_ops {
    int placeholder; /* filled by the model room */
} rpo_model_ops;

#endif
