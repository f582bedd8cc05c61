/*
 * reference_cache.c - magic, number of records, chosen log-probs, rejected log-probs (float32, this machine's byte
 * order), and the XXH3 of all that as 32 hex digits.
 */
#include "host/train/reference_cache.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { HASH_DIGITS = 32 };
static const char magic[8] = "rporef2";

typedef struct cache_header {
    char magic[8];
    int64_t count;
} cache_header;

char *rpo_reference_cache_path(const char *folder, const char *model_hash, const char *data_hash) {
    rpo_hash *hash = rpo_hash_new();
    if (hash == NULL)
        return NULL;
    char hex[HASH_DIGITS + 1], name[HASH_DIGITS + 32];
    rpo_hash_add_string(hash, model_hash);
    rpo_hash_add_string(hash, data_hash);
    rpo_hash_finish(hash, hex);
    snprintf(name, sizeof name, "reference-%s.bin", hex);
    return rpo_path_join(folder, name);
}

static rpo_status checksum(const void *data, size_t size, char hex[HASH_DIGITS + 1]) {
    rpo_hash *hash = rpo_hash_new();
    if (hash == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    rpo_hash_add(hash, data, size);
    rpo_hash_finish(hash, hex);
    return RPO_OK;
}

rpo_status rpo_reference_cache_read(rpo_scores *scores, const char *path) {
    const size_t side = (size_t)scores->count * sizeof(float), size = sizeof(cache_header) + 2 * side;
    char *data = NULL;
    char hex[HASH_DIGITS + 1];
    size_t found = 0;
    cache_header header;
    rpo_status status = rpo_read_file(path, size + HASH_DIGITS, &data, &found);
    if (status != RPO_OK)
        goto cleanup;
    if (found != size + HASH_DIGITS) {
        status = rpo_error_set(RPO_ERROR_INVALID_INPUT, "%s: has %zu bytes; must have %zu", path, found,
                               size + HASH_DIGITS);
        goto cleanup;
    }
    memcpy(&header, data, sizeof header);
    status = checksum(data, size, hex);
    if (status == RPO_OK && (memcmp(header.magic, magic, sizeof magic) != 0 ||
                             header.count != scores->count || memcmp(hex, data + size, HASH_DIGITS) != 0))
        status = rpo_error_set(RPO_ERROR_INVALID_INPUT, "%s: is damaged", path);
    if (status != RPO_OK)
        goto cleanup;
    memcpy(scores->chosen, data + sizeof header, side);
    memcpy(scores->rejected, data + sizeof header + side, side);

cleanup:
    rpo_free(data);
    return status;
}

/* What `scores` lacks and the file has by now. */
static void merge(float *into, const float *from, int64_t count) {
    for (int64_t i = 0; i < count; ++i)
        if (isnan(into[i]))
            into[i] = from[i];
}

static void add_found(char *data, const rpo_scores *scores, const char *path) {
    rpo_scores found = {0};
    const size_t side = (size_t)scores->count * sizeof(float);
    if (rpo_scores_create(&found, scores->count) != RPO_OK)
        return;
    if (rpo_path_exists(path) && rpo_reference_cache_read(&found, path) == RPO_OK) {
        merge((float *)(void *)data, found.chosen, scores->count);
        merge((float *)(void *)(data + side), found.rejected, scores->count);
    }
    rpo_scores_free(&found);
}

rpo_status rpo_reference_cache_write(const rpo_scores *scores, const char *folder, const char *path) {
    const size_t side = (size_t)scores->count * sizeof(float), size = sizeof(cache_header) + 2 * side;
    cache_header header = {.count = scores->count};
    memcpy(header.magic, magic, sizeof magic);
    char *data = rpo_alloc_array(size + HASH_DIGITS + 1, 1);
    if (data == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    memcpy(data, &header, sizeof header);
    memcpy(data + sizeof header, scores->chosen, side);
    memcpy(data + sizeof header + side, scores->rejected, side);
    add_found(data + sizeof header, scores, path);
    rpo_status status = checksum(data, size, data + size);
    if (status == RPO_OK)
        status = rpo_make_folders(folder);
    if (status == RPO_OK)
        status = rpo_write_file_atomic(path, data, size + HASH_DIGITS);
    rpo_free(data);
    return status;
}
