/* config.c - LlamaConfig: HF's config.json (and model.init) in and out, every value checked here. */
#include <string.h>

#include "core/json.h"
#include "host/model/model_internal.h"

/* Bounds that keep every product of sizes far inside 64 bits. */
enum {
    HIDDEN_MAX = 1 << 20,
    INTERMEDIATE_MAX = 1 << 22,
    HEADS_MAX = 1 << 12,
    HEAD_DIM_MAX = 1 << 12,
    LAYERS_MAX = 1 << 12
};

/* Every key that is read or checked: what a strict reader accepts. */
static const char *const known_keys[] = {
    "vocab_size",          "hidden_size",         "intermediate_size", "num_hidden_layers",
    "num_attention_heads", "num_key_value_heads", "head_dim",          "max_position_embeddings",
    "rms_norm_eps",        "rope_theta",          "rope_parameters",   "rope_scaling",
    "initializer_range",   "tie_word_embeddings", "bos_token_id",      "eos_token_id",
    "pad_token_id",        "hidden_act",          "attention_bias",    "mlp_bias",
    "attention_dropout",   "model_type",          "architectures",     "quantization_config",
};

rpo_model_config rpo_model_config_default(void) {
    return (rpo_model_config){
        .max_position_embeddings = 2048,
        .rms_norm_eps = 1e-6,
        .rope_theta = 10000.0,
        .initializer_range = 0.02,
        .bos_token_id = -1,
        .eos_token_id = -1,
        .pad_token_id = -1,
    };
}

/* The member, or NULL when it is absent or null. */
static const cJSON *member(const cJSON *object, const char *key) {
    const cJSON *found = cJSON_GetObjectItemCaseSensitive(object, key);
    return cJSON_IsNull(found) ? NULL : found;
}

static rpo_status refuse_unknown_keys(const rpo_json *json, const cJSON *object) {
    const size_t count = sizeof known_keys / sizeof known_keys[0];
    for (const cJSON *entry = object->child; entry != NULL; entry = entry->next) {
        bool known = false;
        for (size_t i = 0; i < count && !known; ++i)
            known = strcmp(entry->string, known_keys[i]) == 0;
        if (known)
            continue;
        const char *nearest = rpo_nearest_word(entry->string, known_keys, count);
        return nearest != NULL
                   ? rpo_json_fault(json, entry, entry->string, "unknown key; did you mean %s?", nearest)
                   : rpo_json_fault(json, entry, entry->string,
                                    "unknown key; allowed are those of a Llama model's config.json");
    }
    return RPO_OK;
}

static rpo_status require_false(const rpo_json *json, const cJSON *object, const char *key) {
    bool value = false;
    RPO_TRY(rpo_json_get_bool(json, object, key, false, &value));
    if (value)
        return rpo_json_fault(json, member(object, key), key, "is true; only false is supported");
    return RPO_OK;
}

static rpo_status require_string(const rpo_json *json, const cJSON *object, const char *key,
                                 const char *allowed) {
    const char *value = allowed;
    RPO_TRY(rpo_json_get_string(json, object, key, false, &value));
    if (strcmp(value, allowed) != 0)
        return rpo_json_fault(json, member(object, key), key, "is %s; only %s is supported", value, allowed);
    return RPO_OK;
}

static rpo_status check_architecture(const rpo_json *json, const cJSON *object) {
    RPO_TRY(require_string(json, object, "model_type", "llama"));
    const cJSON *list = member(object, "architectures");
    if (list == NULL)
        return RPO_OK;
    const cJSON *first = cJSON_IsArray(list) ? list->child : NULL;
    if (first == NULL || first->next != NULL || !cJSON_IsString(first) ||
        strcmp(first->valuestring, "LlamaForCausalLM") != 0)
        return rpo_json_fault(json, list, "architectures",
                              "must be [\"LlamaForCausalLM\"], the one supported");
    return RPO_OK;
}

