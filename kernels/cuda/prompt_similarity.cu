/*
 * prompt_similarity.cu - cosine similarity of every row prompt with every column prompt.
 *
 *   version 2  float32 on tensor cores as well (similarity_tile.cuh).
 *   version 1  inverse norms in a launch of their own, one warp a row; then one block a tile of 128 x 128, which
 *              scales its products on the way out. m n dim multiply-adds on tensor cores or float32 units, every
 *              embedding read m/128 + n/128 times through the L2, the matrix written once.
 *
 * Not yet measured on a GPU.
 */
#include "kernels/cuda/contrast.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/similarity_tile.cuh"

namespace {

constexpr int kNormThreads = 256, kNormBlocksPerSm = 8; /* all the threads that an SM holds */

/* In double, where the square of any float32 fits. */
template <typename T> __device__ float inverse_norm(const T *row, int64_t dim) {
    double sum = 0.0;
    for (int64_t k = static_cast<int>(threadIdx.x) % kWarpThreads; k < dim; k += kWarpThreads) {
        const double x = static_cast<double>(rpo_to_float(row[k]));
        sum += x * x;
    }
    sum = rpo_warp_sum(sum);
    if (!(sum <= DBL_MAX))
        return NAN;
    const double norm = sqrt(sum);
    return norm < static_cast<double>(FLT_MIN) ? 0.0f : static_cast<float>(1.0 / norm);
}

/* One warp a row, warps striding over the rows of `first` and then of `second`; no shared memory; one read of
 * the embeddings. */
template <typename T>
__global__ void __launch_bounds__(kNormThreads)
    inverse_norms_kernel(float *inverse_first, float *inverse_second, const T *first, const T *second,
                         int64_t first_count, int64_t second_count, int64_t dim) {
    constexpr int kWarps = kNormThreads / kWarpThreads;
    const int64_t warp = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarpThreads;
    for (int64_t row = warp; row < first_count + second_count;
         row += static_cast<int64_t>(gridDim.x) * kWarps) { /* the same for all lanes of a warp */
        const bool in_first = row < first_count;
        const float inverse =
            inverse_norm(in_first ? first + row * dim : second + (row - first_count) * dim, dim);
        if (threadIdx.x % kWarpThreads == 0)
            *(in_first ? inverse_first + row : inverse_second + (row - first_count)) = inverse;
    }
}

/* One block a tile, tiles of a row of tiles one after another; similarity_tile's shared memory. */
template <typename T>
__global__ void __launch_bounds__(kTileThreads, 2)
    similarity_kernel(float *similarity, tile_operands<T> operands, int64_t column_tiles) {
    RPO_SHARED_DYNAMIC(unsigned char, tile_memory);
    using tile = similarity_tile<T>;
    const int64_t first_row = static_cast<int64_t>(blockIdx.x) / column_tiles * kTile;
    const int64_t first_column = static_cast<int64_t>(blockIdx.x) % column_tiles * kTile;
    float product[kFragment][kFragment];
    tile::multiply(product, operands, first_row, first_column, tile_memory);
    const int thread = rpo_thread_index();
    float inverse_column[kFragment];
#pragma unroll
    for (int j = 0; j < kFragment; ++j) {
        const int64_t column = first_column + tile::column(j, thread);
        inverse_column[j] = column < operands.column_count ? operands.inverse_columns[column] : 0.0f;
    }
#pragma unroll
    for (int i = 0; i < kFragment; ++i) {
        const int64_t row = first_row + tile::row(i, thread);
        const float inverse_row = row < operands.row_count ? operands.inverse_rows[row] : 0.0f;
#pragma unroll
        for (int j = 0; j < kFragment; ++j) {
            const int64_t column = first_column + tile::column(j, thread);
            if (row < operands.row_count && column < operands.column_count)
                similarity[row * operands.column_count + column] =
                    tile_cosine<T>(product[i][j], inverse_row, inverse_column[j]);
        }
    }
}

template <typename T>
rpo_status launch_inverse_norms(rpo_context *context, float *inverse_first, float *inverse_second,
                                const void *first, const void *second, int64_t first_count,
                                int64_t second_count, int64_t dim) {
    const int64_t per_block = kNormThreads / kWarpThreads;
    const int64_t wanted = (first_count + second_count + per_block - 1) / per_block;
    const int64_t most = static_cast<int64_t>(rpo_cuda_state_of(context)->num_sms) * kNormBlocksPerSm;
    rpo_launch_choice choice = {};
    choice.name = "inverse_norms_kernel";
    choice.grid = dim3(static_cast<unsigned>(wanted < most ? wanted : most));
    choice.block = dim3(kNormThreads);
    return rpo_launch(context, choice, inverse_norms_kernel<T>, inverse_first, inverse_second,
                      static_cast<const T *>(first), static_cast<const T *>(second), first_count,
                      second_count, dim);
}

template <typename T>
rpo_status launch_similarity(rpo_context *context, float *similarity, const float *inverse_rows,
                             const float *inverse_columns, const rpo_similarity_inputs *inputs) {
    const int64_t m = inputs->m, n = inputs->n;
    tile_operands<T> operands = {};
    operands.rows = static_cast<const T *>(inputs->chosen_embeddings);
    operands.columns = static_cast<const T *>(inputs->rejected_embeddings);
    operands.inverse_rows = inverse_rows;
    operands.inverse_columns = inverse_columns;
    operands.row_count = m;
    operands.column_count = n;
    operands.dim = inputs->dim;
    operands.aligned = rows_are_aligned<T>(inputs->chosen_embeddings, inputs->dim) &&
                       rows_are_aligned<T>(inputs->rejected_embeddings, inputs->dim);
    const int64_t row_tiles = (m + kTile - 1) / kTile, column_tiles = (n + kTile - 1) / kTile;
    if (row_tiles > INT32_MAX / column_tiles)
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT,
                             "similarity: %lld x %lld is too large; must be at most 2^31 tiles of 128 x 128",
                             static_cast<long long>(m), static_cast<long long>(n));
    rpo_launch_choice choice = {};
    choice.name = "similarity_kernel";
    choice.grid = dim3(static_cast<unsigned>(row_tiles * column_tiles));
    choice.block = dim3(kTileThreads);
    choice.shared_bytes = similarity_tile<T>::kSharedBytes;
    return rpo_launch(context, choice, similarity_kernel<T>, similarity, operands, column_tiles);
}

} // namespace

