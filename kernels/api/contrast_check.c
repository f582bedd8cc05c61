/* contrast_check.c - argument checks that the similarity, weight and loss functions share. */
#include "kernels/api/contrast_check.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

rpo_status rpo_check_size(const char *name, int64_t value, int64_t low) {
    if (value < low || value > INT32_MAX)
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT, "%s: is %lld; must be %lld to %d", name,
                             (long long)value, (long long)low, INT32_MAX);
    return RPO_OK;
}

/* "float32, bfloat16": what the backend takes for an op. */
static void list_dtypes(char *text, size_t size, const rpo_backend *backend, rpo_op op) {
    text[0] = '\0';
    for (int dtype = RPO_FLOAT32; dtype <= RPO_FLOAT16; ++dtype)
        if (backend->supports(op, (rpo_dtype)dtype)) {
            const size_t used = strlen(text);
            snprintf(text + used, size - used, "%s%s", used > 0 ? ", " : "",
                     rpo_dtype_name((rpo_dtype)dtype));
        }
}

rpo_status rpo_check_embeddings(const rpo_context *context, rpo_op op, const char *op_name, bool present,
                                int64_t m, int64_t n, int64_t dim, const char *dtype_name, rpo_dtype dtype) {
    RPO_TRY(rpo_check_size("m", m, 0));
    RPO_TRY(rpo_check_size("n", n, 0));
    RPO_TRY(rpo_check_size("dim", dim, 1));
    const rpo_backend *backend = context->backend;
    if (!present)
        return rpo_error_set(RPO_ERROR_UNSUPPORTED,
                             "%s: the %s backend does not have it; rpo info lists others", op_name,
                             backend->name);
    if (rpo_dtype_size(dtype) == 0)
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT, "%s: is %d; must be an rpo_dtype", dtype_name,
                             (int)dtype);
    if (!backend->supports(op, dtype)) {
        char allowed[96];
        list_dtypes(allowed, sizeof allowed, backend, op);
        return rpo_error_set(
            RPO_ERROR_UNSUPPORTED, "%s: %s is not supported by %s of the %s backend; allowed: %s", dtype_name,
            rpo_dtype_name(dtype), op_name, backend->name, allowed[0] != '\0' ? allowed : "none");
    }
    RPO_TRY(rpo_check_addressable("chosen_embeddings", m, dim, dtype));
    return rpo_check_addressable("rejected_embeddings", n, dim, dtype);
}

rpo_status rpo_check_positive(const char *name, float value) {
    if (!(isfinite(value) && value > 0.0f))
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT, "%s: is %g; must be finite and > 0", name,
                             (double)value);
    return RPO_OK;
}

rpo_status rpo_check_weight_scale(const char *name, rpo_weight_scale scale) {
    if (scale != RPO_WEIGHT_SCALE_NONE && scale != RPO_WEIGHT_SCALE_BLOCK)
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT,
                             "%s: is %d; must be RPO_WEIGHT_SCALE_NONE or RPO_WEIGHT_SCALE_BLOCK", name,
                             (int)scale);
    return RPO_OK;
}
