/*
 * embed.h - one embedding per record's prompt, for the contrastive weights.
 */
#ifndef RPO_HOST_EMBED_EMBED_H
#define RPO_HOST_EMBED_EMBED_H

#include "host/core/core.h"
#include "host/data/dataset.h"

typedef enum rpo_embedding_kind { RPO_EMBEDDING_HASHED, RPO_EMBEDDING_FILE } rpo_embedding_kind;

typedef struct rpo_embedding_options {
    rpo_embedding_kind kind;
    const char *path; /* RPO_EMBEDDING_FILE: .npy or .safetensors, one row per record, in file order */
} rpo_embedding_options;

typedef struct rpo_embeddings {
    float *rows; /* [count][dim], L2-normalised */
    int64_t count, dim;
    bool from_cache;
} rpo_embeddings;

/*
 * Embeddings of `dataset`. `fit` is the dataset whose prompts give the inverse document frequencies of the hashed
 * embedder (the training data; the same as `dataset` for training data itself). `cache_folder` may be NULL: no
 * cache. The cache file's name is a hash of data and settings; a damaged one is recomputed with a warning.
 */
rpo_status rpo_embeddings_compute(rpo_embeddings *embeddings, const rpo_dataset *dataset, const rpo_dataset *fit,
                                  const rpo_embedding_options *options, const char *cache_folder, int num_threads);
void rpo_embeddings_free(rpo_embeddings *embeddings);

#endif
