/* json_internal.h - what the parts of the JSON reader share: scanner, document, line numbers. */
#ifndef RPO_CORE_JSON_INTERNAL_H
#define RPO_CORE_JSON_INTERNAL_H

#include "core/json.h"

enum {
    RPO_JSON_MAX_DEPTH = 64,
    RPO_JSON_MAX_NUMBER = 63,     /* characters of one number: what cJSON's own buffer holds */
    RPO_JSON_MAX_VALUES = 1 << 24 /* values of one document: a tree of them takes some 1.5 GB */
};

/* Lines of a document's values in the order in which they begin. */
typedef struct rpo_json_lines {
    int32_t *lines; /* relative to the document's first line */
    size_t count, capacity;
} rpo_json_lines;

/*
 * Accepts exactly one RFC 8259 value (less what json.h excludes) with white space around it. Linear in
 * length. `lines` NULL: not recorded.
 */
rpo_status rpo_json_scan(const char *text, size_t length, const char *name, int64_t first_line,
                         size_t max_values, rpo_json_lines *lines);

#endif
