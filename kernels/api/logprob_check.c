/* logprob_check.c - argument checks that the public log-prob functions share. */
#include "kernels/api/logprob_check.h"

#include <stdio.h>
#include <string.h>

rpo_status rpo_check_pointers(const rpo_pointer_check *checks, size_t count) {
    for (size_t i = 0; i < count; ++i)
        if (checks[i].needed && checks[i].pointer == NULL)
            return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT, "%s: is NULL; is needed", checks[i].name);
    return RPO_OK;
}

static rpo_status check_range(const char *name, int64_t value, int64_t low) {
    if (value < low || value > INT32_MAX)
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT, "shape.%s: is %lld; must be %lld to %d", name,
                             (long long)value, (long long)low, INT32_MAX);
    return RPO_OK;
}

rpo_status rpo_check_packed_rows(int64_t rows, int64_t vocab_size, int64_t num_sequences, rpo_dtype dtype,
                                 rpo_reduction reduction) {
    RPO_TRY(check_range("rows", rows, 0));
    RPO_TRY(check_range("vocab_size", vocab_size, 1));
    RPO_TRY(check_range("num_sequences", num_sequences, 0));
    if (rpo_dtype_size(dtype) == 0)
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT, "shape.dtype: is %d; must be an rpo_dtype",
                             (int)dtype);
    if (reduction != RPO_REDUCTION_SUM && reduction != RPO_REDUCTION_AVERAGE)
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT,
                             "shape.reduction: is %d; must be RPO_REDUCTION_SUM or RPO_REDUCTION_AVERAGE",
                             (int)reduction);
    return RPO_OK;
}

rpo_status rpo_check_addressable(const char *name, int64_t rows, int64_t columns, rpo_dtype dtype) {
    if (rows > 0 && columns > (int64_t)(PTRDIFF_MAX / rpo_dtype_size(dtype)) / rows)
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT, "%s: %lld x %lld elements cannot be addressed", name,
                             (long long)rows, (long long)columns);
    return RPO_OK;
}

rpo_status rpo_check_supported(const rpo_context *context, rpo_op op, const char *op_name, rpo_dtype dtype,
                               bool present) {
    const rpo_backend *backend = context->backend;
    if (present && backend->supports(op, dtype))
        return RPO_OK;
    char allowed[96] = "";
    for (int candidate = RPO_FLOAT32; candidate <= RPO_FLOAT16; ++candidate)
        if (present && backend->supports(op, (rpo_dtype)candidate)) {
            const size_t used = strlen(allowed);
            snprintf(allowed + used, sizeof allowed - used, "%s%s", used > 0 ? ", " : "",
                     rpo_dtype_name((rpo_dtype)candidate));
        }
    return rpo_error_set(RPO_ERROR_UNSUPPORTED, "shape.dtype: the %s backend has no %s for %s; allowed: %s",
                         backend->name, op_name, rpo_dtype_name(dtype),
                         allowed[0] != '\0' ? allowed : "none");
}

rpo_status rpo_check_workspace(const void *workspace, size_t size, size_t needed) {
    if (size < needed)
        return rpo_error_set(RPO_ERROR_WORKSPACE, "workspace_size: is %zu; must be at least %zu", size,
                             needed);
    if (needed > 0 && workspace == NULL)
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT, "workspace: is NULL; %zu bytes are needed", needed);
    if ((uintptr_t)workspace % 64 != 0)
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT, "workspace: must be 64-byte aligned");
    return RPO_OK;
}
