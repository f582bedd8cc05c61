/* batch.c - sequences packed one after another, without padding. */
#include "host/model/batch.h"

#include <stdlib.h>
#include <string.h>

void rpo_batch_clear(rpo_batch *batch) {
    batch->num_tokens = 0;
    batch->num_sequences = 0;
    batch->num_labels = 0;
    batch->num_tiles = 0;
    batch->max_length = 0;
}

void rpo_batch_free(rpo_batch *batch) {
    rpo_free(batch->tiles);
    rpo_free(batch->no_users);
    rpo_free(batch->no_prefix);
    rpo_free(batch->cu_seqlens);
    rpo_free(batch->positions);
    rpo_free(batch->labels);
    rpo_free(batch->tokens);
    *batch = (rpo_batch){0};
}

static rpo_status grow_to(int32_t **array, size_t capacity, size_t needed) {
    void *memory = *array;
    const rpo_status status = rpo_grow_array(&memory, &capacity, needed, sizeof **array);
    *array = memory;
    return status;
}

/* Arrays that share one capacity, which moves only once all of them have grown. */
static rpo_status reserve_together(int32_t **const arrays[3], size_t *capacity, size_t needed) {
    if (needed <= *capacity)
        return RPO_OK;
    size_t wanted = 2 * *capacity > needed ? 2 * *capacity : needed;
    wanted = wanted < 16 ? 16 : wanted; /* rpo_grow_array never makes less */
    for (int i = 0; i < 3; ++i)
        RPO_TRY(grow_to(arrays[i], *capacity, wanted));
    *capacity = wanted;
    return RPO_OK;
}

static int64_t tiles_of(int64_t length) {
    return (length + RPO_ATTENTION_TILE_ROWS - 1) / RPO_ATTENTION_TILE_ROWS;
}

static rpo_status reserve(rpo_batch *batch, int64_t length) {
    int32_t **const tokens[3] = {&batch->tokens, &batch->labels, &batch->positions};
    int32_t **const sequences[3] = {&batch->cu_seqlens, &batch->no_prefix, &batch->no_users};
    RPO_TRY(reserve_together(tokens, &batch->token_capacity, (size_t)(batch->num_tokens + length)));
    RPO_TRY(reserve_together(sequences, &batch->sequence_capacity, (size_t)batch->num_sequences + 2));
    void *memory = batch->tiles;
    const rpo_status status =
        rpo_grow_array(&memory, &batch->tile_capacity, (size_t)(2 * (batch->num_tiles + tiles_of(length))),
                       sizeof *batch->tiles);
    batch->tiles = memory;
    return status;
}

static void add_tiles(rpo_batch *batch, int64_t length) {
    const int64_t sequence = batch->num_sequences;
    for (int64_t query = 0; query < length; query += RPO_ATTENTION_TILE_ROWS) {
        batch->tiles[2 * batch->num_tiles] = (int32_t)sequence;
        batch->tiles[2 * batch->num_tiles + 1] = (int32_t)query;
        ++batch->num_tiles;
    }
    batch->no_prefix[sequence] = -1;
    batch->no_users[sequence] = batch->no_users[sequence + 1] = 0;
    batch->max_length = length > batch->max_length ? length : batch->max_length;
}

rpo_status rpo_batch_add(rpo_batch *batch, const int32_t *tokens, int64_t length, int64_t label_start) {
    if (length < 1)
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT, "length: is %lld; a sequence has at least one token",
                             (long long)length);
    if (label_start < 1 || label_start > length)
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT, "label_start: is %lld; must be in 1..%lld (length)",
                             (long long)label_start, (long long)length);
    if (length > INT32_MAX - batch->num_tokens)
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT,
                             "batch: %lld tokens and %lld more; at most %d fit one",
                             (long long)batch->num_tokens, (long long)length, INT32_MAX);
    RPO_TRY(reserve(batch, length));

    const int64_t first = batch->num_tokens;
    memcpy(batch->tokens + first, tokens, (size_t)length * sizeof *tokens);
    for (int64_t t = 0; t < length; ++t) {
        const bool is_label = t + 1 < length && t + 1 >= label_start;
        batch->labels[first + t] = is_label ? tokens[t + 1] : RPO_IGNORE_LABEL;
        batch->positions[first + t] = (int32_t)t;
    }
    add_tiles(batch, length);
    batch->cu_seqlens[0] = 0;
    batch->num_tokens += length;
    batch->num_sequences += 1;
    batch->num_labels += length - label_start;
    batch->cu_seqlens[batch->num_sequences] = (int32_t)batch->num_tokens;
    return RPO_OK;
}

rpo_segments rpo_batch_segments(const rpo_batch *batch) {
    return (rpo_segments){
        .cu_seqlens = batch->cu_seqlens,
        .prefix = batch->no_prefix,
        .user_bounds = batch->no_users,
        .users = batch->no_users,
        .tiles = batch->tiles,
        .num_segments = batch->num_sequences,
        .num_tiles = batch->num_tiles,
        .max_length = batch->max_length,
        .max_context = batch->max_length,
    };
}

static int compare_keys(const void *a, const void *b) {
    const int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;
    return (left > right) - (left < right);
}

rpo_status rpo_batch_token_order(const rpo_batch *batch, rpo_token_order *order, int32_t **memory) {
    const int64_t rows = batch->num_tokens;
    int64_t *keys = rpo_alloc_array((size_t)rows, sizeof *keys); /* token, then row */
    int32_t *arrays = rpo_alloc_array((size_t)(3 * rows + 1), sizeof *arrays);
    *memory = arrays;
    if (keys == NULL || arrays == NULL) {
        rpo_free(keys);
        return rpo_error_prefix(RPO_ERROR_OUT_OF_MEMORY, "order of the batch's tokens: ");
    }
    for (int64_t t = 0; t < rows; ++t)
        keys[t] = (int64_t)batch->tokens[t] << 32 | t;
    qsort(keys, (size_t)rows, sizeof *keys, compare_keys);
    int32_t *rows_of = arrays, *tokens = arrays + rows, *bounds = arrays + 2 * rows;
    int64_t distinct = 0;
    for (int64_t i = 0; i < rows; ++i) {
        rows_of[i] = (int32_t)(keys[i] & INT32_MAX);
        if (i == 0 || keys[i] >> 32 != keys[i - 1] >> 32) {
            tokens[distinct] = (int32_t)(keys[i] >> 32);
            bounds[distinct++] = (int32_t)i;
        }
    }
    bounds[distinct] = (int32_t)rows;
    rpo_free(keys);
    *order = (rpo_token_order){.order = rows_of, .tokens = tokens, .bounds = bounds, .distinct = distinct};
    return RPO_OK;
}
