/*
 * config.c - LlamaConfig: HF's config.json (and model.init) in and out through one table of keys, which also
 * is the help. Every value is checked here.
 */
#include <string.h>

#include "core/json.h"
#include "host/model/config.h"

/* Bounds that keep every product of sizes far inside 64 bits. */
enum {
    HIDDEN_MAX = 1 << 20,
    INTERMEDIATE_MAX = 1 << 22,
    HEADS_MAX = 1 << 12,
    HEAD_DIM_MAX = 1 << 12,
    LAYERS_MAX = 1 << 12
};

typedef enum key_type {
    KEY_SIZE,   /* int64_t */
    KEY_NUMBER, /* double */
    KEY_FLAG,   /* bool */
    KEY_TOKEN,  /* int64_t: a token id, null (-1), or a list of ids of which the first counts */
    KEY_ROPE,   /* an object with another rope_theta and features that must be the plain ones */
    KEY_ONLY,   /* no field: `only` is the one value that this model computes */
    KEY_NOTE    /* no field: written as `only` for other readers, and not read */
} key_type;

typedef struct model_key {
    const char *name;
    key_type type;
    bool required, unwritten;
    size_t offset; /* in rpo_model_config */
    double initial, low, high;
    const char *only;    /* JSON text */
    const char *derived; /* the default where it is another key's matter, in words */
    const char *meaning;
} model_key;

#define AT(field) offsetof(rpo_model_config, field)

/* In the order of config.json as it is written; a key whose check needs another's value stands behind it. */
static const model_key keys[] = {
    {.name = "architectures",
     .type = KEY_ONLY,
     .only = "[\"LlamaForCausalLM\"]",
     .meaning = "the class that transformers loads"},
    {.name = "model_type", .type = KEY_ONLY, .only = "\"llama\"", .meaning = "the architecture"},
    {.name = "vocab_size",
     .type = KEY_SIZE,
     .required = true,
     .offset = AT(vocab_size),
     .low = 1,
     .high = INT32_MAX,
     .meaning = "token ids; the byte tokenizer has 259"},
    {.name = "hidden_size",
     .type = KEY_SIZE,
     .required = true,
     .offset = AT(hidden_size),
     .low = 1,
     .high = HIDDEN_MAX,
     .meaning = "width of the model; a multiple of num_attention_heads"},
    {.name = "intermediate_size",
     .type = KEY_SIZE,
     .required = true,
     .offset = AT(intermediate_size),
     .low = 1,
     .high = INTERMEDIATE_MAX,
     .meaning = "width inside the feed-forward layers"},
    {.name = "num_hidden_layers",
     .type = KEY_SIZE,
     .required = true,
     .offset = AT(num_hidden_layers),
     .low = 1,
     .high = LAYERS_MAX,
     .meaning = "decoder layers"},
    {.name = "num_attention_heads",
     .type = KEY_SIZE,
     .required = true,
     .offset = AT(num_attention_heads),
     .low = 1,
     .high = HEADS_MAX,
     .meaning = "query heads of a layer"},
    {.name = "num_key_value_heads",
     .type = KEY_SIZE,
     .offset = AT(num_key_value_heads),
     .low = 1,
     .high = HEADS_MAX,
     .derived = "num_attention_heads",
     .meaning = "key and value heads of a layer; divides num_attention_heads"},
    {.name = "head_dim",
     .type = KEY_SIZE,
     .offset = AT(head_dim),
     .low = 1,
     .high = HEAD_DIM_MAX,
     .derived = "hidden_size / num_attention_heads",
     .meaning = "width of a head; even"},
    {.name = "max_position_embeddings",
     .type = KEY_SIZE,
     .offset = AT(max_position_embeddings),
     .initial = 2048,
     .low = 1,
     .high = INT32_MAX,
     .meaning = "longest sequence"},
    {.name = "rms_norm_eps",
     .type = KEY_NUMBER,
     .offset = AT(rms_norm_eps),
     .initial = 1e-6,
     .low = 1e-12,
     .high = 1,
     .meaning = "added to the mean square of a norm"},
    {.name = "rope_theta",
     .type = KEY_NUMBER,
     .offset = AT(rope_theta),
     .initial = 10000,
     .low = 1,
     .high = 1e15,
     .meaning = "base of the rotary frequencies; transformers 4 reads it here"},
    {.name = "rope_parameters",
     .type = KEY_ROPE,
     .offset = AT(rope_theta),
     .meaning = "{\"rope_type\": \"default\", \"rope_theta\"}: where transformers 5 reads it"},
    {.name = "rope_scaling",
     .type = KEY_ROPE,
     .unwritten = true,
     .offset = AT(rope_theta),
     .meaning = "the same of transformers 4"},
    {.name = "initializer_range",
     .type = KEY_NUMBER,
     .offset = AT(initializer_range),
     .initial = 0.02,
     .low = 0,
     .high = 1e3,
     .meaning = "standard deviation of fresh weights"},
    {.name = "bos_token_id",
     .type = KEY_TOKEN,
     .offset = AT(bos_token_id),
     .meaning = "first token of a sequence; written as the tokenizer's"},
    {.name = "eos_token_id",
     .type = KEY_TOKEN,
     .offset = AT(eos_token_id),
     .meaning = "last token of a sequence; written as the tokenizer's"},
    {.name = "pad_token_id",
     .type = KEY_TOKEN,
     .offset = AT(pad_token_id),
     .meaning = "filler that other programs use; written as the tokenizer's"},
    {.name = "tie_word_embeddings",
     .type = KEY_FLAG,
     .offset = AT(tie_word_embeddings),
     .meaning = "the head's weights are the embedding's"},
    {.name = "hidden_act", .type = KEY_ONLY, .only = "\"silu\"", .meaning = "activation"},
    {.name = "attention_bias", .type = KEY_ONLY, .only = "false", .meaning = "biases of the attention"},
    {.name = "attention_dropout", .type = KEY_ONLY, .only = "0.0", .meaning = "dropout of the attention"},
    {.name = "mlp_bias", .type = KEY_ONLY, .only = "false", .meaning = "biases of the feed-forward layers"},
    {.name = "quantization_config",
     .type = KEY_ONLY,
     .unwritten = true,
     .only = "null",
     .meaning = "quantized weights are not read"},
    {.name = "torch_dtype",
     .type = KEY_NOTE,
     .only = "\"float32\"",
     .meaning = "type of the weights as written"},
};