/* rope_parameters (transformers 5) or rope_scaling (4): objects whose type must be the plain one. */
static rpo_status read_rope_object(const rpo_json *json, const cJSON *object, const char *key,
                                   rpo_model_config *config) {
    const cJSON *rope = member(object, key);
    if (rope == NULL)
        return RPO_OK;
    if (!cJSON_IsObject(rope))
        return rpo_json_fault(json, rope, key, "must be an object or null");
    RPO_TRY(require_string(json, rope, "rope_type", "default"));
    RPO_TRY(require_string(json, rope, "type", "default"));
    double partial = 1.0;
    RPO_TRY(rpo_json_get_double(json, rope, "partial_rotary_factor", false, 1.0, 1.0, &partial));
    double theta = config->rope_theta;
    RPO_TRY(rpo_json_get_double(json, rope, "rope_theta", false, 1.0, 1e15, &theta));
    if (theta != config->rope_theta && member(object, "rope_theta") != NULL)
        return rpo_json_fault(json, member(rope, "rope_theta"), "rope_theta",
                              "is %g in %s and %g beside it; they must agree", theta, key,
                              config->rope_theta);
    config->rope_theta = theta;
    return RPO_OK;
}

/* Features that change the computation and that this model does not have. */
static rpo_status check_features(const rpo_json *json, const cJSON *object) {
    RPO_TRY(check_architecture(json, object));
    RPO_TRY(require_string(json, object, "hidden_act", "silu"));
    RPO_TRY(require_false(json, object, "attention_bias"));
    RPO_TRY(require_false(json, object, "mlp_bias"));
    double dropout = 0.0;
    RPO_TRY(rpo_json_get_double(json, object, "attention_dropout", false, 0.0, 0.0, &dropout));
    if (member(object, "quantization_config") != NULL)
        return rpo_json_fault(json, member(object, "quantization_config"), "quantization_config",
                              "quantized weights are not supported; must be absent or null");
    return RPO_OK;
}

/* A token id, null, or (eos_token_id of some models) a list whose first one is taken. */
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

static rpo_status read_sizes(const rpo_json *json, const cJSON *object, rpo_model_config *config) {
    RPO_TRY(rpo_json_get_int(json, object, "vocab_size", true, 1, INT32_MAX, &config->vocab_size));
    RPO_TRY(rpo_json_get_int(json, object, "hidden_size", true, 1, HIDDEN_MAX, &config->hidden_size));
    RPO_TRY(rpo_json_get_int(json, object, "intermediate_size", true, 1, INTERMEDIATE_MAX,
                             &config->intermediate_size));
    RPO_TRY(
        rpo_json_get_int(json, object, "num_hidden_layers", true, 1, LAYERS_MAX, &config->num_hidden_layers));
    RPO_TRY(rpo_json_get_int(json, object, "num_attention_heads", true, 1, HEADS_MAX,
                             &config->num_attention_heads));
    config->num_key_value_heads = config->num_attention_heads;
    RPO_TRY(rpo_json_get_int(json, object, "num_key_value_heads", false, 1, config->num_attention_heads,
                             &config->num_key_value_heads));
    if (config->num_attention_heads % config->num_key_value_heads != 0)
        return rpo_json_fault(json, member(object, "num_key_value_heads"), "num_key_value_heads",
                              "is %lld; must divide num_attention_heads (%lld)",
                              (long long)config->num_key_value_heads, (long long)config->num_attention_heads);
    if (config->hidden_size % config->num_attention_heads != 0) /* transformers refuses it, head_dim or not */
        return rpo_json_fault(json, member(object, "hidden_size"), "hidden_size",
                              "is %lld; must be a multiple of num_attention_heads (%lld)",
                              (long long)config->hidden_size, (long long)config->num_attention_heads);
    config->head_dim = config->hidden_size / config->num_attention_heads;
    RPO_TRY(rpo_json_get_int(json, object, "head_dim", false, 1, HEAD_DIM_MAX, &config->head_dim));
    if (config->head_dim % 2 != 0 || config->head_dim > HEAD_DIM_MAX)
        return rpo_json_fault(
            json, member(object, member(object, "head_dim") != NULL ? "head_dim" : "hidden_size"), "head_dim",
            "is %lld; must be even and at most %d", (long long)config->head_dim, HEAD_DIM_MAX);
    return rpo_json_get_int(json, object, "max_position_embeddings", false, 1, INT32_MAX,
                            &config->max_position_embeddings);
}

