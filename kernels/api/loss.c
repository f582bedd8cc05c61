/* loss.c - public entry of the contrast loss: the table of kinds, argument checks, then the context's
 * backend. */
#include "rpo/loss.h"

#include <math.h>
#include <string.h>

#include "kernels/api/contrast_check.h"

typedef struct kind_traits {
    const char *name;
    bool needs_embeddings;
    bool needs_pairs;
} kind_traits;

static const kind_traits kinds[RPO_LOSS_KIND_COUNT] = {
    [RPO_LOSS_RPO_PAIRED] = {"rpo-paired", true, true},
    [RPO_LOSS_RPO_UNPAIRED] = {"rpo-unpaired", true, false},
    [RPO_LOSS_RPO_UNIFORM] = {"rpo-uniform", false, false},
    [RPO_LOSS_RPO_DIAGONAL] = {"rpo-diagonal", false, true},
    [RPO_LOSS_DPO] = {"dpo", false, true},
    [RPO_LOSS_CDPO] = {"cdpo", false, true},
    [RPO_LOSS_IPO] = {"ipo", false, true},
    [RPO_LOSS_KTO_SIMPLE] = {"kto-simple", false, false},
    [RPO_LOSS_SFT] = {"sft", false, false},
};

static const kind_traits *traits_of(rpo_loss_kind kind) {
    return (unsigned)kind < RPO_LOSS_KIND_COUNT ? &kinds[kind] : NULL;
}

const char *rpo_loss_kind_name(rpo_loss_kind kind) {
    const kind_traits *traits = traits_of(kind);
    return traits != NULL ? traits->name : NULL;
}

rpo_status rpo_loss_kind_from_name(rpo_loss_kind *kind, const char *name) {
    const rpo_pointer_check pointers[] = {{"kind", kind, true}, {"name", name, true}};
    RPO_TRY(rpo_check_pointers(pointers, sizeof pointers / sizeof pointers[0]));
    for (int k = 0; k < RPO_LOSS_KIND_COUNT; ++k)
        if (strcmp(kinds[k].name, name) == 0) {
            *kind = (rpo_loss_kind)k;
            return RPO_OK;
        }
    return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT,
                         "loss kind: is \"%.64s\"; must be one of rpo-paired, rpo-unpaired, rpo-uniform, "
                         "rpo-diagonal, dpo, cdpo, ipo, kto-simple, sft",
                         name);
}

int rpo_loss_kind_needs_embeddings(rpo_loss_kind kind) {
    const kind_traits *traits = traits_of(kind);
    return traits != NULL && traits->needs_embeddings;
}

int rpo_loss_kind_needs_pairs(rpo_loss_kind kind) {
    const kind_traits *traits = traits_of(kind);
    return traits != NULL && traits->needs_pairs;
}

static rpo_status check_struct_size(const char *name, size_t size, size_t expected) {
    if (size != expected)
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT, "%s.struct_size: is %zu; must be %zu", name, size,
                             expected);
    return RPO_OK;
}

/* Only what the kind reads is checked. */
static rpo_status check_options(const rpo_loss_options *options) {
    RPO_TRY(check_struct_size("options", options->struct_size, sizeof *options));
    if (traits_of(options->kind) == NULL)
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT, "options.kind: is %d; must be an rpo_loss_kind",
                             (int)options->kind);
    RPO_TRY(rpo_check_positive("options.beta", options->beta));
    if (kinds[options->kind].needs_embeddings) {
        RPO_TRY(rpo_check_positive("options.tau", options->tau));
        RPO_TRY(rpo_check_weight_scale("options.weight_scale", options->weight_scale));
    }
    const float d = options->diagonal_weight, epsilon = options->epsilon;
    if (options->kind == RPO_LOSS_RPO_DIAGONAL && !(d >= 0.0f && d <= 1.0f))
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT, "options.diagonal_weight: is %g; must be 0 to 1",
                             (double)d);
    if (options->kind == RPO_LOSS_CDPO && !(epsilon >= 0.0f && epsilon <= 0.5f))
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT, "options.epsilon: is %g; must be 0 to 0.5",
                             (double)epsilon);
    return RPO_OK;
}

