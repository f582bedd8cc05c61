/*
 * cache.c - embeddings kept on disk:
 *
 *     "RPOEMBD1"  int64 count  int64 dim  float32 rows[count][dim]  32 hex digits: XXH3-128 of all before
 *
 * in the machine's byte order (the file's name is a hash of data that only this machine tokenized; a cache
 * that was carried elsewhere fails its checks and is computed anew).
 */
#include <stdio.h>
#include <string.h>

#include "host/embed/embed_internal.h"

static const char magic[8] = {'R', 'P', 'O', 'E', 'M', 'B', 'D', '1'};

typedef struct rpo_cache_header {
    char magic[8];
    int64_t count, dim;
} rpo_cache_header;

enum { CHECKSUM_SIZE = 32 };

/* Bytes of the part under the checksum. Both factors are already held in memory or checked by the caller. */
static size_t payload_size(int64_t count, int64_t dim) {
    return sizeof(rpo_cache_header) + (size_t)count * (size_t)dim * sizeof(float);
}

static rpo_status checksum(char hex[33], const char *data, size_t size) {
    rpo_hash *hash = rpo_hash_new();
    if (hash == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    rpo_hash_add(hash, data, size);
    rpo_hash_finish(hash, hex);
    return RPO_OK;
}

/* NULL when the file is what it should be, else what is wrong with it. */
static const char *find_damage(const char *data, size_t size, int64_t count, int64_t dim, const char *hex) {
    rpo_cache_header header;
    if (size != payload_size(count, dim) + CHECKSUM_SIZE)
        return "has the wrong size";
    memcpy(&header, data, sizeof header);
    if (memcmp(header.magic, magic, sizeof magic) != 0 || header.count != count || header.dim != dim)
        return "has the wrong header";
    if (memcmp(data + size - CHECKSUM_SIZE, hex, CHECKSUM_SIZE) != 0)
        return "does not match its checksum";
    return NULL;
}

static void warn_damaged(rpo_embeddings *embeddings, const char *path, const char *damage) {
    snprintf(embeddings->warning, sizeof embeddings->warning, "%s: the cache %s; computed anew", path,
             damage);
}

rpo_status rpo_embed_cache_read(rpo_embeddings *embeddings, const char *path, int64_t count, int64_t dim,
                                bool *found) {
    rpo_status status = RPO_OK;
    char *data = NULL;
    size_t size = 0;
    char hex[33] = "";
    *found = false;
    rpo_path_kind kind = RPO_PATH_ABSENT;
    status = rpo_path_examine(path, &kind);
    if (status == RPO_OK && kind == RPO_PATH_ABSENT)
        return RPO_OK;
    if (status == RPO_OK)
        status = rpo_read_file(path, payload_size(count, dim) + CHECKSUM_SIZE, &data, &size);
    if (status == RPO_ERROR_OUT_OF_MEMORY || status == RPO_ERROR_INTERRUPTED)
        return status;
    if (status != RPO_OK) { /* what is lost is a little time */
        snprintf(embeddings->warning, sizeof embeddings->warning, "%s; the embeddings are computed anew",
                 rpo_last_error());
        rpo_error_clear();
        return RPO_OK;
    }
    if (size > CHECKSUM_SIZE)
        status = checksum(hex, data, size - CHECKSUM_SIZE);
    if (status != RPO_OK)
        goto cleanup;
    const char *damage = find_damage(data, size, count, dim, hex);
    if (damage != NULL) {
        warn_damaged(embeddings, path, damage);
        goto cleanup;
    }
    const size_t values = (size_t)count * (size_t)dim;
    embeddings->rows = rpo_alloc_array(values, sizeof *embeddings->rows);
    if (embeddings->rows == NULL) {
        status = RPO_ERROR_OUT_OF_MEMORY;
        goto cleanup;
    }
    memcpy(embeddings->rows, data + sizeof(rpo_cache_header), values * sizeof *embeddings->rows);
    embeddings->count = count;
    embeddings->dim = dim;
    embeddings->from_cache = true;
    *found = true;

cleanup:
    rpo_free(data);
    return status;
}

rpo_status rpo_embed_cache_write(const rpo_embeddings *embeddings, const char *path) {
    const size_t payload = payload_size(embeddings->count, embeddings->dim);
    char *data = rpo_alloc_array(payload + CHECKSUM_SIZE, 1);
    if (data == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    rpo_cache_header header = {.count = embeddings->count, .dim = embeddings->dim};
    memcpy(header.magic, magic, sizeof magic);
    memcpy(data, &header, sizeof header);
    memcpy(data + sizeof header, embeddings->rows, payload - sizeof header);
    char hex[33];
    rpo_status status = checksum(hex, data, payload);
    if (status == RPO_OK) {
        memcpy(data + payload, hex, CHECKSUM_SIZE);
        status = rpo_write_file_atomic(path, data, payload + CHECKSUM_SIZE);
    }
    rpo_free(data);
    return status;
}
