/*
 * linear_logprob.h - sequence log-probabilities straight from hidden states and the output head.
 *
 *     logits[t] = head hidden[t]      [vocab_size], never held for all rows at once
 *
 * then as logprob.h. Rows whose label is ignored are compacted away before the matmul. Logits live in chunks of
 * rows under a byte budget, so the memory does not grow with rows x vocab_size.
 */
#ifndef RPO_LINEAR_LOGPROB_H
#define RPO_LINEAR_LOGPROB_H

#include <stddef.h>
#include <stdint.h>

#include "rpo/context.h"
#include "rpo/logprob.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What there is, and in which memory it is done: no arrays. */
typedef struct rpo_linear_logprob_shape {
    size_t struct_size;
    int64_t rows;          /* packed rows, cu_seqlens[num_sequences] */
    int64_t hidden_size;   /* >= 1 */
    int64_t vocab_size;    /* >= 1 */
    int64_t num_sequences; /* >= 0 */
    rpo_dtype dtype;       /* of hidden, head and grad_hidden */
    rpo_reduction reduction;
    size_t chunk_bytes; /* budget of the logit chunk; 0 = the backend's default. At least one row is held. */

    /* Optional, 0 unless needed; explained below. */
    int64_t valid_rows; /* number of labels that are not RPO_IGNORE_LABEL; 0 = unknown */
    int frozen_head;    /* 1 = grad_head will be NULL: the backward asks for less workspace */
    size_t cache_bytes; /* of the cache that the calls will be given; 0 = none. Any number helps,
                           rpo_linear_logprob_cache_size is enough for all rows */
} rpo_linear_logprob_shape;

/* Read by both directions but for the last, which the forward does not look at. */
typedef struct rpo_linear_logprob_inputs {
    size_t struct_size;
    const void *hidden;               /* `dtype` [rows][hidden_size]; ignored rows are never read */
    const void *head;                 /* `dtype` [vocab_size][hidden_size], row-major */
    const int32_t *labels;            /* [rows]: 0 .. vocab_size - 1 or RPO_IGNORE_LABEL */
    const int32_t *cu_seqlens;        /* [num_sequences + 1], non-decreasing from 0 to rows */
    const float *grad_sequence_logps; /* [num_sequences]; the backward's */
} rpo_linear_logprob_inputs;

/* What a forward leaves for the backward of the same rows. Either may be NULL, and so may the whole struct. */
typedef struct rpo_linear_logprob_saved {
    size_t struct_size;
    float *logsumexp; /* [rows], 0 where ignored */
    void *cache;      /* shape.cache_bytes, 64-byte aligned, in the backend's memory */
} rpo_linear_logprob_saved;

/* Of the forward. */
typedef struct rpo_linear_logprob_outputs {
    size_t struct_size;
    float *sequence_logps; /* [num_sequences] */
    float *token_logps;    /* [rows], 0 where ignored; or NULL */
} rpo_linear_logprob_outputs;

/* Of the backward; every pointer may be NULL: that output is then not computed. */
typedef struct rpo_linear_logprob_gradients {
    size_t struct_size;
    void *grad_hidden;     /* `dtype` [rows][hidden_size], overwritten, 0 in ignored rows */
    float *grad_head;      /* float32 [vocab_size][hidden_size]; NULL = frozen head: no weight gradient is
                              computed and nothing of its size allocated */
    int accumulate_head;   /* 1 = the gradient is added to grad_head, 0 = it overwrites what was there */
    float *sequence_logps; /* [num_sequences] */
} rpo_linear_logprob_gradients;

/* clang-format off */
#define RPO_LINEAR_LOGPROB_SHAPE_INIT \
    { sizeof(rpo_linear_logprob_shape), 0, 0, 0, 0, RPO_FLOAT32, RPO_REDUCTION_SUM, 0, 0, 0, 0 }
