/* batch.c - segments packed one after another, without padding. */
#include "host/model/batch.h"

#include <string.h>

void rpo_batch_clear(rpo_batch *batch) {
    batch->num_rows = 0;
    batch->num_segments = 0;
    batch->num_labels = 0;
    batch->max_context = 0;
}

void rpo_batch_free(rpo_batch *batch) {
    rpo_free(batch->keys);
    rpo_free(batch->prefix);
    rpo_free(batch->cu_seqlens);
    rpo_free(batch->positions);
    rpo_free(batch->labels);
    rpo_free(batch->tokens);
    *batch = (rpo_batch){0};
}

static rpo_status grow_to(void *array, size_t capacity, size_t needed, size_t size) {
    void *memory = NULL;
    memcpy(&memory, array, sizeof memory);
    const rpo_status status = rpo_grow_array(&memory, &capacity, needed, size);
    memcpy(array, &memory, sizeof memory);
    return status;
}

static size_t grown(size_t capacity, size_t needed) {
    const size_t doubled = 2 * capacity > needed ? 2 * capacity : needed;
    return doubled < 16 ? 16 : doubled; /* rpo_grow_array never makes less */
}

/* Arrays that share a capacity; it moves only once all of them have grown. */
rpo_status rpo_batch_reserve(rpo_batch *batch, int64_t rows, int64_t segments) {
    const size_t needed_rows = (size_t)rows, needed_segments = (size_t)segments + 1;
    if (needed_rows > batch->row_capacity) {
        const size_t wanted = grown(batch->row_capacity, needed_rows);
        RPO_TRY(grow_to(&batch->tokens, batch->row_capacity, wanted, sizeof *batch->tokens));
        RPO_TRY(grow_to(&batch->labels, batch->row_capacity, wanted, sizeof *batch->labels));
        RPO_TRY(grow_to(&batch->positions, batch->row_capacity, wanted, sizeof *batch->positions));
        RPO_TRY(grow_to(&batch->keys, batch->row_capacity, wanted, sizeof *batch->keys));
        batch->row_capacity = wanted;
    }
    if (needed_segments > batch->segment_capacity) {
        const size_t wanted = grown(batch->segment_capacity, needed_segments);
        RPO_TRY(grow_to(&batch->cu_seqlens, batch->segment_capacity, wanted, sizeof *batch->cu_seqlens));
        RPO_TRY(grow_to(&batch->prefix, batch->segment_capacity, wanted, sizeof *batch->prefix));
        batch->segment_capacity = wanted;
    }
    return RPO_OK;
}

static rpo_status check_rows(const rpo_batch *batch, const rpo_segment_rows *rows) {
    if (rows->length < 1)
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT, "length: is %lld; a sequence has at least one token",
                             (long long)rows->length);
    if (rows->label_start < 1 || rows->label_start > rows->length)
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT, "label_start: is %lld; must be in 1..%lld (length)",
                             (long long)rows->label_start, (long long)rows->length);
    if (rows->first < 0 || rows->first >= rows->end || rows->end > rows->length)
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT,
                             "rows: are %lld..%lld of %lld; a segment has at least one",
                             (long long)rows->first, (long long)rows->end, (long long)rows->length);
    const bool has_prefix = rows->prefix >= 0;
    if (has_prefix != (rows->first > 0) || rows->prefix >= batch->num_segments ||
        (has_prefix &&
         (batch->prefix[rows->prefix] >= 0 ||
          batch->cu_seqlens[rows->prefix + 1] - batch->cu_seqlens[rows->prefix] != rows->first)))
        return rpo_error_set(
            RPO_ERROR_INVALID_ARGUMENT,
            "prefix: is segment %lld; must be one before this, without a prefix of its own, that "
            "holds the %lld rows before this segment's",
            (long long)rows->prefix, (long long)rows->first);
    if (rows->end - rows->first > INT32_MAX - batch->num_rows)
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT, "batch: %lld rows and %lld more; at most %d fit one",
                             (long long)batch->num_rows, (long long)(rows->end - rows->first), INT32_MAX);
    return RPO_OK;
}

rpo_status rpo_batch_add_rows(rpo_batch *batch, const rpo_segment_rows *rows) {
    RPO_TRY(check_rows(batch, rows));
    const int64_t count = rows->end - rows->first, at = batch->num_rows;
    RPO_TRY(rpo_batch_reserve(batch, at + count, batch->num_segments + 1));
    memcpy(batch->tokens + at, rows->tokens + rows->first, (size_t)count * sizeof *rows->tokens);
    for (int64_t t = rows->first; t < rows->end; ++t) {
        const bool is_label = t + 1 < rows->length && t + 1 >= rows->label_start;
        batch->labels[at + t - rows->first] = is_label ? rows->tokens[t + 1] : RPO_IGNORE_LABEL;
        batch->positions[at + t - rows->first] = (int32_t)t;
        batch->num_labels += is_label;
    }
    batch->prefix[batch->num_segments] = (int32_t)rows->prefix;
    batch->cu_seqlens[0] = 0;
    batch->num_rows += count;
    batch->num_segments += 1;
    batch->cu_seqlens[batch->num_segments] = (int32_t)batch->num_rows;
    batch->max_context = rows->end > batch->max_context ? rows->end : batch->max_context;
    return RPO_OK;
}

rpo_status rpo_batch_add(rpo_batch *batch, const int32_t *tokens, int64_t length, int64_t label_start) {
    const rpo_segment_rows whole = {.tokens = tokens,
                                    .length = length,
                                    .label_start = label_start,
                                    .first = 0,
                                    .end = length,
                                    .prefix = -1};
    return rpo_batch_add_rows(batch, &whole);
}
