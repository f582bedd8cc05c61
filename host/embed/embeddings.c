/* embeddings.c - one embedding per record: from the cache, or from the embedder that was asked for. */
#include "host/embed/embed.h"

#include <stdio.h>

#include "host/embed/embed_internal.h"

/* PATH = FOLDER/embeddings-HASH.bin; the hash covers everything that the rows depend on. */
static rpo_status make_cache_path(char *path, size_t size, const char *folder, const rpo_dataset *dataset,
                                  const rpo_dataset *fit) {
    char hex[33];
    rpo_hash *hash = rpo_hash_new();
    if (hash == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    rpo_hash_add_string(hash, rpo_embed_hashed_version());
    rpo_hash_add_string(hash, rpo_dataset_hash(dataset));
    rpo_hash_add_string(hash, rpo_dataset_hash(fit));
    rpo_hash_finish(hash, hex);
    const int length = snprintf(path, size, "%s/embeddings-%s.bin", folder, hex);
    if (length < 0 || (size_t)length >= size)
        return rpo_error_set(RPO_ERROR_INVALID_INPUT,
                             "run.dir: is too long for a cache; at most %zu bytes fit",
                             size - sizeof "/embeddings-.bin" - sizeof hex);
    return RPO_OK;
}

/* A cache that cannot be written costs the next run some time and is no reason to stop this one. */
static void keep(rpo_embeddings *embeddings, const char *cache_folder) {
    rpo_status status = rpo_make_folders(cache_folder);
    if (status == RPO_OK)
        status = rpo_embed_cache_write(embeddings, embeddings->cache_path);
    if (status == RPO_OK)
        return;
    snprintf(embeddings->warning, sizeof embeddings->warning, "the embeddings cannot be cached: %s",
             rpo_last_error());
    rpo_error_clear();
    embeddings->cache_path[0] = '\0';
}

static rpo_status compute_hashed(rpo_embeddings *embeddings, const rpo_dataset *dataset,
                                 const rpo_dataset *fit, const char *cache_folder, int num_threads) {
    if (cache_folder == NULL)
        return rpo_embed_hashed(embeddings, dataset, fit, num_threads);
    bool found = false;
    RPO_TRY(
        make_cache_path(embeddings->cache_path, sizeof embeddings->cache_path, cache_folder, dataset, fit));
    RPO_TRY(rpo_embed_cache_read(embeddings, embeddings->cache_path, rpo_dataset_size(dataset),
                                 RPO_EMBEDDING_HASHED_DIM, &found));
    if (found)
        return RPO_OK;
    RPO_TRY(rpo_embed_hashed(embeddings, dataset, fit, num_threads));
    keep(embeddings, cache_folder);
    return RPO_OK;
}

rpo_status rpo_embeddings_compute(rpo_embeddings *embeddings, const rpo_dataset *dataset,
                                  const rpo_dataset *fit, const rpo_embedding_options *options,
                                  const char *cache_folder, int num_threads) {
    *embeddings = (rpo_embeddings){0};
    rpo_status status = RPO_OK;
    switch (options->kind) {
    case RPO_EMBEDDING_HASHED:
        status = compute_hashed(embeddings, dataset, fit, cache_folder, num_threads);
        break;
    case RPO_EMBEDDING_FILE:
        if (options->path == NULL)
            status = rpo_error_set(RPO_ERROR_INVALID_INPUT,
                                   "embedding.path: is missing; embedding.kind \"file\" needs a .npy or "
                                   ".safetensors file with one row per record");
        else
            status = rpo_embed_file(embeddings, dataset, options->path);
        break;
    }
    if (status != RPO_OK)
        rpo_embeddings_free(embeddings);
    return status;
}

void rpo_embeddings_free(rpo_embeddings *embeddings) {
    rpo_free(embeddings->rows);
    *embeddings = (rpo_embeddings){0};
}
