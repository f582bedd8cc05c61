/*
 * contrast_blocks.cu - the blocks of a contrast loss, from their bounds.
 *
 *   version 1  one thread block reads the bounds, clamps what breaks their contract and leaves a table, so that no
 *              kernel after it looks at a bound again, and tickets of 0. A launch of its own, in the place of the memset
 *              that one block without bounds needs. Not yet measured on a GPU.
 */
#include "kernels/cuda/contrast_blocks.cuh"

#include "kernels/cuda/launch.cuh"

namespace {

constexpr int kThreads = 256;

/* What the kernel needs of a call. */
struct cut_rules {
    const int32_t *chosen_bounds, *rejected_bounds;
    int64_t num_blocks, m, n, max_block_m, max_block_n;
    double total_rows;
    bool one_sided; /* sft: rows of m alone */
    bool pairs;     /* m = n in every block */
};

/* Sums over some blocks. */
struct cut_sums {
    double rows; /* of those that contribute */
    int64_t pairs, groups;
    bool broken;
};

__host__ __device__ bool contributes(const contrast_rows &rows, bool one_sided) {
    return rows.m > 0 && (one_sided || rows.n > 0);
}

__host__ __device__ double weighs(const contrast_rows &rows, bool one_sided) {
    return static_cast<double>(one_sided ? rows.m : rows.m + rows.n);
}

/* *first and *count of a side, clamped to its rows; false where the bounds were not as they must be. */
__device__ bool read_side(int64_t *first, int64_t *count, const int32_t *bounds, int64_t block,
                          int64_t num_blocks, int64_t rows, int64_t most) {
    const int64_t begin = bounds[block], end = bounds[block + 1];
    *first = begin < 0 ? 0 : begin > rows ? rows : begin;
    const int64_t limit = rows - *first < most ? rows : *first + most;
    const int64_t last = end < *first ? *first : end > limit ? limit : end;
    *count = last - *first;
    return *first == begin && last == end && (block > 0 || begin == 0) &&
           (block < num_blocks - 1 || end == rows);
}

__device__ contrast_rows read_block(const cut_rules &rules, int64_t block, bool *broken) {
    contrast_rows rows = {};
    const bool chosen = read_side(&rows.chosen, &rows.m, rules.chosen_bounds, block, rules.num_blocks,
                                  rules.m, rules.max_block_m);
    const bool rejected = read_side(&rows.rejected, &rows.n, rules.rejected_bounds, block, rules.num_blocks,
                                    rules.n, rules.max_block_n);
    const bool uneven = rules.pairs && rows.m != rows.n;
    *broken = *broken || !chosen || !rejected || uneven;
    if (uneven)
        rows.m = rows.n = rows.m < rows.n ? rows.m : rows.n;
    rows.contributes = contributes(rows, rules.one_sided);
    return rows;
}

__device__ cut_sums add(const cut_sums &sums, const contrast_rows &rows, bool one_sided) {
    const int64_t pairs = rows.m < rows.n ? rows.m : rows.n;
    const int64_t groups = rows.contributes ? (rows.m + kGroupRows - 1) / kGroupRows : 0;
    return {sums.rows + (rows.contributes ? weighs(rows, one_sided) : 0.0), sums.pairs + pairs,
            sums.groups + groups, sums.broken};
}

/* One thread block; a thread takes consecutive blocks. 8 KB of shared memory. */
__global__ void __launch_bounds__(kThreads)
    contrast_blocks_kernel(contrast_rows *table, unsigned *tickets, cut_rules rules) {
    RPO_SHARED(cut_sums, shares, kThreads);
    const int64_t each = (rules.num_blocks + kThreads - 1) / kThreads;
    const int64_t begin = static_cast<int64_t>(threadIdx.x) * each;
    const int64_t end = begin + each < rules.num_blocks ? begin + each : rules.num_blocks;
    cut_sums mine = {};
    for (int64_t b = begin; b < end; ++b)
        mine = add(mine, read_block(rules, b, &mine.broken), rules.one_sided);
    shares[threadIdx.x] = mine;
    __syncthreads();

    cut_sums before = {}, all = {};
    for (int t = 0; t < kThreads && t * each < rules.num_blocks; ++t) {
        const cut_sums share = shares[t];
        if (t < static_cast<int>(threadIdx.x))
            before = {0.0, before.pairs + share.pairs, before.groups + share.groups, false};
        all = {all.rows + share.rows, 0, 0, all.broken || share.broken};
    }
    const double total = rules.total_rows > 0.0 ? rules.total_rows : all.rows;
    for (int64_t b = begin; b < end; ++b) {
        bool broken = false;
        contrast_rows rows = read_block(rules, b, &broken);
        rows.first_pair = before.pairs;
        rows.first_group = before.groups;
        rows.weight = all.broken ? NAN : rows.contributes ? weighs(rows, rules.one_sided) / total : 0.0;
        table[b] = rows;
        tickets[b] = 0;
        before = add(before, rows, rules.one_sided);
    }
    if (threadIdx.x == 0)
        tickets[rules.num_blocks] = 0;
}

contrast_rows whole_call(const rpo_contrast_inputs *inputs, const rpo_loss_options *options) {
    const bool one_sided = options->kind == RPO_LOSS_SFT;
    contrast_rows rows = {};
    rows.m = inputs->m;
    rows.n = inputs->n;
    rows.contributes = contributes(rows, one_sided);
    const double total = inputs->total_rows > 0.0 ? inputs->total_rows : weighs(rows, one_sided);
    rows.weight = rows.contributes ? weighs(rows, one_sided) / total : 0.0;
    return rows;
}

} // namespace

contrast_cut contrast_cut_lay_out(rpo_bump *from, const rpo_contrast_inputs *inputs,
                                  const rpo_loss_options *options) {
    contrast_cut cut = {};
    cut.num_blocks = inputs->num_blocks;
    cut.whole = whole_call(inputs, options);
    if (cut.num_blocks > 1)
        cut.table = contrast_take<contrast_rows>(from, cut.num_blocks);
    cut.losses = contrast_take<double>(from, cut.num_blocks);
    cut.correct = contrast_take<double>(from, cut.num_blocks);
    cut.tickets = contrast_take<unsigned>(from, cut.num_blocks + 1);
    return cut;
}

rpo_status rpo_cuda_contrast_cut(rpo_context *context, const contrast_cut *cut,
                                 const rpo_contrast_inputs *inputs, const rpo_loss_options *options) {
    if (cut->table == NULL)
        return rpo_cuda_check(cudaMemsetAsync(cut->tickets, 0, 2 * sizeof *cut->tickets,
                                              static_cast<cudaStream_t>(context->stream)),
                              "contrast_loss: zeroing the tickets");
    cut_rules rules = {};
    rules.chosen_bounds = inputs->chosen_bounds;
    rules.rejected_bounds = inputs->rejected_bounds;
    rules.num_blocks = inputs->num_blocks;
    rules.m = inputs->m;
    rules.n = inputs->n;
    rules.max_block_m = inputs->max_block_m;
    rules.max_block_n = inputs->max_block_n;
    rules.total_rows = inputs->total_rows;
    rules.one_sided = options->kind == RPO_LOSS_SFT;
    rules.pairs = rpo_loss_kind_needs_pairs(options->kind) != 0;
    rpo_launch_choice choice = {};
    choice.name = "contrast_blocks_kernel";
    choice.grid = dim3(1);
    choice.block = dim3(kThreads);
    return rpo_launch(context, choice, contrast_blocks_kernel, const_cast<contrast_rows *>(cut->table),
                      cut->tickets, rules);
}
