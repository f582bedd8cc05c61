/* state.c - trainer_state.json: written and read through one list of fields. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "host/checkpoint/internal.h"

enum { STATE_LIMIT = 1 << 20 };

typedef enum field_type {
    FIELD_INT,
    FIELD_BOOL,
    FIELD_U64,
    FIELD_DOUBLE,
    FIELD_HASH,
    FIELD_FIGURES
} field_type;

typedef struct field {
    const char *key;
    field_type type;
    size_t offset;
} field;

#define FIELD(type, member)                                                                                  \
    { #member, type, offsetof(rpo_trainer_state, member) }

static const field fields[] = {
    FIELD(FIELD_INT, step),       FIELD(FIELD_INT, updates),       FIELD(FIELD_INT, epoch),
    FIELD(FIELD_INT, position),   FIELD(FIELD_INT, skipped_steps), FIELD(FIELD_BOOL, eval_pending),
    FIELD(FIELD_U64, seed),       FIELD(FIELD_INT, metrics_bytes), FIELD(FIELD_HASH, config_hash),
    FIELD(FIELD_HASH, data_hash), FIELD(FIELD_HASH, start_hash),   FIELD(FIELD_HASH, reference_hash),
    FIELD(FIELD_FIGURES, before), FIELD(FIELD_FIGURES, latest),    FIELD(FIELD_INT, tokens),
    FIELD(FIELD_DOUBLE, seconds),
};

enum { NUM_FIELDS = sizeof fields / sizeof fields[0] };

/* An object with every figure of the table: null where there is none. */
static rpo_status append_figures(rpo_text *text, const rpo_figures *figures) {
    size_t count = 0;
    const rpo_figure *table = rpo_figure_table(&count);
    for (size_t i = 0; i < count; ++i) {
        RPO_TRY(rpo_text_printf(text, "%s\"%s\": ", i == 0 ? "{" : ", ", table[i].key));
        RPO_TRY(rpo_json_append_number(text, rpo_figure_value(figures, &table[i])));
    }
    return rpo_text_append(text, "}", 1);
}

static rpo_status append_field(rpo_text *text, const rpo_trainer_state *state, const field *entry) {
    const char *value = (const char *)state + entry->offset;
    switch (entry->type) {
    case FIELD_INT:
        return rpo_text_printf(text, "%lld", (long long)*(const int64_t *)(const void *)value);
    case FIELD_BOOL:
        return rpo_text_printf(text, "%s", *(const bool *)value ? "true" : "false");
    case FIELD_U64: /* a string: JSON readers keep 53 bits of a number */
        return rpo_text_printf(text, "\"%llu\"", (unsigned long long)*(const uint64_t *)(const void *)value);
    case FIELD_DOUBLE:
        return rpo_json_append_number(text, *(const double *)(const void *)value);
    case FIELD_HASH:
        return rpo_json_append_string(text, value);
    case FIELD_FIGURES:
        return append_figures(text, (const rpo_figures *)(const void *)value);
    }
    return rpo_error_set(RPO_ERROR_INTERNAL, "%s: its type has no writer", entry->key);
}

rpo_status rpo_trainer_state_write(const rpo_trainer_state *state, const char *path) {
    rpo_text text = {0};
    rpo_status status = rpo_text_printf(&text, "{\n");
    for (size_t i = 0; i < NUM_FIELDS && status == RPO_OK; ++i) {
        status = rpo_text_printf(&text, "  \"%s\": ", fields[i].key);
        if (status == RPO_OK)
            status = append_field(&text, state, &fields[i]);
        if (status == RPO_OK)
            status = rpo_text_printf(&text, i + 1 < NUM_FIELDS ? ",\n" : "\n}\n");
    }
    if (status == RPO_OK)
        status = rpo_write_file_atomic(path, text.data, text.length);
    rpo_text_free(&text);
    return status;
}

static rpo_status read_u64(const rpo_json *json, const cJSON *root, const char *key, uint64_t *value) {
    const char *text = NULL;
    RPO_TRY(rpo_json_get_string(json, root, key, true, &text));
    char *end = NULL;
    errno = 0;
    *value = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0')
        return rpo_json_fault(json, root, key, "is \"%s\"; must hold an unsigned number", text);
    return RPO_OK;
}

static rpo_status read_figures(rpo_figures *figures, const rpo_json *json, const cJSON *root,
                               const char *key) {
    size_t count = 0;
    const rpo_figure *table = rpo_figure_table(&count);
    const cJSON *object = cJSON_GetObjectItemCaseSensitive(root, key);
    if (!cJSON_IsObject(object))
        return rpo_json_fault(json, object != NULL ? object : root, key, "must be an object of figures");
    *figures = rpo_figures_empty();
    for (size_t i = 0; i < count; ++i) {
        double value = NAN; /* null, that is absent, stands for it */
        RPO_TRY(rpo_json_get_double(json, object, table[i].key, false, -HUGE_VAL, HUGE_VAL, &value));
        rpo_figure_set(figures, &table[i], value);
    }
    return RPO_OK;
}

static rpo_status read_field(rpo_trainer_state *state, const rpo_json *json, const cJSON *root,
                             const field *entry) {
    char *value = (char *)state + entry->offset;
    switch (entry->type) {
    case FIELD_INT:
        return rpo_json_get_int(json, root, entry->key, true, 0, INT64_C(1) << 53, (int64_t *)(void *)value);
    case FIELD_BOOL:
        return rpo_json_get_bool(json, root, entry->key, true, (bool *)value);
    case FIELD_U64:
        return read_u64(json, root, entry->key, (uint64_t *)(void *)value);
    case FIELD_DOUBLE: /* null, that is absent, stands for NAN */
        *(double *)(void *)value = NAN;
        return rpo_json_get_double(json, root, entry->key, false, -HUGE_VAL, HUGE_VAL,
                                   (double *)(void *)value);
    case FIELD_HASH: {
        const char *text = NULL;
        RPO_TRY(rpo_json_get_string(json, root, entry->key, true, &text));
        if (strlen(text) > 32)
            return rpo_json_fault(json, root, entry->key, "is longer than 32 digits");
        memcpy(value, text, strlen(text) + 1);
        return RPO_OK;
    }
    case FIELD_FIGURES:
        return read_figures((rpo_figures *)(void *)value, json, root, entry->key);
    }
    return rpo_error_set(RPO_ERROR_INTERNAL, "%s: its type has no reader", entry->key);
}

rpo_status rpo_trainer_state_read(rpo_trainer_state *state, const char *path) {
    rpo_json *json = NULL;
    RPO_TRY(rpo_json_read_file(&json, path, STATE_LIMIT));
    *state = (rpo_trainer_state){0};
    rpo_status status = RPO_OK;
    for (size_t i = 0; i < NUM_FIELDS && status == RPO_OK; ++i)
        status = read_field(state, json, rpo_json_root(json), &fields[i]);
    rpo_json_free(json);
    return status;
}
