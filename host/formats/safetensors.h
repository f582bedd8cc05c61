/*
 * safetensors.h - reader and writer of the safetensors format, with every header field checked before use.
 */
#ifndef RPO_HOST_FORMATS_SAFETENSORS_H
#define RPO_HOST_FORMATS_SAFETENSORS_H

#include "core/core.h"

enum { RPO_TENSOR_MAX_DIMS = 8 };

typedef struct rpo_tensor_info {
    const char *name;
    const char *dtype; /* "F32", "BF16", "F16", "F64", "I64", ... */
    int num_dims;
    int64_t shape[RPO_TENSOR_MAX_DIMS];
    uint64_t begin, end; /* byte range in the file's data section */
    int64_t count;
} rpo_tensor_info;

typedef struct rpo_safetensors rpo_safetensors;

/* Opens one file, or (a folder) model.safetensors or the shards of model.safetensors.index.json. */
rpo_status rpo_safetensors_open(rpo_safetensors **file, const char *path);
void rpo_safetensors_close(rpo_safetensors *file);
size_t rpo_safetensors_count(const rpo_safetensors *file);
const rpo_tensor_info *rpo_safetensors_at(const rpo_safetensors *file, size_t index);
const rpo_tensor_info *rpo_safetensors_find(const rpo_safetensors *file,
                                            const char *name); /* NULL if absent */
/* Reads a float tensor (F32, BF16, F16) as float32, piece after piece; a status other than RPO_OK of `write` ends it.
 * `values` holds elements [first, first + count) until it returns. */
typedef rpo_status rpo_tensor_piece(void *user, int64_t first, int64_t count, const float *values);
rpo_status rpo_safetensors_read_pieces(const rpo_safetensors *file, const rpo_tensor_info *info,
                                       rpo_tensor_piece *write, void *user);
/* The same into out[info->count]. */
rpo_status rpo_safetensors_read_float(const rpo_safetensors *file, const rpo_tensor_info *info, float *out);

typedef struct rpo_tensor_write {
    const char *name;
    int num_dims;
    int64_t shape[RPO_TENSOR_MAX_DIMS];
    const float *data; /* written as F32; NULL = `read` gives it piece by piece */
    /* Fills out[count] with elements [first, first + count). */
    rpo_status (*read)(void *user, int64_t first, int64_t count, float *out);
    void *user;
} rpo_tensor_write;

/* Writes tensors in the order given and fsyncs; metadata {"format": "pt"}. The file is complete or absent. */
rpo_status rpo_safetensors_write(const char *path, const rpo_tensor_write *tensors, size_t count);

#endif
