/*
 * keys.h - the one table of configuration keys: reading, checking, writing, "did you mean" and `rpo help
 * config` all go through it.
 */
#ifndef RPO_HOST_CONFIG_KEYS_H
#define RPO_HOST_CONFIG_KEYS_H

#include "core/json.h"
#include "host/config/config.h"

/* How a value looks in the file and what it is stored as. */
typedef enum rpo_key_type {
    RPO_KEY_STRING,      /* char *, NULL when absent */
    RPO_KEY_STRING_LIST, /* rpo_string_list */
    RPO_KEY_CHOICE,      /* an enum; `choices` or `choice_name` names its values in order */
    RPO_KEY_INT32,       /* int32_t */
    RPO_KEY_INT64,       /* int64_t */
    RPO_KEY_UINT64,      /* uint64_t */
    RPO_KEY_DOUBLE,      /* double */
    RPO_KEY_MODEL        /* model.init: rpo_model_config, read by the model room */
} rpo_key_type;

typedef struct rpo_config_key {
    const char *name; /* "train.batch_size"; keys of a section stand together */
    rpo_key_type type;
    size_t offset; /* in rpo_config */
    bool required;
    double initial;             /* of numbers, and the index of choices */
    double low, high;           /* of numbers */
    bool above_low;             /* low itself is not allowed */
    const char *const *choices; /* of RPO_KEY_CHOICE, NULL at the end */
    /* The same where another room has the names; NULL past the last. */
    const char *(*choice_name)(int index);
    /* May differ when a run is resumed: how long the run goes on, what it shows and keeps, where it lies and how
     * it is packed. None of it changes what a step computes, rounding aside. */
    bool may_change;
    const char *meaning;
} rpo_config_key;

const rpo_config_key *rpo_config_keys(size_t *count);

/* The key of that full name, or NULL. */
const rpo_config_key *rpo_config_find_key(const char *name);

/* The known name closest to an unknown one: by spelling, or the same last part in another section. NULL:
 * none. */
const char *rpo_config_nearest_key(const char *name);

/* Whether `name` (with `length` letters) is the first part of some key. */
bool rpo_config_is_section(const char *name, size_t length);

/* "an integer from 1 to 8", "one of a, b": what a fault says is allowed. */
rpo_status rpo_config_append_allowed(const rpo_config_key *key, rpo_text *text);

/* The key's entry in `rpo help config`: meaning, default, what is allowed. */
rpo_status rpo_config_append_key_help(const rpo_config_key *key, rpo_text *text);

/* Name of choice `index` of a CHOICE key, NULL past the last. */
const char *rpo_config_choice_name(const rpo_config_key *key, int index);

/* ---- between the files of this room ---- */

struct rpo_config_places {
    char **of_key; /* [number of keys] "FILE:LINE" or "--set key=value"; NULL where the default holds */
    size_t count;
};

/* An empty configuration that knows its file (config.c). */
rpo_config *rpo_config_create(const char *path);

/* Puts a key's default in its place; reads and checks a value that is given (values.c). */
void rpo_config_store_default(rpo_config *config, const rpo_config_key *key);
rpo_status rpo_config_read_value(rpo_config *config, rpo_json *json, const cJSON *node,
                                 const rpo_config_key *key);

/* Whether the file or an override gives the key (config.c). */
bool rpo_config_is_given(const rpo_config *config, const char *key);

/* Checks between keys, after each alone is sound; see check.c. */
rpo_status rpo_config_check(rpo_config *config);

#endif
