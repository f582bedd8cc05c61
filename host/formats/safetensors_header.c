/*
 * safetensors_header.c - the header of one file, every field checked before it is used.
 *
 * A file is: u64 little-endian header length N, N bytes of JSON {"NAME": {"dtype", "shape", "data_offsets"}},
 * data. The byte ranges must cover the data section from its first to its last byte without gap or overlap.
 */
#include <stdlib.h>
#include <string.h>

#include "core/descriptors.h"
#include "core/json.h"
#include "core/signals.h"
#include "host/formats/safetensors_internal.h"

static const struct {
    const char *name;
    uint64_t size;
} dtypes[] = {
    {"F32", 4}, {"BF16", 2}, {"F16", 2}, {"F64", 8},     {"I64", 8},     {"I32", 4}, {"I16", 2},  {"I8", 1},
    {"U64", 8}, {"U32", 4},  {"U16", 2}, {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"U8", 1},  {"BOOL", 1},
};

bool rpo_safetensors_dtype(const char *name, const char **static_name, uint64_t *size) {
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; ++i)
        if (strcmp(dtypes[i].name, name) == 0) {
            *static_name = dtypes[i].name;
            *size = dtypes[i].size;
            return true;
        }
    return false;
}

/* What the messages of one tensor need. */
typedef struct tensor_place {
    const char *path, *name;
} tensor_place;

static rpo_status fault(tensor_place at, const char *what) {
    return rpo_error_set(RPO_ERROR_INVALID_INPUT, "%s: tensor %s: %s", at.path, at.name, what);
}

/* JSON numbers are doubles: whole numbers are exact up to 2^53, and no file is longer. */
static bool read_whole(const cJSON *node, int64_t *value) {
    const double number = node->valuedouble;
    if (!cJSON_IsNumber(node) || !(number >= 0 && number <= 9007199254740992.0) ||
        number != (double)(int64_t)number)
        return false;
    *value = (int64_t)number;
    return true;
}

static rpo_status read_shape(tensor_place at, const cJSON *shape, rpo_tensor_info *info) {
    if (!cJSON_IsArray(shape))
        return fault(at, "shape is missing or no array; must be an array of whole numbers");
    info->count = 1;
    for (const cJSON *size = shape->child; size != NULL; size = size->next) {
        int64_t value = 0;
        if (info->num_dims == RPO_TENSOR_MAX_DIMS)
            return rpo_error_set(RPO_ERROR_INVALID_INPUT, "%s: tensor %s: has more than %d dimensions",
                                 at.path, at.name, RPO_TENSOR_MAX_DIMS);
        if (!read_whole(size, &value))
            return fault(at, "shape holds something else than whole numbers from 0 to 2^53");
        if (__builtin_mul_overflow(info->count, value, &info->count))
            return fault(at, "shape's product overflows 64 bits");
        info->shape[info->num_dims++] = value;
    }
    return RPO_OK;
}

static rpo_status read_range(tensor_place at, const cJSON *offsets, uint64_t data_size,
                             rpo_tensor_info *info) {
    int64_t begin = 0;
    int64_t end = 0;
    if (!cJSON_IsArray(offsets) || cJSON_GetArraySize(offsets) != 2 || !read_whole(offsets->child, &begin) ||
        !read_whole(offsets->child->next, &end))
        return fault(at, "data_offsets is missing or wrong; must be [begin, end], whole numbers from 0");
    if (begin > end)
        return rpo_error_set(RPO_ERROR_INVALID_INPUT, "%s: tensor %s: begins at byte %lld after its end %lld",
                             at.path, at.name, (long long)begin, (long long)end);
    if ((uint64_t)end > data_size)
        return rpo_error_set(RPO_ERROR_INVALID_INPUT,
                             "%s: tensor %s: ends at byte %lld of a data section of %llu bytes", at.path,
                             at.name, (long long)end, (unsigned long long)data_size);
    info->begin = (uint64_t)begin;
    info->end = (uint64_t)end;
    return RPO_OK;
}

