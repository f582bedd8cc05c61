/* staging.c - two buffers, one bump pointer. */
#include "host/device/staging.h"

#include <string.h>

#include "core/bump.h"
#include "kernels/op_table.h"

struct rpo_staging {
    rpo_context *context;
    void *pinned;
    char *device;
    size_t bytes;
    rpo_bump bump; /* over the pinned memory; beyond `bytes` once there was no room */
};

static const rpo_device_ops *ops_of(const rpo_staging *staging) {
    return staging->context->backend->device_ops;
}

rpo_status rpo_staging_create(rpo_staging **staging, rpo_context *context, void *device_memory,
                              size_t bytes) {
    *staging = NULL;
    rpo_staging *created = rpo_calloc_array(1, sizeof *created);
    if (created == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    created->context = context;
    created->device = device_memory;
    created->bytes = bytes;
    const rpo_status status = ops_of(created)->allocate_pinned(context, &created->pinned, bytes);
    if (status != RPO_OK) {
        rpo_free(created);
        return status;
    }
    rpo_staging_reset(created);
    *staging = created;
    return RPO_OK;
}

void rpo_staging_free(rpo_staging *staging) {
    if (staging == NULL)
        return;
    ops_of(staging)->release_pinned(staging->context, staging->pinned);
    rpo_free(staging);
}

void rpo_staging_reset(rpo_staging *staging) {
    staging->bump = rpo_bump_from(staging->pinned);
}

static bool is_full(const rpo_staging *staging) {
    return staging->bump.used > staging->bytes;
}

void *rpo_staging_put(rpo_staging *staging, const void *data, int64_t count, size_t size, void **device) {
    if (device != NULL)
        *device = NULL;
    const size_t begin = staging->bump.used;
    void *host = rpo_bump_take(&staging->bump, count, size);
    if (host == NULL || is_full(staging))
        return NULL;
    if (data != NULL)
        memcpy(host, data, (size_t)count * size);
    if (device != NULL)
        *device = staging->device + begin;
    return host;
}

static rpo_status check_room(const rpo_staging *staging) {
    if (is_full(staging))
        return rpo_error_set(RPO_ERROR_INTERNAL, "staging: %zu bytes were put; it holds %zu",
                             staging->bump.used, staging->bytes);
    return RPO_OK;
}

rpo_status rpo_staging_upload(rpo_staging *staging) {
    RPO_TRY(check_room(staging));
    return ops_of(staging)->copy_in_async(staging->context, staging->device, staging->pinned,
                                          staging->bump.used);
}

rpo_status rpo_staging_download(rpo_staging *staging) {
    RPO_TRY(check_room(staging));
    return ops_of(staging)->copy_out_async(staging->context, staging->pinned, staging->device,
                                           staging->bump.used);
}

size_t rpo_staging_used(const rpo_staging *staging) {
    return staging->bump.used;
}
