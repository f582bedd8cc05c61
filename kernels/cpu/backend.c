/* backend.c - the CPU backend's entry in the op table. */
#include <stdio.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/model.h"

static rpo_status cpu_open(rpo_context *context, const rpo_context_options *options) {
    (void)context;
    (void)options;
    return RPO_OK;
}

static void cpu_close(rpo_context *context) {
    (void)context;
}

static rpo_status cpu_synchronize(rpo_context *context) {
    (void)context;
    return RPO_OK;
}

static void cpu_describe(char *text, size_t size) {
    snprintf(text, size, "CPU");
}

static bool cpu_supports(rpo_op op, rpo_dtype dtype) {
    (void)op;
    return dtype == RPO_FLOAT32;
}

const rpo_backend rpo_cpu_backend = {
    .name = "cpu",
    .device = RPO_DEVICE_CPU,
    .open = cpu_open,
    .close = cpu_close,
    .synchronize = cpu_synchronize,
    .describe = cpu_describe,
    .supports = cpu_supports,
    .preference =
        {
            .prompt_similarity = NULL,
        },
    .model =
        {
            .embedding = rpo_cpu_embedding,
            .embedding_backward = rpo_cpu_embedding_backward,
            .rmsnorm = rpo_cpu_rmsnorm,
            .rmsnorm_backward_workspace_size = rpo_cpu_rmsnorm_backward_workspace_size,
            .rmsnorm_backward = rpo_cpu_rmsnorm_backward,
            .rope_table = rpo_cpu_rope_table,
            .rope = rpo_cpu_rope,
            .attention_workspace_size = rpo_cpu_attention_workspace_size,
            .attention = rpo_cpu_attention,
            .attention_backward = rpo_cpu_attention_backward,
            .swiglu = rpo_cpu_swiglu,
            .swiglu_backward = rpo_cpu_swiglu_backward,
            .linear = rpo_cpu_linear,
            .linear_backward_input = rpo_cpu_linear_backward_input,
            .linear_backward_weight = rpo_cpu_linear_backward_weight,
        },
};
