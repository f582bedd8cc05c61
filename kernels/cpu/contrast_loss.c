/* contrast_loss.c - the loss op of the CPU: empty sides, rewards and margins, and which half computes the
 * rest. */
#include <math.h>

#include "kernels/cpu/contrast.h"

static bool contrasts_matrix(rpo_loss_kind kind) {
    return kind == RPO_LOSS_RPO_PAIRED || kind == RPO_LOSS_RPO_UNPAIRED || kind == RPO_LOSS_RPO_UNIFORM ||
           kind == RPO_LOSS_RPO_DIAGONAL;
}

/* sft reads one side; everything else needs something on both. */
static bool has_nothing_to_do(rpo_loss_kind kind, const rpo_contrast_inputs *inputs) {
    return inputs->m == 0 || (kind != RPO_LOSS_SFT && inputs->n == 0);
}

rpo_status rpo_cpu_contrast_loss_workspace_size(rpo_context *context, size_t *bytes,
                                                const rpo_contrast_inputs *inputs,
                                                const rpo_loss_options *options) {
    *bytes = contrasts_matrix(options->kind) && !has_nothing_to_do(options->kind, inputs)
                 ? rpo_cpu_contrast_pairs_workspace(context, inputs, options)
                 : 0;
    return RPO_OK;
}

static void zero(float *values, int64_t count) {
    for (int64_t i = 0; values != NULL && i < count; ++i)
        values[i] = 0.0f;
}

static void write_zeros(const rpo_contrast_outputs *outputs, const rpo_contrast_inputs *inputs,
                        const rpo_loss_options *options) {
    const bool both = options->kind == RPO_LOSS_KTO_SIMPLE;
    zero(outputs->loss, 1);
    zero(outputs->row_losses, both ? inputs->m + inputs->n : inputs->m);
    zero(outputs->grad_chosen_logps, inputs->m);
    zero(outputs->grad_rejected_logps, inputs->n);
}

static void write_rewards(const rpo_contrast_outputs *outputs, const rpo_contrast_inputs *inputs,
                          double beta) {
    const int64_t pairs = inputs->m < inputs->n ? inputs->m : inputs->n;
    int64_t correct = 0;
    for (int64_t i = 0; i < inputs->m && outputs->chosen_rewards != NULL; ++i)
        outputs->chosen_rewards[i] =
            (float)(beta * rpo_cpu_log_ratio(inputs->policy_chosen_logps, inputs->reference_chosen_logps, i));
    for (int64_t j = 0; j < inputs->n && outputs->rejected_rewards != NULL; ++j)
        outputs->rejected_rewards[j] = (float)(beta * rpo_cpu_log_ratio(inputs->policy_rejected_logps,
                                                                        inputs->reference_rejected_logps, j));
    for (int64_t i = 0; i < pairs; ++i) {
        const double margin =
            beta * (rpo_cpu_log_ratio(inputs->policy_chosen_logps, inputs->reference_chosen_logps, i) -
                    rpo_cpu_log_ratio(inputs->policy_rejected_logps, inputs->reference_rejected_logps, i));
        correct += margin > 0.0;
        if (outputs->margins != NULL)
            outputs->margins[i] = (float)margin;
    }
    if (outputs->accuracy != NULL)
        *outputs->accuracy = pairs == 0 ? 0.0f : (float)((double)correct / (double)pairs);
}

rpo_status rpo_cpu_contrast_loss(rpo_context *context, const rpo_contrast_outputs *outputs,
                                 const rpo_contrast_inputs *inputs, const rpo_loss_options *options,
                                 void *workspace, size_t workspace_size) {
    (void)workspace_size;
    if (has_nothing_to_do(options->kind, inputs))
        write_zeros(outputs, inputs, options);
    else if (contrasts_matrix(options->kind))
        RPO_TRY(rpo_cpu_contrast_pairs(context, outputs, inputs, options, workspace));
    else
        rpo_cpu_contrast_baseline(outputs, inputs, options);
    write_rewards(outputs, inputs, (double)options->beta);
    return RPO_OK;
}
