/* json_write.c - JSON literals that read back as what they were. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"

/* The escape of a byte that may not stand raw in a string, or NULL. */
static const char *escape_of(unsigned char byte, char numbered[8]) {
    switch (byte) {
    case '"':
        return "\\\"";
    case '\\':
        return "\\\\";
    case '\n':
        return "\\n";
    case '\r':
        return "\\r";
    case '\t':
        return "\\t";
    default:
        if (byte >= 0x20)
            return NULL;
        snprintf(numbered, 8, "\\u%04x", (unsigned)byte);
        return numbered;
    }
}

/* Appends valid UTF-8 with what must be escaped escaped. */
static rpo_status append_escaped(rpo_text *text, const char *value, size_t length) {
    size_t plain = 0; /* start of the stretch that goes out as it is */
    for (size_t i = 0; i < length; ++i) {
        char numbered[8];
        const char *escape = escape_of((unsigned char)value[i], numbered);
        if (escape == NULL)
            continue;
        RPO_TRY(rpo_text_append(text, value + plain, i - plain));
        RPO_TRY(rpo_text_append(text, escape, strlen(escape)));
        plain = i + 1;
    }
    return rpo_text_append(text, value + plain, length - plain);
}

rpo_status rpo_json_append_string(rpo_text *text, const char *value) {
    static const char replacement[] = "\xef\xbf\xbd"; /* U+FFFD for each byte that is no UTF-8: a path, say */
    RPO_TRY(rpo_text_append(text, "\"", 1));
    size_t left = strlen(value), bad = 0;
    while (!rpo_utf8_valid(value, left, &bad)) {
        RPO_TRY(append_escaped(text, value, bad));
        RPO_TRY(rpo_text_append(text, replacement, 3));
        value += bad + 1;
        left -= bad + 1;
    }
    RPO_TRY(append_escaped(text, value, left));
    return rpo_text_append(text, "\"", 1);
}

rpo_status rpo_json_append_number(rpo_text *text, double value) {
    if (!isfinite(value))
        return rpo_text_append(text, "null", 4);
    char number[64];
    for (int digits = 15; digits <= 17; ++digits) { /* the fewest that read back exactly; 17 always do */
        snprintf(number, sizeof number, "%.*g", digits, value);
        if (strtod(number, NULL) == value)
            break;
    }
    return rpo_text_append(text, number, strlen(number));
}
