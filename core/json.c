/* json.c - a scanned document: cJSON's tree, the lines of its values, and values put in from elsewhere. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json_internal.h"

typedef struct node_line {
    const cJSON *node; /* NULL = free slot */
    int64_t line;
} node_line;

/* A value put in by rpo_json_override: its faults name where it came from, not a line of the file. */
typedef struct graft {
    const cJSON *node;
    char *origin;
} graft;

struct rpo_json {
    cJSON *root;
    char *name;
    const char *key_prefix; /* of faults */
    int64_t first_line;
    node_line *slots; /* open addressing, at most half full; NULL when every value is on the first line */
    size_t num_slots; /* a power of two */
    graft *grafts;
    size_t num_grafts, graft_capacity;
};

/* ---- lines ---- */

static size_t slot_of(const rpo_json *json, const cJSON *node) {
    const uint64_t mixed = (uint64_t)(uintptr_t)node * UINT64_C(0x9E3779B97F4A7C15);
    size_t slot = (size_t)(mixed >> 32) & (json->num_slots - 1);
    while (json->slots[slot].node != NULL && json->slots[slot].node != node)
        slot = (slot + 1) & (json->num_slots - 1);
    return slot;
}

/* Values begin in the order in which a walk of the tree meets them, parents before children. */
static void assign_lines(rpo_json *json, const cJSON *node, const int32_t *lines, size_t *next) {
    json->slots[slot_of(json, node)] = (node_line){node, json->first_line + lines[*next]};
    ++*next;
    for (const cJSON *child = node->child; child != NULL; child = child->next)
        assign_lines(json, child, lines, next);
}

