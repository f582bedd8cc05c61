/* embed_file.c - embeddings made elsewhere: a .npy or .safetensors matrix with one row per record. */
#include <inttypes.h>
#include <string.h>

#include "host/embed/embed_internal.h"
#include "host/formats/npy.h"
#include "host/formats/safetensors.h"

static bool has_suffix(const char *path, const char *suffix) {
    const size_t length = strlen(path), tail = strlen(suffix);
    return length >= tail && strcmp(path + length - tail, suffix) == 0;
}

/* The tensor named "embeddings", or the only one. */
static rpo_status find_tensor(const rpo_tensor_info **tensor, const rpo_safetensors *file, const char *path,
                              int64_t expected_rows) {
    *tensor = rpo_safetensors_find(file, "embeddings");
    if (*tensor == NULL && rpo_safetensors_count(file) == 1)
        *tensor = rpo_safetensors_at(file, 0);
    if (*tensor == NULL)
        return rpo_error_set(
            RPO_ERROR_INVALID_INPUT,
            "%s: holds %zu tensors and none named embeddings; must hold that or one tensor alone", path,
            rpo_safetensors_count(file));
    if ((*tensor)->num_dims != 2 || (*tensor)->shape[1] < 1)
        return rpo_error_set(RPO_ERROR_INVALID_INPUT,
                             "%s: %s: must have two dimensions, (rows, columns), and at least one column",
                             path, (*tensor)->name);
    if ((*tensor)->shape[0] != expected_rows)
        return rpo_error_set(RPO_ERROR_INVALID_INPUT,
                             "%s: %s: has %" PRId64 " rows; must have one for each of the %" PRId64
                             " records",
                             path, (*tensor)->name, (*tensor)->shape[0], expected_rows);
    return RPO_OK;
}

static rpo_status read_safetensors(rpo_matrix *matrix, const char *path, int64_t expected_rows) {
    rpo_safetensors *file = NULL;
    const rpo_tensor_info *tensor = NULL;
    RPO_TRY(rpo_safetensors_open(&file, path));
    rpo_status status = find_tensor(&tensor, file, path, expected_rows);
    if (status != RPO_OK)
        goto cleanup;
    matrix->values = rpo_alloc_array((size_t)tensor->count, sizeof *matrix->values);
    if (matrix->values == NULL) {
        status = RPO_ERROR_OUT_OF_MEMORY;
        goto cleanup;
    }
    matrix->rows = tensor->shape[0];
    matrix->columns = tensor->shape[1];
    status = rpo_safetensors_read_float(file, tensor, matrix->values);

cleanup:
    rpo_safetensors_close(file);
    return status;
}

static rpo_status normalize_rows(const rpo_matrix *matrix, const char *path) {
    for (int64_t i = 0; i < matrix->rows; ++i)
        if (!rpo_embed_normalize(matrix->values + i * matrix->columns, matrix->columns))
            return rpo_error_set(RPO_ERROR_INVALID_INPUT,
                                 "%s: row %" PRId64 " holds NaN or infinity; every value must be finite",
                                 path, i);
    return RPO_OK;
}

rpo_status rpo_embed_file(rpo_embeddings *embeddings, const rpo_dataset *dataset, const char *path) {
    const int64_t count = rpo_dataset_size(dataset);
    rpo_matrix matrix = {0};
    rpo_status status;
    if (has_suffix(path, ".npy"))
        status = rpo_npy_read(&matrix, path, count);
    else if (has_suffix(path, ".safetensors"))
        status = read_safetensors(&matrix, path, count);
    else
        status = rpo_error_set(RPO_ERROR_INVALID_INPUT, "%s: must be a .npy or .safetensors file", path);
    if (status == RPO_OK)
        status = normalize_rows(&matrix, path);
    if (status != RPO_OK) {
        rpo_free(matrix.values);
        return status;
    }
    embeddings->rows = matrix.values;
    embeddings->count = matrix.rows;
    embeddings->dim = matrix.columns;
    return RPO_OK;
}
