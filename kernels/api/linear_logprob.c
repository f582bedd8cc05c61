/* linear_logprob.c - public entry of log-probs from hidden states and the output head: checks, then the
 * backend. */
#include "rpo/linear_logprob.h"

#include "kernels/api/logprob_check.h"
#include "kernels/api/versioned.h"

/* What both directions are given. */
typedef struct linear_call {
    rpo_linear_logprob_saved saved;
    rpo_linear_logprob_inputs inputs;
    rpo_linear_logprob_shape shape;
} linear_call;

static rpo_status check_flag(const char *name, int flag) {
    if (flag != 0 && flag != 1)
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT, "%s: is %d; must be 0 or 1", name, flag);
    return RPO_OK;
}

static rpo_status take_shape(rpo_linear_logprob_shape *taken, const rpo_context *context,
                             const rpo_linear_logprob_shape *shape) {
    *taken = (rpo_linear_logprob_shape)RPO_LINEAR_LOGPROB_SHAPE_INIT;
    RPO_TRY(rpo_check_pointers(&(rpo_pointer_check){"context", context, true}, 1));
    RPO_TRY(rpo_versioned_take(taken, sizeof *taken, RPO_LINEAR_LOGPROB_SHAPE_FIRST, shape, "shape"));
    RPO_TRY(rpo_check_packed_rows(taken->rows, taken->vocab_size, taken->num_sequences, taken->dtype,
                                  taken->reduction));
    if (taken->hidden_size < 1 || taken->hidden_size > INT32_MAX)
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT, "shape.hidden_size: is %lld; must be 1 to %d",
                             (long long)taken->hidden_size, INT32_MAX);
    if (taken->valid_rows < 0 || taken->valid_rows > taken->rows)
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT,
                             "shape.valid_rows: is %lld; must be 0 (unknown) to shape.rows, %lld",
                             (long long)taken->valid_rows, (long long)taken->rows);
    RPO_TRY(check_flag("shape.frozen_head", taken->frozen_head));
    RPO_TRY(rpo_check_addressable("logits", taken->rows, taken->vocab_size, RPO_FLOAT32));
    RPO_TRY(rpo_check_addressable("hidden", taken->rows, taken->hidden_size, taken->dtype));
    RPO_TRY(rpo_check_addressable("head", taken->vocab_size, taken->hidden_size, taken->dtype));
    return rpo_check_supported(context, RPO_OP_LINEAR_LOGPROB, "linear_logprob", taken->dtype,
                               context->backend->preference.linear_logprob != NULL);
}

static rpo_status take_saved(rpo_linear_logprob_saved *taken, const rpo_linear_logprob_saved *saved,
                             const rpo_linear_logprob_shape *shape) {
    *taken = (rpo_linear_logprob_saved)RPO_LINEAR_LOGPROB_SAVED_INIT;
    if (saved != NULL)
        RPO_TRY(rpo_versioned_take(taken, sizeof *taken, RPO_LINEAR_LOGPROB_SAVED_FIRST, saved, "saved"));
    if (taken->cache == NULL && shape->cache_bytes > 0)
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT, "saved.cache: is NULL; shape.cache_bytes is %zu",
                             shape->cache_bytes);
    if ((uintptr_t)taken->cache % 64 != 0)
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT, "saved.cache: must be 64-byte aligned");
    return RPO_OK;
}

static rpo_status take_inputs(rpo_linear_logprob_inputs *taken, const rpo_linear_logprob_inputs *inputs,
                              const rpo_linear_logprob_shape *shape, bool backward) {
    *taken = (rpo_linear_logprob_inputs)RPO_LINEAR_LOGPROB_INPUTS_INIT;
    RPO_TRY(rpo_versioned_take(taken, sizeof *taken, RPO_LINEAR_LOGPROB_INPUTS_FIRST, inputs, "inputs"));
    const rpo_pointer_check pointers[] = {
        {"inputs.hidden", taken->hidden, shape->rows > 0},
        {"inputs.head", taken->head, shape->rows > 0},
        {"inputs.labels", taken->labels, shape->rows > 0},
        {"inputs.cu_seqlens", taken->cu_seqlens, true},
        {"inputs.grad_sequence_logps", taken->grad_sequence_logps, backward && shape->num_sequences > 0}};
    return rpo_check_pointers(pointers, sizeof pointers / sizeof pointers[0]);
}

