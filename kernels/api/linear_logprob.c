/* linear_logprob.c - public entry of log-probs from hidden states and the output head: checks, then the
 * backend. */
#include "rpo/linear_logprob.h"

#include "kernels/api/logprob_check.h"

static rpo_status check_shape(const rpo_context *context, const rpo_linear_logprob_shape *shape) {
    const rpo_pointer_check needed[] = {{"context", context, true}, {"shape", shape, true}};
    RPO_TRY(rpo_check_pointers(needed, sizeof needed / sizeof needed[0]));
    if (shape->struct_size != sizeof *shape)
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT, "shape.struct_size: is %zu; must be %zu",
                             shape->struct_size, sizeof *shape);
    RPO_TRY(rpo_check_packed_rows(shape->rows, shape->vocab_size, shape->num_sequences, shape->dtype,
                                  shape->reduction));
    if (shape->hidden_size < 1 || shape->hidden_size > INT32_MAX)
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT, "shape.hidden_size: is %lld; must be 1 to %d",
                             (long long)shape->hidden_size, INT32_MAX);
    if (shape->valid_rows < 0 || shape->valid_rows > shape->rows)
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT,
                             "shape.valid_rows: is %lld; must be 0 (unknown) to shape.rows, %lld",
                             (long long)shape->valid_rows, (long long)shape->rows);
    if (shape->frozen_head != 0 && shape->frozen_head != 1)
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT, "shape.frozen_head: is %d; must be 0 or 1",
                             shape->frozen_head);
    if (shape->cache == NULL && shape->cache_bytes > 0)
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT, "shape.cache: is NULL; shape.cache_bytes is %zu",
                             shape->cache_bytes);
    if ((uintptr_t)shape->cache % 64 != 0)
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT, "shape.cache: must be 64-byte aligned");
    RPO_TRY(rpo_check_addressable("logits", shape->rows, shape->vocab_size, RPO_FLOAT32));
    RPO_TRY(rpo_check_addressable("hidden", shape->rows, shape->hidden_size, shape->dtype));
    RPO_TRY(rpo_check_addressable("head", shape->vocab_size, shape->hidden_size, shape->dtype));
    return rpo_check_supported(context, RPO_OP_LINEAR_LOGPROB, "linear_logprob", shape->dtype,
                               context->backend->preference.linear_logprob != NULL);
}

static rpo_status check_workspace(rpo_context *context, const rpo_linear_logprob_shape *shape, int backward,
                                  const void *workspace, size_t workspace_size) {
    size_t needed = 0;
    RPO_TRY(context->backend->preference.linear_logprob_workspace_size(context, &needed, shape, backward));
    return rpo_check_workspace(workspace, workspace_size, needed);
}

rpo_status rpo_linear_logprob_workspace_size(rpo_context *context, size_t *bytes,
                                             const rpo_linear_logprob_shape *shape, int backward) {
    RPO_TRY(rpo_check_pointers(&(rpo_pointer_check){"bytes", bytes, true}, 1));
    RPO_TRY(check_shape(context, shape));
    return context->backend->preference.linear_logprob_workspace_size(context, bytes, shape, backward);
}

rpo_status rpo_linear_logprob_cache_size(rpo_context *context, size_t *bytes,
                                         const rpo_linear_logprob_shape *shape) {
    RPO_TRY(rpo_check_pointers(&(rpo_pointer_check){"bytes", bytes, true}, 1));
    RPO_TRY(check_shape(context, shape));
    return context->backend->preference.linear_logprob_cache_size(context, bytes, shape);
}

rpo_status rpo_linear_logprob(rpo_context *context, float *sequence_logps, float *token_logps,
                              const void *hidden, const void *head, const int32_t *labels,
                              const int32_t *cu_seqlens, const rpo_linear_logprob_shape *shape,
                              void *workspace, size_t workspace_size) {
    RPO_TRY(check_shape(context, shape));
    const rpo_pointer_check pointers[] = {{"sequence_logps", sequence_logps, shape->num_sequences > 0},
                                          {"hidden", hidden, shape->rows > 0},
                                          {"head", head, shape->rows > 0},
                                          {"labels", labels, shape->rows > 0},
                                          {"cu_seqlens", cu_seqlens, true}};
    RPO_TRY(rpo_check_pointers(pointers, sizeof pointers / sizeof pointers[0]));
    RPO_TRY(check_workspace(context, shape, 0, workspace, workspace_size));
    return context->backend->preference.linear_logprob(context, sequence_logps, token_logps, hidden, head,
                                                       labels, cu_seqlens, shape, workspace, workspace_size);
}

rpo_status rpo_linear_logprob_backward(rpo_context *context, void *grad_hidden, float *grad_head,
                                       float *sequence_logps, const void *hidden, const void *head,
                                       const int32_t *labels, const int32_t *cu_seqlens,
                                       const float *grad_sequence_logps,
                                       const rpo_linear_logprob_shape *shape, void *workspace,
                                       size_t workspace_size) {
    RPO_TRY(check_shape(context, shape));
    const rpo_pointer_check pointers[] = {
        {"hidden", hidden, shape->rows > 0},
        {"head", head, shape->rows > 0},
        {"labels", labels, shape->rows > 0},
        {"cu_seqlens", cu_seqlens, true},
        {"grad_sequence_logps", grad_sequence_logps, shape->num_sequences > 0}};
    RPO_TRY(rpo_check_pointers(pointers, sizeof pointers / sizeof pointers[0]));
    if (shape->frozen_head && grad_head != NULL)
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT,
                             "grad_head: is given; shape.frozen_head says it is NULL");
    RPO_TRY(check_workspace(context, shape, 1, workspace, workspace_size));
    return context->backend->preference.linear_logprob_backward(
        context, grad_hidden, grad_head, sequence_logps, hidden, head, labels, cu_seqlens,
        grad_sequence_logps, shape, workspace, workspace_size);
}
