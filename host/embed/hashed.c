/*
 * hashed.c - the built-in embedder: TF-IDF over hashed features, projected with signs onto a few hundred
 * columns.
 *
 *     tf(f)   = 1 + log(occurrences of f in the prompt)
 *     idf(f)  = log(1 + (N + 1) / (df(f) + 1))        N prompts of `fit`, df(f) of them hold f
 *     row[column(h)] += sign(h) tf idf scale          h = hash of f; then row / |row|
 *
 * Signs make collisions cancel on average (Weinberger et al. 2009, arXiv 0902.2206). Words that stand
 * everywhere
 * ("human", "assistant") keep weight log 2, rare ones about log N. Document frequencies live in a table of
 * 2^18 buckets by the hash's top bits: two features of one bucket share a count, which only makes them seem
 * less rare.
 *
 * Determinism: a row's features are added in hash order by one thread; frequencies are integers.
 */
#include <math.h>

#include "core/threads.h"
#include "host/embed/embed_internal.h"
#include "host/embed/features.h"

enum {
    DF_BITS = 18,
    DF_BUCKETS = 1 << DF_BITS,
    SIGN_BIT = 40 /* below the bucket's bits, above the column's */
};

typedef struct rpo_frequencies {
    uint32_t *documents; /* [DF_BUCKETS] */
    double num_documents;
} rpo_frequencies;

static size_t bucket_of(uint64_t hash) {
    return (size_t)(hash >> (64 - DF_BITS));
}

static int64_t column_of(uint64_t hash) {
    return (int64_t)(((hash & UINT32_MAX) * RPO_EMBEDDING_HASHED_DIM) >> 32);
}

const char *rpo_embed_hashed_version(void) {
    return "hashed-1";
}

/* Features are sorted by hash, so those of one bucket stand together and the bucket is counted once. */
static void count_document(rpo_frequencies *frequencies, const rpo_features *features) {
    size_t last = DF_BUCKETS;
    for (size_t i = 0; i < features->count; ++i) {
        const size_t bucket = bucket_of(features->items[i].hash);
        if (bucket == last)
            continue;
        last = bucket;
#pragma omp atomic
        ++frequencies->documents[bucket];
    }
}

static void project(float *row, const rpo_features *features, const rpo_frequencies *frequencies) {
    double sums[RPO_EMBEDDING_HASHED_DIM] = {0};
    for (size_t i = 0; i < features->count; ++i) {
        const rpo_feature *feature = &features->items[i];
        const double documents = frequencies->documents[bucket_of(feature->hash)];
        const double tf = 1 + log(feature->count);
        const double idf = log1p((frequencies->num_documents + 1) / (documents + 1));
        const double sign = (feature->hash >> SIGN_BIT & 1) != 0 ? 1 : -1;
        sums[column_of(feature->hash)] += sign * tf * idf * feature->scale;
    }
    double square = 0;
    for (int i = 0; i < RPO_EMBEDDING_HASHED_DIM; ++i)
        square += sums[i] * sums[i];
    const double scale = square > 0 ? 1 / sqrt(square) : 0;
    for (int i = 0; i < RPO_EMBEDDING_HASHED_DIM; ++i)
        row[i] = (float)(sums[i] * scale);
}

/* One pass over a dataset's prompts: counts documents (rows NULL) or writes rows. */
static rpo_status for_each_prompt(const rpo_dataset *dataset, rpo_frequencies *frequencies, float *rows,
                                  int num_threads) {
    const int64_t count = rpo_dataset_size(dataset);
    bool failed = false; /* messages are thread-local, so a worker only raises this */
#pragma omp parallel num_threads(num_threads) reduction(|| : failed)
    {
        rpo_features features = {0};
#pragma omp for schedule(dynamic, 16)
        for (int64_t i = 0; i < count; ++i) {
            const rpo_record *record = rpo_dataset_record(dataset, i);
            if (rpo_features_extract(&features, record->prompt, record->prompt_size) != RPO_OK)
                failed = true;
            else if (rows == NULL)
                count_document(frequencies, &features);
            else
                project(rows + i * RPO_EMBEDDING_HASHED_DIM, &features, frequencies);
        }
        rpo_features_free(&features);
    }
    return failed
               ? rpo_error_set(RPO_ERROR_OUT_OF_MEMORY, "embeddings: no memory for the features of a prompt")
               : RPO_OK;
}

rpo_status rpo_embed_hashed(rpo_embeddings *embeddings, const rpo_dataset *dataset, const rpo_dataset *fit,
                            int num_threads) {
    const int64_t count = rpo_dataset_size(dataset);
    rpo_status status = RPO_OK;
    rpo_frequencies frequencies = {.num_documents = (double)rpo_dataset_size(fit)};
    if (num_threads <= 0)
        num_threads = rpo_threads_default();
    frequencies.documents = rpo_calloc_array(DF_BUCKETS, sizeof *frequencies.documents);
    float *rows = rpo_alloc_array((size_t)count, RPO_EMBEDDING_HASHED_DIM * sizeof *rows);
    if (frequencies.documents == NULL || rows == NULL) {
        status = RPO_ERROR_OUT_OF_MEMORY;
        goto cleanup;
    }
    status = for_each_prompt(fit, &frequencies, NULL, num_threads);
    if (status == RPO_OK)
        status = for_each_prompt(dataset, &frequencies, rows, num_threads);
    if (status != RPO_OK)
        goto cleanup;
    embeddings->rows = rows;
    embeddings->count = count;
    embeddings->dim = RPO_EMBEDDING_HASHED_DIM;
    rows = NULL;

cleanup:
    rpo_free(rows);
    rpo_free(frequencies.documents);
    return status;
}
