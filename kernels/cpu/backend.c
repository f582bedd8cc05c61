/* backend.c - the CPU backend's entry in the op table. */
#include <stdio.h>
#include <stdlib.h>

#include <omp.h>

#include "kernels/cpu/blas.h"
#include "kernels/cpu/contrast.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/logprob.h"
#include "kernels/cpu/model.h"
#include "kernels/cpu/optimizer.h"

static rpo_status cpu_open(rpo_context *context, const rpo_context_options *options) {
    (void)options;
    context->state = calloc(1, sizeof(rpo_cpu_state));
    if (context->state == NULL)
        return rpo_error_set(RPO_ERROR_OUT_OF_MEMORY, "context: no memory for %zu bytes",
                             sizeof(rpo_cpu_state));
    return RPO_OK;
}

static void cpu_close(rpo_context *context) {
    free(context->state);
    context->state = NULL;
}

static rpo_status cpu_synchronize(rpo_context *context) {
    (void)context;
    return RPO_OK;
}

/* The widest vectors this build was compiled for. */
static const char *instruction_set(void) {
#if defined(__AVX512F__)
    return "AVX-512";
#elif defined(__AVX2__)
    return "AVX2";
#elif defined(__AVX__)
    return "AVX";
#elif defined(__SSE2__)
    return "SSE2";
#elif defined(__ARM_FEATURE_SVE)
    return "SVE";
#elif defined(__ARM_NEON)
    return "NEON";
#else
    return "portable";
#endif
}

static void cpu_describe(char *text, size_t size) {
    char blas[256];
    rpo_cpu_blas_describe(blas, sizeof blas);
    snprintf(text, size, "CPU: %s, OpenMP %d threads, %s", instruction_set(), omp_get_max_threads(), blas);
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
    .device_ops = &rpo_cpu_device_ops,
    .preference =
        {
            .prompt_similarity_workspace_size = rpo_cpu_prompt_similarity_workspace_size,
            .prompt_similarity = rpo_cpu_prompt_similarity,
            .contrast_weights = rpo_cpu_contrast_weights,
            .contrast_loss_workspace_size = rpo_cpu_contrast_loss_workspace_size,
            .contrast_loss = rpo_cpu_contrast_loss,
            .logprob_gather_workspace_size = rpo_cpu_logprob_gather_workspace_size,
            .logprob_gather = rpo_cpu_logprob_gather,
            .logprob_gather_backward = rpo_cpu_logprob_gather_backward,
            .linear_logprob_workspace_size = rpo_cpu_linear_logprob_workspace_size,
            .linear_logprob = rpo_cpu_linear_logprob,
            .linear_logprob_backward = rpo_cpu_linear_logprob_backward,
            .linear_logprob_cache_size = rpo_cpu_linear_logprob_cache_size,
        },
    .optimizer =
        {
            .grad_norm_workspace_size = rpo_cpu_grad_norm_workspace_size,
            .grad_norm = rpo_cpu_grad_norm,
            .adamw = rpo_cpu_adamw,
            .rmsprop = rpo_cpu_rmsprop,
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
            .take = rpo_cpu_take,
        },
};
