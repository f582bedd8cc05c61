/*
 * device_arrays.h - the arrays of one case in the memory of the context's device, whichever that is.
 */
#ifndef RPO_HOST_CLI_DEVICE_ARRAYS_H
#define RPO_HOST_CLI_DEVICE_ARRAYS_H

#include "core/core.h"

enum { RPO_MAX_DEVICE_ARRAYS = 16 };

typedef struct rpo_device_arrays {
    rpo_context *context;
    void *memory[RPO_MAX_DEVICE_ARRAYS];
    int count;
} rpo_device_arrays;

/* An uninitialised array; NULL in *device for one without elements. */
rpo_status rpo_device_array_new(rpo_device_arrays *arrays, void **device, size_t count, size_t size);

/* An array with the host's values; NULL in *device for a host array that is NULL. */
rpo_status rpo_device_array_put(rpo_device_arrays *arrays, void **device, const void *host, size_t count,
                                size_t size);

/* A fresh host array with the device's values, once everything enqueued is done. The caller's: rpo_free. */
rpo_status rpo_device_array_get(rpo_device_arrays *arrays, float **host, const void *device, size_t count);

/* Releases every array; the context stays the caller's. */
void rpo_device_arrays_free(rpo_device_arrays *arrays);

#endif
