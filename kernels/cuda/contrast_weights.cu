/*
 * contrast_weights.cu - the row softmax of prompt distances as a matrix, for looking at it.
 *
 *   version 1  the similarity matrix written into the output (prompt_similarity.cu), then each row replaced
 *              by its softmax: one read for the maximum, one for the sum, one read and write for the weights,
 *              all but the first from L1 or L2. The loss never calls this: contrast_small.cu and
 *              contrast_tiled.cu keep no matrix. Not yet measured on a GPU.
 */
#include "kernels/cuda/contrast.cuh"
#include "kernels/cuda/launch.cuh"

namespace {

constexpr int kThreads = 256;

/* One block a row, threads striding over its columns; 2 arrays of 32 floats of shared memory. */
__global__ void __launch_bounds__(kThreads)
    contrast_softmax_kernel(float *matrix, int64_t n, float inverse_tau, float weight_scale) {
    RPO_SHARED(float, maxima, kMaxWarps);
    RPO_SHARED(float, sums, kMaxWarps);
    float *row = matrix + static_cast<int64_t>(blockIdx.x) * n;
    const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
    const int warp = static_cast<int>(threadIdx.x) / kWarpThreads;

    float largest = -INFINITY;
    for (int64_t j = threadIdx.x; j < n; j += kThreads)
        largest = fmaxf(largest, row[j]);
    largest = rpo_warp_max(largest);
    if (lane == 0)
        maxima[warp] = largest;
    __syncthreads();
    largest = rpo_warp_max(lane < kThreads / kWarpThreads ? maxima[lane] : -INFINITY);

    float sum = 0.0f;
    for (int64_t j = threadIdx.x; j < n; j += kThreads)
        sum += contrast_exp_distance(row[j], largest, inverse_tau);
    sum = rpo_block_sum(sum, sums);
    const float factor = weight_scale / sum;
    for (int64_t j = threadIdx.x; j < n; j += kThreads)
        row[j] = factor * contrast_exp_distance(row[j], largest, inverse_tau);
}

} // namespace

extern "C" rpo_status rpo_cuda_contrast_weights(rpo_context *context, float *weights,
                                                const rpo_similarity_inputs *inputs, float tau,
                                                rpo_weight_scale scale, void *workspace,
                                                size_t workspace_size) {
    if (inputs->m == 0 || inputs->n == 0)
        return RPO_OK;
    RPO_TRY(rpo_cuda_prompt_similarity(context, weights, inputs, workspace, workspace_size));
    const float weight_scale = scale == RPO_WEIGHT_SCALE_BLOCK ? static_cast<float>(inputs->n) : 1.0f;
    rpo_launch_choice choice = {};
    choice.name = "contrast_softmax_kernel";
    choice.grid = dim3(static_cast<unsigned>(inputs->m));
    choice.block = dim3(kThreads);
    return rpo_launch(context, choice, contrast_softmax_kernel, weights, inputs->n, contrast_inverse_tau(tau),
                      weight_scale);
}
