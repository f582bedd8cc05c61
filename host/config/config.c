/* config.c - the life of a configuration, and faults that are found after it was loaded. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "host/config/keys.h"

rpo_config *rpo_config_create(const char *path) {
    size_t num_keys = 0;
    rpo_config_keys(&num_keys);
    rpo_config *config = rpo_calloc_array(1, sizeof *config);
    if (config == NULL)
        return NULL;
    config->source = rpo_strdup(path);
    config->places = rpo_calloc_array(1, sizeof *config->places);
    if (config->source == NULL || config->places == NULL)
        goto failed;
    config->places->of_key = rpo_calloc_array(num_keys, sizeof *config->places->of_key);
    if (config->places->of_key == NULL)
        goto failed;
    config->places->count = num_keys;
    return config;

failed:
    rpo_config_free(config);
    return NULL;
}

static void free_list(rpo_string_list *list) {
    rpo_free_names(list->items, list->count);
}

void rpo_config_free(rpo_config *config) {
    if (config == NULL)
        return;
    if (config->places != NULL)
        rpo_free_names(config->places->of_key, config->places->count);
    rpo_free(config->places);
    rpo_free(config->model.path);
    free_list(&config->data.train);
    free_list(&config->data.eval);
    rpo_free(config->embedding.path);
    rpo_free(config->embedding.eval_path);
    rpo_free(config->reference.path);
    rpo_free(config->run.dir);
    rpo_free(config->source);
    rpo_free(config);
}

static const char *place_of(const rpo_config *config, const char *key) {
    size_t count = 0;
    const rpo_config_key *keys = rpo_config_keys(&count);
    for (size_t i = 0; i < count; ++i) {
        const size_t length = strlen(keys[i].name);
        const bool below =
            strncmp(key, keys[i].name, length) == 0 && (key[length] == '\0' || key[length] == '.');
        if (below && config->places->of_key[i] != NULL)
            return config->places->of_key[i];
    }
    return NULL;
}

bool rpo_config_is_given(const rpo_config *config, const char *key) {
    return place_of(config, key) != NULL;
}

rpo_status rpo_config_fault(const rpo_config *config, const char *key, const char *format, ...) {
    char what[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    const char *place = place_of(config, key);
    return rpo_error_set(RPO_ERROR_INVALID_INPUT, "%s: %s: %s", place != NULL ? place : config->source, key,
                         what);
}