enum { NUM_KEYS = sizeof keys / sizeof keys[0] };

static int64_t *int_field(rpo_model_config *config, const model_key *key) {
    return (int64_t *)(void *)((char *)config + key->offset);
}

static double *double_field(rpo_model_config *config, const model_key *key) {
    return (double *)(void *)((char *)config + key->offset);
}

static bool *flag_field(rpo_model_config *config, const model_key *key) {
    return (bool *)(void *)((char *)config + key->offset);
}

rpo_model_config rpo_model_config_default(void) {
    rpo_model_config config = {0};
    for (size_t i = 0; i < NUM_KEYS; ++i)
        switch (keys[i].type) {
        case KEY_SIZE:
            *int_field(&config, &keys[i]) = (int64_t)keys[i].initial;
            break;
        case KEY_NUMBER:
            *double_field(&config, &keys[i]) = keys[i].initial;
            break;
        case KEY_TOKEN:
            *int_field(&config, &keys[i]) = -1;
            break;
        case KEY_FLAG:
        case KEY_ROPE: /* the field is rope_theta's */
        case KEY_ONLY:
        case KEY_NOTE:
            break;
        }
    return config;
}

/* ---- reading ---- */

/* The member, or NULL when it is absent or null. */
static const cJSON *member(const cJSON *object, const char *key) {
    const cJSON *found = cJSON_GetObjectItemCaseSensitive(object, key);
    return cJSON_IsNull(found) ? NULL : found;
}

static rpo_status refuse_unknown_keys(const rpo_json *json, const cJSON *object) {
    const char *names[NUM_KEYS];
    size_t count = 0;
    for (size_t i = 0; i < NUM_KEYS; ++i)
        if (keys[i].type != KEY_NOTE)
            names[count++] = keys[i].name;
    for (const cJSON *entry = object->child; entry != NULL; entry = entry->next) {
        bool known = false;
        for (size_t i = 0; i < count && !known; ++i)
            known = strcmp(entry->string, names[i]) == 0;
        if (known)
            continue;
        const char *nearest = rpo_nearest_word(entry->string, names, count);
        return nearest != NULL
                   ? rpo_json_fault(json, entry, entry->string, "unknown key; did you mean %s?", nearest)
                   : rpo_json_fault(json, entry, entry->string,
                                    "unknown key; allowed are those of a Llama model's config.json");
    }
    return RPO_OK;
}

/* A value in words: strings without their quotes, everything else as JSON. cJSON_free. */
static char *print_value(const cJSON *node) {
    char *text = cJSON_PrintUnformatted(node);
    const size_t length = text != NULL ? strlen(text) : 0;
    if (length >= 2 && text[0] == '"') {
        memmove(text, text + 1, length - 2);
        text[length - 2] = '\0';
    }
    return text;
}

