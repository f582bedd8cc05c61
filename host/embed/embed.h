/*
 * embed.h - one embedding per record's prompt, for the contrastive weights.
 */
#ifndef RPO_HOST_EMBED_EMBED_H
#define RPO_HOST_EMBED_EMBED_H

#include "core/core.h"
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
    char cache_path[1024]; /* the cache file, "" where there is none */
    char warning[512]; /* what the caller should tell the user: a damaged or unwritable cache; "" = nothing */
} rpo_embeddings;

/*
 * Embeddings of `dataset`, one row per record in record order.
 *
 * hashed  `fit` is the dataset whose prompts give the inverse document frequencies (the training data; the
 * same as `dataset` for training data itself). RPO_EMBEDDING_HASHED_DIM columns. A prompt without any feature
 * gives the zero vector, which is similar to nothing. See hashed.c for the features. file    `fit` is not
 * read. As many rows as there are records, and at least one column; rows are L2-normalised here, zero rows
 * stay zero.
 *
 * cache_folder  created when absent; NULL = no cache. The file's name, embeddings-HASH.bin, is a hash of data
 * and settings. A damaged one is computed anew, and one that cannot be written is done without: both leave a
 *               warning, no error. Embeddings from a file are never cached: the file is as quick to read.
 * num_threads   0 = as many as OpenMP would use. The result is the same whatever their number.
 * Errors: INVALID_INPUT (the embedding file: format, row count, a non-finite row), OUT_OF_MEMORY, IO. On
 * failure *embeddings is empty.
 */
enum { RPO_EMBEDDING_HASHED_DIM = 384 };

rpo_status rpo_embeddings_compute(rpo_embeddings *embeddings, const rpo_dataset *dataset,
                                  const rpo_dataset *fit, const rpo_embedding_options *options,
                                  const char *cache_folder, int num_threads);
void rpo_embeddings_free(rpo_embeddings *embeddings);

#endif