static rpo_status index_lines(rpo_json *json, const rpo_json_lines *lines) {
    json->num_slots = 16;
    while (json->num_slots < 2 * lines->count)
        json->num_slots *= 2;
    json->slots = rpo_calloc_array(json->num_slots, sizeof *json->slots);
    if (json->slots == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    size_t next = 0;
    assign_lines(json, json->root, lines->lines, &next);
    return RPO_OK;
}

int64_t rpo_json_line(const rpo_json *json, const cJSON *node) {
    if (json->slots == NULL || node == NULL)
        return json->first_line;
    const node_line *slot = &json->slots[slot_of(json, node)];
    return slot->node == node ? slot->line : json->first_line;
}

/* ---- duplicate keys: on decoded keys, so that "a" and "\u0061" are the same ---- */

typedef struct member {
    const cJSON *node;
    size_t position;
} member;

static int compare_members(const void *a, const void *b) {
    const member *left = a, *right = b;
    const int order = strcmp(left->node->string, right->node->string);
    if (order != 0)
        return order;
    return left->position < right->position ? -1 : 1;
}

/* The first member whose key was there before, sorted so that a huge object costs n log n. */
static rpo_status find_duplicate(const cJSON *object, const cJSON **duplicate) {
    enum { FEW = 8 };
    size_t count = 0;
    for (const cJSON *child = object->child; child != NULL; child = child->next)
        ++count;
    *duplicate = NULL;
    if (count <= FEW) {
        for (const cJSON *late = object->child; late != NULL; late = late->next)
            for (const cJSON *early = object->child; early != late; early = early->next)
                if (strcmp(early->string, late->string) == 0) {
                    *duplicate = late;
                    return RPO_OK;
                }
        return RPO_OK;
    }
    member *members = rpo_alloc_array(count, sizeof *members);
    if (members == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    size_t position = 0;
    for (const cJSON *child = object->child; child != NULL; child = child->next, ++position)
        members[position] = (member){child, position};
    qsort(members, count, sizeof *members, compare_members);
    size_t first = count;
    for (size_t i = 1; i < count; ++i)
        if (strcmp(members[i - 1].node->string, members[i].node->string) == 0 &&
            members[i].position < first) {
            first = members[i].position;
            *duplicate = members[i].node;
        }
    rpo_free(members);
    return RPO_OK;
}

static rpo_status refuse_duplicates(const rpo_json *json, const cJSON *node) {
    if (cJSON_IsObject(node)) {
        const cJSON *duplicate = NULL;
        RPO_TRY(find_duplicate(node, &duplicate));
        if (duplicate != NULL)
            return rpo_error_set(RPO_ERROR_INVALID_INPUT,
                                 "%s:%lld: %s: duplicate key; every key may stand once", json->name,
                                 (long long)rpo_json_line(json, duplicate), duplicate->string);
    }
    for (const cJSON *child = node->child; child != NULL; child = child->next)
        if (child->child != NULL)
            RPO_TRY(refuse_duplicates(json, child));
    return RPO_OK;
}

/* ---- documents ---- */

rpo_status rpo_json_parse(rpo_json **json, const char *text, size_t length, const char *name,
                          int64_t first_line) {
    return rpo_json_parse_bounded(json, text, length, name, first_line, RPO_JSON_MAX_VALUES);
}

rpo_status rpo_json_parse_bounded(rpo_json **json, const char *text, size_t length, const char *name,
                                  int64_t first_line, size_t max_values) {
    rpo_status status = RPO_OK;
    rpo_json_lines lines = {0};
    rpo_json *parsed = NULL;
    *json = NULL;

    /* A record of a JSONL file has one line: nothing to remember then. */
    const bool many_lines = length > 0 && memchr(text, '\n', length) != NULL;
    status = rpo_json_scan(text, length, name, first_line, max_values, many_lines ? &lines : NULL);
    if (status != RPO_OK)
        goto cleanup;
    parsed = rpo_calloc_array(1, sizeof *parsed);
    if (parsed == NULL) {
        status = RPO_ERROR_OUT_OF_MEMORY;
        goto cleanup;
    }
    parsed->first_line = first_line;
    parsed->key_prefix = "";
    parsed->name = rpo_strdup(name);
    if (parsed->name == NULL) {
        status = RPO_ERROR_OUT_OF_MEMORY;
        goto cleanup;
    }
    parsed->root = cJSON_ParseWithLength(text, length);
    if (parsed->root == NULL) { /* the scanner found the text sound, so only memory can be missing */
        status = rpo_error_set(RPO_ERROR_OUT_OF_MEMORY, "%s: no memory for its JSON tree", name);
        goto cleanup;
    }
    if (many_lines)
        status = index_lines(parsed, &lines);
    if (status == RPO_OK)
        status = refuse_duplicates(parsed, parsed->root);
    if (status != RPO_OK)
        goto cleanup;
    *json = parsed;
    parsed = NULL;

cleanup:
    rpo_json_free(parsed);
    rpo_free(lines.lines);
    return status;
}

rpo_status rpo_json_read_file(rpo_json **json, const char *path, size_t limit) {
    static const char bom[] = "\xef\xbb\xbf";
    char *text = NULL;
    size_t size = 0;
    *json = NULL;
    RPO_TRY(rpo_read_file(path, limit, &text, &size));
    const size_t skipped = size >= 3 && memcmp(text, bom, 3) == 0 ? 3 : 0;
    const rpo_status status = rpo_json_parse(json, text + skipped, size - skipped, path, 1);
    rpo_free(text);
    return status;
}

void rpo_json_free(rpo_json *json) {
    if (json == NULL)
        return;
    for (size_t i = 0; i < json->num_grafts; ++i)
        rpo_free(json->grafts[i].origin);
    rpo_free(json->grafts);
    rpo_free(json->slots);
    cJSON_Delete(json->root);
    rpo_free(json->name);
    rpo_free(json);
}

const cJSON *rpo_json_root(const rpo_json *json) {
    return json->root;
}

const char *rpo_json_name(const rpo_json *json) {
    return json->name;
}

/* ---- faults ---- */

static bool contains(const cJSON *tree, const cJSON *node) {
    if (tree == node)
        return true;
    for (const cJSON *child = tree->child; child != NULL; child = child->next)
        if (contains(child, node))
            return true;
    return false;
}

rpo_status rpo_json_append_place(const rpo_json *json, const cJSON *node, rpo_text *text) {
    for (size_t i = json->num_grafts; node != NULL && i > 0; --i)
        if (contains(json->grafts[i - 1].node, node))
            return rpo_text_printf(text, "%s", json->grafts[i - 1].origin);
    return rpo_text_printf(text, "%s:%lld", json->name, (long long)rpo_json_line(json, node));
}

rpo_status rpo_json_fault(const rpo_json *json, const cJSON *node, const char *key, const char *format, ...) {
    char what[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    rpo_text place = {0};
    RPO_TRY(rpo_json_append_place(json, node, &place));
    rpo_error_set(RPO_ERROR_INVALID_INPUT, "%s: %s%s: %s", place.data, json->key_prefix, key, what);
    rpo_text_free(&place);
    return RPO_ERROR_INVALID_INPUT;
}

void rpo_json_set_key_prefix(rpo_json *json, const char *prefix) {
    json->key_prefix = prefix;
}

/* ---- overrides ---- */

static rpo_status add_graft(rpo_json *json, const cJSON *node, const char *origin) {
    void *grafts = json->grafts;
    const rpo_status status =
        rpo_grow_array(&grafts, &json->graft_capacity, json->num_grafts + 1, sizeof *json->grafts);
    json->grafts = grafts;
    RPO_TRY(status);
    char *copy = rpo_strdup(origin);
    if (copy == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    json->grafts[json->num_grafts++] = (graft){node, copy};
    return RPO_OK;
}

/* Forgets what is known about the nodes of a tree that is about to be freed: their addresses may come back.
 */
static void forget(rpo_json *json, const cJSON *tree) {
    for (size_t i = 0; i < json->num_grafts; ++i)
        if (json->grafts[i].node == tree) {
            rpo_free(json->grafts[i].origin);
            json->grafts[i] = json->grafts[--json->num_grafts];
            break;
        }
    for (const cJSON *child = tree->child; child != NULL; child = child->next)
        forget(json, child);
}

/* Puts `value` (owned from here on) at object[key]. */
static rpo_status set_member(rpo_json *json, cJSON *object, const char *key, cJSON *value,
                             const char *origin) {
    cJSON *old = cJSON_GetObjectItemCaseSensitive(object, key);
    if (old != NULL)
        forget(json, old);
    const bool stored = old != NULL ? cJSON_ReplaceItemInObjectCaseSensitive(object, key, value)
                                    : cJSON_AddItemToObject(object, key, value);
    const bool keyed =
        stored && value->string != NULL; /* cJSON replaces even when it could not copy the key */
    if (!stored)
        cJSON_Delete(value);
    if (!keyed)
        return rpo_error_set(RPO_ERROR_OUT_OF_MEMORY, "%s: no memory for its JSON tree", json->name);
    return add_graft(json, value, origin);
}

/* NULL: no memory. What is no JSON is a plain string. */
static cJSON *parse_override(const char *value) {
    rpo_json *parsed = NULL;
    const rpo_status status = rpo_json_parse(&parsed, value, strlen(value), "", 1);
    if (status == RPO_ERROR_OUT_OF_MEMORY)
        return NULL;
    if (status != RPO_OK)
        return cJSON_CreateString(value);
    cJSON *root = parsed->root;
    parsed->root = NULL;
    rpo_json_free(parsed);
    return root;
}

rpo_status rpo_json_override(rpo_json *json, const char *key, const char *value, const char *origin) {
    if (!rpo_utf8_valid(value, strlen(value), NULL) || !rpo_utf8_valid(key, strlen(key), NULL))
        return rpo_error_set(RPO_ERROR_INVALID_INPUT, "%s: invalid UTF-8; text must be UTF-8", origin);
    char *path = rpo_strdup(key);
    if (path == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    rpo_status status = RPO_OK;
    cJSON *object = json->root;
    char *part = path;
    for (char *dot = strchr(part, '.'); status == RPO_OK; dot = strchr(part, '.')) {
        if (!cJSON_IsObject(object)) {
            status = rpo_json_fault(json, object, key, "stands below something that is no object");
            break;
        }
        if (dot != NULL)
            *dot = '\0';
        if (part[0] == '\0') {
            status = rpo_error_set(RPO_ERROR_INVALID_INPUT, "%s: bad key; KEY is of the form section.name",
                                   origin);
            break;
        }
        if (dot == NULL) {
            cJSON *node = parse_override(value);
            status = node != NULL ? set_member(json, object, part, node, origin)
                                  : rpo_error_set(RPO_ERROR_OUT_OF_MEMORY, "%s: no memory for it", origin);
            break;
        }
        cJSON *next = cJSON_GetObjectItemCaseSensitive(object, part);
        if (next == NULL || cJSON_IsNull(next)) {
            cJSON *made = cJSON_CreateObject();
            status = made != NULL ? set_member(json, object, part, made, origin)
                                  : rpo_error_set(RPO_ERROR_OUT_OF_MEMORY, "%s: no memory for it", origin);
            next = made;
        }
        object = next;
        part = dot + 1;
    }
    rpo_free(path);
    return status;
}
