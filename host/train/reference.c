/*
 * reference.c - the reference pass and its cache.
 *
 * File: magic, number of records, chosen log-probs, rejected log-probs (float32, this machine's byte order),
 * and the XXH3 of all that as 32 hex digits. Model and data are in the name.
 */
#include "host/train/reference.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/train/evaluate.h"

enum { SAMPLE_SIZE = 8, HASH_DIGITS = 32 };
static const char magic[8] = "rporef1";

typedef struct cache_header {
    char magic[8];
    int64_t count;
} cache_header;

static char *cache_path(const rpo_reference *reference, const rpo_dataset *dataset) {
    rpo_hash *hash = rpo_hash_new();
    if (hash == NULL)
        return NULL;
    char hex[HASH_DIGITS + 1], name[HASH_DIGITS + 32];
    rpo_hash_add_string(hash, reference->model_hash);
    rpo_hash_add_string(hash, rpo_dataset_hash(dataset));
    rpo_hash_finish(hash, hex);
    snprintf(name, sizeof name, "reference-%s.bin", hex);
    return rpo_path_join(reference->cache_folder, name);
}

static rpo_status checksum(const void *data, size_t size, char hex[HASH_DIGITS + 1]) {
    rpo_hash *hash = rpo_hash_new();
    if (hash == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    rpo_hash_add(hash, data, size);
    rpo_hash_finish(hash, hex);
    return RPO_OK;
}

static rpo_status write_cache(const rpo_scores *scores, const rpo_reference *reference, const char *path) {
    const size_t side = (size_t)scores->count * sizeof(float), size = sizeof(cache_header) + 2 * side;
    cache_header header = {.count = scores->count};
    memcpy(header.magic, magic, sizeof magic);
    char *data = rpo_alloc_array(size + HASH_DIGITS + 1, 1);
    if (data == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    memcpy(data, &header, sizeof header);
    memcpy(data + sizeof header, scores->chosen, side);
    memcpy(data + sizeof header + side, scores->rejected, side);
    rpo_status status = checksum(data, size, data + size);
    if (status == RPO_OK)
        status = rpo_make_folders(reference->cache_folder);
    if (status == RPO_OK)
        status = rpo_write_file_atomic(path, data, size + HASH_DIGITS);
    rpo_free(data);
    return status;
}

static rpo_status read_cache(rpo_scores *scores, const char *path) {
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

static int compare_records(const void *a, const void *b) {
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* A log-prob computed in another packing differs by rounding only: far less than this. */
static bool same_logp(float cached, float computed) {
    return fabs((double)cached - (double)computed) <= 1e-4 * (1.0 + fabs((double)computed));
}

/* Computes a random sample again: a cache of another model or other code does not get past it. */
static rpo_status verify_sample(const rpo_scores *scores, const rpo_reference *reference,
                                const rpo_dataset *dataset, bool *same) {
    const uint64_t stream = rpo_random_stream(RPO_RANDOM_REFERENCE_SAMPLE, 0);
    int64_t records[SAMPLE_SIZE];
    const int64_t rows = scores->count < SAMPLE_SIZE ? scores->count : SAMPLE_SIZE;
    for (int64_t i = 0; i < rows; ++i)
        records[i] =
            (int64_t)(rpo_random_u64(reference->seed, stream, (uint64_t)i) % (uint64_t)scores->count);
    qsort(records, (size_t)rows, sizeof records[0], compare_records);

    float logps[2 * SAMPLE_SIZE];
    rpo_global_batch scope = {0};
    rpo_batch batch = {0};
    const rpo_global_batch_options options = {.micro_batch_tokens = reference->micro_batch_tokens};
    rpo_status status = rpo_global_batch_build(&scope, reference->comm, dataset, records, rows, &options);
    if (status == RPO_OK) {
        status = rpo_global_batch_forward(&scope, reference->model, &batch, logps, NULL, NULL);
        status = rpo_global_batch_gather(&scope, reference->comm, logps, status);
    }
    *same = true;
    for (int64_t s = 0; status == RPO_OK && s < scope.num_sequences; ++s) {
        const int64_t record = scope.records[scope.sequences[s].row];
        const float *side = scope.sequences[s].rejected ? scores->rejected : scores->chosen;
        *same = *same && same_logp(side[record], logps[s]);
    }
    rpo_batch_free(&batch);
    rpo_global_batch_free(&scope);
    return status;
}

/* Rank 0 reads; the others get what it found. */
static rpo_status load_shared(rpo_scores *scores, const rpo_reference *reference, const char *path,
                              bool *found) {
    rpo_comm *comm = reference->comm;
    *found = false;
    if (comm->rank == 0 && rpo_path_exists(path)) {
        *found = read_cache(scores, path) == RPO_OK;
        if (!*found)
            rpo_metrics_warn(reference->metrics, "%s; computing the reference log-probs again",
                             rpo_last_error());
    }
    RPO_TRY(comm->ops->broadcast(comm, found, sizeof *found, 0));
    if (!*found)
        return RPO_OK;
    RPO_TRY(comm->ops->broadcast(comm, scores->chosen, (size_t)scores->count * sizeof(float), 0));
    return comm->ops->broadcast(comm, scores->rejected, (size_t)scores->count * sizeof(float), 0);
}

static rpo_status compute_or_load(rpo_scores *scores, bool *from_cache, const rpo_reference *reference,
                                  const rpo_dataset *dataset, const char *path) {
    if (path != NULL) {
        RPO_TRY(load_shared(scores, reference, path, from_cache));
        bool same = true;
        if (*from_cache)
            RPO_TRY(verify_sample(scores, reference, dataset, &same));
        if (*from_cache && same)
            return RPO_OK;
        if (!same)
            rpo_metrics_warn(reference->metrics,
                             "%s: a sample of its log-probs computes to others; computing all of them again",
                             path);
        *from_cache = false;
    }
    RPO_TRY(rpo_score_dataset(scores, reference->comm, reference->model, dataset,
                              reference->micro_batch_tokens, reference->metrics, "reference"));
    if (path == NULL || reference->comm->rank != 0)
        return RPO_OK;
    if (write_cache(scores, reference, path) != RPO_OK)
        rpo_metrics_warn(reference->metrics, "%s; the reference log-probs are not cached", rpo_last_error());
    return RPO_OK;
}

rpo_status rpo_reference_scores(rpo_scores *scores, bool *from_cache, const rpo_reference *reference,
                                const rpo_dataset *dataset) {
    char *path = NULL;
    *from_cache = false;
    if (reference->cache_folder != NULL) {
        path = cache_path(reference, dataset);
        if (path == NULL)
            return RPO_ERROR_OUT_OF_MEMORY;
    }
    rpo_status status = rpo_scores_create(scores, rpo_dataset_size(dataset));
    if (status == RPO_OK)
        status = compute_or_load(scores, from_cache, reference, dataset, path);
    if (status != RPO_OK)
        rpo_scores_free(scores);
    rpo_free(path);
    return status;
}