rpo_status rpo_cuda_inverse_norms(rpo_context *context, float *inverse_chosen, float *inverse_rejected,
                                  const void *chosen, const void *rejected, int64_t m, int64_t n, int64_t dim,
                                  rpo_dtype dtype) {
    const int64_t second_count = inverse_rejected == inverse_chosen ? 0 : n;
    switch (dtype) {
    case RPO_BFLOAT16:
        return launch_inverse_norms<__nv_bfloat16>(context, inverse_chosen, inverse_rejected, chosen,
                                                   rejected, m, second_count, dim);
    case RPO_FLOAT16:
        return launch_inverse_norms<__half>(context, inverse_chosen, inverse_rejected, chosen, rejected, m,
                                            second_count, dim);
    default:
        return launch_inverse_norms<float>(context, inverse_chosen, inverse_rejected, chosen, rejected, m,
                                           second_count, dim);
    }
}

/* 1 / |e_i| and 1 / |f_j|. */
struct similarity_workspace {
    float *inverse_rows, *inverse_columns; /* [m], [n] */
    size_t bytes;
};

static similarity_workspace lay_out(void *memory, const rpo_similarity_inputs *inputs) {
    rpo_bump from = rpo_bump_from(memory);
    similarity_workspace workspace = {};
    if (inputs->m > 0 && inputs->n > 0) {
        workspace.inverse_rows = contrast_take<float>(&from, inputs->m);
        workspace.inverse_columns = contrast_take<float>(&from, inputs->n);
    }
    workspace.bytes = rpo_bump_size(&from);
    return workspace;
}

extern "C" rpo_status rpo_cuda_prompt_similarity_workspace_size(rpo_context *context, size_t *bytes,
                                                                const rpo_similarity_inputs *inputs) {
    (void)context;
    *bytes = lay_out(NULL, inputs).bytes;
    return RPO_OK;
}

extern "C" rpo_status rpo_cuda_prompt_similarity(rpo_context *context, float *similarity,
                                                 const rpo_similarity_inputs *inputs, void *workspace,
                                                 size_t workspace_size) {
    (void)workspace_size;
    if (inputs->m == 0 || inputs->n == 0)
        return RPO_OK;
    const similarity_workspace layout = lay_out(workspace, inputs);
    const bool same = inputs->chosen_embeddings == inputs->rejected_embeddings && inputs->m == inputs->n;
    float *inverse_rows = layout.inverse_rows;
    float *inverse_columns = same ? layout.inverse_rows : layout.inverse_columns;
    RPO_TRY(rpo_cuda_inverse_norms(context, inverse_rows, inverse_columns, inputs->chosen_embeddings,
                                   inputs->rejected_embeddings, inputs->m, inputs->n, inputs->dim,
                                   inputs->dtype));
    switch (inputs->dtype) {
    case RPO_BFLOAT16:
        return launch_similarity<__nv_bfloat16>(context, similarity, inverse_rows, inverse_columns, inputs);
    case RPO_FLOAT16:
        return launch_similarity<__half>(context, similarity, inverse_rows, inverse_columns, inputs);
    default:
        return launch_similarity<float>(context, similarity, inverse_rows, inverse_columns, inputs);
    }
}
