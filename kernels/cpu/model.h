/* model.h - the CPU's model ops. Contracts: kernels/model_ops.h. */
#ifndef RPO_KERNELS_CPU_MODEL_H
#define RPO_KERNELS_CPU_MODEL_H

#include <omp.h>

#include "kernels/cpu/cpu.h"

/* Index of the calling thread in its team: which share of a per-thread workspace is its own. */
static inline int64_t rpo_cpu_thread_index(void) {
    return omp_get_thread_num();
}

static inline rpo_status rpo_cpu_require_float32(const char *op, rpo_dtype dtype) {
    if (dtype == RPO_FLOAT32)
        return RPO_OK;
    return rpo_error_set(RPO_ERROR_UNSUPPORTED, "%s: dtype is %s; the CPU backend computes in float32", op,
                         rpo_dtype_name(dtype));
}

static inline rpo_status rpo_cpu_require_workspace(const char *op, size_t given, size_t needed) {
    if (given >= needed)
        return RPO_OK;
    return rpo_error_set(RPO_ERROR_WORKSPACE, "%s: workspace has %zu bytes; %zu are needed", op, given,
                         needed);
}

rpo_status rpo_cpu_embedding(rpo_context *context, void *out, const void *table, const int32_t *tokens,
                             int64_t rows, int64_t hidden, rpo_dtype dtype);
rpo_status rpo_cpu_embedding_backward(rpo_context *context, float *grad_table, const void *grad_out,
                                      const int32_t *tokens, int64_t rows, int64_t hidden, rpo_dtype dtype);

rpo_status rpo_cpu_rmsnorm(rpo_context *context, void *out, float *inverse_rms, const void *x,
                           const void *weight, int64_t rows, int64_t hidden, float eps, rpo_dtype dtype);
size_t rpo_cpu_rmsnorm_backward_workspace_size(rpo_context *context, int64_t rows, int64_t hidden);
rpo_status rpo_cpu_rmsnorm_backward(rpo_context *context, void *grad_x, float *grad_weight,
                                    const void *grad_out, const void *x, const void *weight,
                                    const float *inverse_rms, int64_t rows, int64_t hidden, bool accumulate,
                                    rpo_dtype dtype, void *workspace, size_t workspace_size);

rpo_status rpo_cpu_rope_table(rpo_context *context, float *table, int64_t first, int64_t count,
                              int64_t head_dim, double theta);
rpo_status rpo_cpu_rope(rpo_context *context, void *x, int64_t stride, const float *table,
                        const int32_t *positions, int64_t rows, int64_t num_heads, int64_t head_dim,
                        bool inverse, rpo_dtype dtype);

size_t rpo_cpu_attention_workspace_size(rpo_context *context, const rpo_attention_shape *shape,
                                        bool backward);
rpo_status rpo_cpu_attention(rpo_context *context, void *out, float *logsumexp, const void *qkv,
                             const int32_t *cu_seqlens, const rpo_attention_shape *shape, void *workspace,
                             size_t workspace_size);
rpo_status rpo_cpu_attention_backward(rpo_context *context, void *grad_qkv, const void *grad_out,
                                      const void *out, const float *logsumexp, const void *qkv,
                                      const int32_t *cu_seqlens, const rpo_attention_shape *shape,
                                      void *workspace, size_t workspace_size);

rpo_status rpo_cpu_swiglu(rpo_context *context, void *out, const void *gate, const void *up, int64_t count,
                          rpo_dtype dtype);
rpo_status rpo_cpu_swiglu_backward(rpo_context *context, void *grad_gate, void *grad_up, void *out,
                                   const void *grad_out, const void *gate, const void *up, int64_t count,
                                   rpo_dtype dtype);

rpo_status rpo_cpu_linear(rpo_context *context, void *y, const void *x, const void *weight,
                          const void *residual, const rpo_linear_shape *shape);
rpo_status rpo_cpu_linear_backward_input(rpo_context *context, void *grad_x, const void *grad_y,
                                         const void *weight, const rpo_linear_shape *shape, bool accumulate);
rpo_status rpo_cpu_linear_backward_weight(rpo_context *context, float *grad_weight, const void *grad_y,
                                          const void *x, const rpo_linear_shape *shape);

#endif
