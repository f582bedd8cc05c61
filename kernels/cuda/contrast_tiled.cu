/*
 * contrast_tiled.cu - the RPO losses over thousands of rows and columns: m x n never in memory.
 *
 * The weights stand inside the sigmoid, so a row's maximum and sum must be known before its first loss term, and
 * keeping the similarities would take m x n. So similarities are formed twice, on 128 x 128 tiles:
 *
 *     1  inverse_norms_kernel    one read of the embeddings                              (weighted kinds)
 *     2  contrast_rows_kernel    tiles -> maximum and sum of exponentials per row        (weighted kinds)
 *     3  contrast_pairs_kernel   tiles -> weights, losses, slopes; row and column sums
 *     4  contrast_finish_kernel  adds the partial sums; every output of length m or n
 *     5  contrast_total_kernel   the loss and the accuracy, one block
 *
 * Rows of tiles are cut into at most 64 groups, columns into at most 64 splits; a block owns one group x split and
 * walks its tiles. Sums of a tile end with their owner (rows) or in the group's line of column sums, so memory is
 * 64 (m + n) values at most, no two blocks write the same place, and every sum has a fixed order. Splitting
 * columns as well lets 32 rows of tiles (m = 4096) fill all SMs twice.
 *
 *   version 2  float32 embeddings on tensor cores, as three products of TF32 parts; what is live while products
 *              are formed is cut down to 128 registers.
 *   version 1  float32 embeddings by float32 FMA: 0.43 ms or more at m = n = 4096, dim = 384.
 *
 * What limits it at m = n = 4096, dim = 384, by counting (not yet measured on a GPU): two passes are 25.8 GFLOP,
 * for 16-bit embeddings some 40 us of tensor core time at 600 TFLOP/s; for float32 77 GFLOP of TF32, 0.16 ms at
 * the peak of 495 TFLOP/s and 0.25 ms if mma.sync reaches 62 % of it, an assumption. Pass 2 has 1 exponential, 3 fast
 * divisions or exponentials and some 40 other instructions for each of 16.8 M pairs: 0.8 G lane-instructions,
 * about 30 us on 132 SMs, beside 1 exponential a pair in pass 1. Two blocks an SM overlap one's products with
 * the other's exponentials.
 */
#include "kernels/cuda/contrast.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/similarity_tile.cuh"

