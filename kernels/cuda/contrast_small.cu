/*
 * contrast_small.cu - the RPO losses over blocks of up to 512 x 512 pairs, all blocks in one launch.
 *
 *   version 3  as version 2, for every block of a call: grid (block, group of 4 rows). A ticket a block tells who adds its
 *              column sums, one more who adds the blocks.
 *   version 2  as version 1, but beyond 128 columns a lane takes four at a time: a row's part comes from shared
 *              memory once for 4 x 4 products, and norms are summed in float32 with a way out into double. At
 *              512 columns of 384 version 1 spends 25 k clocks of a block on shared memory and 12 k on
 *              conversions to double; here it is 6 k and 3 k beside 6 k of FMA, by counting.
 *              What is left then is the L2: 128 blocks read 100 MB of float32 columns, some 18 us.
 *   version 1  a block owns 4 rows and all columns, so that the softmax of a row never leaves its block and
 *              similarities are computed once: 4 x n of them stay in shared memory. Row sums end in the block;
 *              column sums go to memory as one partial a block, and the block that finishes last, told by a
 *              ticket, adds them in the order of the blocks.
 *
 * 4 rows a block rather than more: a batch of 64 pairs then spreads over 16 SMs, and 512 over 128. Every block
 * reads all column embeddings (98 KB at n = 64, dim = 384 in float32; from L2 after the first), which bounds it
 * to small n. The alternatives: one block for everything does 1.6 M multiply-adds at 64 x 64 x 384 on one SM,
 * some 7 us at its peak; the tiled version needs five launches. Not yet measured on a GPU.
 *
 * The tickets are zeroed in front of the launch (contrast_blocks.cu): workspaces arrive uninitialised, and a ticket kept
 * elsewhere would tie together launches that may run at the same time (graphs on several streams).
 */
#include "kernels/cuda/contrast_blocks.cuh"
#include "kernels/cuda/device/convert.cuh"
#include "kernels/cuda/launch.cuh"