rpo_status rpo_model_config_read(rpo_model_config *config, const rpo_json *json, const void *object,
                                 bool strict) {
    const cJSON *keys = object;
    rpo_model_config read = rpo_model_config_default();
    if (!cJSON_IsObject(keys))
        return rpo_json_fault(json, keys, "model configuration", "must be a JSON object");
    if (strict)
        RPO_TRY(refuse_unknown_keys(json, keys));
    RPO_TRY(check_features(json, keys));
    RPO_TRY(read_sizes(json, keys, &read));
    RPO_TRY(rpo_json_get_double(json, keys, "rms_norm_eps", false, 1e-12, 1.0, &read.rms_norm_eps));
    RPO_TRY(rpo_json_get_double(json, keys, "rope_theta", false, 1.0, 1e15, &read.rope_theta));
    RPO_TRY(read_rope_object(json, keys, "rope_parameters", &read));
    RPO_TRY(read_rope_object(json, keys, "rope_scaling", &read));
    RPO_TRY(rpo_json_get_double(json, keys, "initializer_range", false, 0.0, 1e3, &read.initializer_range));
    RPO_TRY(rpo_json_get_bool(json, keys, "tie_word_embeddings", false, &read.tie_word_embeddings));
    RPO_TRY(read_token(json, keys, "bos_token_id", read.vocab_size, &read.bos_token_id));
    RPO_TRY(read_token(json, keys, "eos_token_id", read.vocab_size, &read.eos_token_id));
    RPO_TRY(read_token(json, keys, "pad_token_id", read.vocab_size, &read.pad_token_id));
    *config = read;
    return RPO_OK;
}

void rpo_model_set_token_ids(rpo_model *model, int64_t bos, int64_t eos, int64_t pad) {
    model->config.bos_token_id = bos;
    model->config.eos_token_id = eos;
    model->config.pad_token_id = pad;
}

static rpo_status append_int(rpo_text *text, const char *key, int64_t value) {
    return rpo_text_printf(text, "  \"%s\": %lld,\n", key, (long long)value);
}

static rpo_status append_double(rpo_text *text, const char *key, double value) {
    RPO_TRY(rpo_text_printf(text, "  \"%s\": ", key));
    RPO_TRY(rpo_json_append_number(text, value));
    return rpo_text_printf(text, ",\n");
}

static rpo_status append_token(rpo_text *text, const char *key, int64_t value) {
    return value >= 0 ? append_int(text, key, value) : rpo_text_printf(text, "  \"%s\": null,\n", key);
}

/* rope_theta stands in both places: transformers 4 reads the first, 5 the second. */
rpo_status rpo_model_config_append_json(const rpo_model_config *config, rpo_text *text) {
    RPO_TRY(rpo_text_printf(
        text, "{\n  \"architectures\": [\"LlamaForCausalLM\"],\n  \"model_type\": \"llama\",\n"));
    RPO_TRY(append_int(text, "vocab_size", config->vocab_size));
    RPO_TRY(append_int(text, "hidden_size", config->hidden_size));
    RPO_TRY(append_int(text, "intermediate_size", config->intermediate_size));
    RPO_TRY(append_int(text, "num_hidden_layers", config->num_hidden_layers));
    RPO_TRY(append_int(text, "num_attention_heads", config->num_attention_heads));
    RPO_TRY(append_int(text, "num_key_value_heads", config->num_key_value_heads));
    RPO_TRY(append_int(text, "head_dim", config->head_dim));
    RPO_TRY(append_int(text, "max_position_embeddings", config->max_position_embeddings));
    RPO_TRY(append_double(text, "rms_norm_eps", config->rms_norm_eps));
    RPO_TRY(append_double(text, "rope_theta", config->rope_theta));
    RPO_TRY(rpo_text_printf(text, "  \"rope_parameters\": {\"rope_type\": \"default\", \"rope_theta\": "));
    RPO_TRY(rpo_json_append_number(text, config->rope_theta));
    RPO_TRY(rpo_text_printf(text, "},\n"));
    RPO_TRY(append_double(text, "initializer_range", config->initializer_range));
    RPO_TRY(append_token(text, "bos_token_id", config->bos_token_id));
    RPO_TRY(append_token(text, "eos_token_id", config->eos_token_id));
    RPO_TRY(append_token(text, "pad_token_id", config->pad_token_id));
    return rpo_text_printf(
        text,
        "  \"tie_word_embeddings\": %s,\n  \"hidden_act\": \"silu\",\n  \"attention_bias\": false,\n"
        "  \"attention_dropout\": 0.0,\n  \"mlp_bias\": false,\n  \"torch_dtype\": \"float32\"\n}\n",
        config->tie_word_embeddings ? "true" : "false");
}
