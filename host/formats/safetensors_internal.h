/* safetensors_internal.h - an open set of safetensors files, between header, shards and reading. */
#ifndef RPO_HOST_FORMATS_SAFETENSORS_INTERNAL_H
#define RPO_HOST_FORMATS_SAFETENSORS_INTERNAL_H

#include "host/formats/safetensors.h"

enum { RPO_SAFETENSORS_HEADER_MAX = 100 * 1000 * 1000 }; /* the limit of the reference implementation */

typedef struct rpo_safetensors_shard {
    char *path;
    int descriptor;
    uint64_t data_start; /* file offset of the data section */
} rpo_safetensors_shard;

typedef struct rpo_safetensors_name {
    const char *name; /* the tensor's */
    size_t index;
} rpo_safetensors_name;

struct rpo_safetensors {
    rpo_safetensors_shard *shards;
    size_t num_shards, shard_capacity;
    rpo_tensor_info *tensors; /* in the order of their bytes, shard after shard */
    size_t *shard_of;         /* of each tensor */
    size_t count, tensor_capacity, shard_of_capacity;
    rpo_safetensors_name *names; /* [count] sorted, once every tensor is there */
};

/* Makes the index that rpo_safetensors_find looks into; called once, after the last tensor was added. */
rpo_status rpo_safetensors_sort_names(rpo_safetensors *file);

/* Bytes of one element of a dtype name and the name with static storage; false for an unknown one. */
bool rpo_safetensors_dtype(const char *name, const char **static_name, uint64_t *size);

/* Adds one file: opens it, checks its header in full, appends its tensors. */
rpo_status rpo_safetensors_add_file(rpo_safetensors *file, const char *path);

/* Adds every shard that an index file names, and checks index and shards against each other. */
rpo_status rpo_safetensors_add_index(rpo_safetensors *file, const char *folder, const char *index_path);

#endif
