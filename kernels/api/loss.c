/* loss.c - public entry of the contrast loss: argument checks, then the context's backend. */
#include "rpo/loss.h"

#include <math.h>

#include "kernels/api/contrast_check.h"
#include "kernels/api/loss_kinds.h"
#include "kernels/api/versioned.h"

/* A call's structs, whatever version the caller's are. */
typedef struct loss_call {
    rpo_contrast_outputs outputs;
    rpo_contrast_inputs inputs;
    rpo_loss_options options;
    const rpo_loss_traits *traits;
} loss_call;

/* Only what the kind reads is checked. */
static rpo_status check_options(const rpo_loss_options *options, const rpo_loss_traits *traits) {
    RPO_TRY(rpo_check_positive("options.beta", options->beta));
    if (traits->needs_embeddings) {
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

static rpo_status check_most(const char *name, int64_t most, int64_t rows) {
    if (most < 0 || most > rows)
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT,
                             "inputs.%s: is %lld; must be 0 (all) to %lld, all rows", name, (long long)most,
                             (long long)rows);
    return RPO_OK;
}

/* The blocks as far as the host knows them; one block of everything gets its sizes here. */
static rpo_status resolve_blocks(rpo_contrast_inputs *inputs) {
    if (!isfinite(inputs->total_rows) || inputs->total_rows < 0.0)
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT,
                             "inputs.total_rows: is %g; must be finite, > 0, or 0 for the rows at hand",
                             inputs->total_rows);
    const bool chosen = inputs->chosen_bounds != NULL, rejected = inputs->rejected_bounds != NULL;
    if (chosen != rejected)
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT,
                             "inputs.%s: is NULL; both sides have bounds or neither",
                             chosen ? "rejected_bounds" : "chosen_bounds");
    RPO_TRY(rpo_check_size("inputs.num_blocks", inputs->num_blocks, 0));
    RPO_TRY(check_most("max_block_m", inputs->max_block_m, inputs->m));
    RPO_TRY(check_most("max_block_n", inputs->max_block_n, inputs->n));
    if (!chosen && inputs->num_blocks > 1)
        return rpo_error_set(
            RPO_ERROR_INVALID_ARGUMENT,
            "inputs.chosen_bounds: is NULL; inputs.num_blocks is %lld, and one block alone needs none",
            (long long)inputs->num_blocks);
    if (!chosen)
        inputs->num_blocks = 1;
    if (!chosen || inputs->max_block_m == 0)
        inputs->max_block_m = inputs->m;
    if (!chosen || inputs->max_block_n == 0)
        inputs->max_block_n = inputs->n;
    return RPO_OK;
}

static rpo_status check_shape(const rpo_context *context, const loss_call *call) {
    const rpo_preference_ops *ops = &context->backend->preference;
    const bool present = ops->contrast_loss != NULL && ops->contrast_loss_workspace_size != NULL;
    const rpo_contrast_inputs *inputs = &call->inputs;
    const bool embeddings = call->traits->needs_embeddings;
    RPO_TRY(rpo_check_embeddings(context, RPO_OP_CONTRAST_LOSS, "contrast_loss", present, inputs->m,
                                 inputs->n, embeddings ? inputs->dim : 1, "inputs.embedding_dtype",
                                 embeddings ? inputs->embedding_dtype : RPO_FLOAT32));
    if (call->traits->needs_pairs && inputs->m != inputs->n)
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT, "inputs.n: is %lld; %s needs as many as m, %lld",
                             (long long)inputs->n, call->traits->name, (long long)inputs->m);
    return RPO_OK;
}

/* What both functions check; the outputs are the caller's own affair. */
static rpo_status take_call(loss_call *call, const rpo_context *context, const rpo_contrast_inputs *inputs,
                            const rpo_loss_options *options) {
    call->inputs = (rpo_contrast_inputs)RPO_CONTRAST_INPUTS_INIT;
    call->options = (rpo_loss_options)RPO_LOSS_OPTIONS_INIT;
    if (options != NULL)
        RPO_TRY(rpo_versioned_take(&call->options, sizeof call->options, RPO_LOSS_OPTIONS_FIRST, options,
                                   "options"));
    call->traits = rpo_loss_traits_of(call->options.kind);
    if (call->traits == NULL)
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT, "options.kind: is %d; must be an rpo_loss_kind",
                             (int)call->options.kind);
    RPO_TRY(check_options(&call->options, call->traits));
    RPO_TRY(
        rpo_versioned_take(&call->inputs, sizeof call->inputs, RPO_CONTRAST_INPUTS_FIRST, inputs, "inputs"));
    RPO_TRY(check_shape(context, call));
    return resolve_blocks(&call->inputs);
}

static rpo_status check_pointers(const loss_call *call) {
    const rpo_contrast_inputs *inputs = &call->inputs;
    const bool embeddings = call->traits->needs_embeddings && inputs->m > 0 && inputs->n > 0;
    const rpo_pointer_check pointers[] = {
        {"outputs.loss", call->outputs.loss, true},
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
    loss_call call;
    const rpo_pointer_check pointers[] = {{"context", context, true}, {"bytes", bytes, true}};
    RPO_TRY(rpo_check_pointers(pointers, sizeof pointers / sizeof pointers[0]));
    RPO_TRY(take_call(&call, context, inputs, options));
    return context->backend->preference.contrast_loss_workspace_size(context, bytes, &call.inputs,
                                                                     &call.options);
}

rpo_status rpo_contrast_loss(rpo_context *context, const rpo_contrast_outputs *outputs,
                             const rpo_contrast_inputs *inputs, const rpo_loss_options *options,
                             void *workspace, size_t workspace_size) {
    loss_call call = {.outputs = RPO_CONTRAST_OUTPUTS_INIT};
    RPO_TRY(rpo_check_pointers(&(rpo_pointer_check){"context", context, true}, 1));
    RPO_TRY(rpo_versioned_take(&call.outputs, sizeof call.outputs, RPO_CONTRAST_OUTPUTS_FIRST, outputs,
                               "outputs"));
    RPO_TRY(take_call(&call, context, inputs, options));
    RPO_TRY(check_pointers(&call));

    size_t needed = 0;
    const rpo_preference_ops *ops = &context->backend->preference;
    RPO_TRY(ops->contrast_loss_workspace_size(context, &needed, &call.inputs, &call.options));
    RPO_TRY(rpo_check_workspace(workspace, workspace_size, needed));
    return ops->contrast_loss(context, &call.outputs, &call.inputs, &call.options, workspace, workspace_size);
}
