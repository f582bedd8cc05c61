/* safetensors_write.c - writes float32 tensors: temporary file, fsync, rename, fsync of the folder. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "core/descriptors.h"
#include "core/files_internal.h"
#include "core/json.h"
#include "host/formats/safetensors.h"

#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#    error "safetensors files are little-endian; this writer copies memory as it is"
#endif

static rpo_status tensor_count(const rpo_tensor_write *tensor, uint64_t *count) {
    *count = 1;
    if (tensor->num_dims < 0 || tensor->num_dims > RPO_TENSOR_MAX_DIMS)
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT, "tensor %s: has %d dimensions; 0..%d are allowed",
                             tensor->name, tensor->num_dims, RPO_TENSOR_MAX_DIMS);
    for (int d = 0; d < tensor->num_dims; ++d)
        if (tensor->shape[d] < 0 || __builtin_mul_overflow(*count, (uint64_t)tensor->shape[d], count))
            return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT, "tensor %s: its shape is negative or overflows",
                                 tensor->name);
    return RPO_OK;
}

/* The JSON header, padded with spaces so that the data begins at a multiple of 8 bytes. */
static rpo_status build_header(rpo_text *header, const rpo_tensor_write *tensors, size_t count) {
    uint64_t offset = 0;
    RPO_TRY(rpo_text_printf(header, "{\"__metadata__\":{\"format\":\"pt\"}"));
    for (size_t i = 0; i < count; ++i) {
        uint64_t elements = 0;
        RPO_TRY(tensor_count(&tensors[i], &elements));
        RPO_TRY(rpo_text_printf(header, ","));
        RPO_TRY(rpo_json_append_string(header, tensors[i].name));
        RPO_TRY(rpo_text_printf(header, ":{\"dtype\":\"F32\",\"shape\":["));
        for (int d = 0; d < tensors[i].num_dims; ++d)
            RPO_TRY(rpo_text_printf(header, "%s%lld", d > 0 ? "," : "", (long long)tensors[i].shape[d]));
        const uint64_t end = offset + elements * sizeof(float);
        RPO_TRY(rpo_text_printf(header, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)offset,
                                (unsigned long long)end));
        offset = end;
    }
    RPO_TRY(rpo_text_printf(header, "}"));
    while (header->length % 8 != 0)
        RPO_TRY(rpo_text_append(header, " ", 1));
    return RPO_OK;
}

static rpo_status write_all(int descriptor, const char *path, const void *data, uint64_t size) {
    const char *from = data;
    while (size > 0) {
        const size_t most = (size_t)1 << 30; /* one call may take no more than 2 GiB */
        const ssize_t put = write(descriptor, from, size < most ? (size_t)size : most);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return rpo_io_fault(path, "cannot be written", put < 0 ? errno : ENOSPC);
        from += put;
        size -= (uint64_t)put;
    }
    return RPO_OK;
}

/* A tensor whose data somebody hands over piece by piece. */
static rpo_status write_pieces(int descriptor, const char *path, const rpo_tensor_write *tensor,
                               uint64_t count) {
    enum { PIECE = 1 << 20 }; /* elements */
    float *piece = rpo_alloc_array(count < PIECE ? (size_t)count : PIECE, sizeof *piece);
    rpo_status status = piece != NULL ? RPO_OK : RPO_ERROR_OUT_OF_MEMORY;
    for (uint64_t first = 0; first < count && status == RPO_OK; first += PIECE) {
        const uint64_t some = count - first < PIECE ? count - first : PIECE;
        status = tensor->read(tensor->user, (int64_t)first, (int64_t)some, piece);
        if (status == RPO_OK)
            status = write_all(descriptor, path, piece, some * sizeof *piece);
    }
    rpo_free(piece);
    return status;
}

static rpo_status write_file(int descriptor, const char *path, const rpo_text *header,
                             const rpo_tensor_write *tensors, size_t count) {
    const uint64_t length = header->length;
    RPO_TRY(write_all(descriptor, path, &length, sizeof length));
    RPO_TRY(write_all(descriptor, path, header->data, length));
    for (size_t i = 0; i < count; ++i) {
        uint64_t elements = 0;
        RPO_TRY(tensor_count(&tensors[i], &elements));
        if (tensors[i].data == NULL && elements > 0)
            RPO_TRY(write_pieces(descriptor, path, &tensors[i], elements));
        else
            RPO_TRY(write_all(descriptor, path, tensors[i].data, elements * sizeof(float)));
    }
    return rpo_sync_file(descriptor, path);
}

rpo_status rpo_safetensors_write(const char *path, const rpo_tensor_write *tensors, size_t count) {
    rpo_text header = {0};
    rpo_text temporary = {0};
    int descriptor = -1;
    rpo_status status = rpo_text_printf(&temporary, "%s.tmp", path);
    if (status == RPO_OK)
        status = build_header(&header, tensors, count);
    if (status != RPO_OK)
        goto cleanup;
    status = rpo_open_to_write(temporary.data, O_TRUNC, &descriptor);
    if (status != RPO_OK)
        goto cleanup;
    status = write_file(descriptor, temporary.data, &header, tensors, count);
    if (status == RPO_OK)
        status = rpo_close_written(descriptor, temporary.data);
    else
        close(descriptor);
    if (status == RPO_OK)
        status = rpo_rename_synced(temporary.data, path);
    if (status != RPO_OK)
        unlink(temporary.data);

cleanup:
    rpo_text_free(&header);
    rpo_text_free(&temporary);
    return status;
}
