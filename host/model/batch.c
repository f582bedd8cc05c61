/* batch.c - sequences packed one after another, without padding. */
#include "host/model/batch.h"

#include <string.h>

void rpo_batch_clear(rpo_batch *batch) {
    batch->num_tokens = 0;
    batch->num_sequences = 0;
    batch->num_labels = 0;
}

void rpo_batch_free(rpo_batch *batch) {
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

/* The three token arrays share one capacity, which moves only once all three have grown. */
static rpo_status reserve(rpo_batch *batch, int64_t length) {
    const size_t tokens = (size_t)(batch->num_tokens + length);
    if (tokens > batch->token_capacity) {
        size_t wanted = 2 * batch->token_capacity > tokens ? 2 * batch->token_capacity : tokens;
        wanted = wanted < 16 ? 16 : wanted; /* rpo_grow_array never makes less */
        RPO_TRY(grow_to(&batch->tokens, batch->token_capacity, wanted));
        RPO_TRY(grow_to(&batch->labels, batch->token_capacity, wanted));
        RPO_TRY(grow_to(&batch->positions, batch->token_capacity, wanted));
        batch->token_capacity = wanted;
    }
    void *memory = batch->cu_seqlens;
    const rpo_status status = rpo_grow_array(&memory, &batch->sequence_capacity,
                                             (size_t)batch->num_sequences + 2, sizeof *batch->cu_seqlens);
    batch->cu_seqlens = memory;
    return status;
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
    batch->cu_seqlens[0] = 0;
    batch->num_tokens += length;
    batch->num_sequences += 1;
    batch->num_labels += length - label_start;
    batch->cu_seqlens[batch->num_sequences] = (int32_t)batch->num_tokens;
    return RPO_OK;
}