static rpo_status take_call(linear_call *call, const rpo_context *context,
                            const rpo_linear_logprob_saved *saved, const rpo_linear_logprob_inputs *inputs,
                            const rpo_linear_logprob_shape *shape, bool backward) {
    RPO_TRY(take_shape(&call->shape, context, shape));
    RPO_TRY(take_saved(&call->saved, saved, &call->shape));
    return take_inputs(&call->inputs, inputs, &call->shape, backward);
}

static rpo_status check_workspace(rpo_context *context, const rpo_linear_logprob_shape *shape, int backward,
                                  const void *workspace, size_t workspace_size) {
    size_t needed = 0;
    RPO_TRY(context->backend->preference.linear_logprob_workspace_size(context, &needed, shape, backward));
    return rpo_check_workspace(workspace, workspace_size, needed);
}

rpo_status rpo_linear_logprob_workspace_size(rpo_context *context, size_t *bytes,
                                             const rpo_linear_logprob_shape *shape, int backward) {
    rpo_linear_logprob_shape taken;
    RPO_TRY(rpo_check_pointers(&(rpo_pointer_check){"bytes", bytes, true}, 1));
    RPO_TRY(take_shape(&taken, context, shape));
    return context->backend->preference.linear_logprob_workspace_size(context, bytes, &taken, backward);
}

rpo_status rpo_linear_logprob_cache_size(rpo_context *context, size_t *bytes,
                                         const rpo_linear_logprob_shape *shape) {
    rpo_linear_logprob_shape taken;
    RPO_TRY(rpo_check_pointers(&(rpo_pointer_check){"bytes", bytes, true}, 1));
    RPO_TRY(take_shape(&taken, context, shape));
    return context->backend->preference.linear_logprob_cache_size(context, bytes, &taken);
}

rpo_status rpo_linear_logprob(rpo_context *context, const rpo_linear_logprob_outputs *outputs,
                              const rpo_linear_logprob_saved *saved, const rpo_linear_logprob_inputs *inputs,
                              const rpo_linear_logprob_shape *shape, void *workspace, size_t workspace_size) {
    linear_call call;
    rpo_linear_logprob_outputs out = RPO_LINEAR_LOGPROB_OUTPUTS_INIT;
    RPO_TRY(take_call(&call, context, saved, inputs, shape, false));
    RPO_TRY(rpo_versioned_take(&out, sizeof out, RPO_LINEAR_LOGPROB_OUTPUTS_FIRST, outputs, "outputs"));
    const rpo_pointer_check result = {"outputs.sequence_logps", out.sequence_logps,
                                      call.shape.num_sequences > 0};
    RPO_TRY(rpo_check_pointers(&result, 1));
    RPO_TRY(check_workspace(context, &call.shape, 0, workspace, workspace_size));
    return context->backend->preference.linear_logprob(context, &out, &call.saved, &call.inputs, &call.shape,
                                                       workspace, workspace_size);
}

rpo_status rpo_linear_logprob_backward(rpo_context *context, const rpo_linear_logprob_gradients *gradients,
                                       const rpo_linear_logprob_saved *saved,
                                       const rpo_linear_logprob_inputs *inputs,
                                       const rpo_linear_logprob_shape *shape, void *workspace,
                                       size_t workspace_size) {
    linear_call call;
    rpo_linear_logprob_gradients out = RPO_LINEAR_LOGPROB_GRADIENTS_INIT;
    RPO_TRY(take_call(&call, context, saved, inputs, shape, true));
    RPO_TRY(rpo_versioned_take(&out, sizeof out, RPO_LINEAR_LOGPROB_GRADIENTS_FIRST, gradients, "gradients"));
    RPO_TRY(check_flag("gradients.accumulate_head", out.accumulate_head));
    if (call.shape.frozen_head && out.grad_head != NULL)
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT,
                             "gradients.grad_head: is given; shape.frozen_head says it is NULL");
    RPO_TRY(check_workspace(context, &call.shape, 1, workspace, workspace_size));
    return context->backend->preference.linear_logprob_backward(context, &out, &call.saved, &call.inputs,
                                                                &call.shape, workspace, workspace_size);
}
