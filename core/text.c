/* text.c - growable strings, UTF-8 validation and "did you mean". */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/core.h"

/* Room for `extra` more bytes and the final NUL. */
static rpo_status reserve(rpo_text *text, size_t extra) {
    if (extra > SIZE_MAX - text->length - 1)
        return rpo_error_set(RPO_ERROR_OUT_OF_MEMORY, "memory: a text of more bytes than can be addressed");
    void *data = text->data;
    const rpo_status status = rpo_grow_array(&data, &text->capacity, text->length + extra + 1, 1);
    text->data = data;
    return status;
}

rpo_status rpo_text_append(rpo_text *text, const char *data, size_t length) {
    RPO_TRY(reserve(text, length));
    if (length > 0)
        memcpy(text->data + text->length, data, length);
    text->length += length;
    text->data[text->length] = '\0';
    return RPO_OK;
}

rpo_status rpo_text_printf(rpo_text *text, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    const int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (length < 0)
        return rpo_error_set(RPO_ERROR_INTERNAL, "text: cannot be formatted");
    RPO_TRY(reserve(text, (size_t)length));
    va_start(arguments, format);
    vsnprintf(text->data + text->length, (size_t)length + 1, format, arguments);
    va_end(arguments);
    text->length += (size_t)length;
    return RPO_OK;
}

void rpo_text_free(rpo_text *text) {
    rpo_free(text->data);
    *text = (rpo_text){0};
}

rpo_status rpo_text_append_wrapped(rpo_text *text, const char *words, int indent, int width) {
    size_t column = (size_t)indent;
    for (const char *word = words + strspn(words, " "); *word != '\0'; word += strspn(word, " ")) {
        const size_t length = strcspn(word, " ");
        const bool first = column == (size_t)indent;
        if (!first && column + 1 + length > (size_t)width) {
            RPO_TRY(rpo_text_printf(text, "\n%*s", indent, ""));
            column = (size_t)indent;
        } else if (!first) {
            RPO_TRY(rpo_text_append(text, " ", 1));
            ++column;
        }
        RPO_TRY(rpo_text_append(text, word, length));
        column += length;
        word += length;
    }
    return RPO_OK;
}

enum { MAX_WORD = 63 }; /* longer words are not typing mistakes of ours */

static size_t min3(size_t a, size_t b, size_t c) {
    const size_t ab = a < b ? a : b;
    return ab < c ? ab : c;
}

/* Edit distance with swaps of neighbours counted once (optimal string alignment). Lengths at most MAX_WORD.
 */
static size_t edit_distance(const char *a, size_t a_length, const char *b, size_t b_length) {
    size_t rows[3][MAX_WORD + 1];
    size_t *before = rows[0], *previous = rows[1], *current = rows[2];
    for (size_t j = 0; j <= b_length; ++j) {
        before[j] = 0;
        previous[j] = j;
    }
    for (size_t i = 1; i <= a_length; ++i) {
        current[0] = i;
        for (size_t j = 1; j <= b_length; ++j) {
            const size_t change = previous[j - 1] + (a[i - 1] != b[j - 1]);
            current[j] = min3(previous[j] + 1, current[j - 1] + 1, change);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                before[j - 2] + 1 < current[j])
                current[j] = before[j - 2] + 1;
        }
        size_t *const oldest = before;
        before = previous;
        previous = current;
        current = oldest;
    }
    return previous[b_length];
}

const char *rpo_nearest_word(const char *word, const char *const *candidates, size_t count) {
    const size_t length = strlen(word);
    if (length == 0 || length > MAX_WORD)
        return NULL;
    /* A third of the letters may be wrong: beyond that the guess helps nobody. */
    size_t best_distance = (length < 3 ? 3 : length) / 3 + 1;
    const char *best = NULL;
    for (size_t i = 0; i < count; ++i) {
        const size_t candidate_length = strlen(candidates[i]);
        if (candidate_length > MAX_WORD)
            continue;
        const size_t distance = edit_distance(word, length, candidates[i], candidate_length);
        if (distance < best_distance) {
            best_distance = distance;
            best = candidates[i];
        }
    }
    return best;
}
