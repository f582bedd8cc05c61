/* weights.h - flat device arrays as sources and targets of safetensors files, piece by piece. */
#ifndef RPO_HOST_MODEL_WEIGHTS_H
#define RPO_HOST_MODEL_WEIGHTS_H

#include "core/core.h"
#include "host/formats/safetensors.h"

/* An array of the device that a file is written from. */
typedef struct rpo_device_source {
    rpo_context *context;
    const float *device;
} rpo_device_source;

/* The `read` of rpo_tensor_write; user is an rpo_device_source. */
rpo_status rpo_device_source_read(void *user, int64_t first, int64_t count, float *out);

/* Reads a float tensor of a file into `device`, float32 [info->count]. */
rpo_status rpo_device_load_tensor(rpo_context *context, const rpo_safetensors *file,
                                  const rpo_tensor_info *info, float *device);

#endif
