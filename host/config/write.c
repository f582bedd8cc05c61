/* write.c - a configuration as JSON that reads back as the same one, and the help made of the table of keys.
 */
#include <stdio.h>
#include <string.h>

#include "host/config/keys.h"

static const void *source_of(const rpo_config *config, const rpo_config_key *key) {
    return (const char *)config + key->offset;
}

static rpo_status append_string_or_null(rpo_text *text, const char *value) {
    return value != NULL ? rpo_json_append_string(text, value) : rpo_text_append(text, "null", 4);
}

static rpo_status append_list(rpo_text *text, const rpo_string_list *list) {
    RPO_TRY(rpo_text_append(text, "[", 1));
    for (size_t i = 0; i < list->count; ++i) {
        if (i > 0)
            RPO_TRY(rpo_text_append(text, ", ", 2));
        RPO_TRY(rpo_json_append_string(text, list->items[i]));
    }
    return rpo_text_append(text, "]", 1);
}

/* The model room's own JSON, moved in to where it stands here. */
static rpo_status append_model(rpo_text *text, const rpo_config *config) {
    static const char indent[] = "    ";
    rpo_text model = {0};
    if (!config->model.has_init)
        return rpo_text_append(text, "null", 4);
    rpo_status status = rpo_model_config_append_init(&config->model.init, &model);
    for (const char *line = model.data; status == RPO_OK && *line != '\0';) {
        const size_t length = strcspn(line, "\n");
        if (line != model.data)
            status = rpo_text_printf(text, "\n%s", indent);
        if (status == RPO_OK)
            status = rpo_text_append(text, line, length);
        line += length + (line[length] == '\n');
    }
    rpo_text_free(&model);
    return status;
}

static rpo_status append_value(rpo_text *text, const rpo_config *config, const rpo_config_key *key) {
    const void *source = source_of(config, key);
    int choice = 0;
    switch (key->type) {
    case RPO_KEY_STRING:
        return append_string_or_null(text, *(char *const *)source);
    case RPO_KEY_STRING_LIST:
        return append_list(text, source);
    case RPO_KEY_CHOICE:
        memcpy(&choice, source, sizeof choice);
        return rpo_json_append_string(text, rpo_config_choice_name(key, choice));
    case RPO_KEY_INT32:
        return rpo_text_printf(text, "%d", (int)*(const int32_t *)source);
    case RPO_KEY_INT64:
        return rpo_text_printf(text, "%lld", (long long)*(const int64_t *)source);
    case RPO_KEY_UINT64:
        return rpo_text_printf(text, "%llu", (unsigned long long)*(const uint64_t *)source);
    case RPO_KEY_DOUBLE:
        return rpo_json_append_number(text, *(const double *)source);
    case RPO_KEY_MODEL:
        return append_model(text, config);
    }
    return rpo_error_set(RPO_ERROR_INTERNAL, "%s: has no type", key->name);
}

static size_t section_length(const rpo_config_key *key) {
    return (size_t)(strchr(key->name, '.') - key->name);
}

static bool same_section(const rpo_config_key *a, const rpo_config_key *b) {
    return section_length(a) == section_length(b) && memcmp(a->name, b->name, section_length(a)) == 0;
}

rpo_status rpo_config_to_json(const rpo_config *config, const char *record, rpo_text *text) {
    size_t count = 0;
    const rpo_config_key *keys = rpo_config_keys(&count);
    for (size_t i = 0; i < count; ++i) {
        const bool opens = i == 0 || !same_section(&keys[i - 1], &keys[i]);
        const bool closes = i + 1 == count || !same_section(&keys[i], &keys[i + 1]);
        if (opens)
            RPO_TRY(rpo_text_printf(text, "%s\n  \"%.*s\": {", i == 0 ? "{" : "",
                                    (int)section_length(&keys[i]), keys[i].name));
        RPO_TRY(rpo_text_printf(text, "\n    \"%s\": ", keys[i].name + section_length(&keys[i]) + 1));
        RPO_TRY(append_value(text, config, &keys[i]));
        RPO_TRY(rpo_text_printf(text, "%s", closes ? "\n  }" : ""));
        RPO_TRY(rpo_text_printf(text, "%s", i + 1 < count ? "," : ""));
    }
    if (record != NULL)
        RPO_TRY(rpo_text_printf(text, ",\n  \"" RPO_CONFIG_RECORD "\": %s", record));
    return rpo_text_append(text, "\n}\n", 3);
}

static rpo_status append_default(rpo_text *text, const rpo_config_key *key) {
    switch (key->type) {
    case RPO_KEY_CHOICE:
        return rpo_text_printf(text, "default %s, ", rpo_config_choice_name(key, (int)key->initial));
    case RPO_KEY_INT32:
    case RPO_KEY_INT64:
    case RPO_KEY_UINT64:
    case RPO_KEY_DOUBLE:
        return rpo_text_printf(text, "default %.10g, ", key->initial);
    default:
        return key->required ? rpo_text_printf(text, "required, ") : RPO_OK;
    }
}

enum { HELP_NAME_WIDTH = 27, HELP_WIDTH = 100 };

rpo_status rpo_config_append_key_help(const rpo_config_key *key, rpo_text *text) {
    enum { INDENT = 2 + HELP_NAME_WIDTH + 1 };
    rpo_text values = {0};
    rpo_status status = append_default(&values, key);
    if (status == RPO_OK)
        status = rpo_config_append_allowed(key, &values);
    if (status == RPO_OK)
        status = rpo_text_printf(text, "  %-*s ", HELP_NAME_WIDTH, key->name);
    if (status == RPO_OK)
        status = rpo_text_append_wrapped(text, key->meaning, INDENT, HELP_WIDTH);
    if (status == RPO_OK)
        status = rpo_text_printf(text, "\n%*s", INDENT, "");
    if (status == RPO_OK)
        status = rpo_text_append_wrapped(text, values.data, INDENT, HELP_WIDTH);
    rpo_text_free(&values);
    return status == RPO_OK ? rpo_text_append(text, "\n", 1) : status;
}

rpo_status rpo_config_append_help(rpo_text *text) {
    size_t count = 0;
    const rpo_config_key *keys = rpo_config_keys(&count);
    for (size_t i = 0; i < count; ++i) {
        if (i > 0 && !same_section(&keys[i - 1], &keys[i]))
            RPO_TRY(rpo_text_printf(text, "\n"));
        RPO_TRY(rpo_config_append_key_help(&keys[i], text));
    }
    return RPO_OK;
}