#define RPO_LINEAR_LOGPROB_INPUTS_INIT { sizeof(rpo_linear_logprob_inputs), NULL, NULL, NULL, NULL, NULL }
#define RPO_LINEAR_LOGPROB_SAVED_INIT { sizeof(rpo_linear_logprob_saved), NULL, NULL }
#define RPO_LINEAR_LOGPROB_OUTPUTS_INIT { sizeof(rpo_linear_logprob_outputs), NULL, NULL }
#define RPO_LINEAR_LOGPROB_GRADIENTS_INIT { sizeof(rpo_linear_logprob_gradients), NULL, NULL, 0, NULL }
/* clang-format on */

/*
 * valid_rows: an accelerator cannot look at the labels without waiting, so it sizes its products by this number,
 * or by `rows` when unknown, and then ignored rows cost as much as valid ones. A number too large costs time
 * only. One too small is INVALID_ARGUMENT on the CPU; on an accelerator the log-probs of the sequences that lost
 * rows and all gradients computed are NaN.
 *
 * saved: when the gradient scalars depend on the log-probs, a forward and the backward of the same rows share
 * work through it. Pass the same shape and inputs to both, and what the forward wrote, untouched.
 *   logsumexp  the CPU's backward takes the normaliser of each row from it and need not find it in a pass of its
 *              own; where float32 is too coarse for that (beyond 16 or so) it still spares the pass for the
 *              maximum. On an accelerator the forward writes it and the backward does not read it: there the
 *              sum comes out of the pass that the exponentials cost.
 *   cache      the forward leaves there what the backward would compute first, which saves 2 rows hidden vocab
 *              flops of 8. The backward uses the cache up: another one needs another forward. Rows that do not
 *              fit are computed again.
 */

/* Bytes of a cache for every valid row (`valid_rows`, or `rows` when unknown): vocab_size elements each. */
RPO_API rpo_status rpo_linear_logprob_cache_size(rpo_context *context, size_t *bytes,
                                                 const rpo_linear_logprob_shape *shape);

/* Bytes of workspace; `backward` 0 for the forward, 1 for the backward. Includes the logit chunk and
 * compacted rows; never more of rows x vocab_size than chunk_bytes asks for (on an accelerator by default up to
 * 1 GiB for a backward, 128 MiB with frozen_head), and never a vocab_size x hidden_size buffer. */
RPO_API rpo_status rpo_linear_logprob_workspace_size(rpo_context *context, size_t *bytes,
                                                     const rpo_linear_logprob_shape *shape, int backward);

/*
 * Forward: 2 rows hidden vocab flops.
 *
 * saved      out; or NULL
 * workspace  caller's, 64-byte aligned
 * Numbers, stream, edges and errors: as rpo_logprob_gather.
 */
RPO_API rpo_status rpo_linear_logprob(rpo_context *context, const rpo_linear_logprob_outputs *outputs,
                                      const rpo_linear_logprob_saved *saved,
                                      const rpo_linear_logprob_inputs *inputs,
                                      const rpo_linear_logprob_shape *shape, void *workspace,
                                      size_t workspace_size);

/*
 * Backward in one sweep: each chunk's logits are computed, turned into d logits = c_s (onehot - softmax) and
 * consumed, 6 rows hidden vocab flops in all (4 with a frozen head). The gradient scalars are known beforehand,
 * so no forward result is needed; the log-probs come out on the way for free.
 *
 * gradients  out
 * saved      in, what the forward of these rows left; or NULL
 * Everything else as in the forward.
 */
RPO_API rpo_status rpo_linear_logprob_backward(rpo_context *context,
                                               const rpo_linear_logprob_gradients *gradients,
                                               const rpo_linear_logprob_saved *saved,
                                               const rpo_linear_logprob_inputs *inputs,
                                               const rpo_linear_logprob_shape *shape, void *workspace,
                                               size_t workspace_size);

#ifdef __cplusplus
}
#endif
#endif
