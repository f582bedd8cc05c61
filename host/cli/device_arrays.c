/* device_arrays.c - moves a case between the host and the device through the backend's own functions. */
#include "host/cli/device_arrays.h"

#include "kernels/op_table.h"

static const rpo_device_ops *ops_of(const rpo_device_arrays *arrays) {
    return arrays->context->backend->device_ops;
}

rpo_status rpo_device_array_new(rpo_device_arrays *arrays, void **device, size_t count, size_t size) {
    *device = NULL;
    size_t bytes = 0;
    if (__builtin_mul_overflow(count, size, &bytes))
        return rpo_error_set(RPO_ERROR_OUT_OF_MEMORY,
                             "memory: %zu elements of %zu bytes are more than can be addressed", count, size);
    if (arrays->count == RPO_MAX_DEVICE_ARRAYS)
        return rpo_error_set(RPO_ERROR_INTERNAL, "device arrays: more than %d in one case",
                             RPO_MAX_DEVICE_ARRAYS);
    RPO_TRY(ops_of(arrays)->allocate(arrays->context, device, bytes));
    arrays->memory[arrays->count++] = *device;
    return RPO_OK;
}

rpo_status rpo_device_array_put(rpo_device_arrays *arrays, void **device, const void *host, size_t count,
                                size_t size) {
    *device = NULL;
    if (host == NULL)
        return RPO_OK;
    RPO_TRY(rpo_device_array_new(arrays, device, count, size));
    return ops_of(arrays)->copy_in(arrays->context, *device, host, count * size);
}

rpo_status rpo_device_array_get(rpo_device_arrays *arrays, float **host, const void *device, size_t count) {
    *host = rpo_alloc_array(count, sizeof **host);
    if (*host == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    return ops_of(arrays)->copy_out(arrays->context, *host, device, count * sizeof **host);
}

void rpo_device_arrays_free(rpo_device_arrays *arrays) {
    while (arrays->count > 0)
        ops_of(arrays)->release(arrays->context, arrays->memory[--arrays->count]);
}
