/*
 * logprob_check.h - argument checks that the public log-prob functions share.
 */
#ifndef RPO_KERNELS_API_LOGPROB_CHECK_H
#define RPO_KERNELS_API_LOGPROB_CHECK_H

#include "core/error.h"
#include "kernels/op_table.h"

/* One pointer argument of a call: its name and whether the call needs it. */
typedef struct rpo_pointer_check {
    const char *name;
    const void *pointer;
    bool needed;
} rpo_pointer_check;

/* INVALID_ARGUMENT naming the first pointer that is needed and NULL. */
rpo_status rpo_check_pointers(const rpo_pointer_check *checks, size_t count);

/* Bounds of the sizes both ops share. rows fits int32 because cu_seqlens are int32. */
rpo_status rpo_check_packed_rows(int64_t rows, int64_t vocab_size, int64_t num_sequences, rpo_dtype dtype,
                                 rpo_reduction reduction);

/* INVALID_ARGUMENT unless rows x columns elements of a dtype can be addressed. */
rpo_status rpo_check_addressable(const char *name, int64_t rows, int64_t columns, rpo_dtype dtype);

/* UNSUPPORTED, naming the backend and what it takes, unless the backend has the op at this dtype. */
rpo_status rpo_check_supported(const rpo_context *context, rpo_op op, const char *op_name, rpo_dtype dtype,
                               bool present);

/* WORKSPACE when it is too small; INVALID_ARGUMENT when it is NULL or not 64-byte aligned. */
rpo_status rpo_check_workspace(const void *workspace, size_t size, size_t needed);

#endif
