/*
 * weights.c - the weights as the host sees them: drawn, hashed, written. The device's array is copied piece by piece, so
 * that no second model is ever held.
 */
#include "host/model/weights.h"

#include "core/signals.h"
#include "host/model/model_internal.h"

enum { PIECE = 1 << 20 }; /* elements: 4 MiB */

static float *allocate_piece(int64_t count) {
    return rpo_alloc_array((size_t)(count < PIECE ? count : PIECE), sizeof(float));
}

static void draw(float *values, const rpo_model *model, const rpo_tensor *tensor, uint64_t stream,
                 uint64_t seed, int64_t first, int64_t count) {
    const double deviation = model->config.initializer_range;
    const bool is_norm = tensor->role == RPO_TENSOR_NORM;
#pragma omp parallel for num_threads(rpo_context_num_threads(model->context)) schedule(static)
    for (int64_t i = 0; i < count; ++i)
        values[i] =
            is_norm ? 1.0f : (float)(deviation * rpo_random_normal(seed, stream, (uint64_t)(first + i)));
}

rpo_status rpo_model_initialise(rpo_model *model, uint64_t seed) {
    float *piece = allocate_piece(PIECE);
    rpo_status status = piece != NULL ? RPO_OK : RPO_ERROR_OUT_OF_MEMORY;
    for (size_t p = 0; p < model->tensors.count && status == RPO_OK; ++p) {
        const rpo_tensor *tensor = &model->tensors.items[p];
        const uint64_t stream = rpo_random_stream(RPO_RANDOM_INITIAL_WEIGHTS, p);
        for (int64_t at = 0; at < tensor->count && status == RPO_OK; at += PIECE) {
            const int64_t count = tensor->count - at < PIECE ? tensor->count - at : PIECE;
            draw(piece, model, tensor, stream, seed, at, count);
            status = rpo_signals_check();
            if (status == RPO_OK)
                status = rpo_device_write(model->context, model->memory->weights, piece, tensor->offset + at,
                                          count);
        }
    }
    rpo_free(piece);
    return status;
}

static rpo_status hash_tensor(rpo_hash *hash, const rpo_model *model, const rpo_tensor *tensor,
                              float *piece) {
    rpo_hash_add_string(hash, tensor->name);
    for (int64_t at = 0; at < tensor->count; at += PIECE) {
        const int64_t count = tensor->count - at < PIECE ? tensor->count - at : PIECE;
        RPO_TRY(rpo_device_read(model->context, piece, model->memory->weights, tensor->offset + at, count));
        rpo_hash_add(hash, piece, (size_t)count * sizeof *piece);
    }
    return RPO_OK;
}

rpo_status rpo_model_hash(const rpo_model *model, char hex[33]) {
    rpo_text config = {0};
    float *piece = allocate_piece(PIECE);
    rpo_hash *hash = rpo_hash_new();
    rpo_status status = piece != NULL && hash != NULL ? RPO_OK : RPO_ERROR_OUT_OF_MEMORY;
    if (status == RPO_OK)
        status = rpo_model_config_append_json(&model->config, &config);
    if (status == RPO_OK)
        rpo_hash_add_string(hash, config.data);
    for (size_t p = 0; p < model->tensors.count && status == RPO_OK; ++p)
        status = hash_tensor(hash, model, &model->tensors.items[p], piece);
    if (hash != NULL)
        rpo_hash_finish(hash, hex);
    rpo_free(piece);
    rpo_text_free(&config);
    return status;
}

rpo_status rpo_device_source_read(void *user, int64_t first, int64_t count, float *out) {
    const rpo_device_source *source = user;
    return rpo_device_read(source->context, out, source->device, first, count);
}

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
    const size_t count = model->tensors.count;
    char *path = rpo_path_join(folder, "model.safetensors");
    rpo_tensor_write *tensors = rpo_calloc_array(count, sizeof *tensors);
    rpo_device_source *sources = rpo_calloc_array(count, sizeof *sources);
    rpo_status status = path != NULL && tensors != NULL && sources != NULL ? RPO_OK : RPO_ERROR_OUT_OF_MEMORY;
    for (size_t p = 0; p < count && status == RPO_OK; ++p) {
        const rpo_tensor *tensor = &model->tensors.items[p];
        sources[p] = (rpo_device_source){model->context, rpo_model_weight(model, tensor)};
        tensors[p] = (rpo_tensor_write){
            .name = tensor->name,
            .num_dims = tensor->shape[1] == 0 ? 1 : 2,
            .shape = {tensor->shape[0], tensor->shape[1]},
            .read = rpo_device_source_read,
            .user = &sources[p],
        };
    }
    if (status == RPO_OK)
        status = rpo_safetensors_write(path, tensors, count);
    rpo_free(sources);
    rpo_free(tensors);
    rpo_free(path);
    return status;
}

rpo_status rpo_model_save(const rpo_model *model, const char *folder) {
    RPO_TRY(save_weights(model, folder));
    return save_config(model, folder);
}

typedef struct sink {
    rpo_context *context;
    float *device;
} sink;

static rpo_status write_piece(void *user, int64_t first, int64_t count, const float *values) {
    const sink *to = user;
    return rpo_device_write(to->context, to->device, values, first, count);
}

rpo_status rpo_device_load_tensor(rpo_context *context, const rpo_safetensors *file,
                                  const rpo_tensor_info *info, float *device) {
    sink to = {context, device};
    return rpo_safetensors_read_pieces(file, info, write_piece, &to);
}
