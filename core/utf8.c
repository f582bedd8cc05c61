/* utf8.c - well-formed UTF-8, and what of it may be shown in a line of text. */
#include <stdio.h>
#include <string.h>

#include "core/core.h"

static bool is_continuation(unsigned char byte) {
    return (byte & 0xc0) == 0x80;
}

size_t rpo_utf8_sequence(const unsigned char *s, size_t left) {
    if (s[0] < 0x80)
        return 1;
    if (s[0] >= 0xc2 && s[0] <= 0xdf)
        return left >= 2 && is_continuation(s[1]) ? 2 : 0;
    if (s[0] >= 0xe0 && s[0] <= 0xef) {
        if (left < 3 || !is_continuation(s[1]) || !is_continuation(s[2]))
            return 0;
        const bool overlong = s[0] == 0xe0 && s[1] < 0xa0, surrogate = s[0] == 0xed && s[1] >= 0xa0;
        return overlong || surrogate ? 0 : 3;
    }
    if (s[0] >= 0xf0 && s[0] <= 0xf4) {
        if (left < 4 || !is_continuation(s[1]) || !is_continuation(s[2]) || !is_continuation(s[3]))
            return 0;
        const bool overlong = s[0] == 0xf0 && s[1] < 0x90, beyond = s[0] == 0xf4 && s[1] >= 0x90;
        return overlong || beyond ? 0 : 4;
    }
    return 0;
}

bool rpo_utf8_valid(const char *data, size_t length, size_t *bad) {
    const unsigned char *bytes = (const unsigned char *)data;
    size_t at = 0;
    while (at < length) {
        /* Eight ASCII bytes at a time: most text is. */
        uint64_t word;
        while (length - at >= sizeof word) {
            memcpy(&word, bytes + at, sizeof word);
            if ((word & UINT64_C(0x8080808080808080)) != 0)
                break;
            at += sizeof word;
        }
        if (at == length)
            break;
        const size_t step = rpo_utf8_sequence(bytes + at, length - at);
        if (step == 0) {
            if (bad != NULL)
                *bad = at;
            return false;
        }
        at += step;
    }
    return true;
}

/* The code point of a well-formed sequence of `length` bytes. */
static uint32_t code_point(const unsigned char *s, size_t length) {
    if (length == 1)
        return s[0];
    uint32_t code = s[0] & (0x7fu >> length);
    for (size_t i = 1; i < length; ++i)
        code = code << 6 | (s[i] & 0x3fu);
    return code;
}

/* Moves a terminal's cursor, turns the line's direction, breaks it, or cannot be seen. */
static bool is_treacherous(uint32_t code) {
    return (code >= 0x80 && code <= 0x9f) || code == 0x061c || (code >= 0x200b && code <= 0x200f) ||
           (code >= 0x2028 && code <= 0x202e) || (code >= 0x2060 && code <= 0x206f) || code == 0xfeff;
}

void rpo_show_line(char *shown, size_t size, const char *text) {
    const unsigned char *bytes = (const unsigned char *)text;
    size_t at = 0, left = strlen(text);
    while (left > 0) {
        char piece[8];
        const size_t length = rpo_utf8_sequence(bytes, left), step = length == 0 ? 1 : length;
        const uint32_t code = length == 0 ? 0 : code_point(bytes, length);
        if (length == 0)
            snprintf(piece, sizeof piece, "\\x%02x", bytes[0]);
        else if (code < 0x20 || code == 0x7f)
            snprintf(piece, sizeof piece, " ");
        else if (is_treacherous(code))
            snprintf(piece, sizeof piece, "\\u%04x", (unsigned)code);
        else
            snprintf(piece, sizeof piece, "%.*s", (int)length, (const char *)bytes);
        const size_t room = strlen(piece);
        if (at + room >= size)
            break;
        memcpy(shown + at, piece, room);
        at += room;
        bytes += step;
        left -= step;
    }
    shown[at] = '\0';
}
