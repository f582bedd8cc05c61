/* preview_text.c - text as a terminal may show it. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/cli/preview.h"

rpo_preview_style rpo_preview_style_for_stdout(void) {
    const char *terminal = getenv("TERM");
    const bool plain = !isatty(STDOUT_FILENO) || getenv("NO_COLOR") != NULL || terminal == NULL ||
                       strcmp(terminal, "dumb") == 0;
    if (plain)
        return (rpo_preview_style){"", "", "", "", ""};
    return (rpo_preview_style){"\x1b[1m", "\x1b[2m", "\x1b[32m", "\x1b[33m", "\x1b[0m"};
}

/* Bytes of the UTF-8 character at the start of text, or 0 when there is none. */
static size_t character_size(const char *text, size_t length) {
    for (size_t size = 1; size <= 4 && size <= length; ++size)
        if (rpo_utf8_valid(text, size, NULL))
            return size;
    return 0;
}

static uint32_t decode_character(const char *text, size_t size) {
    static const unsigned char first_masks[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    uint32_t code = (unsigned char)text[0] & first_masks[size];
    for (size_t i = 1; i < size; ++i)
        code = code << 6 | ((unsigned char)text[i] & 0x3f);
    return code;
}

/* Characters that show nothing or turn the line around. */
static bool is_invisible(uint32_t code) {
    return code < 0x20 || (code >= 0x7f && code < 0xa0) || (code >= 0x200b && code <= 0x200f) ||
           (code >= 0x2028 && code <= 0x202e) || (code >= 0x2060 && code <= 0x206f) || code == 0xfeff;
}

static const char *short_escape(uint32_t code) {
    switch (code) {
    case '\n':
        return "\\n";
    case '\r':
        return "\\r";
    case '\t':
        return "\\t";
    default:
        return NULL;
    }
}

size_t rpo_preview_next_cell(rpo_preview_cell *cell, const char *text, size_t length) {
    const size_t size = character_size(text, length);
    if (size == 0) {
        cell->columns = snprintf(cell->text, sizeof cell->text, "\\x%02x", (unsigned char)text[0]);
        return 1;
    }
    const uint32_t code = decode_character(text, size);
    if (!is_invisible(code)) {
        cell->columns = snprintf(cell->text, sizeof cell->text, "%.*s", (int)size, text) > 0 ? 1 : 0;
        return size;
    }
    const char *escape = short_escape(code);
    if (escape != NULL)
        cell->columns = snprintf(cell->text, sizeof cell->text, "%s", escape);
    else if (code < 0x80)
        cell->columns = snprintf(cell->text, sizeof cell->text, "\\x%02" PRIx32, code);
    else
        cell->columns = snprintf(cell->text, sizeof cell->text, "\\u%04" PRIx32, code);
    return size;
}

void rpo_preview_print_start(const char *text, size_t length, int columns) {
    enum { DOTS = 3 };
    rpo_preview_cell cell;
    int total = 0;
    for (size_t at = 0; at < length && total <= columns; total += cell.columns)
        at += rpo_preview_next_cell(&cell, text + at, length - at);
    const bool cut = total > columns;
    const int room = cut ? columns - DOTS : columns;
    int used = 0;
    for (size_t at = 0; at < length;) {
        at += rpo_preview_next_cell(&cell, text + at, length - at);
        if (used + cell.columns > room)
            break;
        used += cell.columns;
        fputs(cell.text, stdout);
    }
    if (cut)
        fputs("...", stdout);
}

const char *rpo_preview_number(char out[32], int64_t value) {
    char digits[24];
    const int length = snprintf(digits, sizeof digits, "%" PRId64, value < 0 ? 0 : value);
    char *next = out;
    for (int i = 0; i < length; ++i) {
        if (i > 0 && (length - i) % 3 == 0)
            *next++ = ',';
        *next++ = digits[i];
    }
    *next = '\0';
    return out;
}
