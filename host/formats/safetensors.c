/* safetensors.c - opening a file or a folder of shards, looking tensors up, reading them as float32. */
#include "host/formats/safetensors.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "core/files_internal.h"
#include "core/float16.h"
#include "host/formats/safetensors_internal.h"

static rpo_status open_folder(rpo_safetensors *file, const char *folder) {
    char *single = rpo_path_join(folder, "model.safetensors");
    char *index = rpo_path_join(folder, "model.safetensors.index.json");
    rpo_path_kind single_kind = RPO_PATH_ABSENT, index_kind = RPO_PATH_ABSENT;
    rpo_status status = single == NULL || index == NULL ? RPO_ERROR_OUT_OF_MEMORY : RPO_OK;
    if (status == RPO_OK)
        status = rpo_path_examine(single, &single_kind);
    if (status == RPO_OK)
        status = rpo_path_examine(index, &index_kind);
    if (status != RPO_OK)
        goto cleanup;
    if (single_kind != RPO_PATH_ABSENT)
        status = rpo_safetensors_add_file(file, single);
    else if (index_kind != RPO_PATH_ABSENT)
        status = rpo_safetensors_add_index(file, folder, index);
    else
        status = rpo_error_set(
            RPO_ERROR_INVALID_INPUT,
            "%s: holds no weights; must have model.safetensors or model.safetensors.index.json", folder);

cleanup:
    rpo_free(index);
    rpo_free(single);
    return status;
}

rpo_status rpo_safetensors_open(rpo_safetensors **file, const char *path) {
    *file = NULL;
    rpo_safetensors *opened = rpo_calloc_array(1, sizeof *opened);
    if (opened == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    rpo_path_kind kind = RPO_PATH_ABSENT;
    rpo_status status = rpo_path_examine(path, &kind);
    if (status == RPO_OK)
        status = kind == RPO_PATH_FOLDER ? open_folder(opened, path) : rpo_safetensors_add_file(opened, path);
    if (status == RPO_OK)
        status = rpo_safetensors_sort_names(opened);
    if (status != RPO_OK) {
        rpo_safetensors_close(opened);
        return status;
    }
    *file = opened;
    return RPO_OK;
}

void rpo_safetensors_close(rpo_safetensors *file) {
    if (file == NULL)
        return;
    for (size_t i = 0; i < file->count; ++i)
        rpo_free((void *)(uintptr_t)file->tensors[i].name); /* ours, const to everyone else */
    for (size_t i = 0; i < file->num_shards; ++i) {
        close(file->shards[i].descriptor);
        rpo_free(file->shards[i].path);
    }
    rpo_free(file->names);
    rpo_free(file->shard_of);
    rpo_free(file->tensors);
    rpo_free(file->shards);
    rpo_free(file);
}

size_t rpo_safetensors_count(const rpo_safetensors *file) {
    return file->count;
}

const rpo_tensor_info *rpo_safetensors_at(const rpo_safetensors *file, size_t index) {
    return index < file->count ? &file->tensors[index] : NULL;
}

typedef enum element_kind { ELEMENT_F32, ELEMENT_BF16, ELEMENT_F16 } element_kind;

static void decode(float *out, const unsigned char *bytes, size_t count, element_kind kind) {
    for (size_t i = 0; i < count; ++i) {
        if (kind == ELEMENT_F32) {
            const unsigned char *b = bytes + 4 * i;
            out[i] = rpo_float_from_bits((uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 |
                                         (uint32_t)b[3] << 24);
        } else {
            const unsigned char *b = bytes + 2 * i;
            const uint16_t bits = (uint16_t)(b[0] | b[1] << 8);
            out[i] = kind == ELEMENT_BF16 ? rpo_float_from_bfloat16(bits) : rpo_float_from_float16(bits);
        }
    }
}

rpo_status rpo_safetensors_read_float(const rpo_safetensors *file, const rpo_tensor_info *info, float *out) {
    enum { CHUNK = 1 << 18 };
    const rpo_safetensors_shard *shard = &file->shards[file->shard_of[info - file->tensors]];
    element_kind kind = ELEMENT_F32;
    if (strcmp(info->dtype, "BF16") == 0)
        kind = ELEMENT_BF16;
    else if (strcmp(info->dtype, "F16") == 0)
        kind = ELEMENT_F16;
    else if (strcmp(info->dtype, "F32") != 0)
        return rpo_error_set(RPO_ERROR_INVALID_INPUT, "%s: tensor %s: dtype is %s; must be F32, BF16 or F16",
                             shard->path, info->name, info->dtype);

    unsigned char *chunk = rpo_alloc_array(CHUNK, 1);
    if (chunk == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    rpo_status status = RPO_OK;
    const size_t element_size = kind == ELEMENT_F32 ? 4 : 2;
    uint64_t at = info->begin;
    size_t held = 0; /* bytes in the chunk; a read may end inside an element */
    while (status == RPO_OK && at < info->end) {
        const uint64_t left = info->end - at;
        const size_t room = CHUNK - held;
        const ssize_t got = pread(shard->descriptor, chunk + held, left < room ? (size_t)left : room,
                                  (off_t)(shard->data_start + at));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            status = rpo_io_fault(shard->path, "cannot be read", errno);
        } else if (got == 0) {
            status = rpo_error_set(RPO_ERROR_IO, "%s: tensor %s: the file was cut short while it was read",
                                   shard->path, info->name);
        } else {
            at += (uint64_t)got;
            held += (size_t)got;
            const size_t whole = held / element_size;
            decode(out, chunk, whole, kind);
            out += whole;
            memmove(chunk, chunk + whole * element_size, held - whole * element_size);
            held -= whole * element_size;
        }
    }
    rpo_free(chunk);
    return status;
}
