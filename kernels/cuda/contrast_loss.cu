/* contrast_loss.cu - the loss op: which of its versions computes a case. */
#include "kernels/api/loss_kinds.h"
#include "kernels/cuda/contrast.cuh"

namespace {

enum class version { kBaseline, kEmpty, kSmall, kTiled };

version choose_version(rpo_context *context, const rpo_contrast_inputs *inputs,
                       const rpo_loss_options *options) {
    /* sft reads one side; everything else needs something on both */
    if (inputs->m == 0 || (options->kind != RPO_LOSS_SFT && inputs->n == 0))
        return version::kEmpty;
    if (!rpo_loss_traits_of(options->kind)->over_matrix)
        return version::kBaseline;
    return rpo_cuda_contrast_is_small(context, inputs, options) ? version::kSmall : version::kTiled;
}

} // namespace

extern "C" rpo_status rpo_cuda_contrast_loss_workspace_size(rpo_context *context, size_t *bytes,
                                                            const rpo_contrast_inputs *inputs,
                                                            const rpo_loss_options *options) {
    switch (choose_version(context, inputs, options)) {
    case version::kSmall:
        *bytes = rpo_cuda_contrast_small_workspace(inputs);
        break;
    case version::kTiled:
        *bytes = rpo_cuda_contrast_tiled_workspace(context, inputs, options);
        break;
    default:
        *bytes = 0;
        break;
    }
    return RPO_OK;
}

extern "C" rpo_status rpo_cuda_contrast_loss(rpo_context *context, const rpo_contrast_outputs *outputs,
                                             const rpo_contrast_inputs *inputs,
                                             const rpo_loss_options *options, void *workspace,
                                             size_t workspace_size) {
    (void)workspace_size;
    if (inputs->chosen_bounds != NULL || inputs->total_rows != 0.0)
        return rpo_error_set(RPO_ERROR_UNSUPPORTED,
                             "inputs.chosen_bounds: the cuda backend takes one block a call");
    const version chosen = choose_version(context, inputs, options);
    switch (chosen) {
    case version::kSmall:
        return rpo_cuda_contrast_small(context, outputs, inputs, options, workspace);
    case version::kTiled:
        return rpo_cuda_contrast_tiled(context, outputs, inputs, options, workspace);
    default:
        return rpo_cuda_contrast_baseline(context, outputs, inputs, options, chosen == version::kEmpty);
    }
}
