/*
 * compaction.h - valid rows side by side: their indices, their hidden states, and the way back. Everything
 * stays on the device; the host never learns how many rows are valid.
 */
#ifndef RPO_CUDA_COMPACTION_H
#define RPO_CUDA_COMPACTION_H

#include "kernels/cuda/cuda.h"

/* Rows [first, first + count) of the compacted ones; those from num_valid on do not exist and read as zero.
 */
typedef struct rpo_compacted {
    const int32_t *valid;     /* device, indices of all compacted rows */
    const int32_t *num_valid; /* device: the number of valid rows, also when it exceeds the capacity */
    int64_t first, count;
} rpo_compacted;

#ifdef __cplusplus
extern "C" {
#endif

/* Lists the first `capacity` valid rows in `valid`, ascending, and counts all in num_valid[0]. row_logps
 * becomes 0 in ignored rows and NaN in valid ones, to be overwritten by those that are computed. rows >= 1.
 */
rpo_status rpo_cuda_compact(rpo_context *context, int32_t *valid, int32_t *num_valid, float *row_logps,
                            const int32_t *labels, int64_t rows, int64_t capacity);

/* compact[i][0 .. width) = hidden[valid[first + i]][0 .. width), zeros beyond the valid rows. */
rpo_status rpo_cuda_gather_rows(rpo_context *context, void *compact, int64_t compact_stride,
                                const void *hidden, int64_t width, rpo_dtype dtype,
                                const rpo_compacted *rows);

/* grad_hidden[valid[first + i]] = compact[i], rounded to dtype. */
rpo_status rpo_cuda_scatter_rows(rpo_context *context, void *grad_hidden, int64_t width, rpo_dtype dtype,
                                 const float *compact, int64_t compact_stride, const rpo_compacted *rows);

/* Fills the rows of grad_hidden that no scatter reaches: ignored ones with 0, valid ones beyond `capacity`
 * with NaN. */
rpo_status rpo_cuda_clear_rows(rpo_context *context, void *grad_hidden, int64_t width, rpo_dtype dtype,
                               const int32_t *labels, int64_t num_rows, const int32_t *valid,
                               const int32_t *num_valid, int64_t capacity);

#ifdef __cplusplus
}
#endif
#endif
