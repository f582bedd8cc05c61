/*
 * features.h - the features of a prompt for the hashed embedder: hashes of word and character n-grams with
 * counts.
 *
 * Text is lower-cased (ASCII); a word is a run of letters, digits, apostrophes and bytes >= 0x80, so that
 * UTF-8 letters are parts of words. Features are words           every word, and every two words in a row
 *     character runs  every 3 to 5 bytes of a word, a mark at its start and end counted (sharing stems,
 * surviving typos)
 */
#ifndef RPO_HOST_EMBED_FEATURES_H
#define RPO_HOST_EMBED_FEATURES_H

#include "core/core.h"

/* Only this much of a prompt's end is looked at, so that one huge record needs no more memory than others. */
enum { RPO_FEATURES_MAX_BYTES = 1 << 20 };

typedef struct rpo_feature {
    uint64_t hash;
    uint32_t count;
    float scale; /* of the feature's family: words say more than the pieces of words */
} rpo_feature;

/* Distinct features sorted by hash. The memory is reused by the next prompt. */
typedef struct rpo_features {
    rpo_feature *items;
    size_t count, capacity;
    char *lower; /* the prompt's words in lower case */
    size_t lower_capacity;
} rpo_features;

rpo_status rpo_features_extract(rpo_features *features, const char *text, size_t size);
void rpo_features_free(rpo_features *features);

#endif
