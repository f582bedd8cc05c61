/* values.c - one value of the file into its place in the configuration, checked against the table of keys. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "host/config/keys.h"

/* The value as a fault shows it. */
static void describe_value(const cJSON *node, char *text, size_t size) {
    if (cJSON_IsNumber(node))
        snprintf(text, size, "%.16g", node->valuedouble);
    else if (cJSON_IsString(node))
        snprintf(text, size, "\"%.80s\"", node->valuestring);
    else if (cJSON_IsBool(node))
        snprintf(text, size, "%s", cJSON_IsTrue(node) ? "true" : "false");
    else
        snprintf(text, size, "%s", cJSON_IsArray(node) ? "a list" : "an object");
}

/* "PLACE: KEY: is VALUE; must be ALLOWED" */
static rpo_status refuse_value(const rpo_json *json, const cJSON *node, const rpo_config_key *key) {
    char value[96];
    rpo_text allowed = {0};
    describe_value(node, value, sizeof value);
    rpo_status status = rpo_config_append_allowed(key, &allowed);
    if (status == RPO_OK)
        status = rpo_json_fault(json, node, key->name, "is %s; must be %s", value, allowed.data);
    rpo_text_free(&allowed);
    return status;
}

static void *target_of(rpo_config *config, const rpo_config_key *key) {
    return (char *)config + key->offset;
}

static void store_number(rpo_config *config, const rpo_config_key *key, double value) {
    void *target = target_of(config, key);
    switch (key->type) {
    case RPO_KEY_INT32:
        *(int32_t *)target = (int32_t)value;
        break;
    case RPO_KEY_INT64:
        *(int64_t *)target = (int64_t)value;
        break;
    case RPO_KEY_UINT64:
        *(uint64_t *)target = (uint64_t)value;
        break;
    case RPO_KEY_DOUBLE:
        *(double *)target = value;
        break;
    default:
        break;
    }
}

/* The enums of the configuration are all stored as an int is. */
_Static_assert(sizeof(rpo_data_format) == sizeof(int) && sizeof(rpo_truncation) == sizeof(int) &&
                   sizeof(rpo_bad_record) == sizeof(int) && sizeof(rpo_embedding_kind) == sizeof(int) &&
                   sizeof(rpo_loss_kind) == sizeof(int) && sizeof(rpo_weight_scale) == sizeof(int) &&
                   sizeof(rpo_optimizer_kind) == sizeof(int) && sizeof(rpo_run_device) == sizeof(int) &&
                   sizeof(rpo_dtype) == sizeof(int) && sizeof(rpo_tokenizer_choice) == sizeof(int) &&
                   sizeof(rpo_prefix_sharing) == sizeof(int),
               "an enum of the configuration is wider or narrower than int");

static void store_choice(rpo_config *config, const rpo_config_key *key, int index) {
    memcpy(target_of(config, key), &index, sizeof index);
}

static rpo_status read_number(rpo_config *config, const rpo_json *json, const cJSON *node,
                              const rpo_config_key *key) {
    const double value = node->valuedouble;
    const bool whole = key->type == RPO_KEY_DOUBLE || value == trunc(value);
    const bool inside = value <= key->high && (key->above_low ? value > key->low : value >= key->low);
    if (!cJSON_IsNumber(node) || !whole || !inside)
        return refuse_value(json, node, key);
    store_number(config, key, value);
    return RPO_OK;
}

static rpo_status read_choice(rpo_config *config, const rpo_json *json, const cJSON *node,
                              const rpo_config_key *key) {
    if (cJSON_IsString(node))
        for (int i = 0; rpo_config_choice_name(key, i) != NULL; ++i)
            if (strcmp(rpo_config_choice_name(key, i), node->valuestring) == 0) {
                store_choice(config, key, i);
                return RPO_OK;
            }
    return refuse_value(json, node, key);
}

static rpo_status read_string(rpo_config *config, const rpo_json *json, const cJSON *node,
                              const rpo_config_key *key) {
    if (!cJSON_IsString(node) || node->valuestring[0] == '\0')
        return refuse_value(json, node, key);
    char **target = target_of(config, key);
    *target = rpo_strdup(node->valuestring);
    return *target != NULL ? RPO_OK : RPO_ERROR_OUT_OF_MEMORY;
}

static rpo_status read_string_list(rpo_config *config, const rpo_json *json, const cJSON *node,
                                   const rpo_config_key *key) {
    rpo_string_list *list = target_of(config, key);
    if (!cJSON_IsArray(node))
        return refuse_value(json, node, key);
    size_t count = 0;
    for (const cJSON *item = node->child; item != NULL; item = item->next, ++count)
        if (!cJSON_IsString(item) || item->valuestring[0] == '\0')
            return rpo_json_fault(json, item, key->name,
                                  "item %zu is no file name; must be a list of file names", count + 1);
    if (count == 0 && key->required)
        return rpo_json_fault(json, node, key->name, "is an empty list; must name at least one file");
    list->items = rpo_calloc_array(count, sizeof *list->items);
    if (list->items == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    for (const cJSON *item = node->child; item != NULL; item = item->next) {
        list->items[list->count] = rpo_strdup(item->valuestring);
        if (list->items[list->count] == NULL)
            return RPO_ERROR_OUT_OF_MEMORY;
        ++list->count;
    }
    return RPO_OK;
}

static rpo_status read_model(rpo_config *config, rpo_json *json, const cJSON *node,
                             const rpo_config_key *key) {
    if (!cJSON_IsObject(node))
        return refuse_value(json, node, key);
    config->model.has_init = true;
    rpo_json_set_key_prefix(json, "model.init.");
    const rpo_status status = rpo_model_config_read(&config->model.init, json, node, true);
    rpo_json_set_key_prefix(json, "");
    return status;
}

rpo_status rpo_config_read_value(rpo_config *config, rpo_json *json, const cJSON *node,
                                 const rpo_config_key *key) {
    switch (key->type) {
    case RPO_KEY_STRING:
        return read_string(config, json, node, key);
    case RPO_KEY_STRING_LIST:
        return read_string_list(config, json, node, key);
    case RPO_KEY_CHOICE:
        return read_choice(config, json, node, key);
    case RPO_KEY_INT32:
    case RPO_KEY_INT64:
    case RPO_KEY_UINT64:
    case RPO_KEY_DOUBLE:
        return read_number(config, json, node, key);
    case RPO_KEY_MODEL:
        return read_model(config, json, node, key);
    }
    return rpo_error_set(RPO_ERROR_INTERNAL, "%s: has no type", key->name);
}

void rpo_config_store_default(rpo_config *config, const rpo_config_key *key) {
    switch (key->type) {
    case RPO_KEY_CHOICE:
        store_choice(config, key, (int)key->initial);
        break;
    case RPO_KEY_INT32:
    case RPO_KEY_INT64:
    case RPO_KEY_UINT64:
    case RPO_KEY_DOUBLE:
        store_number(config, key, key->initial);
        break;
    case RPO_KEY_MODEL:
        config->model.init = rpo_model_config_default();
        break;
    case RPO_KEY_STRING:
    case RPO_KEY_STRING_LIST:
        break; /* NULL and empty, as allocated */
    }
}
