/*
 * logprob.h - the CPU's log-prob ops, as they stand in the op table (op_table.h). Contracts: rpo/logprob.h
 * and rpo/linear_logprob.h; arguments arrive checked but for labels and cu_seqlens, which these functions
 * check.
 */
#ifndef RPO_KERNELS_CPU_LOGPROB_H
#define RPO_KERNELS_CPU_LOGPROB_H

#include "kernels/cpu/cpu.h"

rpo_status rpo_cpu_logprob_gather_workspace_size(rpo_context *context, size_t *bytes,
                                                 const rpo_logprob_shape *shape);
rpo_status rpo_cpu_logprob_gather(rpo_context *context, float *sequence_logps, float *token_logps,
                                  float *logsumexp, const void *logits, const int32_t *labels,
                                  const int32_t *cu_seqlens, const rpo_logprob_shape *shape, void *workspace,
                                  size_t workspace_size);
rpo_status rpo_cpu_logprob_gather_backward(rpo_context *context, void *grad_logits, const void *logits,
                                           const float *logsumexp, const int32_t *labels,
                                           const int32_t *cu_seqlens, const float *grad_sequence_logps,
                                           const rpo_logprob_shape *shape, void *workspace,
                                           size_t workspace_size);

rpo_status rpo_cpu_linear_logprob_workspace_size(rpo_context *context, size_t *bytes,
                                                 const rpo_linear_logprob_shape *shape, int backward);
rpo_status rpo_cpu_linear_logprob(rpo_context *context, float *sequence_logps, float *token_logps,
                                  const void *hidden, const void *head, const int32_t *labels,
                                  const int32_t *cu_seqlens, const rpo_linear_logprob_shape *shape,
                                  void *workspace, size_t workspace_size);
rpo_status rpo_cpu_linear_logprob_backward(rpo_context *context, void *grad_hidden, float *grad_head,
                                           float *sequence_logps, const void *hidden, const void *head,
                                           const int32_t *labels, const int32_t *cu_seqlens,
                                           const float *grad_sequence_logps,
                                           const rpo_linear_logprob_shape *shape, void *workspace,
                                           size_t workspace_size);
rpo_status rpo_cpu_linear_logprob_cache_size(rpo_context *context, size_t *bytes,
                                             const rpo_linear_logprob_shape *shape);

#endif
