/*
 * logprob_rows.h - what the two log-prob ops share: labels and sequences of packed rows, on the device.
 */
#ifndef RPO_CUDA_LOGPROB_ROWS_H
#define RPO_CUDA_LOGPROB_ROWS_H

#include "kernels/cuda/cuda.h"

/* Which rows belong to which sequence and what they predict; device pointers, borrowed. */
typedef struct rpo_cuda_rows {
    const int32_t *labels;
    const int32_t *cu_seqlens;
    int64_t num_rows, num_sequences, vocab_size;
    rpo_reduction reduction;
} rpo_cuda_rows;

#ifdef __cplusplus
extern "C" {
#endif

/* scales[t] = the gradient of row t's log-prob: its sequence's, over the valid rows for an average; 0 where
 * ignored, NaN where the label is out of range. With `num_valid` (device, may be NULL) above `capacity` all
 * valid rows get NaN. */
rpo_status rpo_cuda_rows_scales(rpo_context *context, float *scales, const rpo_cuda_rows *rows,
                                const float *grad_sequence_logps, const int32_t *num_valid, int64_t capacity);

/* Sums (or averages) row_logps, 0 in ignored rows, over each sequence: in double, in a fixed order. */
rpo_status rpo_cuda_rows_reduce(rpo_context *context, float *sequence_logps, const rpo_cuda_rows *rows,
                                const float *row_logps);

#ifdef __cplusplus
}
#endif
#endif
