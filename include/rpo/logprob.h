/*
 * logprob.h - sequence log-probabilities from logits: forward and backward.
 *
 * Sequences are packed without padding: sequence s owns rows cu_seqlens[s] .. cu_seqlens[s+1] - 1. labels[t] is
 * the token that row t predicts, already aligned with the row; RPO_IGNORE_LABEL marks rows that do not count
 * (prompt tokens, the last row).
 *
 *     token_logps[t]    = logits[t][labels[t]] - logsumexp_v logits[t][v]            0 where ignored
 *     sequence_logps[s] = sum over the sequence's valid rows, or their average
 *     d logits[t][v]    = c_s ([v = labels[t]] - softmax(logits[t])_v),  c_s = grad_sequence_logps[s], over the
 *                         number of valid rows for RPO_REDUCTION_AVERAGE; 0 where ignored
 */
#ifndef RPO_LOGPROB_H
#define RPO_LOGPROB_H

#include <stddef.h>
#include <stdint.h>

#include "rpo/context.h"

#ifdef __cplusplus
extern "C" {
#endif

#define RPO_IGNORE_LABEL (-100)

typedef enum rpo_reduction { RPO_REDUCTION_SUM = 0, RPO_REDUCTION_AVERAGE = 1 } rpo_reduction;

typedef struct rpo_logprob_shape {
    size_t struct_size;
    int64_t rows;          /* packed rows, cu_seqlens[num_sequences] */
    int64_t vocab_size;    /* >= 1 */
    int64_t num_sequences; /* >= 0 */
    int64_t row_stride; /* elements from one row of logits (and their gradient) to the next; 0 = vocab_size */
    rpo_dtype dtype;    /* of logits and their gradient */
    rpo_reduction reduction;
} rpo_logprob_shape;

/* Read by both directions but for the last two, which the forward does not look at. */
typedef struct rpo_logprob_inputs {
    size_t struct_size;
    const void *logits; /* `dtype` [rows][row_stride]; ignored rows are never read: NaN there is harmless */
    const int32_t *labels;     /* [rows]: 0 .. vocab_size - 1 or RPO_IGNORE_LABEL */
    const int32_t *cu_seqlens; /* [num_sequences + 1], non-decreasing from 0 to rows */
    const float *logsumexp; /* [rows] from the forward; the backward's; NULL = recomputed (one more read) */
    const float *grad_sequence_logps; /* [num_sequences]; the backward's */
} rpo_logprob_inputs;

/* Of the forward. */
typedef struct rpo_logprob_outputs {
    size_t struct_size;
    float *sequence_logps; /* [num_sequences] */
    float *token_logps;    /* [rows], 0 where ignored; or NULL */
    float *logsumexp;      /* [rows], 0 where ignored, for the backward; or NULL */
} rpo_logprob_outputs;

/* clang-format off */
#define RPO_LOGPROB_SHAPE_INIT { sizeof(rpo_logprob_shape), 0, 0, 0, 0, RPO_FLOAT32, RPO_REDUCTION_SUM }
#define RPO_LOGPROB_INPUTS_INIT { sizeof(rpo_logprob_inputs), NULL, NULL, NULL, NULL, NULL }
#define RPO_LOGPROB_OUTPUTS_INIT { sizeof(rpo_logprob_outputs), NULL, NULL, NULL }
/* clang-format on */

/* Bytes of workspace both directions need, O(rows + num_sequences). */
RPO_API rpo_status rpo_logprob_gather_workspace_size(rpo_context *context, size_t *bytes,
                                                     const rpo_logprob_shape *shape);

/*
 * Forward. One read of the valid rows' logits.
 *
 * workspace  caller's, 64-byte aligned
 * Numbers: float32 or better throughout; sequence sums in double or compensated; results are <= 0.
 * Stream: enqueues and returns (the CPU computes before it returns). Deterministic.
 * Edges: a sequence without valid rows has log-prob 0 (average too); rows = 0 is allowed.
 * Errors: INVALID_ARGUMENT (the CPU also checks labels and cu_seqlens; on an accelerator a label out of
 * range gives NaN for its sequence instead), UNSUPPORTED (dtype), WORKSPACE.
 */
RPO_API rpo_status rpo_logprob_gather(rpo_context *context, const rpo_logprob_outputs *outputs,
                                      const rpo_logprob_inputs *inputs, const rpo_logprob_shape *shape,
                                      void *workspace, size_t workspace_size);

/*
 * Backward: overwrites grad_logits with d(sum_s grad_sequence_logps[s] * sequence_logps[s]) / d logits.
 *
 * grad_logits  out, `dtype` [rows][row_stride]; may be `logits` itself (in place); ignored rows become 0
 * Everything else as in the forward.
 */
RPO_API rpo_status rpo_logprob_gather_backward(rpo_context *context, void *grad_logits,
                                               const rpo_logprob_inputs *inputs,
                                               const rpo_logprob_shape *shape, void *workspace,
                                               size_t workspace_size);

#ifdef __cplusplus
}
#endif
#endif
