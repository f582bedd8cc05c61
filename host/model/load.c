/* load.c - a model from an HF folder: every tensor is checked before memory of the weights' size is asked
 * for. */
#include <math.h>
#include <string.h>

#include "core/json.h"
#include "host/formats/safetensors.h"
#include "host/model/model_internal.h"

enum { CONFIG_SIZE_MAX = 16 << 20, SHAPE_TEXT = 192 };

/* "[3, 4]" */
static void format_shape(char text[SHAPE_TEXT], const int64_t *shape, int num_dims) {
    rpo_text built = {0};
    rpo_status status = rpo_text_printf(&built, "[");
    for (int d = 0; d < num_dims && status == RPO_OK; ++d)
        status = rpo_text_printf(&built, "%s%lld", d > 0 ? ", " : "", (long long)shape[d]);
    if (status == RPO_OK)
        status = rpo_text_printf(&built, "]");
    text[0] = '\0';
    if (status == RPO_OK && built.length < SHAPE_TEXT)
        memcpy(text, built.data, built.length + 1);
    rpo_text_free(&built);
}

static rpo_status check_tensor(const char *folder, const rpo_parameter *parameter,
                               const rpo_tensor_info *info) {
    const int num_dims = parameter->shape[1] == 0 ? 1 : 2;
    char expected[SHAPE_TEXT];
    char found[SHAPE_TEXT];
    format_shape(expected, parameter->shape, num_dims);
    if (info == NULL)
        return rpo_error_set(RPO_ERROR_INVALID_INPUT,
                             "%s: tensor %s: is missing; config.json calls for one of shape %s", folder,
                             parameter->name, expected);
    if (strcmp(info->dtype, "F32") != 0 && strcmp(info->dtype, "BF16") != 0 &&
        strcmp(info->dtype, "F16") != 0)
        return rpo_error_set(RPO_ERROR_INVALID_INPUT, "%s: tensor %s: dtype is %s; must be F32, BF16 or F16",
                             folder, parameter->name, info->dtype);
    if (info->num_dims != num_dims ||
        memcmp(info->shape, parameter->shape, (size_t)num_dims * sizeof(int64_t)) != 0) {
        format_shape(found, info->shape, info->num_dims);
        return rpo_error_set(RPO_ERROR_INVALID_INPUT, "%s: tensor %s: shape is %s; config.json calls for %s",
                             folder, parameter->name, found, expected);
    }
    return RPO_OK;
}

/* Old checkpoints hold the rotary frequencies, which follow from config.json. */
static bool is_derived(const char *name) {
    static const char suffix[] = ".rotary_emb.inv_freq";
    const size_t length = strlen(name);
    return length >= sizeof suffix - 1 && strcmp(name + length - (sizeof suffix - 1), suffix) == 0;
}

/* Every parameter must be there; is_parameter[tensors of the file] comes in false. */
static rpo_status check_parameters(const rpo_model *model, const char *folder, const rpo_safetensors *file,
                                   bool *is_parameter) {
    for (size_t p = 0; p < model->parameters.count; ++p) {
        const rpo_parameter *parameter = &model->parameters.items[p];
        const rpo_tensor_info *info = rpo_safetensors_find(file, parameter->name);
        RPO_TRY(check_tensor(folder, parameter, info));
        is_parameter[info - rpo_safetensors_at(file, 0)] = true;
    }
    return RPO_OK;
}

/* No tensor may be there that the model has no use for. */
static rpo_status refuse_others(const char *folder, const rpo_safetensors *file, const bool *is_parameter) {
    for (size_t i = 0; i < rpo_safetensors_count(file); ++i) {
        const char *name = rpo_safetensors_at(file, i)->name;
        if (is_parameter[i] || is_derived(name))
            continue;
        if (strcmp(name, "lm_head.weight") == 0)
            return rpo_error_set(RPO_ERROR_INVALID_INPUT,
                                 "%s: tensor lm_head.weight: not expected, config.json ties it to "
                                 "model.embed_tokens.weight; set tie_word_embeddings to false to use it",
                                 folder);
        return rpo_error_set(
            RPO_ERROR_INVALID_INPUT,
            "%s: tensor %s: not expected; a Llama model of this config.json has none of that name", folder,
            name);
    }
    return RPO_OK;
}

static rpo_status check_tensors(const rpo_model *model, const char *folder, const rpo_safetensors *file) {
    bool *is_parameter = rpo_calloc_array(rpo_safetensors_count(file), sizeof *is_parameter);
    if (is_parameter == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    rpo_status status = check_parameters(model, folder, file, is_parameter);
    if (status == RPO_OK)
        status = refuse_others(folder, file, is_parameter);
    rpo_free(is_parameter);
    return status;
}

static rpo_status read_weights(rpo_model *model, const char *folder, const rpo_safetensors *file) {
    model->weights = rpo_calloc_array((size_t)model->parameters.total, sizeof *model->weights);
    if (model->weights == NULL)
        return rpo_error_prefix(RPO_ERROR_OUT_OF_MEMORY, "%s: weights: ", folder);
    for (size_t p = 0; p < model->parameters.count; ++p) {
        const rpo_parameter *parameter = &model->parameters.items[p];
        float *values = model->weights + parameter->offset;
        RPO_TRY(rpo_safetensors_read_float(file, rpo_safetensors_find(file, parameter->name), values));
        for (int64_t i = 0; i < parameter->count; ++i)
            if (!isfinite(values[i]))
                return rpo_error_set(RPO_ERROR_INVALID_INPUT,
                                     "%s: tensor %s: element %lld is %g; weights must be finite", folder,
                                     parameter->name, (long long)i, (double)values[i]);
    }
    return RPO_OK;
}

static rpo_status read_config(rpo_model_config *config, const char *folder) {
    rpo_json *json = NULL;
    char *path = rpo_path_join(folder, "config.json");
    if (path == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    rpo_status status = rpo_json_read_file(&json, path, CONFIG_SIZE_MAX);
    if (status == RPO_OK)
        status = rpo_model_config_read(config, json, rpo_json_root(json), false);
    rpo_json_free(json);
    rpo_free(path);
    return status;
}

rpo_status rpo_model_load(rpo_model **model, rpo_context *context, const char *folder) {
    rpo_model_config config;
    rpo_safetensors *file = NULL;
    rpo_model *loaded = NULL;
    *model = NULL;
    rpo_status status = read_config(&config, folder);
    if (status == RPO_OK)
        status = rpo_model_new(&loaded, context, &config);
    if (status == RPO_OK)
        status = rpo_safetensors_open(&file, folder);
    if (status == RPO_OK)
        status = check_tensors(loaded, folder, file);
    if (status == RPO_OK)
        status = read_weights(loaded, folder, file);
    if (status == RPO_OK) {
        *model = loaded;
        loaded = NULL;
    }
    rpo_safetensors_close(file);
    rpo_model_free(loaded);
    return status;
}
