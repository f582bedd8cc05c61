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

typedef struct rpo_linear_logprob_shape {
    size_t struct_size;
    int64_t rows;          /* packed rows, cu_seqlens[num_sequences] */
    int64_t hidden_size;   /* >= 1 */
    int64_t vocab_size;    /* >= 1 */
    int64_t num_sequences; /* >= 0 */
    rpo_dtype dtype;       /* of hidden, head and grad_hidden */
    rpo_reduction reduction;
    size_t chunk_bytes; /* budget of the logit chunk; 0 = the backend's default. At least one row is held. */

    /* Optional, 0 or NULL unless needed; explained below. */
    int64_t valid_rows; /* number of labels that are not RPO_IGNORE_LABEL; 0 = unknown */
    int frozen_head;    /* 1 = grad_head will be NULL: the backward asks for less workspace */
    void *cache;        /* 64-byte aligned, in the backend's memory; NULL = none */
    size_t
        cache_bytes; /* of `cache`; any number helps, rpo_linear_logprob_cache_size is enough for all rows */
} rpo_linear_logprob_shape;

/*
 * valid_rows: an accelerator cannot look at the labels without waiting, so it sizes its products by this number,
 * or by `rows` when unknown, and then ignored rows cost as much as valid ones. A number too large costs time
 * only. One too small is INVALID_ARGUMENT on the CPU; on an accelerator the log-probs of the sequences that lost
 * rows and all gradients computed are NaN.
 *
 * cache: when the gradient scalars depend on the log-probs, a forward and the backward of the same rows share
 * work through it: the forward leaves there what the backward would compute first, which saves 2 rows hidden
 * vocab flops of 8. Pass the same shape, inputs and untouched cache to both. The backward uses the cache up:
 * another one needs another forward. Rows that do not fit are computed again.
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
 * Forward.
 *
 * sequence_logps  out, float32 [num_sequences]
 * token_logps     out, float32 [rows], 0 where ignored; or NULL
 * hidden          in, `dtype` [rows][hidden_size]; ignored rows are never read
 * head            in, `dtype` [vocab_size][hidden_size], row-major
 * labels, cu_seqlens, workspace, numbers, stream, edges and errors: as rpo_logprob_gather.
 */
RPO_API rpo_status rpo_linear_logprob(rpo_context *context, float *sequence_logps, float *token_logps,
                                      const void *hidden, const void *head, const int32_t *labels,
                                      const int32_t *cu_seqlens, const rpo_linear_logprob_shape *shape,
                                      void *workspace, size_t workspace_size);

/*
 * Backward in one sweep: each chunk's logits are computed, turned into d logits = c_s (onehot - softmax) and
 * consumed, 6 rows hidden vocab flops in all (4 with a frozen head). The gradient scalars are known beforehand,
 * so no forward result is needed; the log-probs come out on the way for free.
 *
 * grad_hidden          out, `dtype` [rows][hidden_size], overwritten, 0 in ignored rows; or NULL
 * grad_head            in/out, float32 [vocab_size][hidden_size], the gradient is ADDED; NULL = frozen head: no
 *                      weight gradient is computed and nothing of its size allocated
 * sequence_logps       out, float32 [num_sequences]; or NULL
 * grad_sequence_logps  in, float32 [num_sequences]
 * Everything else as in the forward.
 */
RPO_API rpo_status rpo_linear_logprob_backward(rpo_context *context, void *grad_hidden, float *grad_head,
                                               float *sequence_logps, const void *hidden, const void *head,
                                               const int32_t *labels, const int32_t *cu_seqlens,
                                               const float *grad_sequence_logps,
                                               const rpo_linear_logprob_shape *shape, void *workspace,
                                               size_t workspace_size);

#ifdef __cplusplus
}
#endif
#endif
