/*
 * linear.c - y = x W^T and its two gradients, over rpo_cpu_gemm.
 *
 * A BLAS library cuts a product into pieces by the number of its threads, and the last bit of a sum follows
 * the cut. Here the output is cut into tiles of a fixed size, each multiplied by one thread: as fast, and the
 * same bits from any number of threads.
 */
#include <string.h>

#include "kernels/cpu/blas.h"
#include "kernels/cpu/model.h"

enum { TILE_ROWS = 256, TILE_COLUMNS = 256, WEIGHT_TILE = 128 };

/* Copies a tile, unless it is its own source. */
static void copy_tile(float *to, const float *from, int64_t stride, int64_t rows, int64_t columns) {
    if (to == from)
        return;
    for (int64_t r = 0; r < rows; ++r)
        memcpy(to + r * stride, from + r * stride, (size_t)columns * sizeof *to);
}

/* c = op(a) op(b), plus `added` (laid out as c) when not NULL, c [m][n], in tiles of tile_m x tile_n. */
static rpo_status tiled_gemm(rpo_context *context, float *c, const float *added, int64_t c_stride,
                             rpo_cpu_matrix a, rpo_cpu_matrix b, int64_t m, int64_t n, int64_t k,
                             int64_t tile_m, int64_t tile_n) {
    const int64_t tiles_n = (n + tile_n - 1) / tile_n;
    const int64_t tiles = (m + tile_m - 1) / tile_m * tiles_n;
    rpo_status status = RPO_OK;
#pragma omp parallel for num_threads(rpo_cpu_threads(context)) schedule(dynamic, 1)
    for (int64_t tile = 0; tile < tiles; ++tile) {
        const int64_t i = tile / tiles_n * tile_m;
        const int64_t j = tile % tiles_n * tile_n;
        const int64_t rows = i + tile_m < m ? tile_m : m - i;
        const int64_t columns = j + tile_n < n ? tile_n : n - j;
        const rpo_cpu_matrix a_part = {a.data + i * (a.transposed ? 1 : a.stride), a.stride, a.transposed};
        const rpo_cpu_matrix b_part = {b.data + j * (b.transposed ? b.stride : 1), b.stride, b.transposed};
        float *c_part = c + i * c_stride + j;
        if (added != NULL)
            copy_tile(c_part, added + i * c_stride + j, c_stride, rows, columns);
        const rpo_status part = rpo_cpu_gemm(context, c_part, c_stride, a_part, b_part, rows, columns, k,
                                             1.0f, added != NULL ? 1.0f : 0.0f);
        if (part != RPO_OK) {
#pragma omp atomic write
            status = part;
        }
    }
    /* The message was set on the thread that failed; say it again on this one. */
    if (status != RPO_OK)
        return rpo_error_set(status, "linear: a dimension of %lld x %lld x %lld is beyond the BLAS library's",
                             (long long)m, (long long)n, (long long)k);
    return RPO_OK;
}

rpo_status rpo_cpu_linear(rpo_context *context, void *y, const void *x, const void *weight,
                          const void *residual, const rpo_linear_shape *shape) {
    RPO_TRY(rpo_cpu_require_float32("linear", shape->dtype));
    const rpo_cpu_matrix a = {x, shape->in_stride, false};
    const rpo_cpu_matrix b = {weight, shape->in_features, true};
    return tiled_gemm(context, y, residual, shape->out_stride, a, b, shape->rows, shape->out_features,
                      shape->in_features, TILE_ROWS, TILE_COLUMNS);
}

rpo_status rpo_cpu_linear_backward_input(rpo_context *context, void *grad_x, const void *grad_y,
                                         const void *weight, const rpo_linear_shape *shape, bool accumulate) {
    RPO_TRY(rpo_cpu_require_float32("linear_backward_input", shape->dtype));
    const rpo_cpu_matrix a = {grad_y, shape->out_stride, false};
    const rpo_cpu_matrix b = {weight, shape->in_features, false};
    return tiled_gemm(context, grad_x, accumulate ? grad_x : NULL, shape->in_stride, a, b, shape->rows,
                      shape->in_features, shape->out_features, TILE_ROWS, TILE_COLUMNS);
}

rpo_status rpo_cpu_linear_backward_weight(rpo_context *context, float *grad_weight, const void *grad_y,
                                          const void *x, const rpo_linear_shape *shape, bool accumulate) {
    RPO_TRY(rpo_cpu_require_float32("linear_backward_weight", shape->dtype));
    const rpo_cpu_matrix a = {grad_y, shape->out_stride, true};
    const rpo_cpu_matrix b = {x, shape->in_stride, false};
    return tiled_gemm(context, grad_weight, accumulate ? grad_weight : NULL, shape->in_features, a, b,
                      shape->out_features, shape->in_features, shape->rows, WEIGHT_TILE, WEIGHT_TILE);
}