namespace {

constexpr int kRows = kGroupRows;
constexpr int kThreads = 512;
constexpr int kWarps = kThreads / kWarpThreads;
constexpr int kColumnLanes = 8;  /* lanes that share a column: 8 x 16 bytes are a cache line */
constexpr int kFewColumns = 128; /* up to here a lane takes one column at a time, then four */
constexpr int kLargest = 512;    /* rows and columns */

struct small_plan {
    int64_t blocks, groups; /* thread blocks: of the call, and kRows of the rows of its largest */
    size_t shared_bytes;
};

struct small_workspace {
    contrast_cut cut;
    double *group_losses; /* [groups of all blocks] */
    float *column_sums;   /* [groups of all blocks][max_block_n] */
    size_t bytes;
};

small_plan choose_small(const rpo_contrast_inputs *inputs, bool weighted) {
    small_plan plan = {};
    plan.blocks = inputs->num_blocks;
    plan.groups = (inputs->max_block_m + kRows - 1) / kRows;
    plan.shared_bytes =
        weighted ? kRows * static_cast<size_t>(inputs->dim + inputs->max_block_n + 4) * sizeof(float) : 0;
    return plan;
}

small_workspace lay_out(void *memory, const rpo_contrast_inputs *inputs, const rpo_loss_options *options) {
    small_workspace workspace = {};
    rpo_bump from = rpo_bump_from(memory);
    const int64_t groups = inputs->m / kRows + inputs->num_blocks; /* or fewer */
    workspace.cut = contrast_cut_lay_out(&from, inputs, options);
    workspace.group_losses = contrast_take<double>(&from, groups);
    workspace.column_sums = contrast_take<float>(&from, groups * inputs->max_block_n);
    workspace.bytes = rpo_bump_size(&from);
    return workspace;
}

/* Row strides of the two shared arrays: multiples of 4 floats, for 16-byte loads. */
__device__ __forceinline__ int64_t embedding_stride(const rpo_contrast_inputs &inputs) {
    return (inputs.dim + 3) / 4 * 4;
}

/* 0 for a zero norm, NaN for a non-finite vector. */
__device__ __forceinline__ float inverse_of(double squares) {
    if (!(squares <= DBL_MAX))
        return NAN;
    const double norm = sqrt(squares);
    return norm < static_cast<double>(FLT_MIN) ? 0.0f : static_cast<float>(1.0 / norm);
}

/* One warp a row: e / |e| into shared memory, so that products of long vectors do not overflow. */
template <typename T>
__device__ void load_rows(float *embeddings, const rpo_contrast_inputs &inputs, int64_t first_row) {
    const int warp = static_cast<int>(threadIdx.x) / kWarpThreads,
              lane = static_cast<int>(threadIdx.x) % kWarpThreads;
    if (warp < kRows) {
        const int64_t row = first_row + warp;
        const T *source =
            static_cast<const T *>(inputs.chosen_embeddings) + (row < inputs.m ? row : 0) * inputs.dim;
        double squares = 0.0;
        for (int64_t k = lane; k < inputs.dim; k += kWarpThreads) {
            const double x = static_cast<double>(rpo_to_float(source[k]));
            squares += x * x;
        }
        const float inverse = inverse_of(rpo_warp_sum(squares));
        for (int64_t k = lane; k < inputs.dim; k += kWarpThreads)
            embeddings[warp * embedding_stride(inputs) + k] = rpo_to_float(source[k]) * inverse;
    }
}

/* What 8 lanes gather about some columns. */
template <int kColumns> struct column_products {
    float dot[kColumns][kRows];
    double squares[kColumns];
};

/*
 * Sum of the squares of a 16-byte vector. In double only where float32 would leave its range: conversions to
 * double are given out 16 a clock and SM, a fourth of what the products need.
 */
template <typename T> __device__ __forceinline__ double sum_squares(const float (&x)[rpo_vector<T>::kCount]) {
    float sum = 0.0f;
#pragma unroll
    for (int e = 0; e < rpo_vector<T>::kCount; ++e)
        sum += x[e] * x[e];
    if (sum >= 1e-30f && sum <= 1e37f)
        return static_cast<double>(sum);
    double exact = 0.0;
#pragma unroll
    for (int e = 0; e < rpo_vector<T>::kCount; ++e)
        exact += static_cast<double>(x[e]) * static_cast<double>(x[e]);
    return exact;
}

/* Columns j, j + stride, ... of this thread's group; those from `count` on repeat column 0. One read of each
 * row's part from shared memory serves all of them. */
template <typename T, int kColumns>
__device__ column_products<kColumns> multiply_columns(const float *embeddings, int64_t row_stride,
                                                      const T *columns, int64_t j, int64_t column_stride,
                                                      int64_t count, int64_t dim, bool aligned) {
    constexpr int kVector = rpo_vector<T>::kCount;
    const int part = static_cast<int>(threadIdx.x) % kColumnLanes;
    const T *column[kColumns];
    column_products<kColumns> products = {};
#pragma unroll
    for (int c = 0; c < kColumns; ++c)
        column[c] = columns + (j + c * column_stride < count ? j + c * column_stride : 0) * dim;
    if (aligned) {
#pragma unroll 2
        for (int64_t k = part * kVector; k < dim; k += kColumnLanes * kVector) {
            float x[kColumns][kVector];
#pragma unroll
            for (int c = 0; c < kColumns; ++c) {
                const rpo_vector<T> vector = rpo_load_vector(column[c] + k);
#pragma unroll
                for (int e = 0; e < kVector; ++e)
                    x[c][e] = rpo_to_float(vector.element[e]);
            }
#pragma unroll
            for (int r = 0; r < kRows; ++r)
#pragma unroll
                for (int e = 0; e < kVector; ++e)
#pragma unroll
                    for (int c = 0; c < kColumns; ++c)
                        products.dot[c][r] += embeddings[r * row_stride + k + e] * x[c][e];
#pragma unroll
            for (int c = 0; c < kColumns; ++c)
                products.squares[c] += sum_squares<T>(x[c]);
        }
    } else {
        for (int64_t k = part; k < dim; k += kColumnLanes)
#pragma unroll
            for (int c = 0; c < kColumns; ++c) {
                const float x = rpo_to_float(column[c][k]);
#pragma unroll
                for (int r = 0; r < kRows; ++r)
                    products.dot[c][r] += embeddings[r * row_stride + k] * x;
                products.squares[c] += static_cast<double>(x) * static_cast<double>(x);
            }
    }
    for (int offset = 1; offset < kColumnLanes; offset *= 2)
#pragma unroll
        for (int c = 0; c < kColumns; ++c) {
#pragma unroll
            for (int r = 0; r < kRows; ++r)
                products.dot[c][r] += __shfl_xor_sync(kFullWarp, products.dot[c][r], offset);
            products.squares[c] += __shfl_xor_sync(kFullWarp, products.squares[c], offset);
        }
    return products;
}

/* cosines[r][j] of the block's rows with every column; each column embedding is read once. */
template <typename T, int kColumns>
__device__ void fill_cosines(float *cosines, const float *embeddings, const rpo_contrast_inputs &inputs) {
    const T *columns = static_cast<const T *>(inputs.rejected_embeddings);
    const bool aligned = reinterpret_cast<uintptr_t>(columns) % 16 == 0 && inputs.dim * sizeof(T) % 16 == 0;
    constexpr int kGroups = kThreads / kColumnLanes;
    for (int64_t base = 0; base < inputs.n; base += kGroups * kColumns) {
        const int64_t first = base + static_cast<int>(threadIdx.x) / kColumnLanes;
        const column_products<kColumns> products = multiply_columns<T, kColumns>(
            embeddings, embedding_stride(inputs), columns, first, kGroups, inputs.n, inputs.dim, aligned);
#pragma unroll
        for (int c = 0; c < kColumns; ++c) {
            const int64_t j = first + c * kGroups;
            if (j < inputs.n && threadIdx.x % kColumnLanes == 0) {
                const float inverse = inverse_of(products.squares[c]);
#pragma unroll
                for (int r = 0; r < kRows; ++r)
                    cosines[r * inputs.n + j] = products.dot[c][r] * inverse;
            }
        }
    }
}

/* One warp a row: its largest cosine, and what turns exponentials into weights. */
__device__ void find_softmax(float *largest_of, float *factor_of, const float *cosines, int64_t n,
                             const contrast_constants &constants) {
    const int warp = static_cast<int>(threadIdx.x) / kWarpThreads,
              lane = static_cast<int>(threadIdx.x) % kWarpThreads;
    if (warp < kRows) {
        const float *row = cosines + warp * n;
        float largest = -INFINITY, sum = 0.0f;
        for (int64_t j = lane; j < n; j += kWarpThreads)
            largest = fmaxf(largest, row[j]);
        largest = rpo_warp_max(largest);
        for (int64_t j = lane; j < n; j += kWarpThreads)
            sum += contrast_exp_distance(row[j], largest, constants.inverse_tau);
        sum = rpo_warp_sum(sum);
        if (lane == 0) {
            largest_of[warp] = largest;
            factor_of[warp] = constants.weight_scale / sum;
        }
    }
}

/* The block's pairs. Leaves each warp's row sums in warp_sums[warp][2 row: loss, + 1: slope] and the block's
 * column sums in memory. */
__device__ void add_pairs(float *warp_sums, float *column_sums, const float *cosines, const float *largest_of,
                          const float *factor_of, const rpo_contrast_inputs &inputs,
                          const contrast_constants &constants, int64_t first_row, bool weighted) {
    const float beta = static_cast<float>(constants.beta);
    float losses[kRows] = {}, slopes[kRows] = {}, chosen[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r)
        chosen[r] =
            first_row + r < inputs.m ? static_cast<float>(contrast_chosen(inputs, first_row + r)) : 0.0f;
    for (int64_t j = threadIdx.x; j < inputs.n; j += kThreads) {
        const float rejected = static_cast<float>(contrast_rejected(inputs, j));
        float column_sum = 0.0f;
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
            const int64_t row = first_row + r;
            if (row < inputs.m) {
                const float weight =
                    weighted ? factor_of[r] * contrast_exp_distance(cosines[r * inputs.n + j], largest_of[r],
                                                                    constants.inverse_tau)
                             : 1.0f;
                float loss, slope;
                contrast_pair(weight, row == j ? constants.on_diagonal : constants.off_diagonal, beta,
                              chosen[r], rejected, &loss, &slope);
                losses[r] += loss;
                slopes[r] += slope;
                column_sum += slope;
            }
        }
        column_sums[j] = column_sum;
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
        losses[r] = rpo_warp_sum(losses[r]);
        slopes[r] = rpo_warp_sum(slopes[r]);
        if (threadIdx.x % kWarpThreads == 0) {
            warp_sums[threadIdx.x / kWarpThreads * 2 * kRows + 2 * r] = losses[r];
            warp_sums[threadIdx.x / kWarpThreads * 2 * kRows + 2 * r + 1] = slopes[r];
        }
    }
}