/* Fills everything of `info` but its name. */
static rpo_status read_tensor(tensor_place at, const cJSON *entry, uint64_t data_size,
                              rpo_tensor_info *info) {
    uint64_t element_size = 0;
    uint64_t bytes = 0;
    if (!cJSON_IsObject(entry))
        return fault(at, "is no JSON object; must have dtype, shape and data_offsets");
    for (const cJSON *member = entry->child; member != NULL; member = member->next)
        if (strcmp(member->string, "dtype") != 0 && strcmp(member->string, "shape") != 0 &&
            strcmp(member->string, "data_offsets") != 0)
            return rpo_error_set(RPO_ERROR_INVALID_INPUT,
                                 "%s: tensor %s: unknown key %s; allowed are dtype, shape and data_offsets",
                                 at.path, at.name, member->string);
    const cJSON *dtype = cJSON_GetObjectItemCaseSensitive(entry, "dtype");
    if (!cJSON_IsString(dtype))
        return fault(at, "dtype is missing or no string");
    if (!rpo_safetensors_dtype(dtype->valuestring, &info->dtype, &element_size))
        return rpo_error_set(RPO_ERROR_INVALID_INPUT,
                             "%s: tensor %s: unknown dtype %s; weights are F32, BF16 or F16", at.path,
                             at.name, dtype->valuestring);
    RPO_TRY(read_shape(at, cJSON_GetObjectItemCaseSensitive(entry, "shape"), info));
    RPO_TRY(read_range(at, cJSON_GetObjectItemCaseSensitive(entry, "data_offsets"), data_size, info));
    if (__builtin_mul_overflow((uint64_t)info->count, element_size, &bytes))
        return fault(at, "shape's size in bytes overflows 64 bits");
    if (bytes != info->end - info->begin)
        return rpo_error_set(
            RPO_ERROR_INVALID_INPUT, "%s: tensor %s: dtype and shape take %llu bytes, data_offsets span %llu",
            at.path, at.name, (unsigned long long)bytes, (unsigned long long)(info->end - info->begin));
    return RPO_OK;
}

static int compare_ranges(const void *a, const void *b) {
    const rpo_tensor_info *left = a;
    const rpo_tensor_info *right = b;
    if (left->begin != right->begin)
        return left->begin < right->begin ? -1 : 1;
    if (left->end != right->end)
        return left->end < right->end ? -1 : 1;
    return strcmp(left->name, right->name);
}

/* Sorts the file's tensors from `first` on by their bytes; faults where these do not follow on one another. */
static rpo_status check_coverage(const char *path, rpo_safetensors *file, size_t first, uint64_t data_size) {
    const size_t count = file->count - first;
    rpo_tensor_info *tensors = count > 0 ? file->tensors + first : NULL; /* there may be no array at all */
    if (count > 0)
        qsort(tensors, count, sizeof *tensors, compare_ranges);
    uint64_t covered = 0;
    for (size_t i = 0; i < count; ++i) {
        if (tensors[i].begin != covered)
            return rpo_error_set(
                RPO_ERROR_INVALID_INPUT,
                "%s: tensor %s: begins at byte %llu, the one before ends at %llu; tensors must follow "
                "on one another without %s",
                path, tensors[i].name, (unsigned long long)tensors[i].begin, (unsigned long long)covered,
                tensors[i].begin > covered ? "gaps" : "overlap");
        covered = tensors[i].end;
    }
    if (covered != data_size)
        return rpo_error_set(
            RPO_ERROR_INVALID_INPUT,
            "%s: the tensors take %llu bytes, the data section has %llu; they must be the same", path,
            (unsigned long long)covered, (unsigned long long)data_size);
    return RPO_OK;
}

static rpo_status check_metadata(const char *path, const cJSON *metadata) {
    bool sound = cJSON_IsObject(metadata);
    for (const cJSON *entry = metadata->child; sound && entry != NULL; entry = entry->next)
        sound = cJSON_IsString(entry);
    return sound ? RPO_OK
                 : rpo_error_set(RPO_ERROR_INVALID_INPUT, "%s: __metadata__: must be an object of strings",
                                 path);
}

