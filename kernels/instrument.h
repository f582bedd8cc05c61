/*
 * instrument.h - a context whose every op and device op passes by a counter: how often each op was called, what was
 * launched, copied, waited for and allocated. rpo_context_create puts it between where the environment sets
 * RPO_TRACE_STEP (and not to 0) and in builds that guard memory (guard.h); elsewhere calls go straight to the backend
 * and nothing here runs.
 *
 * On the way an op is a range in a profiler's time line (device_ops.h) and opens the guarded memory.
 */
#ifndef RPO_KERNELS_INSTRUMENT_H
#define RPO_KERNELS_INSTRUMENT_H

#include "kernels/op_table.h"

typedef enum rpo_counted_op {
    RPO_COUNTED_PROMPT_SIMILARITY,
    RPO_COUNTED_CONTRAST_WEIGHTS,
    RPO_COUNTED_CONTRAST_LOSS,
    RPO_COUNTED_LOGPROB_GATHER,
    RPO_COUNTED_LOGPROB_GATHER_BACKWARD,
    RPO_COUNTED_LINEAR_LOGPROB,
    RPO_COUNTED_LINEAR_LOGPROB_BACKWARD,
    RPO_COUNTED_EMBEDDING,
    RPO_COUNTED_EMBEDDING_BACKWARD,
    RPO_COUNTED_RMSNORM,
    RPO_COUNTED_RMSNORM_BACKWARD,
    RPO_COUNTED_ROPE_TABLE,
    RPO_COUNTED_ROPE,
    RPO_COUNTED_ATTENTION,
    RPO_COUNTED_ATTENTION_BACKWARD,
    RPO_COUNTED_SWIGLU,
    RPO_COUNTED_SWIGLU_BACKWARD,
    RPO_COUNTED_LINEAR,
    RPO_COUNTED_LINEAR_BACKWARD_INPUT,
    RPO_COUNTED_LINEAR_BACKWARD_WEIGHT,
    RPO_COUNTED_TAKE,
    RPO_COUNTED_GRAD_NORM,
    RPO_COUNTED_ADAMW,
    RPO_COUNTED_RMSPROP,
    RPO_COUNTED_OPS
} rpo_counted_op;

/* "attention_backward": the op's name in the op table. Static storage. */
const char *rpo_counted_op_name(rpo_counted_op op);

typedef struct rpo_op_counts {
    int64_t calls;
    int64_t launches; /* kernels and library products enqueued meanwhile; 0 on the CPU, which has none */
} rpo_op_counts;

typedef struct rpo_counts {
    rpo_op_counts ops[RPO_COUNTED_OPS];
    int64_t copies_in, copies_out, copies_device, fills; /* calls that moved something */
    int64_t bytes_in, bytes_out;
    int64_t waits;                 /* synchronize, copies that wait, timers that are stopped */
    int64_t allocations, releases; /* of device and pinned memory; releases may wait, too */
    int64_t allocated_bytes;
} rpo_counts;

/* What the context did since it was created or last reset; false, and zeros, where it is not instrumented. */
bool rpo_context_counts(const rpo_context *context, rpo_counts *counts);
void rpo_context_reset_counts(rpo_context *context); /* one that is not instrumented is accepted */

/* Sums over all ops. */
rpo_op_counts rpo_counts_of_ops(const rpo_counts *counts);

/* ---- for context.c and the wrappers ---- */

struct rpo_instrument {
    const rpo_backend *inner; /* what the context would call otherwise */
    rpo_backend table;        /* what it calls: the wrappers */
    rpo_device_ops device_ops;
    rpo_counts counts;
    int64_t launches_before; /* of the op under way */
};

/* Instruments an opened context where that is wanted. Errors: OUT_OF_MEMORY. */
rpo_status rpo_instrument_attach(rpo_context *context);
void rpo_instrument_detach(rpo_context *context); /* one that is not instrumented is accepted */

static inline const rpo_backend *rpo_instrument_inner(const rpo_context *context) {
    return context->instrument->inner;
}

/* Around each op; leave gives `status` back. */
void rpo_instrument_enter(rpo_context *context, rpo_counted_op op);
rpo_status rpo_instrument_leave(rpo_context *context, rpo_counted_op op, rpo_status status);

/* Put wrappers in the place of the ops that the inner backend has. */
void rpo_instrument_preference_ops(rpo_instrument *instrument);
void rpo_instrument_model_ops(rpo_instrument *instrument);
void rpo_instrument_optimizer_ops(rpo_instrument *instrument);
void rpo_instrument_device_ops(rpo_instrument *instrument);

#endif