/* Thread r writes row r's outputs and leaves its loss in row_losses. */
__device__ void finish_rows(double *row_losses, const float *warp_sums, const rpo_contrast_outputs &outputs,
                            const rpo_contrast_inputs &inputs, const contrast_constants &constants,
                            double weight, int64_t first_row) {
    if (threadIdx.x >= kRows)
        return; /* no barrier or collective follows in here */
    const int r = static_cast<int>(threadIdx.x);
    const int64_t row = first_row + r;
    double loss = 0.0, slope = 0.0;
#pragma unroll
    for (int warp = 0; warp < kWarps; ++warp) {
        loss += static_cast<double>(warp_sums[warp * 2 * kRows + 2 * r]);
        slope += static_cast<double>(warp_sums[warp * 2 * kRows + 2 * r + 1]);
    }
    loss *= constants.shared_coefficient;
    row_losses[r] = loss;
    if (row < inputs.m) {
        contrast_store(outputs.row_losses, row, loss);
        contrast_store(outputs.grad_chosen_logps, row,
                       -constants.beta / static_cast<double>(inputs.m) * constants.shared_coefficient *
                           slope * weight);
    }
}

/* All partials of a block, in the order of its groups; one thread leaves the block's weighted loss. */
__device__ void finish_block(double *weighted_loss, const rpo_contrast_outputs &outputs,
                             const rpo_contrast_inputs &inputs, const contrast_constants &constants,
                             const contrast_rows &rows, const double *group_losses,
                             const float *column_sums) {
    const int groups = contrast_groups(rows);
    const double count = static_cast<double>(inputs.m);
    if (outputs.grad_rejected_logps != NULL)
        for (int64_t j = threadIdx.x; j < inputs.n; j += kThreads) {
            double sum = 0.0;
#pragma unroll 16
            for (int group = 0; group < groups; ++group)
                sum += static_cast<double>(column_sums[group * inputs.n + j]);
            outputs.grad_rejected_logps[j] =
                static_cast<float>(constants.beta / count * constants.shared_coefficient * sum * rows.weight);
        }
    if (threadIdx.x < kWarpThreads) {
        double loss = 0.0;
        for (int group = static_cast<int>(threadIdx.x); group < groups; group += kWarpThreads)
            loss += group_losses[group];
        loss = rpo_warp_sum(loss);
        if (threadIdx.x == 0)
            *weighted_loss = loss / count * rows.weight;
    }
}

