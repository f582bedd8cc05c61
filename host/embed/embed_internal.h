/* embed_internal.h - the embedders behind rpo_embeddings_compute, and the cache in front of them. */
#ifndef RPO_HOST_EMBED_EMBED_INTERNAL_H
#define RPO_HOST_EMBED_EMBED_INTERNAL_H

#include "host/embed/embed.h"

/* Each fills rows (rpo_alloc_array memory), count and dim; *embeddings is empty before. */
rpo_status rpo_embed_hashed(rpo_embeddings *embeddings, const rpo_dataset *dataset, const rpo_dataset *fit,
                            int num_threads);
rpo_status rpo_embed_file(rpo_embeddings *embeddings, const rpo_dataset *dataset, const char *path);

/* Name and version of the hashed embedder's formula; part of cache keys, so change it with the formula. */
const char *rpo_embed_hashed_version(void);

/* Scales a row to length 1; a zero row stays. False when a value is NaN or infinite. */
bool rpo_embed_normalize(float *row, int64_t dim);

/*
 * Reads a cache file. *found false when there is none or it is damaged; the latter sets embeddings->warning.
 * `count` and `dim` are what the file must hold.
 */
rpo_status rpo_embed_cache_read(rpo_embeddings *embeddings, const char *path, int64_t count, int64_t dim,
                                bool *found);
rpo_status rpo_embed_cache_write(const rpo_embeddings *embeddings, const char *path);

#endif
