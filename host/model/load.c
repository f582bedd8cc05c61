/* load.c - a model from an HF folder: every tensor is checked before the first is read. */
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

static rpo_status check_tensor(const char *folder, const rpo_tensor *tensor, const rpo_tensor_info *info) {
    const int num_dims = tensor->shape[1] == 0 ? 1 : 2;
    char expected[SHAPE_TEXT];
    char found[SHAPE_TEXT];
    format_shape(expected, tensor->shape, num_dims);
    if (info == NULL)
        return rpo_error_set(RPO_ERROR_INVALID_INPUT,
                             "%s: tensor %s: is missing; config.json calls for one of shape %s", folder,
                             tensor->name, expected);
    if (strcmp(info->dtype, "F32") != 0 && strcmp(info->dtype, "BF16") != 0 &&
        strcmp(info->dtype, "F16") != 0)
        return rpo_error_set(RPO_ERROR_INVALID_INPUT, "%s: tensor %s: dtype is %s; must be F32, BF16 or F16",
                             folder, tensor->name, info->dtype);
    if (info->num_dims != num_dims ||
        memcmp(info->shape, tensor->shape, (size_t)num_dims * sizeof(int64_t)) != 0) {
        format_shape(found, info->shape, info->num_dims);
        return rpo_error_set(RPO_ERROR_INVALID_INPUT, "%s: tensor %s: shape is %s; config.json calls for %s",
                             folder, tensor->name, found, expected);
    }
    return RPO_OK;
}

/* Old checkpoints hold the rotary frequencies, which follow from config.json. */
static bool is_derived(const char *name) {
    static const char suffix[] = ".rotary_emb.inv_freq";
    const size_t length = strlen(name);
    return length >= sizeof suffix - 1 && strcmp(name + length - (sizeof suffix - 1), suffix) == 0;
}

/* Every tensor of the model must be there; is_known[tensors of the file] comes in false. */
static rpo_status check_known(const rpo_model *model, const char *folder, const rpo_safetensors *file,
                              bool *is_known) {
    for (size_t p = 0; p < model->tensors.count; ++p) {
        const rpo_tensor *tensor = &model->tensors.items[p];
        const rpo_tensor_info *info = rpo_safetensors_find(file, tensor->name);
        RPO_TRY(check_tensor(folder, tensor, info));
        is_known[info - rpo_safetensors_at(file, 0)] = true;
    }
    return RPO_OK;
}

/* No tensor may be there that the model has no use for. */
static rpo_status refuse_others(const char *folder, const rpo_safetensors *file, const bool *is_known) {
    for (size_t i = 0; i < rpo_safetensors_count(file); ++i) {
        const char *name = rpo_safetensors_at(file, i)->name;
        if (is_known[i] || is_derived(name))
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
    bool *is_known = rpo_calloc_array(rpo_safetensors_count(file), sizeof *is_known);
    if (is_known == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    rpo_status status = check_known(model, folder, file, is_known);
    if (status == RPO_OK)
        status = refuse_others(folder, file, is_known);
    rpo_free(is_known);
    return status;
}

/* A weight that is not finite would end in a loss that is not, steps later. */
typedef struct weight_sink {
    rpo_context *context;
    float *device;
    const char *folder, *name;
} weight_sink;

static rpo_status write_weights(void *user, int64_t first, int64_t count, const float *values) {
    const weight_sink *to = user;
    for (int64_t i = 0; i < count; ++i)
        if (!isfinite(values[i]))
            return rpo_error_set(RPO_ERROR_INVALID_INPUT,
                                 "%s: tensor %s: element %lld is %g; weights must be finite", to->folder,
                                 to->name, (long long)(first + i), (double)values[i]);
    return rpo_device_write(to->context, to->device, values, first, count);
}

static rpo_status read_weights(rpo_model *model, const char *folder, const rpo_safetensors *file) {
    for (size_t p = 0; p < model->tensors.count; ++p) {
        const rpo_tensor *tensor = &model->tensors.items[p];
        weight_sink to = {model->context, model->memory->weights + tensor->offset, folder, tensor->name};
        RPO_TRY(
            rpo_safetensors_read_pieces(file, rpo_safetensors_find(file, tensor->name), write_weights, &to));
    }
    return RPO_OK;
}

rpo_status rpo_model_config_load(rpo_model_config *config, const char *folder) {
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

rpo_status rpo_model_check_folder(const rpo_model *model, const char *folder) {
    rpo_safetensors *file = NULL;
    RPO_TRY(rpo_safetensors_open(&file, folder));
    const rpo_status status = check_tensors(model, folder, file);
    rpo_safetensors_close(file);
    return status;
}

rpo_status rpo_model_read(rpo_model *model, const char *folder) {
    rpo_safetensors *file = NULL;
    RPO_TRY(rpo_safetensors_open(&file, folder));
    rpo_status status = check_tensors(model, folder, file);
    if (status == RPO_OK)
        status = read_weights(model, folder, file);
    rpo_safetensors_close(file);
    return status;
}