/* What the weights of a group's pairs are made of: cosines of its rows with every column of the block, and each row's
 * softmax in softmax[2 kRows]. Begins and ends with all threads together. */
template <typename T>
__device__ void find_weights(float *softmax, float *memory, const rpo_contrast_inputs &inputs,
                             const contrast_constants &constants, int64_t first_row) {
    float *embeddings = memory, *cosines = memory + kRows * embedding_stride(inputs);
    load_rows<T>(embeddings, inputs, first_row);
    __syncthreads();
    if (inputs.n <= kFewColumns)
        fill_cosines<T, 1>(cosines, embeddings, inputs);
    else
        fill_cosines<T, 4>(cosines, embeddings, inputs);
    __syncthreads();
    find_softmax(softmax, softmax + kRows, cosines, inputs.n, constants);
    __syncthreads();
}

/* What a thread block keeps while it works on its rows. */
struct small_shared {
    float *cosines, *softmax, *warp_sums; /* [kRows][n], [2 kRows], [kWarps 2 kRows] */
    double *row_losses;                   /* [kRows] */
};

/* The rows of one group: their outputs, their loss, and their share of the column sums. */
__device__ void run_group(const small_shared &shared, double *group_loss, float *column_sums,
                          const rpo_contrast_outputs &outputs, const rpo_contrast_inputs &inputs,
                          const contrast_constants &constants, double weight, int64_t first_row,
                          bool weighted) {
    add_pairs(shared.warp_sums, column_sums, shared.cosines, shared.softmax, shared.softmax + kRows, inputs,
              constants, first_row, weighted);
    __syncthreads();
    finish_rows(shared.row_losses, shared.warp_sums, outputs, inputs, constants, weight, first_row);
    __syncthreads();
    const double *losses = shared.row_losses;
    if (threadIdx.x == 0)
        *group_loss = (losses[0] + losses[1]) + (losses[2] + losses[3]);
}

/* Thread block (b, g): rows 4 g to 4 g + 3 of block b. Dynamic shared memory for weighted kinds: embeddings [4][dim, up
 * to a multiple of 4] and cosines [4][n]. */
