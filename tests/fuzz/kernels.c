/* kernels.c - what the readers' objects ask of the kernels, where there are none: a CPU backend that can train in
 * float32, and no context. */
#include "core/error.h"
#include "kernels/op_table.h"

static bool supports(rpo_op op, rpo_dtype dtype) {
    (void)op;
    return dtype == RPO_FLOAT32;
}

const rpo_backend *rpo_backend_find(rpo_device device) {
    static const rpo_backend cpu = {.device = RPO_DEVICE_CPU, .supports = supports};
    return device == RPO_DEVICE_CPU ? &cpu : NULL;
}

const char *rpo_dtype_name(rpo_dtype dtype) {
    return dtype == RPO_FLOAT32 ? "float32" : "another type";
}

size_t rpo_dtype_size(rpo_dtype dtype) {
    return dtype == RPO_FLOAT32 ? 4 : 2;
}

rpo_status rpo_context_create(rpo_context **context, const rpo_context_options *options) {
    (void)options;
    *context = NULL;
    return rpo_error_set(RPO_ERROR_UNSUPPORTED, "context: there are no kernels here");
}

void rpo_context_free(rpo_context *context) {
    (void)context;
}
