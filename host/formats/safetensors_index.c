/*
 * safetensors_index.c - model.safetensors.index.json: {"weight_map": {"TENSOR": "SHARD FILE"}}.
 *
 * Index and shards must say the same: every tensor of the map lies in its shard, every tensor of a shard is
 * in the map. Shards are plain names inside the folder of the index.
 */
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "host/formats/safetensors_internal.h"

enum { INDEX_SIZE_MAX = RPO_SAFETENSORS_HEADER_MAX };

typedef struct mapping {
    const char *tensor, *shard;
} mapping;

static int compare_by_shard(const void *a, const void *b) {
    const mapping *left = a;
    const mapping *right = b;
    const int order = strcmp(left->shard, right->shard);
    return order != 0 ? order : strcmp(left->tensor, right->tensor);
}

static int compare_by_tensor(const void *a, const void *b) {
    return strcmp(((const mapping *)a)->tensor, ((const mapping *)b)->tensor);
}

static bool is_plain_name(const char *name) {
    return name[0] != '\0' && name[0] != '.' && strchr(name, '/') == NULL;
}

static rpo_status read_map(const rpo_json *json, mapping **map, size_t *count) {
    const cJSON *root = rpo_json_root(json);
    const cJSON *weight_map = cJSON_GetObjectItemCaseSensitive(root, "weight_map");
    if (!cJSON_IsObject(weight_map) || weight_map->child == NULL)
        return rpo_json_fault(json, root, "weight_map",
                              "is missing or empty; must map tensor names to shard files");
    size_t entries = 0;
    for (const cJSON *entry = weight_map->child; entry != NULL; entry = entry->next) {
        if (!cJSON_IsString(entry) || !is_plain_name(entry->valuestring))
            return rpo_json_fault(json, entry, entry->string,
                                  "shard file is %s; must be the plain name of a file in the same folder",
                                  cJSON_IsString(entry) ? entry->valuestring : "no string");
        ++entries;
    }
    *map = rpo_alloc_array(entries, sizeof **map);
    if (*map == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    for (const cJSON *entry = weight_map->child; entry != NULL; entry = entry->next)
        (*map)[(*count)++] = (mapping){entry->string, entry->valuestring};
    return RPO_OK;
}

static rpo_status add_shards(rpo_safetensors *file, const char *folder, const mapping *map, size_t count) {
    for (size_t i = 0; i < count; ++i) {
        if (i > 0 && strcmp(map[i - 1].shard, map[i].shard) == 0)
            continue;
        char *path = rpo_path_join(folder, map[i].shard);
        if (path == NULL)
            return RPO_ERROR_OUT_OF_MEMORY;
        const rpo_status status = rpo_safetensors_add_file(file, path);
        rpo_free(path);
        RPO_TRY(status);
    }
    return RPO_OK;
}

static const char *file_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

/*
 * `map` is sorted by tensor; found[count] comes in false. A tensor in two shards is found too: the map names
 * only one of them.
 */
static rpo_status check_shards(const rpo_safetensors *file, const char *index_path, const mapping *map,
                               size_t count, bool *found) {
    for (size_t i = 0; i < file->count; ++i) {
        const char *path = file->shards[file->shard_of[i]].path;
        const mapping key = {file->tensors[i].name, NULL};
        const mapping *entry = bsearch(&key, map, count, sizeof *map, compare_by_tensor);
        if (entry == NULL || strcmp(entry->shard, file_name(path)) != 0)
            return rpo_error_set(RPO_ERROR_INVALID_INPUT, "%s: tensor %s: is %s %s", path,
                                 file->tensors[i].name,
                                 entry == NULL ? "not in" : "in another shard according to", index_path);
        found[entry - map] = true;
    }
    for (size_t i = 0; i < count; ++i)
        if (!found[i])
            return rpo_error_set(RPO_ERROR_INVALID_INPUT, "%s: tensor %s: is not in its shard %s", index_path,
                                 map[i].tensor, map[i].shard);
    return RPO_OK;
}

rpo_status rpo_safetensors_add_index(rpo_safetensors *file, const char *folder, const char *index_path) {
    rpo_json *json = NULL;
    mapping *map = NULL;
    bool *found = NULL;
    size_t count = 0;
    rpo_status status = rpo_json_read_file(&json, index_path, INDEX_SIZE_MAX);
    if (status == RPO_OK)
        status = read_map(json, &map, &count);
    if (status != RPO_OK)
        goto cleanup;
    qsort(map, count, sizeof *map, compare_by_shard);
    status = add_shards(file, folder, map, count);
    if (status != RPO_OK)
        goto cleanup;
    qsort(map, count, sizeof *map, compare_by_tensor);
    found = rpo_calloc_array(count, sizeof *found);
    status = found == NULL ? RPO_ERROR_OUT_OF_MEMORY : check_shards(file, index_path, map, count, found);

cleanup:
    rpo_free(found);
    rpo_free(map);
    rpo_json_free(json);
    return status;
}
