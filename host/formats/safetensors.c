/* safetensors.c - opening a file or a folder of shards, looking tensors up, reading them as float32. */
#include "host/formats/safetensors.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "core/files_internal.h"
#include "core/float16.h"
#include "core/signals.h"
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

static rpo_status element_kind_of(const rpo_tensor_info *info, const char *path, element_kind *kind) {
    *kind = ELEMENT_F32;
    if (strcmp(info->dtype, "BF16") == 0)
        *kind = ELEMENT_BF16;
    else if (strcmp(info->dtype, "F16") == 0)
        *kind = ELEMENT_F16;
    else if (strcmp(info->dtype, "F32") != 0)
        return rpo_error_set(RPO_ERROR_INVALID_INPUT, "%s: tensor %s: dtype is %s; must be F32, BF16 or F16",
                             path, info->name, info->dtype);
    return RPO_OK;
}

/* Exactly `size` bytes from `at` on. */
static rpo_status read_bytes(const rpo_safetensors_shard *shard, const rpo_tensor_info *info, uint64_t at,
                             unsigned char *bytes, size_t size) {
    for (size_t held = 0; held < size;) {
        const ssize_t got =
            pread(shard->descriptor, bytes + held, size - held, (off_t)(shard->data_start + at + held));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return rpo_io_fault(shard->path, "cannot be read", errno);
        if (got == 0)
            return rpo_error_set(RPO_ERROR_IO, "%s: tensor %s: the file was cut short while it was read",
                                 shard->path, info->name);
        held += (size_t)got;
    }
    return RPO_OK;
}

rpo_status rpo_safetensors_read_pieces(const rpo_safetensors *file, const rpo_tensor_info *info,
                                       rpo_tensor_piece *write, void *user) {
    enum { PIECE = 1 << 18 }; /* elements */
    const rpo_safetensors_shard *shard = &file->shards[file->shard_of[info - file->tensors]];
    element_kind kind = ELEMENT_F32;
    RPO_TRY(element_kind_of(info, shard->path, &kind));
    const size_t element_size = kind == ELEMENT_F32 ? 4 : 2;
    unsigned char *bytes = rpo_alloc_array(PIECE, element_size);
    float *values = rpo_alloc_array(PIECE, sizeof *values);
    rpo_status status = bytes != NULL && values != NULL ? RPO_OK : RPO_ERROR_OUT_OF_MEMORY;
    for (int64_t first = 0; first < info->count && status == RPO_OK; first += PIECE) {
        const int64_t count = info->count - first < PIECE ? info->count - first : PIECE;
        status = rpo_signals_check();
        if (status == RPO_OK)
            status = read_bytes(shard, info, info->begin + (uint64_t)first * element_size, bytes,
                                (size_t)count * element_size);
        if (status != RPO_OK)
            break;
        decode(values, bytes, (size_t)count, kind);
        status = write(user, first, count, values);
    }
    rpo_free(values);
    rpo_free(bytes);
    return status;
}

static rpo_status copy_piece(void *user, int64_t first, int64_t count, const float *values) {
    memcpy((float *)user + first, values, (size_t)count * sizeof *values);
    return RPO_OK;
}

rpo_status rpo_safetensors_read_float(const rpo_safetensors *file, const rpo_tensor_info *info, float *out) {
    return rpo_safetensors_read_pieces(file, info, copy_piece, out);
}
