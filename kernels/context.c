/* context.c - contexts, dtypes, and the list of backends compiled in. */
#include <stdlib.h>

#include "core/error.h"
#include "core/threads.h"
#include "kernels/api/versioned.h"
#include "kernels/instrument.h"

extern const rpo_backend rpo_cpu_backend;
#if defined(RPO_HAVE_CUDA)
extern const rpo_backend rpo_cuda_backend;
#endif

static const rpo_backend *const backends[] = {
    &rpo_cpu_backend,
#if defined(RPO_HAVE_CUDA)
    &rpo_cuda_backend,
#endif
};

const rpo_backend *const *rpo_backends(size_t *count) {
    *count = sizeof backends / sizeof backends[0];
    return backends;
}

const rpo_backend *rpo_backend_find(rpo_device device) {
    for (size_t i = 0; i < sizeof backends / sizeof backends[0]; ++i)
        if (backends[i]->device == device)
            return backends[i];
    return NULL;
}

rpo_status rpo_context_create(rpo_context **context, const rpo_context_options *options) {
    if (context == NULL)
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT,
                             "context: is NULL; must point to where the context goes");
    *context = NULL;
    rpo_context_options taken = RPO_CONTEXT_OPTIONS_INIT;
    if (options != NULL)
        RPO_TRY(rpo_versioned_take(&taken, sizeof taken, RPO_CONTEXT_OPTIONS_FIRST, options, "options"));
    if (taken.num_threads < 0)
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT, "options.num_threads: is %d; must be 0 or more",
                             taken.num_threads);
    const rpo_backend *backend = rpo_backend_find(taken.device);
    if (backend == NULL)
        return rpo_error_set(
            RPO_ERROR_UNSUPPORTED,
            "options.device: this build has no backend for device %d; rpo info lists those it has",
            (int)taken.device);

    rpo_context *created = calloc(1, sizeof *created);
    if (created == NULL)
        return rpo_error_set(RPO_ERROR_OUT_OF_MEMORY, "context: no memory for %zu bytes", sizeof *created);
    created->backend = backend;
    created->device_index = taken.device_index;
    created->num_threads = taken.num_threads > 0 ? taken.num_threads : rpo_threads_default();
    created->stream = taken.stream;
    rpo_status status = backend->open(created, &taken);
    if (status == RPO_OK) {
        status = rpo_instrument_attach(created);
        if (status != RPO_OK)
            backend->close(created);
    }
    if (status != RPO_OK) {
        free(created);
        return status;
    }
    *context = created;
    return RPO_OK;
}

void rpo_context_free(rpo_context *context) {
    if (context == NULL)
        return;
    rpo_instrument_detach(context);
    context->backend->close(context);
    free(context);
}

rpo_status rpo_context_set_stream(rpo_context *context, void *stream) {
    if (context == NULL)
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT, "context: is NULL");
    context->stream = stream;
    return RPO_OK;
}

rpo_device rpo_context_device(const rpo_context *context) {
    return context->backend->device;
}

int rpo_context_num_threads(const rpo_context *context) {
    return context->num_threads;
}

rpo_status rpo_context_synchronize(rpo_context *context) {
    if (context == NULL)
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT, "context: is NULL");
    return context->backend->synchronize(context);
}

size_t rpo_dtype_size(rpo_dtype dtype) {
    switch (dtype) {
    case RPO_FLOAT32:
        return 4;
    case RPO_BFLOAT16:
    case RPO_FLOAT16:
        return 2;
    }
    return 0;
}

const char *rpo_dtype_name(rpo_dtype dtype) {
    switch (dtype) {
    case RPO_FLOAT32:
        return "float32";
    case RPO_BFLOAT16:
        return "bfloat16";
    case RPO_FLOAT16:
        return "float16";
    }
    return "unknown";
}

const char *rpo_version(void) {
    return RPO_VERSION_STRING;
}
