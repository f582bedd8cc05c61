/*
 * contrast_blocks.cuh - a call of the contrast loss cut into its blocks (rpo/loss.h): where a block's rows lie, what
 * it weighs, and how the losses of all come together. Blocks of threads are called thread blocks here.
 */
#ifndef RPO_CUDA_CONTRAST_BLOCKS_CUH
#define RPO_CUDA_CONTRAST_BLOCKS_CUH

#include "kernels/cuda/contrast.cuh"

constexpr int kGroupRows = 4; /* rows a thread block of contrast_small.cu takes */

/* A block: first rows and counts, always within the call's arrays. */
struct contrast_rows {
    int64_t chosen, m, rejected, n;
    int64_t first_pair;  /* of its margins */
    int64_t first_group; /* of its groups of kGroupRows chosen rows among those of all blocks */
    double weight; /* of its loss and gradients in the call's; NaN in all blocks where bounds are broken */
    bool contributes;
};

/* The blocks of a call. */
struct contrast_cut {
    const contrast_rows *table; /* [num_blocks] on the device; NULL: one block, which is `whole` */
    contrast_rows whole;
    int64_t num_blocks;
    double *losses, *correct; /* [num_blocks] weighted losses, pairs with a margin > 0 */
    unsigned *tickets;        /* [num_blocks] thread blocks done with a block; [1] blocks done */
};

/* Where the cut's arrays lie; with NULL in *from only its size is found. */
contrast_cut contrast_cut_lay_out(rpo_bump *from, const rpo_contrast_inputs *inputs,
                                  const rpo_loss_options *options);

/* Enqueues what fills them: the table by a kernel of one thread block, or for one block its tickets. */
rpo_status rpo_cuda_contrast_cut(rpo_context *context, const contrast_cut *cut,
                                 const rpo_contrast_inputs *inputs, const rpo_loss_options *options);

__device__ __forceinline__ contrast_rows contrast_rows_of(const contrast_cut &cut, int64_t block) {
    return cut.table != NULL ? cut.table[block] : cut.whole;
}

__device__ __forceinline__ int contrast_groups(const contrast_rows &rows) {
    return rows.contributes ? static_cast<int>((rows.m + kGroupRows - 1) / kGroupRows) : 1;
}

template <typename T> __device__ __forceinline__ T *contrast_from(T *values, int64_t first) {
    return values != NULL ? values + first : NULL;
}

/* The block as inputs of its own. T: what embeddings consist of. */
template <typename T>
__device__ rpo_contrast_inputs contrast_block_inputs(const rpo_contrast_inputs &all,
                                                     const contrast_rows &rows) {
    rpo_contrast_inputs inputs = all;
    inputs.policy_chosen_logps = contrast_from(all.policy_chosen_logps, rows.chosen);
    inputs.policy_rejected_logps = contrast_from(all.policy_rejected_logps, rows.rejected);
    inputs.reference_chosen_logps = contrast_from(all.reference_chosen_logps, rows.chosen);
    inputs.reference_rejected_logps = contrast_from(all.reference_rejected_logps, rows.rejected);
    inputs.chosen_embeddings =
        contrast_from(static_cast<const T *>(all.chosen_embeddings), rows.chosen * all.dim);
    inputs.rejected_embeddings =
        contrast_from(static_cast<const T *>(all.rejected_embeddings), rows.rejected * all.dim);
    inputs.m = rows.m;
    inputs.n = rows.n;
    return inputs;
}

/* And its outputs; `loss` and `accuracy` stay the call's. */
__device__ __forceinline__ rpo_contrast_outputs contrast_block_outputs(const rpo_contrast_outputs &all,
                                                                       const contrast_rows &rows) {
    rpo_contrast_outputs outputs = all;
    outputs.row_losses = contrast_from(all.row_losses, rows.chosen);
    outputs.grad_chosen_logps = contrast_from(all.grad_chosen_logps, rows.chosen);
    outputs.grad_rejected_logps = contrast_from(all.grad_rejected_logps, rows.rejected);
    outputs.chosen_rewards = contrast_from(all.chosen_rewards, rows.chosen);
    outputs.rejected_rewards = contrast_from(all.rejected_rewards, rows.rejected);
    outputs.margins = contrast_from(all.margins, rows.first_pair);
    return outputs;
}

/* Row losses and gradients of a block that does not contribute: 0 times its weight, NaN where bounds are broken.
 * Threads stride over the rows. `rejected_losses` may be NULL. */
__device__ __forceinline__ void contrast_write_zeros(const rpo_contrast_outputs &outputs,
                                                     float *rejected_losses, const contrast_rows &rows) {
    const double zero = 0.0 * rows.weight;
    for (int64_t i = threadIdx.x; i < rows.m; i += blockDim.x) {
        contrast_store(outputs.row_losses, i, zero);
        contrast_store(outputs.grad_chosen_logps, i, zero);
    }
    for (int64_t j = threadIdx.x; j < rows.n; j += blockDim.x) {
        contrast_store(rejected_losses, j, zero);
        contrast_store(outputs.grad_rejected_logps, j, zero);
    }
}

/* Rewards and margins of a block; returns how many margins are > 0. Contains barriers; scratch[kMaxWarps]. */
__device__ __forceinline__ double contrast_block_rewards(const rpo_contrast_outputs &outputs,
                                                         const rpo_contrast_inputs &inputs, double beta,
                                                         double *scratch) {
    const int64_t longer = inputs.m > inputs.n ? inputs.m : inputs.n;
    double correct = 0.0;
    for (int64_t i = threadIdx.x; i < longer; i += blockDim.x)
        correct += contrast_write_rewards(outputs, inputs, beta, i) ? 1.0 : 0.0;
    return rpo_block_sum(correct, scratch);
}

/* True in the thread block that takes the last of `count` tickets; what all wrote before is then visible to it. */
__device__ __forceinline__ bool contrast_is_last(unsigned *ticket, unsigned count, unsigned *taken) {
    __syncthreads();
    if (threadIdx.x == 0) {
        __threadfence();
        *taken = count == 1 ? 0 : atomicAdd(ticket, 1u);
        __threadfence();
    }
    __syncthreads();
    return *taken == count - 1;
}

/* The loss and the accuracy from those of the blocks, in a fixed order. Contains barriers; scratch[kMaxWarps]. */
__device__ __forceinline__ void contrast_write_totals(const rpo_contrast_outputs &outputs,
                                                      const contrast_cut &cut, double *scratch) {
    double loss = 0.0, correct = 0.0, pairs = 0.0;
    for (int64_t b = threadIdx.x; b < cut.num_blocks; b += blockDim.x) {
        const contrast_rows rows = contrast_rows_of(cut, b);
        loss += cut.losses[b];
        correct += cut.correct[b];
        pairs += static_cast<double>(rows.m < rows.n ? rows.m : rows.n);
    }
    loss = rpo_block_sum(loss, scratch);
    correct = rpo_block_sum(correct, scratch);
    pairs = rpo_block_sum(pairs, scratch);
    if (threadIdx.x != 0)
        return; /* no barrier or collective follows in here */
    *outputs.loss = static_cast<float>(loss);
    contrast_write_accuracy(outputs, correct, pairs);
}

#endif
