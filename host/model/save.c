/* save.c - a model into an HF folder: config.json and model.safetensors, each complete or absent. */
#include "host/formats/safetensors.h"
#include "host/model/model_internal.h"

static rpo_status save_config(const rpo_model *model, const char *folder) {
    rpo_text text = {0};
    char *path = rpo_path_join(folder, "config.json");
    rpo_status status = path != NULL ? RPO_OK : RPO_ERROR_OUT_OF_MEMORY;
    if (status == RPO_OK)
        status = rpo_model_config_append_json(&model->config, &text);
    if (status == RPO_OK)
        status = rpo_write_file_atomic(path, text.data, text.length);
    rpo_free(path);
    rpo_text_free(&text);
    return status;
}

static rpo_status save_weights(const rpo_model *model, const char *folder) {
    const size_t count = model->parameters.count;
    char *path = rpo_path_join(folder, "model.safetensors");
    rpo_tensor_write *tensors = rpo_calloc_array(count, sizeof *tensors);
    rpo_status status = path != NULL && tensors != NULL ? RPO_OK : RPO_ERROR_OUT_OF_MEMORY;
    if (status == RPO_OK) {
        for (size_t p = 0; p < count; ++p) {
            const rpo_parameter *parameter = &model->parameters.items[p];
            tensors[p] = (rpo_tensor_write){
                .name = parameter->name,
                .num_dims = parameter->shape[1] == 0 ? 1 : 2,
                .shape = {parameter->shape[0], parameter->shape[1]},
                .data = model->weights + parameter->offset,
            };
        }
        status = rpo_safetensors_write(path, tensors, count);
    }
    rpo_free(tensors);
    rpo_free(path);
    return status;
}

rpo_status rpo_model_save(const rpo_model *model, const char *folder) {
    RPO_TRY(save_weights(model, folder));
    return save_config(model, folder);
}