static rpo_status check_shape(const rpo_context *context, const rpo_contrast_inputs *inputs,
                              const rpo_loss_options *options) {
    const rpo_preference_ops *ops = &context->backend->preference;
    const bool present = ops->contrast_loss != NULL && ops->contrast_loss_workspace_size != NULL;
    const kind_traits *traits = &kinds[options->kind];
    RPO_TRY(check_struct_size("inputs", inputs->struct_size, sizeof *inputs));
    RPO_TRY(rpo_check_embeddings(context, RPO_OP_CONTRAST_LOSS, "contrast_loss", present, inputs->m,
                                 inputs->n, traits->needs_embeddings ? inputs->dim : 1,
                                 "inputs.embedding_dtype",
                                 traits->needs_embeddings ? inputs->embedding_dtype : RPO_FLOAT32));
    if (traits->needs_pairs && inputs->m != inputs->n)
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT, "inputs.n: is %lld; %s needs as many as m, %lld",
                             (long long)inputs->n, traits->name, (long long)inputs->m);
    return RPO_OK;
}

static rpo_status check_pointers(const rpo_contrast_outputs *outputs, const rpo_contrast_inputs *inputs,
                                 const rpo_loss_options *options) {
    const bool embeddings = kinds[options->kind].needs_embeddings && inputs->m > 0 && inputs->n > 0;
    const rpo_pointer_check pointers[] = {
        {"outputs.loss", outputs->loss, true},
        {"inputs.policy_chosen_logps", inputs->policy_chosen_logps, inputs->m > 0},
        {"inputs.policy_rejected_logps", inputs->policy_rejected_logps, inputs->n > 0},
        {"inputs.chosen_embeddings", inputs->chosen_embeddings, embeddings},
        {"inputs.rejected_embeddings", inputs->rejected_embeddings, embeddings},
    };
    return rpo_check_pointers(pointers, sizeof pointers / sizeof pointers[0]);
}

rpo_status rpo_contrast_loss_workspace_size(rpo_context *context, size_t *bytes,
                                            const rpo_contrast_inputs *inputs,
                                            const rpo_loss_options *options) {
    const rpo_loss_options defaults = RPO_LOSS_OPTIONS_INIT;
    const rpo_pointer_check pointers[] = {
        {"context", context, true}, {"bytes", bytes, true}, {"inputs", inputs, true}};
    RPO_TRY(rpo_check_pointers(pointers, sizeof pointers / sizeof pointers[0]));
    if (options == NULL)
        options = &defaults;
    RPO_TRY(check_options(options));
    RPO_TRY(check_shape(context, inputs, options));
    return context->backend->preference.contrast_loss_workspace_size(context, bytes, inputs, options);
}

rpo_status rpo_contrast_loss(rpo_context *context, const rpo_contrast_outputs *outputs,
                             const rpo_contrast_inputs *inputs, const rpo_loss_options *options,
                             void *workspace, size_t workspace_size) {
    const rpo_loss_options defaults = RPO_LOSS_OPTIONS_INIT;
    const rpo_pointer_check pointers[] = {
        {"context", context, true}, {"outputs", outputs, true}, {"inputs", inputs, true}};
    RPO_TRY(rpo_check_pointers(pointers, sizeof pointers / sizeof pointers[0]));
    if (options == NULL)
        options = &defaults;
    RPO_TRY(check_struct_size("outputs", outputs->struct_size, sizeof *outputs));
    RPO_TRY(check_options(options));
    RPO_TRY(check_shape(context, inputs, options));
    RPO_TRY(check_pointers(outputs, inputs, options));

    size_t needed = 0;
    const rpo_preference_ops *ops = &context->backend->preference;
    RPO_TRY(ops->contrast_loss_workspace_size(context, &needed, inputs, options));
    RPO_TRY(rpo_check_workspace(workspace, workspace_size, needed));
    return ops->contrast_loss(context, outputs, inputs, options, workspace, workspace_size);
}