static rpo_status append_tensor(rpo_safetensors *file, const rpo_tensor_info *info, size_t shard) {
    void *tensors = file->tensors;
    void *shard_of = file->shard_of;
    rpo_status status =
        rpo_grow_array(&tensors, &file->tensor_capacity, file->count + 1, sizeof *file->tensors);
    file->tensors = tensors;
    RPO_TRY(status);
    status = rpo_grow_array(&shard_of, &file->shard_of_capacity, file->count + 1, sizeof *file->shard_of);
    file->shard_of = shard_of;
    RPO_TRY(status);
    rpo_tensor_info *added = &file->tensors[file->count];
    *added = *info;
    added->name = rpo_strdup(info->name);
    if (added->name == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    file->shard_of[file->count++] = shard;
    return RPO_OK;
}

static rpo_status read_entries(rpo_safetensors *file, size_t shard, const char *path, const cJSON *root,
                               uint64_t data_size) {
    const size_t first = file->count;
    if (!cJSON_IsObject(root))
        return rpo_error_set(RPO_ERROR_INVALID_INPUT,
                             "%s: header is no JSON object; is this a safetensors file?", path);
    for (const cJSON *entry = root->child; entry != NULL; entry = entry->next) {
        if (strcmp(entry->string, "__metadata__") == 0) {
            RPO_TRY(check_metadata(path, entry));
            continue;
        }
        rpo_tensor_info info = {.name = entry->string};
        RPO_TRY(read_tensor((tensor_place){path, entry->string}, entry, data_size, &info));
        RPO_TRY(append_tensor(file, &info, shard));
    }
    return check_coverage(path, file, first, data_size);
}

/* Reads exactly `size` bytes at `offset`. */
static rpo_status read_at(int descriptor, const char *path, void *data, size_t size, uint64_t offset) {
    char *to = data;
    while (size > 0) {
        size_t got = 0;
        RPO_TRY(rpo_signals_check());
        RPO_TRY(rpo_read_some_at(descriptor, path, to, size, offset, &got));
        if (got == 0)
            return rpo_error_set(RPO_ERROR_INVALID_INPUT, "%s: ends at byte %llu, before its header does",
                                 path, (unsigned long long)offset);
        to += got;
        offset += got;
        size -= got;
    }
    return RPO_OK;
}

static rpo_status read_header(rpo_safetensors *file, size_t shard_index, uint64_t file_size) {
    rpo_safetensors_shard *shard = &file->shards[shard_index];
    rpo_status status = RPO_OK;
    unsigned char prefix[8];
    uint64_t length = 0;
    char *text = NULL;
    rpo_json *json = NULL;

    if (file_size < sizeof prefix)
        return rpo_error_set(RPO_ERROR_INVALID_INPUT,
                             "%s: has %llu bytes; a safetensors file begins with 8 bytes of header length",
                             shard->path, (unsigned long long)file_size);
    RPO_TRY(read_at(shard->descriptor, shard->path, prefix, sizeof prefix, 0));
    for (int i = 0; i < 8; ++i)
        length |= (uint64_t)prefix[i] << (8 * i);
    if (length > RPO_SAFETENSORS_HEADER_MAX || length > file_size - sizeof prefix)
        return rpo_error_set(RPO_ERROR_INVALID_INPUT,
                             "%s: header length is %llu; the file has %llu bytes after it and %d are allowed",
                             shard->path, (unsigned long long)length,
                             (unsigned long long)(file_size - sizeof prefix), RPO_SAFETENSORS_HEADER_MAX);
    shard->data_start = sizeof prefix + length;

    text = rpo_alloc_array((size_t)length + 1, 1);
    if (text == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    status = read_at(shard->descriptor, shard->path, text, (size_t)length, sizeof prefix);
    if (status != RPO_OK)
        goto cleanup;
    text[length] = '\0';
    status = rpo_json_parse(&json, text, (size_t)length, shard->path, 1);
    if (status == RPO_OK)
        status =
            read_entries(file, shard_index, shard->path, rpo_json_root(json), file_size - shard->data_start);

cleanup:
    rpo_json_free(json);
    rpo_free(text);
    return status;
}

rpo_status rpo_safetensors_add_file(rpo_safetensors *file, const char *path) {
    void *shards = file->shards;
    const rpo_status status =
        rpo_grow_array(&shards, &file->shard_capacity, file->num_shards + 1, sizeof *file->shards);
    file->shards = shards;
    RPO_TRY(status);
    char *copy = rpo_strdup(path);
    if (copy == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    int descriptor = -1;
    uint64_t size = 0;
    const rpo_status opened = rpo_open_regular(path, &descriptor, &size);
    if (opened != RPO_OK) {
        rpo_free(copy);
        return opened;
    }
    file->shards[file->num_shards] = (rpo_safetensors_shard){copy, descriptor, 0};
    return read_header(file, file->num_shards++, size);
}
