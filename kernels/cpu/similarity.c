/* similarity.c - the cosine similarity matrix, written strip by strip straight into the caller's memory. */
#include "kernels/cpu/contrast.h"

typedef struct matrix_layout {
    int64_t strip_rows;
    float *inverse_norms; /* [n] */
    float *tiles;         /* one a thread */
    size_t tile_stride;   /* floats */
    size_t bytes;
} matrix_layout;

static matrix_layout lay_out(const rpo_context *context, void *workspace,
                             const rpo_similarity_inputs *inputs) {
    matrix_layout layout = {.strip_rows = rpo_cpu_strip_rows(inputs->m, inputs->n, inputs->dim)};
    rpo_bump from = rpo_bump_from(workspace);
    const size_t tile_bytes = rpo_bump_align((size_t)layout.strip_rows * (size_t)inputs->dim * sizeof(float));
    layout.tile_stride = tile_bytes / sizeof(float);
    layout.inverse_norms = rpo_bump_take(&from, inputs->n, sizeof(float));
    layout.tiles = rpo_bump_take(&from, rpo_cpu_threads(context), tile_bytes);
    layout.bytes = rpo_bump_size(&from);
    return layout;
}

rpo_status rpo_cpu_prompt_similarity_workspace_size(rpo_context *context, size_t *bytes,
                                                    const rpo_similarity_inputs *inputs) {
    *bytes = inputs->m == 0 || inputs->n == 0 ? 0 : lay_out(context, NULL, inputs).bytes;
    return RPO_OK;
}

rpo_status rpo_cpu_similarity_matrix(rpo_context *context, float *matrix, const rpo_similarity_inputs *inputs,
                                     rpo_cpu_finish_row finish, float tau, float scale, void *workspace) {
    const int64_t m = inputs->m, n = inputs->n, dim = inputs->dim;
    if (m == 0 || n == 0)
        return RPO_OK;
    const float *chosen = inputs->chosen_embeddings, *rejected = inputs->rejected_embeddings;
    const matrix_layout layout = lay_out(context, workspace, inputs);
    const int64_t num_strips = (m + layout.strip_rows - 1) / layout.strip_rows;
    rpo_cpu_inverse_norms(rpo_cpu_threads(context), layout.inverse_norms, rejected, n, dim);

    rpo_status status = RPO_OK;
#pragma omp parallel for schedule(dynamic, 1) num_threads(rpo_cpu_threads(context))
    for (int64_t s = 0; s < num_strips; ++s) {
        const int64_t first = s * layout.strip_rows;
        const int64_t rows = m - first < layout.strip_rows ? m - first : layout.strip_rows;
        float *strip = matrix + first * n;
        float *tile = layout.tiles + (size_t)omp_get_thread_num() * layout.tile_stride;
        const rpo_status strip_status =
            rpo_cpu_similarity_strip(context, strip, tile, chosen + first * dim, rejected, rows, n, dim);
        if (strip_status != RPO_OK) {
#pragma omp atomic write
            status = strip_status;
            continue;
        }
        for (int64_t r = 0; r < rows; ++r)
            finish(strip + r * n, layout.inverse_norms, n, tau, scale);
    }
    return status == RPO_OK ? RPO_OK : rpo_error_set(status, "similarity: the matrix product failed");
}

static void finish_cosine(float *row, const float *inverse_norms, int64_t n, float tau, float scale) {
    (void)tau;
    (void)scale;
#pragma omp simd
    for (int64_t j = 0; j < n; ++j)
        row[j] *= inverse_norms[j];
}

rpo_status rpo_cpu_prompt_similarity(rpo_context *context, float *similarity,
                                     const rpo_similarity_inputs *inputs, void *workspace,
                                     size_t workspace_size) {
    (void)workspace_size;
    return rpo_cpu_similarity_matrix(context, similarity, inputs, finish_cosine, 0.0f, 1.0f, workspace);
}