namespace {

constexpr int kMostGroups = 64, kMostSplits = 64;
constexpr int kBlocksPerSm = 2; /* of tile kernels: what registers and shared memory allow */
constexpr int kFinishThreads = 256, kMostFinishBlocks = 256;

struct tiled_plan {
    bool weighted;
    int64_t row_tiles, column_tiles;
    int tiles_per_group, tiles_per_split; /* rows of tiles of a group, columns of tiles of a split */
    int groups, splits, finish_blocks;
};

/* Lines of length m or n, one a split or group. Pointers are NULL where the plan has no use for them. */
struct tiled_workspace {
    float *inverse_chosen, *inverse_rejected;
    float *row_maxima, *row_exponentials; /* [splits][m] */
    double *row_losses, *row_slopes;      /* [splits][m] */
    double *column_slopes;                /* [groups][n] */
    double *block_losses, *block_correct; /* [finish_blocks] */
    size_t bytes;
};

int64_t divide_up(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

int64_t at_most(int64_t a, int64_t b) {
    return a < b ? a : b;
}

tiled_plan choose_tiled(const rpo_cuda_state *state, const rpo_contrast_inputs *inputs,
                        const rpo_loss_options *options) {
    tiled_plan plan = {};
    plan.weighted = rpo_loss_kind_needs_embeddings(options->kind) != 0;
    plan.row_tiles = divide_up(inputs->m, kTile);
    plan.column_tiles = divide_up(inputs->n, kTile);
    const int64_t wanted = static_cast<int64_t>(state->num_sms) * kBlocksPerSm;
    plan.tiles_per_group = static_cast<int>(divide_up(plan.row_tiles, kMostGroups));
    const int64_t groups = divide_up(plan.row_tiles, plan.tiles_per_group);
    const int64_t splits = at_most(at_most(plan.column_tiles, kMostSplits), divide_up(wanted, groups));
    plan.tiles_per_split = static_cast<int>(divide_up(plan.column_tiles, splits));
    plan.groups = static_cast<int>(groups);
    plan.splits = static_cast<int>(divide_up(plan.column_tiles, plan.tiles_per_split));
    const int64_t longer = inputs->m > inputs->n ? inputs->m : inputs->n;
    plan.finish_blocks = static_cast<int>(at_most(divide_up(longer, kFinishThreads), kMostFinishBlocks));
    return plan;
}

tiled_workspace lay_out(void *memory, const tiled_plan &plan, const rpo_contrast_inputs *inputs) {
    tiled_workspace workspace = {};
    rpo_bump from = rpo_bump_from(memory);
    const int64_t m = inputs->m, n = inputs->n;
    if (plan.weighted) {
        workspace.inverse_chosen = contrast_take<float>(&from, m);
        workspace.inverse_rejected = contrast_take<float>(&from, n);
        workspace.row_maxima = contrast_take<float>(&from, plan.splits * m);
        workspace.row_exponentials = contrast_take<float>(&from, plan.splits * m);
    }
    workspace.row_losses = contrast_take<double>(&from, plan.splits * m);
    workspace.row_slopes = contrast_take<double>(&from, plan.splits * m);
    workspace.column_slopes = contrast_take<double>(&from, plan.groups * n);
    workspace.block_losses = contrast_take<double>(&from, plan.finish_blocks);
    workspace.block_correct = contrast_take<double>(&from, plan.finish_blocks);
    workspace.bytes = rpo_bump_size(&from);
    return workspace;
}

/* ---- pass 1: maximum and sum of a row ---- */

/* Sum of exp((cosine - maximum) / tau) beside the maximum; empty: (-inf, 0). */
struct exponential_sum {
    float maximum, sum;
};

__device__ __forceinline__ exponential_sum merge(exponential_sum a, exponential_sum b, float inverse_tau) {
    const float maximum = fmaxf(a.maximum, b.maximum);
    if (maximum == -INFINITY) /* nothing yet, or nothing but NaN */
        return {maximum, a.sum + b.sum};
    const bool a_is_larger = a.maximum >= b.maximum;
    const exponential_sum smaller = a_is_larger ? b : a;
    return {maximum, (a_is_larger ? a.sum : b.sum) +
                         smaller.sum * contrast_exp_distance(smaller.maximum, maximum, inverse_tau)};
}

/* One row of a thread's fragment, then of the 4 lanes that share the row; all of them receive the result. A
 * NaN is passed over by the maximum and ends in the sum. */
__device__ __forceinline__ exponential_sum sum_fragment_row(const float (&cosine)[kFragment],
                                                            unsigned valid_columns, float inverse_tau) {
    exponential_sum state = {-INFINITY, 0.0f};
#pragma unroll
    for (int j = 0; j < kFragment; ++j)
        if (valid_columns >> j & 1u)
            state.maximum = fmaxf(state.maximum, cosine[j]);
    state.maximum = fmaxf(state.maximum, __shfl_xor_sync(kFullWarp, state.maximum, 1));
    state.maximum = fmaxf(state.maximum, __shfl_xor_sync(kFullWarp, state.maximum, 2));
#pragma unroll
    for (int j = 0; j < kFragment; ++j)
        if (valid_columns >> j & 1u)
            state.sum += contrast_exp_distance(cosine[j], state.maximum, inverse_tau);
    state.sum += __shfl_xor_sync(kFullWarp, state.sum, 1);
    state.sum += __shfl_xor_sync(kFullWarp, state.sum, 2);
    return state;
}

/* Bit j: whether column j of this thread's fragment exists. */
template <typename Tile>
__device__ __forceinline__ unsigned valid_fragment_columns(int64_t first_column, int64_t n, int thread) {
    unsigned bits = 0;
#pragma unroll
    for (int j = 0; j < kFragment; ++j)
        bits |= (first_column + Tile::column(j, thread) < n ? 1u : 0u) << j;
    return bits;
}

/* Block (split, group). Thread t < 128 owns row t of the tile; the 4 warps across leave their share of each
 * row in shared memory for it. Static shared memory 5.5 KB beside the tile's. */
template <typename T>
__global__ void __launch_bounds__(kTileThreads, kBlocksPerSm)
    contrast_rows_kernel(float *row_maxima, float *row_exponentials, tile_operands<T> operands,
                         int tiles_per_group, int tiles_per_split, float inverse_tau) {
    RPO_SHARED_DYNAMIC(unsigned char, tile_memory);
    RPO_SHARED(exponential_sum, shares, kWarpsAcross * kTile);
    RPO_SHARED(exponential_sum, totals, kTile); /* over the tiles so far; of thread t alone */
    RPO_SHARED(float, inverse_column, kTile);
    using tile = similarity_tile<T>;
    const int64_t m = operands.row_count, n = operands.column_count;

    for (int row_tile = 0; row_tile < tiles_per_group; ++row_tile) {
        const int64_t first_row = (int64_t{blockIdx.y} * tiles_per_group + row_tile) * kTile;
        if (first_row >= m)
            break; /* all threads alike */
        if (threadIdx.x < kTile)
            totals[threadIdx.x] = {-INFINITY, 0.0f};
        for (int column_tile = 0; column_tile < tiles_per_split; ++column_tile) {
            const int64_t first_column = (int64_t{blockIdx.x} * tiles_per_split + column_tile) * kTile;
            if (first_column >= n)
                break;
            if (threadIdx.x < kTile)
                inverse_column[threadIdx.x] = first_column + threadIdx.x < n
                                                  ? operands.inverse_columns[first_column + threadIdx.x]
                                                  : 0.0f;
            float product[kFragment][kFragment];
            tile::multiply(product, operands, first_row, first_column, tile_memory);
            const int thread = rpo_thread_index();
            const unsigned valid = valid_fragment_columns<tile>(first_column, n, thread);
#pragma unroll
            for (int i = 0; i < kFragment; ++i) {
                const int row = tile::row(i, thread);
                const float inverse_row = first_row + row < m ? operands.inverse_rows[first_row + row] : 0.0f;
#pragma unroll
                for (int j = 0; j < kFragment; ++j)
                    product[i][j] =
                        tile_cosine<T>(product[i][j], inverse_row, inverse_column[tile::column(j, thread)]);
                const exponential_sum share = sum_fragment_row(product[i], valid, inverse_tau);
                if (tile_pair(thread) == 0)
                    shares[tile_warp_across(thread) * kTile + row] = share;
            }
            __syncthreads();
            if (thread < kTile)
                for (int warp = 0; warp < kWarpsAcross; ++warp)
                    totals[thread] = merge(totals[thread], shares[warp * kTile + thread], inverse_tau);
        }
        const int thread = rpo_thread_index();
        if (thread < kTile && first_row + thread < m) {
            row_maxima[blockIdx.x * m + first_row + thread] = totals[thread].maximum;
            row_exponentials[blockIdx.x * m + first_row + thread] = totals[thread].sum;
        }
    }
}

/* ---- pass 2: every pair ---- */

/* A tile's vectors and sums in shared memory. */
struct pair_tile {
    float chosen[kTile], largest[kTile], factor[kTile], inverse_row[kTile]; /* of its rows */
    float rejected[kTile], inverse_column[kTile];                           /* of its columns */
    float loss_shares[kWarpsAcross * kTile], slope_shares[kWarpsAcross * kTile];
    float column_shares[kWarpsDown * kTile];
    double row_loss[kTile], row_slope[kTile]; /* over the tiles so far; of thread t alone */
};

/* Thread t < 128: row t of the tile, its softmax put together from the splits of pass 1. */
template <bool kWeighted>
__device__ void load_tile_rows(pair_tile *tile, const rpo_contrast_inputs &inputs,
                               const contrast_constants &constants, const tiled_workspace &partials,
                               int64_t first_row) {
    const int t = static_cast<int>(threadIdx.x);
    const int64_t row = first_row + t;
    if (t >= kTile)
        return; /* no barrier or collective follows in here */
    tile->chosen[t] = row < inputs.m ? static_cast<float>(contrast_chosen(inputs, row)) : 0.0f;
    if (kWeighted) {
        exponential_sum total = {-INFINITY, 0.0f};
        for (int split = 0; split < static_cast<int>(gridDim.x) && row < inputs.m; ++split)
            total = merge(total,
                          {partials.row_maxima[split * inputs.m + row],
                           partials.row_exponentials[split * inputs.m + row]},
                          constants.inverse_tau);
        tile->largest[t] = total.maximum;
        tile->factor[t] = constants.weight_scale / total.sum;
        tile->inverse_row[t] = row < inputs.m ? partials.inverse_chosen[row] : 0.0f;
    }
}

template <bool kWeighted>
__device__ void load_tile_columns(pair_tile *tile, const rpo_contrast_inputs &inputs,
                                  const tiled_workspace &partials, int64_t first_column) {
    const int t = static_cast<int>(threadIdx.x);
    const int64_t column = first_column + t;
    if (t >= kTile)
        return;
    tile->rejected[t] = column < inputs.n ? static_cast<float>(contrast_rejected(inputs, column)) : 0.0f;
    if (kWeighted)
        tile->inverse_column[t] = column < inputs.n ? partials.inverse_rejected[column] : 0.0f;
}

/* Losses and slopes of a thread's 64 pairs; their sums over the lanes that share a row or column go to shared
 * memory. */
template <typename T, bool kWeighted>
__device__ __forceinline__ void add_tile_pairs(pair_tile *tile, const float (&product)[kFragment][kFragment],
                                               const contrast_constants &constants, int64_t first_row,
                                               int64_t first_column, int64_t m, int64_t n) {
    using similarity = similarity_tile<T>;
    const int thread = rpo_thread_index();
    const float beta = static_cast<float>(constants.beta);
    const unsigned valid = valid_fragment_columns<similarity>(first_column, n, thread);
    float column_slope[kFragment] = {};
#pragma unroll
    for (int i = 0; i < kFragment; ++i) {
        const int row = similarity::row(i, thread);
        const bool row_exists = first_row + row < m;
        const float chosen = tile->chosen[row];
        float row_loss = 0.0f, row_slope = 0.0f;
#pragma unroll
        for (int j = 0; j < kFragment; ++j) {
            const int column = similarity::column(j, thread);
            float weight = 1.0f, coefficient = 1.0f, loss, slope;
            if (kWeighted) {
                const float cosine =
                    tile_cosine<T>(product[i][j], tile->inverse_row[row], tile->inverse_column[column]);
                weight = tile->factor[row] *
                         contrast_exp_distance(cosine, tile->largest[row], constants.inverse_tau);
            } else {
                coefficient =
                    first_row + row == first_column + column ? constants.on_diagonal : constants.off_diagonal;
            }
            contrast_pair(weight, coefficient, beta, chosen, tile->rejected[column], &loss, &slope);
            if (row_exists && (valid >> j & 1u)) { /* nothing of a pair that does not exist, not even NaN */
                row_loss += loss;
                row_slope += slope;
                column_slope[j] += slope;
            }
        }
        for (int offset = 1; offset < 4; offset *= 2) {
            row_loss += __shfl_xor_sync(kFullWarp, row_loss, offset);
            row_slope += __shfl_xor_sync(kFullWarp, row_slope, offset);
        }
        if (tile_pair(thread) == 0) {
            tile->loss_shares[tile_warp_across(thread) * kTile + row] = row_loss;
            tile->slope_shares[tile_warp_across(thread) * kTile + row] = row_slope;
        }
    }
#pragma unroll
    for (int j = 0; j < kFragment; ++j) {
        for (int offset = 4; offset < kWarpThreads; offset *= 2)
            column_slope[j] += __shfl_xor_sync(kFullWarp, column_slope[j], offset);
        if (tile_group(thread) == 0)
            tile->column_shares[tile_warp_down(thread) * kTile + similarity::column(j, thread)] =
                column_slope[j];
    }
}

/* Block (split, group). Thread t < 128 owns row t of a tile, thread 128 + t column t: they alone add up its
 * sums. Shared memory: the tile's and 10 KB. T only matters to weighted kinds. */
template <typename T, bool kWeighted>
__global__ void __launch_bounds__(kTileThreads, kBlocksPerSm)
    contrast_pairs_kernel(rpo_contrast_inputs inputs, contrast_constants constants, tiled_workspace partials,
                          tile_operands<T> operands, int tiles_per_group, int tiles_per_split) {
    RPO_SHARED_DYNAMIC(unsigned char, tile_memory);
    RPO_SHARED(pair_tile, tile, 1);
    const int64_t m = inputs.m, n = inputs.n;

    for (int row_tile = 0; row_tile < tiles_per_group; ++row_tile) {
        const int64_t first_row = (int64_t{blockIdx.y} * tiles_per_group + row_tile) * kTile;
        if (first_row >= m)
            break; /* all threads alike */
        if (threadIdx.x < kTile)
            tile->row_loss[threadIdx.x] = tile->row_slope[threadIdx.x] = 0.0;
        load_tile_rows<kWeighted>(tile, inputs, constants, partials, first_row);
        for (int column_tile = 0; column_tile < tiles_per_split; ++column_tile) {
            const int64_t first_column = (int64_t{blockIdx.x} * tiles_per_split + column_tile) * kTile;
            if (first_column >= n)
                break;
            load_tile_columns<kWeighted>(tile, inputs, partials, first_column);
            float product[kFragment][kFragment];
            if (kWeighted)
                similarity_tile<T>::multiply(product, operands, first_row, first_column, tile_memory);
            else
                __syncthreads();
            add_tile_pairs<T, kWeighted>(tile, product, constants, first_row, first_column, m, n);
            __syncthreads();
            const int thread = rpo_thread_index(), owned_column = thread - kTile;
            if (thread < kTile)
                for (int warp = 0; warp < kWarpsAcross; ++warp) {
                    tile->row_loss[thread] += static_cast<double>(tile->loss_shares[warp * kTile + thread]);
                    tile->row_slope[thread] += static_cast<double>(tile->slope_shares[warp * kTile + thread]);
                }
            else if (first_column + owned_column < n) {
                double *sum = partials.column_slopes + blockIdx.y * n + first_column + owned_column;
                const double before = row_tile == 0 ? 0.0 : *sum;
                *sum = before + static_cast<double>(tile->column_shares[owned_column]) +
                       static_cast<double>(tile->column_shares[kTile + owned_column]);
            }
        }
        const int thread = rpo_thread_index();
        if (thread < kTile && first_row + thread < m) {
            partials.row_losses[blockIdx.x * m + first_row + thread] = tile->row_loss[thread];
            partials.row_slopes[blockIdx.x * m + first_row + thread] = tile->row_slope[thread];
        }
        __syncthreads(); /* the tile's rows are replaced */
    }
}

/* ---- adding up ---- */

/* Threads stride over rows and columns together; a block leaves its share of the loss and of the right pairs.
 * Reads every partial once. */
__global__ void __launch_bounds__(kFinishThreads)
    contrast_finish_kernel(rpo_contrast_outputs outputs, rpo_contrast_inputs inputs,
                           contrast_constants constants, double weight, tiled_workspace partials, int splits,
                           int groups) {
    RPO_SHARED(double, scratch, kMaxWarps);
    const int64_t m = inputs.m, n = inputs.n, longer = m > n ? m : n;
    const double factor = constants.beta / static_cast<double>(m) * constants.shared_coefficient;
    double total = 0.0, correct = 0.0;
    for (int64_t i = static_cast<int64_t>(blockIdx.x) * kFinishThreads + threadIdx.x; i < longer;
         i += static_cast<int64_t>(gridDim.x) * kFinishThreads) {
        if (i < m) {
            double loss = 0.0, slope = 0.0;
            for (int split = 0; split < splits; ++split) {
                loss += partials.row_losses[split * m + i];
                slope += partials.row_slopes[split * m + i];
            }
            loss *= constants.shared_coefficient;
            total += loss;
            contrast_store(outputs.row_losses, i, loss);
            contrast_store(outputs.grad_chosen_logps, i, -factor * slope * weight);
        }
        if (i < n && outputs.grad_rejected_logps != NULL) {
            double slope = 0.0;
            for (int group = 0; group < groups; ++group)
                slope += partials.column_slopes[group * n + i];
            contrast_store(outputs.grad_rejected_logps, i, factor * slope * weight);
        }
        correct += contrast_write_rewards(outputs, inputs, constants.beta, i) ? 1.0 : 0.0;
    }
    total = rpo_block_sum(total, scratch);
    correct = rpo_block_sum(correct, scratch);
    if (threadIdx.x == 0) {
        partials.block_losses[blockIdx.x] = total;
        partials.block_correct[blockIdx.x] = correct;
    }
}

/* One block. */
__global__ void __launch_bounds__(kFinishThreads)
    contrast_total_kernel(rpo_contrast_outputs outputs, rpo_contrast_inputs inputs, double weight,
                          tiled_workspace partials, int finish_blocks) {
    RPO_SHARED(double, scratch, kMaxWarps);
    const bool mine = static_cast<int>(threadIdx.x) < finish_blocks;
    const double loss = rpo_block_sum(mine ? partials.block_losses[threadIdx.x] : 0.0, scratch);
    const double correct = rpo_block_sum(mine ? partials.block_correct[threadIdx.x] : 0.0, scratch);
    if (threadIdx.x == 0) {
        *outputs.loss = static_cast<float>(loss / static_cast<double>(inputs.m) * weight);
        contrast_write_accuracy(outputs, correct,
                                static_cast<double>(inputs.m < inputs.n ? inputs.m : inputs.n));
    }
}

/* ---- launches ---- */

template <typename T>
tile_operands<T> operands_of(const rpo_contrast_inputs *inputs, const tiled_workspace &workspace) {
    tile_operands<T> operands = {};
    operands.rows = static_cast<const T *>(inputs->chosen_embeddings);
    operands.columns = static_cast<const T *>(inputs->rejected_embeddings);
    operands.inverse_rows = workspace.inverse_chosen;
    operands.inverse_columns = workspace.inverse_rejected;
    operands.row_count = inputs->m;
    operands.column_count = inputs->n;
    operands.dim = inputs->dim;
    operands.aligned =
        rows_are_aligned<T>(operands.rows, inputs->dim) && rows_are_aligned<T>(operands.columns, inputs->dim);
    return operands;
}

rpo_launch_choice tile_launch(const char *name, const tiled_plan &plan, size_t shared_bytes) {
    rpo_launch_choice choice = {};
    choice.name = name;
    choice.grid = dim3(static_cast<unsigned>(plan.splits), static_cast<unsigned>(plan.groups));
    choice.block = dim3(kTileThreads);
    choice.shared_bytes = shared_bytes;
    return choice;
}

template <typename T>
rpo_status launch_weighted(rpo_context *context, const rpo_contrast_inputs *inputs,
                           const contrast_constants &constants, const tiled_plan &plan,
                           const tiled_workspace &workspace) {
    const tile_operands<T> operands = operands_of<T>(inputs, workspace);
    constexpr size_t kShared = similarity_tile<T>::kSharedBytes;
    RPO_TRY(rpo_launch(context, tile_launch("contrast_rows_kernel", plan, kShared), contrast_rows_kernel<T>,
                       workspace.row_maxima, workspace.row_exponentials, operands, plan.tiles_per_group,
                       plan.tiles_per_split, constants.inverse_tau));
    return rpo_launch(context, tile_launch("contrast_pairs_kernel", plan, kShared),
                      contrast_pairs_kernel<T, true>, *inputs, constants, workspace, operands,
                      plan.tiles_per_group, plan.tiles_per_split);
}

rpo_status launch_pairs(rpo_context *context, const rpo_contrast_inputs *inputs,
                        const contrast_constants &constants, const tiled_plan &plan,
                        const tiled_workspace &workspace) {
    if (!plan.weighted)
        return rpo_launch(context, tile_launch("contrast_pairs_kernel", plan, 0),
                          contrast_pairs_kernel<float, false>, *inputs, constants, workspace,
                          tile_operands<float>{}, plan.tiles_per_group, plan.tiles_per_split);
    RPO_TRY(rpo_cuda_inverse_norms(context, workspace.inverse_chosen, workspace.inverse_rejected,
                                   inputs->chosen_embeddings, inputs->rejected_embeddings, inputs->m,
                                   inputs->n, inputs->dim, inputs->embedding_dtype));
    switch (inputs->embedding_dtype) {
    case RPO_BFLOAT16:
        return launch_weighted<__nv_bfloat16>(context, inputs, constants, plan, workspace);
    case RPO_FLOAT16:
        return launch_weighted<__half>(context, inputs, constants, plan, workspace);
    default:
        return launch_weighted<float>(context, inputs, constants, plan, workspace);
    }
}

} // namespace

size_t rpo_cuda_contrast_tiled_workspace(rpo_context *context, const rpo_contrast_inputs *inputs,
                                         const rpo_loss_options *options) {
    return lay_out(NULL, choose_tiled(rpo_cuda_state_of(context), inputs, options), inputs).bytes;
}

rpo_status rpo_cuda_contrast_tiled(rpo_context *context, const rpo_contrast_outputs *outputs,
                                   const rpo_contrast_inputs *inputs, const rpo_loss_options *options,
                                   void *workspace) {
    const tiled_plan plan = choose_tiled(rpo_cuda_state_of(context), inputs, options);
    tiled_workspace layout = lay_out(workspace, plan, inputs);
    if (inputs->chosen_embeddings == inputs->rejected_embeddings && inputs->m == inputs->n)
        layout.inverse_rejected = layout.inverse_chosen;
    const contrast_constants constants = contrast_constants_of(inputs, options);
    const double rows = static_cast<double>(inputs->m + inputs->n);
    const double weight = inputs->total_rows > 0.0 ? rows / inputs->total_rows : 1.0;
    RPO_TRY(launch_pairs(context, inputs, constants, plan, layout));

    rpo_launch_choice choice = {};
    choice.name = "contrast_finish_kernel";
    choice.grid = dim3(static_cast<unsigned>(plan.finish_blocks));
    choice.block = dim3(kFinishThreads);
    RPO_TRY(rpo_launch(context, choice, contrast_finish_kernel, *outputs, *inputs, constants, weight, layout,
                       plan.splits, plan.groups));
    choice.name = "contrast_total_kernel";
    choice.grid = dim3(1);
    return rpo_launch(context, choice, contrast_total_kernel, *outputs, *inputs, weight, layout,
                      plan.finish_blocks);
}
