/*
 * contrast_baseline.cu - the losses that read no pair but (i, i), or only the two vectors, and empty sides.
 *
 *   version 2  as version 1, a thread block for every block of a call; the last, told by a ticket, adds them.
 *   version 1  one thread block, O(m + n) work in double: sweeps over two vectors of a few kilobytes that stay in
 * L1, one launch whose cost is the launch. Sums have a fixed order: thread t takes every 1024th element, then
 * the block's tree. Not yet measured on a GPU.
 *
 * Equations: include/rpo/loss.h; the same steps as kernels/cpu/contrast_baseline.c.
 */
#include "kernels/api/loss_kinds.h"
#include "kernels/cuda/contrast_blocks.cuh"
#include "kernels/cuda/launch.cuh"

namespace {

constexpr int kThreads = 1024;

struct baseline_options {
    rpo_loss_kind kind;
    double beta, epsilon;
};

/* A block that contributes. */
struct baseline_block {
    rpo_contrast_outputs outputs;
    rpo_contrast_inputs inputs;
    float *rejected_losses; /* kto-simple's row losses of the rejected side, or NULL */
    double weight;
};

/* -log sigmoid(x) and sigmoid(-x) through the device's double functions: O(m) of them. */
__device__ double log_sigmoid_loss(double x, double *slope) {
    const double t = exp(-fabs(x));
    *slope = (x < 0.0 ? 1.0 : t) / (1.0 + t);
    return (x < 0.0 ? -x : 0.0) + log1p(t);
}

/* Loss of pair i and its derivative by the margin s. */
__device__ double diagonal_term(const baseline_options &options, double s, double *derivative) {
    const double beta = options.beta;
    if (options.kind == RPO_LOSS_IPO) {
        const double distance = s - 1.0 / (2.0 * beta);
        *derivative = 2.0 * distance;
        return distance * distance;
    }
    const double epsilon = options.kind == RPO_LOSS_CDPO ? options.epsilon : 0.0;
    double slope, flipped_slope;
    const double loss = log_sigmoid_loss(beta * s, &slope);
    *derivative = -beta * slope;
    if (!(epsilon > 0.0))
        return loss;
    const double flipped_loss = log_sigmoid_loss(-beta * s, &flipped_slope);
    *derivative = beta * (epsilon * flipped_slope - (1.0 - epsilon) * slope);
    return (1.0 - epsilon) * loss + epsilon * flipped_loss;
}

/* Each of the functions below returns this thread's share of the mean of row losses; gradients are those of weight times
 * it. */

__device__ double diagonal_losses(const baseline_block &block, const baseline_options &options) {
    const rpo_contrast_inputs &inputs = block.inputs;
    const rpo_contrast_outputs &outputs = block.outputs;
    const double share = 1.0 / static_cast<double>(inputs.m), gradient = block.weight * share;
    double sum = 0.0;
    for (int64_t i = threadIdx.x; i < inputs.m; i += kThreads) {
        double derivative;
        const double loss =
            diagonal_term(options, contrast_chosen(inputs, i) - contrast_rejected(inputs, i), &derivative);
        sum += loss;
        contrast_store(outputs.row_losses, i, loss);
        contrast_store(outputs.grad_chosen_logps, i, gradient * derivative);
        contrast_store(outputs.grad_rejected_logps, i, -gradient * derivative);
    }
    return share * sum;
}

__device__ double sft_losses(const baseline_block &block) {
    const rpo_contrast_inputs &inputs = block.inputs;
    const rpo_contrast_outputs &outputs = block.outputs;
    const double share = 1.0 / static_cast<double>(inputs.m);
    double sum = 0.0;
    for (int64_t i = threadIdx.x; i < inputs.m; i += kThreads) {
        const double loss = -contrast_finite_or_nan(static_cast<double>(inputs.policy_chosen_logps[i]));
        sum += loss;
        contrast_store(outputs.row_losses, i, loss);
        contrast_store(outputs.grad_chosen_logps, i, -block.weight * share);
    }
    for (int64_t j = threadIdx.x; j < inputs.n; j += kThreads)
        contrast_store(outputs.grad_rejected_logps, j, 0.0);
    return share * sum;
}

/* max(x, 0), which a NaN passes through. */
__device__ double clamp_mean(double x) {
    return x < 0.0 ? 0.0 : x;
}

/* One row of kto-simple: 1 - sigmoid(x) = sigmoid(-x), and *slope = minus its derivative. */
__device__ double kto_term(double x, double *slope) {
    double loss, complement;
    log_sigmoid_loss(x, &loss);
    log_sigmoid_loss(-x, &complement);
    *slope = loss * complement;
    return loss;
}

/*
 * Each side is measured from the other side's clamped mean, so the slopes of one side flow back to every
 * score of the other unless the clamp holds. At a mean of exactly 0, where a run starts, the derivative of
 * the clamp is 1, as that of torch.clamp. Contains barriers.
 */
__device__ double kto_losses(const baseline_block &block, const baseline_options &options, double *scratch) {
    const rpo_contrast_inputs &inputs = block.inputs;
    const rpo_contrast_outputs &outputs = block.outputs;
    const int64_t m = inputs.m, n = inputs.n;
    const double beta = options.beta, share = 1.0 / (static_cast<double>(m) + static_cast<double>(n));
    const double gradient = block.weight * share;
    double chosen_mean = 0.0, rejected_mean = 0.0;
    for (int64_t i = threadIdx.x; i < m; i += kThreads)
        chosen_mean += contrast_chosen(inputs, i);
    for (int64_t j = threadIdx.x; j < n; j += kThreads)
        rejected_mean += contrast_rejected(inputs, j);
    chosen_mean = rpo_block_sum(chosen_mean, scratch) / static_cast<double>(m);
    rejected_mean = rpo_block_sum(rejected_mean, scratch) / static_cast<double>(n);
    const double chosen_origin = clamp_mean(rejected_mean), rejected_origin = clamp_mean(chosen_mean);

    double sum = 0.0, chosen_slopes = 0.0, rejected_slopes = 0.0, slope;
    for (int64_t i = threadIdx.x; i < m; i += kThreads) {
        const double loss = kto_term(beta * (contrast_chosen(inputs, i) - chosen_origin), &slope);
        sum += loss;
        chosen_slopes += slope;
        contrast_store(outputs.row_losses, i, loss);
    }
    for (int64_t j = threadIdx.x; j < n; j += kThreads) {
        const double loss = kto_term(beta * (rejected_origin - contrast_rejected(inputs, j)), &slope);
        sum += loss;
        rejected_slopes += slope;
        contrast_store(block.rejected_losses, j, loss);
    }
    chosen_slopes = rpo_block_sum(chosen_slopes, scratch);
    rejected_slopes = rpo_block_sum(rejected_slopes, scratch);

    const double to_chosen = chosen_mean < 0.0 ? 0.0 : rejected_slopes / static_cast<double>(m);
    const double to_rejected = rejected_mean < 0.0 ? 0.0 : chosen_slopes / static_cast<double>(n);
    for (int64_t i = threadIdx.x; i < m; i += kThreads) {
        kto_term(beta * (contrast_chosen(inputs, i) - chosen_origin), &slope);
        contrast_store(outputs.grad_chosen_logps, i, -gradient * beta * (slope + to_chosen));
    }
    for (int64_t j = threadIdx.x; j < n; j += kThreads) {
        kto_term(beta * (rejected_origin - contrast_rejected(inputs, j)), &slope);
        contrast_store(outputs.grad_rejected_logps, j, gradient * beta * (slope + to_rejected));
    }
    return share * sum;
}

__device__ double block_losses(const baseline_block &block, const baseline_options &options,
                               double *scratch) {
    switch (options.kind) {
    case RPO_LOSS_SFT:
        return sft_losses(block);
    case RPO_LOSS_KTO_SIMPLE:
        return kto_losses(block, options, scratch);
    default:
        return diagonal_losses(block, options);
    }
}

/* A thread block a block; 33 doubles of shared memory; one to three sweeps over both vectors. One block alone touches
 * no memory but its inputs and outputs. */
__global__ void __launch_bounds__(kThreads)
    contrast_baseline_kernel(rpo_contrast_outputs outputs, rpo_contrast_inputs inputs,
                             baseline_options options, contrast_cut cut) {
    RPO_SHARED(double, scratch, kMaxWarps);
    RPO_SHARED(unsigned, taken, 1);
    const contrast_rows rows = contrast_rows_of(cut, blockIdx.x);
    baseline_block block = {};
    block.outputs = contrast_block_outputs(outputs, rows);
    block.inputs = contrast_block_inputs<float>(inputs, rows); /* no embeddings are read */
    block.rejected_losses = options.kind == RPO_LOSS_KTO_SIMPLE
                                ? contrast_from(outputs.row_losses, inputs.m + rows.rejected)
                                : NULL;
    block.weight = rows.weight;
    double loss = 0.0;
    if (rows.contributes)
        loss = block_losses(block, options, scratch);
    else
        contrast_write_zeros(block.outputs, block.rejected_losses, rows);
    loss = rpo_block_sum(loss, scratch) * rows.weight;
    const double correct = contrast_block_rewards(block.outputs, block.inputs, options.beta, scratch);
    if (cut.table == NULL) {
        if (threadIdx.x != 0)
            return; /* no barrier or collective follows on this way */
        *outputs.loss = static_cast<float>(loss);
        contrast_write_accuracy(outputs, correct, static_cast<double>(rows.m < rows.n ? rows.m : rows.n));
        return;
    }
    if (threadIdx.x == 0) {
        cut.losses[blockIdx.x] = loss;
        cut.correct[blockIdx.x] = correct;
    }
    if (contrast_is_last(cut.tickets + cut.num_blocks, static_cast<unsigned>(cut.num_blocks), taken))
        contrast_write_totals(outputs, cut, scratch);
}

/* The cut, in memory only where there is more than one block. */
contrast_cut lay_out(void *memory, const rpo_contrast_inputs *inputs, const rpo_loss_options *options,
                     size_t *bytes) {
    rpo_bump from = rpo_bump_from(memory);
    const contrast_cut cut = contrast_cut_lay_out(&from, inputs, options);
    *bytes = inputs->num_blocks > 1 ? rpo_bump_size(&from) : 0;
    return cut;
}

} // namespace

