/* backend.c - the CPU backend's entry in the op table. */
#include <stdio.h>

#include "kernels/cpu/cpu.h"

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
};
