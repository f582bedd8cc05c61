/* logprob.c - public entry of log-probs from logits: argument checks, then the context's backend. */
#include "rpo/logprob.h"

#include "kernels/api/logprob_check.h"
#include "kernels/api/versioned.h"

/* The shape with row_stride resolved. */
static rpo_status take_shape(rpo_logprob_shape *taken, const rpo_context *context,
                             const rpo_logprob_shape *shape) {
    *taken = (rpo_logprob_shape)RPO_LOGPROB_SHAPE_INIT;
    RPO_TRY(rpo_check_pointers(&(rpo_pointer_check){"context", context, true}, 1));
    RPO_TRY(rpo_versioned_take(taken, sizeof *taken, RPO_LOGPROB_SHAPE_FIRST, shape, "shape"));
    RPO_TRY(rpo_check_packed_rows(taken->rows, taken->vocab_size, taken->num_sequences, taken->dtype,
                                  taken->reduction));
    if (taken->row_stride == 0)
        taken->row_stride = taken->vocab_size;
    if (taken->row_stride < taken->vocab_size)
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT,
                             "shape.row_stride: is %lld; must be 0 or at least vocab_size, %lld",
                             (long long)taken->row_stride, (long long)taken->vocab_size);
    RPO_TRY(rpo_check_addressable("logits", taken->rows, taken->row_stride, taken->dtype));
    return rpo_check_supported(context, RPO_OP_LOGPROB_GATHER, "logprob_gather", taken->dtype,
                               context->backend->preference.logprob_gather != NULL);
}

static rpo_status take_inputs(rpo_logprob_inputs *taken, const rpo_logprob_inputs *inputs,
                              const rpo_logprob_shape *shape, bool backward) {
    *taken = (rpo_logprob_inputs)RPO_LOGPROB_INPUTS_INIT;
    RPO_TRY(rpo_versioned_take(taken, sizeof *taken, RPO_LOGPROB_INPUTS_FIRST, inputs, "inputs"));
    const rpo_pointer_check pointers[] = {
        {"inputs.logits", taken->logits, shape->rows > 0},
        {"inputs.labels", taken->labels, shape->rows > 0},
        {"inputs.cu_seqlens", taken->cu_seqlens, true},
        {"inputs.grad_sequence_logps", taken->grad_sequence_logps, backward && shape->num_sequences > 0}};
    return rpo_check_pointers(pointers, sizeof pointers / sizeof pointers[0]);
}

static rpo_status check_workspace(rpo_context *context, const rpo_logprob_shape *shape, const void *workspace,
                                  size_t workspace_size) {
    size_t needed = 0;
    RPO_TRY(context->backend->preference.logprob_gather_workspace_size(context, &needed, shape));
    return rpo_check_workspace(workspace, workspace_size, needed);
}

rpo_status rpo_logprob_gather_workspace_size(rpo_context *context, size_t *bytes,
                                             const rpo_logprob_shape *shape) {
    rpo_logprob_shape taken;
    RPO_TRY(rpo_check_pointers(&(rpo_pointer_check){"bytes", bytes, true}, 1));
    RPO_TRY(take_shape(&taken, context, shape));
    return context->backend->preference.logprob_gather_workspace_size(context, bytes, &taken);
}

rpo_status rpo_logprob_gather(rpo_context *context, const rpo_logprob_outputs *outputs,
                              const rpo_logprob_inputs *inputs, const rpo_logprob_shape *shape,
                              void *workspace, size_t workspace_size) {
    rpo_logprob_shape sizes;
    rpo_logprob_inputs in;
    rpo_logprob_outputs out = RPO_LOGPROB_OUTPUTS_INIT;
    RPO_TRY(take_shape(&sizes, context, shape));
    RPO_TRY(take_inputs(&in, inputs, &sizes, false));
    RPO_TRY(rpo_versioned_take(&out, sizeof out, RPO_LOGPROB_OUTPUTS_FIRST, outputs, "outputs"));
    const rpo_pointer_check result = {"outputs.sequence_logps", out.sequence_logps, sizes.num_sequences > 0};
    RPO_TRY(rpo_check_pointers(&result, 1));
    RPO_TRY(check_workspace(context, &sizes, workspace, workspace_size));
    return context->backend->preference.logprob_gather(context, &out, &in, &sizes, workspace, workspace_size);
}

rpo_status rpo_logprob_gather_backward(rpo_context *context, void *grad_logits,
                                       const rpo_logprob_inputs *inputs, const rpo_logprob_shape *shape,
                                       void *workspace, size_t workspace_size) {
    rpo_logprob_shape sizes;
    rpo_logprob_inputs in;
    RPO_TRY(take_shape(&sizes, context, shape));
    RPO_TRY(take_inputs(&in, inputs, &sizes, true));
    RPO_TRY(rpo_check_pointers(&(rpo_pointer_check){"grad_logits", grad_logits, sizes.rows > 0}, 1));
    RPO_TRY(check_workspace(context, &sizes, workspace, workspace_size));
    return context->backend->preference.logprob_gather_backward(context, grad_logits, &in, &sizes, workspace,
                                                                workspace_size);
}