size_t rpo_cuda_contrast_baseline_workspace(const rpo_contrast_inputs *inputs,
                                            const rpo_loss_options *options) {
    size_t bytes = 0;
    (void)lay_out(NULL, inputs, options, &bytes);
    return bytes;
}

rpo_status rpo_cuda_contrast_baseline(rpo_context *context, const rpo_contrast_outputs *outputs,
                                      const rpo_contrast_inputs *inputs, const rpo_loss_options *options,
                                      void *workspace) {
    size_t bytes = 0;
    const contrast_cut cut = lay_out(inputs->num_blocks > 1 ? workspace : NULL, inputs, options, &bytes);
    baseline_options baseline = {};
    baseline.kind = options->kind;
    baseline.beta = static_cast<double>(options->beta);
    baseline.epsilon = static_cast<double>(options->epsilon);
    if (inputs->num_blocks > 1)
        RPO_TRY(rpo_cuda_contrast_cut(context, &cut, inputs, options));
    rpo_launch_choice choice = {};
    choice.name = "contrast_baseline_kernel";
    choice.grid = dim3(static_cast<unsigned>(inputs->num_blocks));
    choice.block = dim3(kThreads);
    return rpo_launch(context, choice, contrast_baseline_kernel, *outputs, *inputs, baseline, cut);
}
