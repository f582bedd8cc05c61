/*
 * pack.c - what of a sequence stands where.
 *
 * The last token of a sequence predicts nothing and nothing looks back at it: it has no row. A shared prompt's rows end
 * before its last token, with which every response begins, so that each row has one label at most.
 */
#include "host/train/pack.h"

#include <string.h>

void rpo_packer_free(rpo_packer *packer) {
    rpo_batch_free(&packer->batch);
    rpo_free(packer->slots);
    rpo_free(packer->prompt_of);
    rpo_free(packer->prompts);
    *packer = (rpo_packer){0};
}

static const rpo_sequence *sequence_of(const rpo_packer *packer, int64_t s) {
    return packer->global->sequences[s].tokens;
}

static bool has_labels(const rpo_sequence *tokens) {
    return tokens->length > tokens->prompt_length;
}

/* Tokens of the prompt that stand in its own segment. */
static int64_t prefix_rows(const rpo_sequence *tokens) {
    return tokens->prompt_length - 1;
}

static bool same_prompt(const rpo_sequence *a, const rpo_sequence *b) {
    return a->prompt_length == b->prompt_length &&
           memcmp(a->tokens, b->tokens, (size_t)a->prompt_length * sizeof *a->tokens) == 0;
}

static rpo_status reserve(rpo_packer *packer, int64_t sequences) {
    void *prompts = packer->prompts, *prompt_of = packer->prompt_of, *slots = packer->slots;
    const size_t count = (size_t)sequences;
    rpo_status status = rpo_grow_array(&prompts, &packer->prompt_capacity, count, sizeof *packer->prompts);
    packer->prompts = prompts;
    if (status == RPO_OK)
        status = rpo_grow_array(&prompt_of, &packer->prompt_of_capacity, count, sizeof *packer->prompt_of);
    packer->prompt_of = prompt_of;
    if (status == RPO_OK)
        status = rpo_grow_array(&slots, &packer->slot_capacity, 2 * count, sizeof *packer->slots);
    packer->slots = slots;
    return status;
}

/* Index of the sequence's prompt, new or met before: open addressing, the table at most half full. */
static int64_t find_prompt(rpo_packer *packer, int64_t s) {
    const rpo_sequence *tokens = sequence_of(packer, s);
    const uint64_t hash =
        rpo_hash_bytes(tokens->tokens, (size_t)tokens->prompt_length * sizeof *tokens->tokens);
    size_t slot = (size_t)(hash % packer->slot_capacity);
    for (; packer->slots[slot] >= 0; slot = (slot + 1) % packer->slot_capacity) {
        const rpo_prompt *prompt = &packer->prompts[packer->slots[slot]];
        if (prompt->hash == hash && same_prompt(sequence_of(packer, prompt->first), tokens))
            return packer->slots[slot];
    }
    packer->slots[slot] = packer->num_prompts;
    packer->prompts[packer->num_prompts] = (rpo_prompt){.hash = hash, .first = s, .segment = -1};
    return packer->num_prompts++;
}

rpo_status rpo_packer_reserve(rpo_packer *packer, int64_t sequences, int64_t rows, int64_t segments) {
    RPO_TRY(reserve(packer, sequences));
    return rpo_batch_reserve(&packer->batch, rows, segments);
}

rpo_status rpo_packer_begin(rpo_packer *packer, const rpo_global_batch *global, bool share) {
    packer->global = global;
    packer->share = share;
    packer->num_prompts = 0;
    packer->mark = 0;
    rpo_batch_clear(&packer->batch);
    RPO_TRY(reserve(packer, global->num_sequences));
    for (size_t i = 0; i < packer->slot_capacity; ++i)
        packer->slots[i] = -1;
    for (int64_t s = global->first; s < global->last && share; ++s) {
        packer->prompt_of[s] = find_prompt(packer, s);
        ++packer->prompts[packer->prompt_of[s]].uses;
    }
    return RPO_OK;
}

void rpo_packer_clear(rpo_packer *packer) {
    rpo_batch_clear(&packer->batch);
    for (int64_t p = 0; p < packer->num_prompts; ++p)
        packer->prompts[p].segment = -1;
}

/* The prompt to share, or NULL where the sequence stands whole: nobody shares it, or there is nothing to share. */
static rpo_prompt *shared_prompt(const rpo_packer *packer, int64_t s) {
    if (!packer->share || prefix_rows(sequence_of(packer, s)) < 1)
        return NULL;
    rpo_prompt *prompt = &packer->prompts[packer->prompt_of[s]];
    return prompt->uses > 1 ? prompt : NULL;
}

int64_t rpo_packer_rows(rpo_packer *packer, int64_t first, int64_t end, bool alone) {
    int64_t rows = 0;
    ++packer->mark;
    for (int64_t s = first; s < end; ++s) {
        const rpo_sequence *tokens = sequence_of(packer, s);
        rpo_prompt *prompt = shared_prompt(packer, s);
        if (!has_labels(tokens))
            continue;
        rows += tokens->length - 1;
        if (prompt == NULL)
            continue;
        if (prompt->mark == packer->mark || (!alone && prompt->segment >= 0))
            rows -= prefix_rows(tokens);
        prompt->mark = packer->mark;
    }
    return rows;
}

static rpo_status add_segment(rpo_packer *packer, const rpo_sequence *tokens, int64_t first, int64_t end,
                              int64_t prefix, int64_t *segment) {
    const rpo_segment_rows rows = {
        .tokens = tokens->tokens,
        .length = tokens->length,
        .label_start = tokens->prompt_length,
        .first = first,
        .end = end,
        .prefix = prefix,
    };
    RPO_TRY(rpo_batch_add_rows(&packer->batch, &rows));
    *segment = packer->batch.num_segments - 1;
    return RPO_OK;
}

rpo_status rpo_packer_add(rpo_packer *packer, int64_t sequence, int64_t *segment) {
    const rpo_sequence *tokens = sequence_of(packer, sequence);
    rpo_prompt *prompt = shared_prompt(packer, sequence);
    *segment = -1;
    if (!has_labels(tokens)) /* its log-prob is 0 whatever the model says */
        return RPO_OK;
    if (prompt == NULL)
        return add_segment(packer, tokens, 0, tokens->length - 1, -1, segment);
    if (prompt->segment < 0)
        RPO_TRY(add_segment(packer, tokens, 0, prefix_rows(tokens), -1, &prompt->segment));
    return add_segment(packer, tokens, prefix_rows(tokens), tokens->length - 1, prompt->segment, segment);
}
