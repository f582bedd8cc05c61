/*
 * json_scan.c - the strict scanner in front of cJSON: decides whether a text is JSON, builds nothing.
 *
 * One pass for UTF-8, one for the grammar; recursion is bounded by RPO_JSON_MAX_DEPTH.
 */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json_internal.h"

typedef struct scanner {
    const char *at, *end;
    const char *name;
    int64_t first_line, line;
    size_t values, max_values;
    int depth;
    rpo_json_lines *lines;
} scanner;

static rpo_status fault(const scanner *s, const char *format, ...) RPO_PRINTF(2, 3);

static rpo_status fault(const scanner *s, const char *format, ...) {
    char what[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    return rpo_error_set(RPO_ERROR_INVALID_INPUT, "%s:%lld: %s", s->name, (long long)s->line, what);
}

/* Says what stands at the scanner where something else is allowed. */
static rpo_status unexpected(const scanner *s, const char *allowed) {
    if (s->at == s->end)
        return fault(s, "the text ends early; %s is expected here", allowed);
    const unsigned char byte = (unsigned char)*s->at;
    if (byte == '\0')
        return fault(s, "raw NUL byte; %s is expected here", allowed);
    if (byte < 0x20 || byte >= 0x7f)
        return fault(s, "unexpected byte 0x%02x; %s is expected here", (unsigned)byte, allowed);
    static const char *const literals[] = {"NaN", "Infinity", "-Infinity", "nan", "inf"};
    for (size_t i = 0; i < sizeof literals / sizeof literals[0]; ++i) {
        const size_t length = strlen(literals[i]);
        if ((size_t)(s->end - s->at) >= length && memcmp(s->at, literals[i], length) == 0)
            return fault(s, "%s is not JSON; numbers must be finite", literals[i]);
    }
    return fault(s, "unexpected '%c'; %s is expected here", (char)byte, allowed);
}

static void skip_space(scanner *s) {
    for (; s->at < s->end; ++s->at) {
        if (*s->at == '\n')
            ++s->line;
        else if (*s->at != ' ' && *s->at != '\t' && *s->at != '\r')
            return;
    }
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* The four digits of \uXXXX, the scanner standing on the first. */
static rpo_status scan_hex4(scanner *s, unsigned *unit) {
    *unit = 0;
    for (int i = 0; i < 4; ++i, ++s->at) {
        const int digit = s->at < s->end ? hex_digit(*s->at) : -1;
        if (digit < 0)
            return fault(s, "bad escape; \\u takes four hexadecimal digits");
        *unit = *unit << 4 | (unsigned)digit;
    }
    return RPO_OK;
}

static rpo_status scan_unicode_escape(scanner *s) {
    unsigned unit = 0;
    RPO_TRY(scan_hex4(s, &unit));
    if (unit == 0)
        return fault(s, "escaped NUL (\\u0000); strings must not hold it");
    if (unit >= 0xdc00 && unit <= 0xdfff)
        return fault(s, "lone surrogate \\u%04x; surrogates come in pairs, high then low", unit);
    if (unit < 0xd800 || unit > 0xdbff)
        return RPO_OK;
    unsigned low = 0;
    if (s->end - s->at >= 2 && s->at[0] == '\\' && s->at[1] == 'u') {
        s->at += 2;
        RPO_TRY(scan_hex4(s, &low));
    }
    if (low < 0xdc00 || low > 0xdfff)
        return fault(s, "lone surrogate \\u%04x; surrogates come in pairs, high then low", unit);
    return RPO_OK;
}

/* From the opening quote to past the closing one. */
static rpo_status scan_string(scanner *s) {
    ++s->at;
    while (s->at < s->end) {
        const unsigned char byte = (unsigned char)*s->at;
        if (byte == '"') {
            ++s->at;
            return RPO_OK;
        }
        if (byte == '\0')
            return fault(s, "raw NUL byte in a string; strings must not hold it");
        if (byte < 0x20)
            return fault(s, "raw control byte 0x%02x in a string; write it as an escape", (unsigned)byte);
        ++s->at;
        if (byte != '\\')
            continue;
        if (s->at == s->end)
            break;
        const char escape = *s->at;
        if (escape == '\0' || strchr("\"\\/bfnrtu", escape) == NULL)
            return fault(
                s, "bad escape after a backslash; allowed are \\\" \\\\ \\/ \\b \\f \\n \\r \\t \\uXXXX");
        ++s->at;
        if (escape == 'u')
            RPO_TRY(scan_unicode_escape(s));
    }
    return fault(s, "the text ends inside a string; a closing quote is expected");
}

static bool is_digit(const scanner *s) {
    return s->at < s->end && *s->at >= '0' && *s->at <= '9';
}

static void skip_digits(scanner *s) {
    while (is_digit(s))
        ++s->at;
}

static rpo_status scan_number(scanner *s) {
    const char *const begin = s->at;
    bool exponent = false;
    if (*s->at == '-')
        ++s->at;
    if (!is_digit(s)) {
        s->at = s->at < s->end && *s->at == 'I' ? begin : s->at; /* -Infinity is named as a whole */
        return unexpected(s, "a digit");
    }
    if (*s->at == '0') {
        ++s->at;
        if (is_digit(s))
            return fault(s, "a number with a leading zero; JSON has none");
    }
    skip_digits(s);
    if (s->at < s->end && *s->at == '.') {
        ++s->at;
        if (!is_digit(s))
            return unexpected(s, "a digit after the decimal point");
        skip_digits(s);
    }
    if (s->at < s->end && (*s->at == 'e' || *s->at == 'E')) {
        exponent = true;
        ++s->at;
        if (s->at < s->end && (*s->at == '+' || *s->at == '-'))
            ++s->at;
        if (!is_digit(s))
            return unexpected(s, "a digit of the exponent");
        skip_digits(s);
    }
    const size_t length = (size_t)(s->at - begin);
    if (length > RPO_JSON_MAX_NUMBER)
        return fault(s, "a number of %zu characters; at most %d are allowed", length, RPO_JSON_MAX_NUMBER);
    if (exponent) { /* without one, so few digits cannot overflow */
        char number[RPO_JSON_MAX_NUMBER + 1];
        memcpy(number, begin, length);
        number[length] = '\0';
        if (!isfinite(strtod(number, NULL)))
            return fault(s, "the number %s does not fit a double; numbers must be finite", number);
    }
    return RPO_OK;
}

static rpo_status scan_word(scanner *s, const char *word) {
    const size_t length = strlen(word);
    if ((size_t)(s->end - s->at) < length || memcmp(s->at, word, length) != 0)
        return unexpected(s, "a value");
    s->at += length;
    return RPO_OK;
}

static rpo_status record_value(scanner *s) {
    if (s->values == s->max_values)
        return fault(s, "holds more than %zu values; at most so many are allowed", s->max_values);
    ++s->values;
    if (s->lines == NULL)
        return RPO_OK;
    void *lines = s->lines->lines;
    const rpo_status status =
        rpo_grow_array(&lines, &s->lines->capacity, s->lines->count + 1, sizeof *s->lines->lines);
    s->lines->lines = lines;
    RPO_TRY(status);
    s->lines->lines[s->lines->count++] = (int32_t)(s->line - s->first_line);
    return RPO_OK;
}

static rpo_status scan_value(scanner *s);

/* Members or elements up to and with the closing bracket; the scanner stands on the opening one. */
static rpo_status scan_container(scanner *s, bool object) {
    const char close = object ? '}' : ']';
    if (++s->depth > RPO_JSON_MAX_DEPTH)
        return fault(s, "nested more than %d deep", RPO_JSON_MAX_DEPTH);
    ++s->at;
    skip_space(s);
    bool first = true;
    for (; s->at == s->end || *s->at != close || !first; first = false) {
        if (object) {
            if (s->at == s->end || *s->at != '"')
                return unexpected(s, first ? "a quoted key or '}'" : "a quoted key");
            RPO_TRY(scan_string(s));
            skip_space(s);
            if (s->at == s->end || *s->at != ':')
                return unexpected(s, "':'");
            ++s->at;
            skip_space(s);
        }
        RPO_TRY(scan_value(s));
        skip_space(s);
        if (s->at < s->end && *s->at == close)
            break;
        if (s->at == s->end || *s->at != ',')
            return unexpected(s, object ? "',' or '}'" : "',' or ']'");
        ++s->at;
        skip_space(s);
    }
    ++s->at;
    --s->depth;
    return RPO_OK;
}

static rpo_status scan_value(scanner *s) {
    if (s->at == s->end)
        return unexpected(s, "a value");
    RPO_TRY(record_value(s));
    switch (*s->at) {
    case '{':
        return scan_container(s, true);
    case '[':
        return scan_container(s, false);
    case '"':
        return scan_string(s);
    case 't':
        return scan_word(s, "true");
    case 'f':
        return scan_word(s, "false");
    case 'n':
        return scan_word(s, "null");
    default:
        if (*s->at == '-' || is_digit(s))
            return scan_number(s);
        return unexpected(s, "a value");
    }
}

static int64_t count_newlines(const char *text, size_t length) {
    int64_t lines = 0;
    for (size_t i = 0; i < length; ++i)
        lines += text[i] == '\n';
    return lines;
}

rpo_status rpo_json_scan(const char *text, size_t length, const char *name, int64_t first_line,
                         size_t max_values, rpo_json_lines *lines) {
    scanner s = {.at = text,
                 .end = text + length,
                 .name = name,
                 .first_line = first_line,
                 .line = first_line,
                 .max_values = max_values,
                 .lines = lines};
    size_t bad = 0;
    if (!rpo_utf8_valid(text, length, &bad)) {
        s.line += count_newlines(text, bad);
        return fault(&s, "invalid UTF-8 (byte 0x%02x); text must be UTF-8",
                     (unsigned)(unsigned char)text[bad]);
    }
    skip_space(&s);
    if (s.at == s.end)
        return fault(&s, "empty; a JSON value is expected");
    RPO_TRY(scan_value(&s));
    skip_space(&s);
    if (s.at != s.end)
        return fault(&s, "text after the end of the value; nothing may follow it");
    return RPO_OK;
}
