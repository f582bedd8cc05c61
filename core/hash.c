/* hash.c - XXH3, 128 bits: the names of caches and the checksums of files. Not for secrets. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <xxhash.h>

#include "core/descriptors.h"
#include "core/signals.h"

struct rpo_hash {
    XXH3_state_t *state;
};

rpo_hash *rpo_hash_new(void) {
    rpo_hash *hash = rpo_alloc_array(1, sizeof *hash);
    if (hash == NULL)
        return NULL;
    hash->state = XXH3_createState();
    if (hash->state == NULL) {
        rpo_free(hash);
        rpo_error_set(RPO_ERROR_OUT_OF_MEMORY, "memory: no room for a hash state");
        return NULL;
    }
    XXH3_128bits_reset(hash->state);
    return hash;
}

void rpo_hash_add(rpo_hash *hash, const void *data, size_t size) {
    if (size > 0)
        XXH3_128bits_update(hash->state, data, size);
}

void rpo_hash_add_string(rpo_hash *hash, const char *text) {
    const uint64_t length = strlen(text);
    rpo_hash_add(hash, &length, sizeof length);
    rpo_hash_add(hash, text, length);
}

void rpo_hash_finish(rpo_hash *hash, char hex[33]) {
    XXH128_canonical_t canonical; /* big-endian: the digits read the same on every machine */
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(hash->state));
    for (size_t i = 0; i < sizeof canonical.digest; ++i)
        snprintf(hex + 2 * i, 3, "%02x", (unsigned)canonical.digest[i]);
    XXH3_freeState(hash->state);
    rpo_free(hash);
}

uint64_t rpo_hash_bytes(const void *data, size_t size) {
    return XXH3_64bits(data, size);
}

rpo_status rpo_hash_file(const char *path, bool stoppable, char hex[33]) {
    enum { CHUNK = 1 << 20 };
    int file = -1;
    RPO_TRY(rpo_open_regular(path, &file, NULL));
    char *chunk = rpo_alloc_array(CHUNK, 1);
    rpo_hash *hash = rpo_hash_new();
    rpo_status status = chunk == NULL || hash == NULL ? RPO_ERROR_OUT_OF_MEMORY : RPO_OK;
    for (size_t got = 1; status == RPO_OK && got > 0;) {
        status = stoppable ? rpo_signals_check() : RPO_OK;
        if (status == RPO_OK)
            status = rpo_read_some(file, path, chunk, CHUNK, &got);
        if (status == RPO_OK)
            rpo_hash_add(hash, chunk, got);
    }
    if (hash != NULL)
        rpo_hash_finish(hash, hex);
    rpo_free(chunk);
    close(file);
    return status;
}
