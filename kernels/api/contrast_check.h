/* contrast_check.h - argument checks that the similarity, weight and loss functions share. */
#ifndef RPO_KERNELS_API_CONTRAST_CHECK_H
#define RPO_KERNELS_API_CONTRAST_CHECK_H

#include "kernels/api/logprob_check.h"

/* A size argument: INVALID_ARGUMENT unless low <= value <= INT32_MAX. */
rpo_status rpo_check_size(const char *name, int64_t value, int64_t low);

/* Sizes and dtype of the m + n embeddings of an op, and whether the backend has the op at that dtype. */
rpo_status rpo_check_embeddings(const rpo_context *context, rpo_op op, const char *op_name, bool present,
                                int64_t m, int64_t n, int64_t dim, const char *dtype_name, rpo_dtype dtype);

/* A real option: INVALID_ARGUMENT unless finite and > 0. */
rpo_status rpo_check_positive(const char *name, float value);

rpo_status rpo_check_weight_scale(const char *name, rpo_weight_scale scale);

#endif
