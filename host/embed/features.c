/* features.c - word and character n-grams of a prompt, hashed, sorted and counted. */
#include "host/embed/features.h"

#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

enum { SHORTEST_RUN = 3, LONGEST_RUN = 5, LONGEST_WORD = 64 /* longer ones give their first bytes only */ };

/* Seeds that keep the families apart: the word "the" and the run "the" are two features. */
typedef enum rpo_family { FAMILY_WORD = 1, FAMILY_WORD_PAIR = 2, FAMILY_RUN = 3 } rpo_family;

static float family_scale(rpo_family family) {
    switch (family) {
    case FAMILY_WORD:
        return 1.0f;
    case FAMILY_WORD_PAIR:
        return 0.5f;
    case FAMILY_RUN:
        return 0.25f; /* a word has a dozen runs */
    }
    return 0.0f;
}

static rpo_status add(rpo_features *features, rpo_family family, const char *text, size_t size) {
    RPO_TRY(rpo_grow_array((void **)&features->items, &features->capacity, features->count + 1,
                           sizeof *features->items));
    features->items[features->count++] =
        (rpo_feature){.hash = XXH3_64bits_withSeed(text, size, (XXH64_hash_t)family),
                      .count = 1,
                      .scale = family_scale(family)};
    return RPO_OK;
}

static bool is_word_byte(unsigned char byte) {
    return (byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9') || byte == '\'' || byte >= 0x80;
}

static char lower_case(char byte) {
    return byte >= 'A' && byte <= 'Z' ? (char)(byte - 'A' + 'a') : byte;
}

/* Writes the text's words in lower case with one space before, between and after them; returns the length. */
static size_t write_words(char *out, const char *text, size_t size) {
    size_t length = 0;
    out[length++] = ' ';
    for (size_t i = 0; i < size; ++i) {
        const char byte = lower_case(text[i]);
        if (is_word_byte((unsigned char)byte))
            out[length++] = byte;
        else if (out[length - 1] != ' ')
            out[length++] = ' ';
    }
    if (out[length - 1] != ' ')
        out[length++] = ' ';
    return length;
}

/* The runs of one word; `word` has the space before and behind it, which mark its start and end. */
static rpo_status add_runs(rpo_features *features, const char *word, size_t size) {
    for (size_t length = SHORTEST_RUN; length <= LONGEST_RUN; ++length)
        for (size_t i = 0; i + length <= size; ++i)
            RPO_TRY(add(features, FAMILY_RUN, word + i, length));
    return RPO_OK;
}

static rpo_status add_words(rpo_features *features, const char *words, size_t length) {
    const char *const end = words + length;
    const char *previous = NULL; /* first byte of the word before */
    for (const char *word = words + 1; word < end;) {
        const char *space = memchr(word, ' ', (size_t)(end - word));
        const size_t size = (size_t)(space - word);
        const size_t kept = size < LONGEST_WORD ? size : LONGEST_WORD;
        RPO_TRY(add(features, FAMILY_WORD, word, kept));
        if (previous != NULL)
            RPO_TRY(add(features, FAMILY_WORD_PAIR, previous, (size_t)(word - previous) + kept));
        RPO_TRY(add_runs(features, word - 1, kept + 2));
        previous = word;
        word = space + 1;
    }
    return RPO_OK;
}

static int compare_hashes(const void *a, const void *b) {
    const uint64_t left = ((const rpo_feature *)a)->hash, right = ((const rpo_feature *)b)->hash;
    return (left > right) - (left < right);
}

static void merge_equal(rpo_features *features) {
    size_t distinct = 0;
    for (size_t i = 0; i < features->count; ++i) {
        if (distinct > 0 && features->items[distinct - 1].hash == features->items[i].hash)
            ++features->items[distinct - 1].count;
        else
            features->items[distinct++] = features->items[i];
    }
    features->count = distinct;
}

rpo_status rpo_features_extract(rpo_features *features, const char *text, size_t size) {
    features->count = 0;
    if (size > RPO_FEATURES_MAX_BYTES) {
        text += size - RPO_FEATURES_MAX_BYTES;
        size = RPO_FEATURES_MAX_BYTES;
    }
    RPO_TRY(rpo_grow_array((void **)&features->lower, &features->lower_capacity, size + 2, 1));
    const size_t length = write_words(features->lower, text, size);
    RPO_TRY(add_words(features, features->lower, length));
    if (features->count > 0)
        qsort(features->items, features->count, sizeof *features->items, compare_hashes);
    merge_equal(features);
    return RPO_OK;
}

void rpo_features_free(rpo_features *features) {
    rpo_free(features->lower);
    rpo_free(features->items);
}
