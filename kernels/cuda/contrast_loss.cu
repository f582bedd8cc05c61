/* contrast_loss.cu - the loss op: which of its versions computes a case. */
#include "kernels/cuda/contrast.cuh"

namespace {

enum class version { kBaseline, kEmpty, kSmall, kTiled };

bool contrasts_matrix(rpo_loss_kind kind) {
    return kind == RPO_LOSS_RPO_PAIRED || kind == RPO_LOSS_RPO_UNPAIRED || kind == RPO_LOSS_RPO_UNIFORM ||
           kind == RPO_LOSS_RPO_DIAGONAL;
}

version choose_version(rpo_context *context, const rpo_contrast_inputs *inputs,
                       const rpo_loss_options *options) {
    /* sft reads one side; everything else needs something on both */
    if (inputs->m == 0 || (options->kind != RPO_LOSS_SFT && inputs->n == 0))
        return version::kEmpty;
    if (!contrasts_matrix(options->kind))
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