/* The member must be the value of the JSON text `only`, or absent. */
static rpo_status require_only(const rpo_json *json, const cJSON *object, const char *key, const char *only) {
    const cJSON *node = member(object, key);
    if (node == NULL)
        return RPO_OK;
    rpo_status status = RPO_OK;
    cJSON *expected = cJSON_Parse(only);
    char *found = print_value(node), *allowed = expected != NULL ? print_value(expected) : NULL;
    if (found == NULL || allowed == NULL)
        status = rpo_error_set(RPO_ERROR_OUT_OF_MEMORY, "%s: no memory to compare it", key);
    else if (!cJSON_Compare(node, expected, true))
        status = rpo_json_fault(json, node, key, "is %.60s; only %s is supported", found, allowed);
    cJSON_free(allowed);
    cJSON_free(found);
    cJSON_Delete(expected);
    return status;
}

static rpo_status read_rope(const rpo_json *json, const cJSON *object, const model_key *key,
                            rpo_model_config *config) {
    const cJSON *rope = member(object, key->name);
    if (rope == NULL)
        return RPO_OK;
    if (!cJSON_IsObject(rope))
        return rpo_json_fault(json, rope, key->name, "must be an object or null");
    RPO_TRY(require_only(json, rope, "rope_type", "\"default\""));
    RPO_TRY(require_only(json, rope, "type", "\"default\""));
    RPO_TRY(require_only(json, rope, "partial_rotary_factor", "1.0"));
    double theta = config->rope_theta;
    RPO_TRY(rpo_json_get_double(json, rope, "rope_theta", false, 1.0, 1e15, &theta));
    if (theta != config->rope_theta && member(object, "rope_theta") != NULL)
        return rpo_json_fault(json, member(rope, "rope_theta"), "rope_theta",
                              "is %g in %s and %g beside it; they must agree", theta, key->name,
                              config->rope_theta);
    config->rope_theta = theta;
    return RPO_OK;
}

static rpo_status read_token(const rpo_json *json, const cJSON *object, const char *key, int64_t vocab_size,
                             int64_t *value) {
    const cJSON *node = member(object, key);
    if (node != NULL && cJSON_IsArray(node)) {
        const cJSON *first = node->child;
        if (!cJSON_IsNumber(first) || !(first->valuedouble >= 0 && first->valuedouble < (double)vocab_size) ||
            first->valuedouble != (double)(int64_t)first->valuedouble)
            return rpo_json_fault(json, node, key, "must be a token id in 0..%lld or a list of them",
                                  (long long)(vocab_size - 1));
        *value = (int64_t)first->valuedouble;
        return RPO_OK;
    }
    return rpo_json_get_int(json, object, key, false, -1, vocab_size - 1, value);
}

static rpo_status read_key(const rpo_json *json, const cJSON *object, const model_key *key,
                           rpo_model_config *config) {
    switch (key->type) {
    case KEY_SIZE:
        return rpo_json_get_int(json, object, key->name, key->required, (int64_t)key->low, (int64_t)key->high,
                                int_field(config, key));
    case KEY_NUMBER:
        return rpo_json_get_double(json, object, key->name, key->required, key->low, key->high,
                                   double_field(config, key));
    case KEY_FLAG:
        return rpo_json_get_bool(json, object, key->name, key->required, flag_field(config, key));
    case KEY_TOKEN:
        return read_token(json, object, key->name, config->vocab_size, int_field(config, key));
    case KEY_ROPE:
        return read_rope(json, object, key, config);
    case KEY_ONLY: /* checked before everything else */
    case KEY_NOTE:
        break;
    }
    return RPO_OK;
}

/* Fills the sizes that follow from others, which are 0 so far, and checks how the sizes fit each other. */
static rpo_status check_sizes(const rpo_json *json, const cJSON *object, rpo_model_config *config) {
    const int64_t heads = config->num_attention_heads;
    if (config->num_key_value_heads == 0)
        config->num_key_value_heads = heads;
    if (heads % config->num_key_value_heads != 0)
        return rpo_json_fault(json, member(object, "num_key_value_heads"), "num_key_value_heads",
                              "is %lld; must divide num_attention_heads (%lld)",
                              (long long)config->num_key_value_heads, (long long)heads);
    if (config->hidden_size % heads != 0) /* transformers refuses it, head_dim or not */
        return rpo_json_fault(json, member(object, "hidden_size"), "hidden_size",
                              "is %lld; must be a multiple of num_attention_heads (%lld)",
                              (long long)config->hidden_size, (long long)heads);
    const bool given = config->head_dim != 0;
    if (!given)
        config->head_dim = config->hidden_size / heads;
    if (config->head_dim % 2 != 0 || config->head_dim > HEAD_DIM_MAX)
        return rpo_json_fault(json, member(object, given ? "head_dim" : "hidden_size"), "head_dim",
                              "is %lld; must be even and at most %d", (long long)config->head_dim,
                              HEAD_DIM_MAX);
    return RPO_OK;
}