template <typename T>
__global__ void __launch_bounds__(kThreads)
    contrast_small_kernel(rpo_contrast_outputs all_outputs, rpo_contrast_inputs all_inputs,
                          contrast_constants all_constants, small_workspace workspace, bool weighted) {
    RPO_SHARED_DYNAMIC(float, memory);
    RPO_SHARED(float, softmax, 2 * kRows);
    RPO_SHARED(float, warp_sums, kWarps * 2 * kRows);
    RPO_SHARED(double, row_losses, kRows);
    RPO_SHARED(double, scratch, kMaxWarps);
    RPO_SHARED(unsigned, taken, 1);
    const contrast_cut &cut = workspace.cut;
    const int64_t block = blockIdx.x, group = blockIdx.y;
    {
        const contrast_rows rows = contrast_rows_of(cut, block);
        if (group >= contrast_groups(rows))
            return; /* all threads alike: nothing of a shorter block is left */
        if (weighted && rows.contributes)
            find_weights<T>(softmax, memory, contrast_block_inputs<T>(all_inputs, rows),
                            contrast_constants_for(all_constants, rows.n), group * kRows);
    }
    /* Read again: held during the products it would cost registers. */
    const contrast_rows rows = contrast_rows_of(cut, block);
    const int groups = contrast_groups(rows);
    const rpo_contrast_inputs inputs = contrast_block_inputs<T>(all_inputs, rows);
    const rpo_contrast_outputs outputs = contrast_block_outputs(all_outputs, rows);
    const contrast_constants constants = contrast_constants_for(all_constants, rows.n);
    double *group_losses = workspace.group_losses + rows.first_group;
    float *column_sums = workspace.column_sums + rows.first_group * all_inputs.max_block_n;

    if (rows.contributes)
        run_group({memory + kRows * embedding_stride(inputs), softmax, warp_sums, row_losses},
                  group_losses + group, column_sums + group * inputs.n, outputs, inputs, constants,
                  rows.weight, group * kRows, weighted);
    else
        contrast_write_zeros(outputs, NULL, rows);
    if (group == 0) {
        const double correct = contrast_block_rewards(outputs, inputs, constants.beta, scratch);
        if (threadIdx.x == 0)
            cut.correct[block] = correct;
    }
    if (!contrast_is_last(cut.tickets + block, static_cast<unsigned>(groups), taken))
        return; /* all threads alike */
    if (rows.contributes)
        finish_block(cut.losses + block, outputs, inputs, constants, rows, group_losses, column_sums);
    else if (threadIdx.x == 0)
        cut.losses[block] = 0.0 * rows.weight;
    if (contrast_is_last(cut.tickets + cut.num_blocks, static_cast<unsigned>(cut.num_blocks), taken))
        contrast_write_totals(all_outputs, cut, scratch);
}

template <typename T>
rpo_status launch_small(rpo_context *context, const rpo_contrast_outputs *outputs,
                        const rpo_contrast_inputs *inputs, const rpo_loss_options *options,
                        const small_plan &plan, const small_workspace &workspace, bool weighted) {
    rpo_launch_choice choice = {};
    choice.name = "contrast_small_kernel";
    choice.grid = dim3(static_cast<unsigned>(plan.blocks), static_cast<unsigned>(plan.groups));
    choice.block = dim3(kThreads);
    choice.shared_bytes = plan.shared_bytes;
    return rpo_launch(context, choice, contrast_small_kernel<T>, *outputs, *inputs,
                      contrast_constants_of(inputs, options), workspace, weighted);
}

} // namespace

bool rpo_cuda_contrast_is_small(rpo_context *context, const rpo_contrast_inputs *inputs,
                                const rpo_loss_options *options) {
    constexpr size_t kStaticBytes = 4096; /* of a thread block's limit; the kernel declares less than this */
    if (inputs->max_block_m > kLargest || inputs->max_block_n > kLargest)
        return false;
    const small_plan plan = choose_small(inputs, rpo_loss_kind_needs_embeddings(options->kind) != 0);
    return plan.shared_bytes + kStaticBytes <= rpo_cuda_state_of(context)->shared_bytes_limit;
}

size_t rpo_cuda_contrast_small_workspace(const rpo_contrast_inputs *inputs, const rpo_loss_options *options) {
    return lay_out(NULL, inputs, options).bytes;
}

rpo_status rpo_cuda_contrast_small(rpo_context *context, const rpo_contrast_outputs *outputs,
                                   const rpo_contrast_inputs *inputs, const rpo_loss_options *options,
                                   void *workspace) {
    const bool weighted = rpo_loss_kind_needs_embeddings(options->kind) != 0;
    const small_plan plan = choose_small(inputs, weighted);
    const small_workspace layout = lay_out(workspace, inputs, options);
    RPO_TRY(rpo_cuda_contrast_cut(context, &layout.cut, inputs, options));
    switch (weighted ? inputs->embedding_dtype : RPO_FLOAT32) {
    case RPO_BFLOAT16:
        return launch_small<__nv_bfloat16>(context, outputs, inputs, options, plan, layout, weighted);
    case RPO_FLOAT16:
        return launch_small<__half>(context, outputs, inputs, options, plan, layout, weighted);
    default:
        return launch_small<float>(context, outputs, inputs, options, plan, layout, weighted);
    }
}
