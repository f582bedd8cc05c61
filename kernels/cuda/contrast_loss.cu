/* contrast_loss.cu - the loss op: which of its versions computes a case. */
#include "kernels/api/loss_kinds.h"
#include "kernels/cuda/contrast.cuh"

namespace {

enum class version { kBaseline, kSmall, kTiled };

/* How a call is computed. */
struct contrast_choice {
    version chosen;
    rpo_contrast_inputs inputs;
};

/* What has bounds but needs none, as one block: there is only one (its bounds say what m and n say), or none of them
 * contributes (sft reads one side; everything else needs something on both). */
rpo_contrast_inputs without_needless_bounds(const rpo_contrast_inputs *inputs, bool empty) {
    rpo_contrast_inputs one = *inputs;
    if (inputs->num_blocks > 1 && !empty)
        return one;
    one.chosen_bounds = one.rejected_bounds = NULL;
    one.num_blocks = 1;
    one.max_block_m = one.m;
    one.max_block_n = one.n;
    return one;
}

rpo_status choose_version(contrast_choice *choice, rpo_context *context, const rpo_contrast_inputs *inputs,
                          const rpo_loss_options *options) {
    const bool empty = inputs->m == 0 || (options->kind != RPO_LOSS_SFT && inputs->n == 0);
    choice->inputs = without_needless_bounds(inputs, empty);
    choice->chosen = version::kTiled;
    if (empty || !rpo_loss_traits_of(options->kind)->over_matrix)
        choice->chosen = version::kBaseline;
    else if (rpo_cuda_contrast_is_small(context, &choice->inputs, options))
        choice->chosen = version::kSmall;
    if (choice->chosen == version::kTiled && choice->inputs.num_blocks > 1)
        return rpo_error_set(
            RPO_ERROR_UNSUPPORTED,
            "inputs.max_block_m, max_block_n: are %lld and %lld; several blocks in one call have at "
            "most 512 rows a side on the %s backend, and fewer with embeddings too long for its "
            "shared memory (larger ones: one block a call)",
            static_cast<long long>(choice->inputs.max_block_m),
            static_cast<long long>(choice->inputs.max_block_n), context->backend->name);
    return RPO_OK;
}

} // namespace

extern "C" rpo_status rpo_cuda_contrast_loss_workspace_size(rpo_context *context, size_t *bytes,
                                                            const rpo_contrast_inputs *inputs,
                                                            const rpo_loss_options *options) {
    contrast_choice choice;
    RPO_TRY(choose_version(&choice, context, inputs, options));
    switch (choice.chosen) {
    case version::kSmall:
        *bytes = rpo_cuda_contrast_small_workspace(&choice.inputs, options);
        break;
    case version::kTiled:
        *bytes = rpo_cuda_contrast_tiled_workspace(context, &choice.inputs, options);
        break;
    case version::kBaseline:
        *bytes = rpo_cuda_contrast_baseline_workspace(&choice.inputs, options);
        break;
    }
    return RPO_OK;
}

extern "C" rpo_status rpo_cuda_contrast_loss(rpo_context *context, const rpo_contrast_outputs *outputs,
                                             const rpo_contrast_inputs *inputs,
                                             const rpo_loss_options *options, void *workspace,
                                             size_t workspace_size) {
    (void)workspace_size;
    contrast_choice choice;
    RPO_TRY(choose_version(&choice, context, inputs, options));
    switch (choice.chosen) {
    case version::kSmall:
        return rpo_cuda_contrast_small(context, outputs, &choice.inputs, options, workspace);
    case version::kTiled:
        return rpo_cuda_contrast_tiled(context, outputs, &choice.inputs, options, workspace);
    case version::kBaseline:
        return rpo_cuda_contrast_baseline(context, outputs, &choice.inputs, options, workspace);
    }
    return RPO_ERROR_INTERNAL;
}
