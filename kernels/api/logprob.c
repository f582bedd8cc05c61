/* logprob.c - public entry of log-probs from logits: argument checks, then the context's backend. */
#include "rpo/logprob.h"

#include "kernels/api/logprob_check.h"

/* Checks the shape and writes it with row_stride resolved. */
static rpo_status check_shape(rpo_logprob_shape *checked, const rpo_context *context,
                              const rpo_logprob_shape *shape) {
    const rpo_pointer_check needed[] = {{"context", context, true}, {"shape", shape, true}};
    RPO_TRY(rpo_check_pointers(needed, sizeof needed / sizeof needed[0]));
    if (shape->struct_size != sizeof *shape)
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT, "shape.struct_size: is %zu; must be %zu",
                             shape->struct_size, sizeof *shape);
    RPO_TRY(rpo_check_packed_rows(shape->rows, shape->vocab_size, shape->num_sequences, shape->dtype,
                                  shape->reduction));
    *checked = *shape;
    if (checked->row_stride == 0)
        checked->row_stride = shape->vocab_size;
    if (checked->row_stride < shape->vocab_size)
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT,
                             "shape.row_stride: is %lld; must be 0 or at least vocab_size, %lld",
                             (long long)shape->row_stride, (long long)shape->vocab_size);
    RPO_TRY(rpo_check_addressable("logits", shape->rows, checked->row_stride, shape->dtype));
    return rpo_check_supported(context, RPO_OP_LOGPROB_GATHER, "logprob_gather", shape->dtype,
                               context->backend->preference.logprob_gather != NULL);
}

static rpo_status check_workspace(rpo_context *context, const rpo_logprob_shape *shape, const void *workspace,
                                  size_t workspace_size) {
    size_t needed = 0;
    RPO_TRY(context->backend->preference.logprob_gather_workspace_size(context, &needed, shape));
    return rpo_check_workspace(workspace, workspace_size, needed);
}

rpo_status rpo_logprob_gather_workspace_size(rpo_context *context, size_t *bytes,
                                             const rpo_logprob_shape *shape) {
    rpo_logprob_shape checked;
    RPO_TRY(rpo_check_pointers(&(rpo_pointer_check){"bytes", bytes, true}, 1));
    RPO_TRY(check_shape(&checked, context, shape));
    return context->backend->preference.logprob_gather_workspace_size(context, bytes, &checked);
}

rpo_status rpo_logprob_gather(rpo_context *context, float *sequence_logps, float *token_logps,
                              float *logsumexp, const void *logits, const int32_t *labels,
                              const int32_t *cu_seqlens, const rpo_logprob_shape *shape, void *workspace,
                              size_t workspace_size) {
    rpo_logprob_shape checked;
    RPO_TRY(check_shape(&checked, context, shape));
    const rpo_pointer_check pointers[] = {{"sequence_logps", sequence_logps, checked.num_sequences > 0},
                                          {"logits", logits, checked.rows > 0},
                                          {"labels", labels, checked.rows > 0},
                                          {"cu_seqlens", cu_seqlens, true}};
    RPO_TRY(rpo_check_pointers(pointers, sizeof pointers / sizeof pointers[0]));
    RPO_TRY(check_workspace(context, &checked, workspace, workspace_size));
    return context->backend->preference.logprob_gather(context, sequence_logps, token_logps, logsumexp,
                                                       logits, labels, cu_seqlens, &checked, workspace,
                                                       workspace_size);
}

rpo_status rpo_logprob_gather_backward(rpo_context *context, void *grad_logits, const void *logits,
                                       const float *logsumexp, const int32_t *labels,
                                       const int32_t *cu_seqlens, const float *grad_sequence_logps,
                                       const rpo_logprob_shape *shape, void *workspace,
                                       size_t workspace_size) {
    rpo_logprob_shape checked;
    RPO_TRY(check_shape(&checked, context, shape));
    const rpo_pointer_check pointers[] = {
        {"grad_logits", grad_logits, checked.rows > 0},
        {"logits", logits, checked.rows > 0},
        {"labels", labels, checked.rows > 0},
        {"cu_seqlens", cu_seqlens, true},
        {"grad_sequence_logps", grad_sequence_logps, checked.num_sequences > 0}};
    RPO_TRY(rpo_check_pointers(pointers, sizeof pointers / sizeof pointers[0]));
    RPO_TRY(check_workspace(context, &checked, workspace, workspace_size));
    return context->backend->preference.logprob_gather_backward(context, grad_logits, logits, logsumexp,
                                                                labels, cu_seqlens, grad_sequence_logps,
                                                                &checked, workspace, workspace_size);
}