rpo_status rpo_model_config_read(rpo_model_config *config, const rpo_json *json, const void *object,
                                 bool strict) {
    const cJSON *members = object;
    rpo_model_config read = rpo_model_config_default();
    if (!cJSON_IsObject(members))
        return rpo_json_fault(json, members, "model configuration", "must be a JSON object");
    if (strict)
        RPO_TRY(refuse_unknown_keys(json, members));
    for (size_t i = 0; i < NUM_KEYS; ++i) /* another architecture is named before its sizes are */
        if (keys[i].type == KEY_ONLY)
            RPO_TRY(require_only(json, members, keys[i].name, keys[i].only));
    for (size_t i = 0; i < NUM_KEYS; ++i)
        RPO_TRY(read_key(json, members, &keys[i], &read));
    RPO_TRY(check_sizes(json, members, &read));
    *config = read;
    return RPO_OK;
}

/* ---- writing ---- */

static rpo_status append_value(rpo_text *text, rpo_model_config *config, const model_key *key) {
    switch (key->type) {
    case KEY_SIZE:
        return rpo_text_printf(text, "%lld", (long long)*int_field(config, key));
    case KEY_NUMBER:
        return rpo_json_append_number(text, *double_field(config, key));
    case KEY_FLAG:
        return rpo_text_printf(text, "%s", *flag_field(config, key) ? "true" : "false");
    case KEY_TOKEN:
        return *int_field(config, key) >= 0
                   ? rpo_text_printf(text, "%lld", (long long)*int_field(config, key))
                   : rpo_text_printf(text, "null");
    case KEY_ROPE:
        RPO_TRY(rpo_text_printf(text, "{\"rope_type\": \"default\", \"rope_theta\": "));
        RPO_TRY(rpo_json_append_number(text, *double_field(config, key)));
        return rpo_text_printf(text, "}");
    case KEY_ONLY:
    case KEY_NOTE:
        return rpo_text_printf(text, "%s", key->only);
    }
    return rpo_error_set(RPO_ERROR_INTERNAL, "%s: its type has no writer", key->name);
}

static rpo_status append_keys(const rpo_model_config *config, bool fields_only, rpo_text *text) {
    rpo_model_config values = *config;
    const char *separator = "{\n";
    for (size_t i = 0; i < NUM_KEYS; ++i) {
        const bool is_field =
            keys[i].type != KEY_ONLY && keys[i].type != KEY_NOTE && keys[i].type != KEY_ROPE;
        if (keys[i].unwritten || (fields_only && !is_field))
            continue;
        RPO_TRY(rpo_text_printf(text, "%s  \"%s\": ", separator, keys[i].name));
        RPO_TRY(append_value(text, &values, &keys[i]));
        separator = ",\n";
    }
    return rpo_text_printf(text, "\n}\n");
}

rpo_status rpo_model_config_append_json(const rpo_model_config *config, rpo_text *text) {
    return append_keys(config, false, text);
}

rpo_status rpo_model_config_append_init(const rpo_model_config *config, rpo_text *text) {
    return append_keys(config, true, text);
}

/* ---- help ---- */

static rpo_status append_allowed(rpo_text *text, const model_key *key) {
    switch (key->type) {
    case KEY_SIZE:
    case KEY_NUMBER:
        if (key->required)
            RPO_TRY(rpo_text_printf(text, "required, "));
        else if (key->derived != NULL)
            RPO_TRY(rpo_text_printf(text, "default %s, ", key->derived));
        else
            RPO_TRY(rpo_text_printf(text, "default %.10g, ", key->initial));
        return rpo_text_printf(text, "%s from %.16g to %.16g",
                               key->type == KEY_SIZE ? "an integer" : "a number", key->low, key->high);
    case KEY_FLAG:
        return rpo_text_printf(text, "default false, true or false");
    case KEY_TOKEN:
        return rpo_text_printf(text, "default null, a token id or a list of them (the first counts)");
    case KEY_ROPE:
        return rpo_text_printf(text, "an object; other rope types are not supported");
    case KEY_ONLY:
    case KEY_NOTE:
        return rpo_text_printf(text, "only %s", key->only);
    }
    return rpo_error_set(RPO_ERROR_INTERNAL, "%s: its type has no help", key->name);
}

rpo_status rpo_model_config_append_help(rpo_text *text) {
    for (size_t i = 0; i < NUM_KEYS; ++i) {
        if (keys[i].type == KEY_NOTE)
            continue;
        RPO_TRY(rpo_text_printf(text, "  %-27s %s\n  %-27s ", keys[i].name, keys[i].meaning, ""));
        RPO_TRY(append_allowed(text, &keys[i]));
        RPO_TRY(rpo_text_printf(text, "\n"));
    }
    return RPO_OK;
}
