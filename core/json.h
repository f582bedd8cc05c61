/*
 * json.h - the one strict JSON reader: RFC 8259 and nothing else, in front of cJSON.
 *
 * cJSON alone accepts duplicate keys, trailing text, bad UTF-8, raw NUL and control bytes. This reader scans
 * the whole text first and refuses those, escaped NUL (a C string cannot hold it), lone surrogates, numbers
 * that are not finite as a double, nesting beyond 64; then cJSON builds the tree. Line numbers of values are
 * kept. Faults are RPO_ERROR_INVALID_INPUT with "NAME:LINE: what is wrong".
 */
#ifndef RPO_CORE_JSON_H
#define RPO_CORE_JSON_H

#include <cjson/cJSON.h>

#include "core/core.h"

typedef struct rpo_json rpo_json;

/* `name` stands in messages (a file name); `first_line` is the line on which `text` begins (1 for a file). */
rpo_status rpo_json_parse(rpo_json **json, const char *text, size_t length, const char *name,
                          int64_t first_line);
/* The same for a text of at most `max_values` values, keys not counted: a value takes some 80 bytes of memory,
 * however short it is. rpo_json_parse allows 2^24. */
rpo_status rpo_json_parse_bounded(rpo_json **json, const char *text, size_t length, const char *name,
                                  int64_t first_line, size_t max_values);
rpo_status rpo_json_read_file(rpo_json **json, const char *path, size_t limit);
void rpo_json_free(rpo_json *json);

const cJSON *rpo_json_root(const rpo_json *json);
const char *rpo_json_name(const rpo_json *json);
int64_t rpo_json_line(const rpo_json *json, const cJSON *node); /* line of a value of this document */

/* Sets the message "NAME:LINE: KEY: ..." for a value and returns RPO_ERROR_INVALID_INPUT. */
rpo_status rpo_json_fault(const rpo_json *json, const cJSON *node, const char *key, const char *format, ...)
    RPO_PRINTF(4, 5);

/* What faults put in front of KEY while a part of the document is read: "model.init.", say. Static; "" =
 * nothing. */
void rpo_json_set_key_prefix(rpo_json *json, const char *prefix);

/*
 * Puts `value` (JSON, or else a plain string) at the dotted path `key`, in place of what stands there;
 * objects on the way are made as needed. Faults about the new value say "ORIGIN: KEY: ..." instead of
 * "NAME:LINE: KEY: ...".
 */
rpo_status rpo_json_override(rpo_json *json, const char *key, const char *value, const char *origin);

/* Appends where a value stands: "NAME:LINE", or the origin of an override. */
rpo_status rpo_json_append_place(const rpo_json *json, const cJSON *node, rpo_text *text);

/*
 * Typed readers of object members. `required` false: an absent member leaves *value as it is. null counts as
 * absent. A wrong type or a number outside [low, high] is a fault that names the key and what is allowed.
 */
rpo_status rpo_json_get_double(const rpo_json *json, const cJSON *object, const char *key, bool required,
                               double low, double high, double *value);
rpo_status rpo_json_get_int(const rpo_json *json, const cJSON *object, const char *key, bool required,
                            int64_t low, int64_t high, int64_t *value);
rpo_status rpo_json_get_bool(const rpo_json *json, const cJSON *object, const char *key, bool required,
                             bool *value);
rpo_status rpo_json_get_string(const rpo_json *json, const cJSON *object, const char *key, bool required,
                               const char **value); /* belongs to the document */
/* Array of `count` numbers into *values (rpo_free); count -1 = any length, written to *length. */
rpo_status rpo_json_get_floats(const rpo_json *json, const cJSON *object, const char *key, bool required,
                               int64_t count, float **values, int64_t *length);

/* Appends a string as a JSON literal, quotes included; a double so that it reads back exactly ("null" if not
 * finite). */
rpo_status rpo_json_append_string(rpo_text *text, const char *value);
rpo_status rpo_json_append_number(rpo_text *text, double value);

#endif
