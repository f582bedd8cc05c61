/*
 * load.c - from a JSON file and overrides to a checked configuration.
 *
 * Overrides are put into the document first, so that files and overrides take the same way and a fault names
 * whichever the value came from.
 */
#include <string.h>

#include "host/config/keys.h"

enum { MAX_FILE = 16 << 20 };

/* The node of "section.key" (NULL: absent or null); *section_node is where it would be. */
static const cJSON *find_value(const rpo_json *json, const char *name, const cJSON **section_node) {
    const char *dot = strchr(name, '.');
    *section_node = rpo_json_root(json);
    for (const cJSON *section = (*section_node)->child; section != NULL; section = section->next) {
        if (strlen(section->string) != (size_t)(dot - name) ||
            memcmp(section->string, name, (size_t)(dot - name)) != 0)
            continue;
        *section_node = section;
        const cJSON *node = cJSON_GetObjectItemCaseSensitive(section, dot + 1);
        return node == NULL || cJSON_IsNull(node) ? NULL : node;
    }
    return NULL;
}

/* ---- unknown keys ---- */

/* "PLACE: NAME: unknown key; did you mean NEAREST?" */
static rpo_status refuse_unknown(const rpo_json *json, const cJSON *node, const char *name) {
    const char *near = rpo_config_nearest_key(name);
    if (near != NULL)
        return rpo_json_fault(json, node, name, "unknown key; did you mean %s?", near);
    return rpo_json_fault(json, node, name, "unknown key; rpo help config lists all");
}

static rpo_status refuse_unknown_in_section(const rpo_json *json, const cJSON *section) {
    for (const cJSON *member = section->child; member != NULL; member = member->next) {
        rpo_text name = {0};
        rpo_status status = rpo_text_printf(&name, "%s.%s", section->string, member->string);
        if (status == RPO_OK && rpo_config_find_key(name.data) == NULL)
            status = refuse_unknown(json, member, name.data);
        rpo_text_free(&name);
        RPO_TRY(status);
    }
    return RPO_OK;
}

static rpo_status refuse_unknown_keys(const rpo_json *json) {
    const cJSON *root = rpo_json_root(json);
    if (!cJSON_IsObject(root))
        return rpo_json_fault(json, root, "config", "is no object; must be {\"section\": {\"key\": value}}");
    for (const cJSON *section = root->child; section != NULL; section = section->next) {
        if (strcmp(section->string, RPO_CONFIG_RECORD) == 0)
            continue;
        if (!rpo_config_is_section(section->string, strlen(section->string)))
            return refuse_unknown(json, section, section->string);
        if (cJSON_IsNull(section))
            continue;
        if (!cJSON_IsObject(section))
            return rpo_json_fault(json, section, section->string, "must be an object of keys");
        RPO_TRY(refuse_unknown_in_section(json, section));
    }
    return RPO_OK;
}

/* ---- overrides ---- */

/* A command line gives one file as it is, without JSON around it: where a list belongs, a string is a list of one. */
static rpo_status make_list_of_one(rpo_json *json, const char *key, const char *origin) {
    const cJSON *section = NULL;
    const cJSON *node = find_value(json, key, &section);
    if (!cJSON_IsString(node))
        return RPO_OK;
    rpo_text list = {0};
    rpo_status status = rpo_text_append(&list, "[", 1);
    if (status == RPO_OK)
        status = rpo_json_append_string(&list, node->valuestring);
    if (status == RPO_OK)
        status = rpo_text_append(&list, "]", 1);
    if (status == RPO_OK)
        status = rpo_json_override(json, key, list.data, origin);
    rpo_text_free(&list);
    return status;
}

static rpo_status apply_override(rpo_json *json, const char *override) {
    static const char model_prefix[] = "model.init.";
    rpo_text origin = {0}, key = {0};
    rpo_status status = RPO_OK;

    const char *equals = strchr(override, '=');
    if (equals == NULL || equals == override)
        return rpo_error_set(RPO_ERROR_INVALID_INPUT, "--set %s: is no override; must be section.key=value",
                             override);
    status = rpo_text_printf(&origin, "--set %s", override);
    if (status == RPO_OK)
        status = rpo_text_append(&key, override, (size_t)(equals - override));
    if (status != RPO_OK)
        goto cleanup;
    /* What lies below model.init is known to the model room, which reads it strictly. */
    const bool model_key = strncmp(key.data, model_prefix, sizeof model_prefix - 1) == 0 &&
                           strchr(key.data + sizeof model_prefix - 1, '.') == NULL;
    const rpo_config_key *known = rpo_config_find_key(key.data);
    if (!model_key && known == NULL) {
        const char *near = rpo_config_nearest_key(key.data);
        status = near != NULL
                     ? rpo_error_set(RPO_ERROR_INVALID_INPUT, "%s: %s: unknown key; did you mean %s?",
                                     origin.data, key.data, near)
                     : rpo_error_set(RPO_ERROR_INVALID_INPUT,
                                     "%s: %s: unknown key; rpo help config lists all", origin.data, key.data);
        goto cleanup;
    }
    status = rpo_json_override(json, key.data, equals + 1, origin.data);
    if (status == RPO_OK && known != NULL && known->type == RPO_KEY_STRING_LIST)
        status = make_list_of_one(json, key.data, origin.data);

cleanup:
    rpo_text_free(&key);
    rpo_text_free(&origin);
    return status;
}

/* ---- values ---- */

static rpo_status read_key(rpo_config *config, rpo_json *json, const rpo_config_key *key, char **place) {
    const cJSON *section = NULL;
    const cJSON *node = find_value(json, key->name, &section);
    rpo_config_store_default(config, key);
    if (node == NULL && key->required) {
        rpo_text allowed = {0};
        rpo_status status = rpo_config_append_allowed(key, &allowed);
        if (status == RPO_OK)
            status = rpo_json_fault(json, section, key->name, "is missing; must be %s", allowed.data);
        rpo_text_free(&allowed);
        return status;
    }
    if (node == NULL)
        return RPO_OK;
    rpo_text text = {0};
    const rpo_status status = rpo_json_append_place(json, node, &text);
    *place = text.data; /* the configuration's from here on */
    RPO_TRY(status);
    return rpo_config_read_value(config, json, node, key);
}

rpo_status rpo_config_load(rpo_config **config, const char *path, const char *const *overrides,
                           size_t num_overrides) {
    rpo_status status = RPO_OK;
    rpo_json *json = NULL;
    rpo_config *loaded = NULL;
    size_t num_keys = 0;
    const rpo_config_key *keys = rpo_config_keys(&num_keys);
    *config = NULL;

    status = rpo_json_read_file(&json, path, MAX_FILE);
    if (status == RPO_OK)
        status = refuse_unknown_keys(json);
    for (size_t i = 0; status == RPO_OK && i < num_overrides; ++i)
        status = apply_override(json, overrides[i]);
    if (status != RPO_OK)
        goto cleanup;
    loaded = rpo_config_create(path);
    if (loaded == NULL) {
        status = RPO_ERROR_OUT_OF_MEMORY;
        goto cleanup;
    }
    for (size_t i = 0; status == RPO_OK && i < num_keys; ++i)
        status = read_key(loaded, json, &keys[i], &loaded->places->of_key[i]);
    if (status == RPO_OK)
        status = rpo_config_check(loaded);
    if (status != RPO_OK)
        goto cleanup;
    *config = loaded;
    loaded = NULL;

cleanup:
    rpo_config_free(loaded);
    rpo_json_free(json);
    return status;
}
