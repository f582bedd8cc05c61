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

rpo_embedding_op rpo_cpu_embedding;
rpo_embedding_backward_op rpo_cpu_embedding_backward;
rpo_rmsnorm_op rpo_cpu_rmsnorm;
rpo_rmsnorm_backward_workspace_size_op rpo_cpu_rmsnorm_backward_workspace_size;
rpo_rmsnorm_backward_op rpo_cpu_rmsnorm_backward;
rpo_rope_table_op rpo_cpu_rope_table;
rpo_rope_op rpo_cpu_rope;
rpo_attention_workspace_size_op rpo_cpu_attention_workspace_size;
rpo_attention_op rpo_cpu_attention;
rpo_attention_backward_op rpo_cpu_attention_backward;
rpo_swiglu_op rpo_cpu_swiglu;
rpo_swiglu_backward_op rpo_cpu_swiglu_backward;
rpo_linear_op rpo_cpu_linear;
rpo_linear_backward_input_op rpo_cpu_linear_backward_input;
rpo_linear_backward_weight_op rpo_cpu_linear_backward_weight;
rpo_take_op rpo_cpu_take;

#endif
