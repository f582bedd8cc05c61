/*
 * swiglu.c - gate * sigmoid(gate) * up, forward and backward.
 *
 * Threads share blocks of a row: where a block begins depends on nothing but the shape, so that vector and scalar
 * ends fall on the same elements whatever the number of threads.
 */
#include "kernels/cpu/model.h"
#include "kernels/cpu/vector_math.h"

enum { BLOCK = 4096 }; /* elements */

static inline float sigmoid(float x) {
    const float t = rpo_exp_nonpositive(-fabsf(x));
    return (x < 0.0f ? t : 1.0f) / (1.0f + t);
}

static inline int64_t block_end(int64_t begin, int64_t intermediate) {
    return begin + BLOCK < intermediate ? begin + BLOCK : intermediate;
}

rpo_status rpo_cpu_swiglu(rpo_context *context, void *out, const void *gate_up, int64_t rows,
                          int64_t intermediate, rpo_dtype dtype) {
    RPO_TRY(rpo_cpu_require_float32("swiglu", dtype));
#pragma omp parallel for collapse(2) num_threads(rpo_cpu_threads(context)) schedule(static)
    for (int64_t t = 0; t < rows; ++t)
        for (int64_t begin = 0; begin < intermediate; begin += BLOCK) {
            const float *gate = (const float *)gate_up + 2 * t * intermediate;
            const float *up = gate + intermediate;
            float *to = (float *)out + t * intermediate;
            const int64_t end = block_end(begin, intermediate);
#pragma omp simd
            for (int64_t i = begin; i < end; ++i)
                to[i] = gate[i] * sigmoid(gate[i]) * up[i];
        }
    return RPO_OK;
}

rpo_status rpo_cpu_swiglu_backward(rpo_context *context, void *grad_gate_up, void *out, const void *grad_out,
                                   const void *gate_up, int64_t rows, int64_t intermediate, rpo_dtype dtype) {
    RPO_TRY(rpo_cpu_require_float32("swiglu_backward", dtype));
#pragma omp parallel for collapse(2) num_threads(rpo_cpu_threads(context)) schedule(static)
    for (int64_t t = 0; t < rows; ++t)
        for (int64_t begin = 0; begin < intermediate; begin += BLOCK) {
            const float *gates = (const float *)gate_up + 2 * t * intermediate;
            const float *ups = gates + intermediate;
            const float *grad_o = (const float *)grad_out + t * intermediate;
            float *grad_g = (float *)grad_gate_up + 2 * t * intermediate;
            float *grad_u = grad_g + intermediate;
            float *to = (float *)out + t * intermediate;
            const int64_t end = block_end(begin, intermediate);
#pragma omp simd
            for (int64_t i = begin; i < end; ++i) {
                const float g = gates[i];
                const float u = ups[i];
                const float d = grad_o[i];
                const float s = sigmoid(g);
                const float silu = g * s;
                grad_g[i] = d * u * (s + silu * (1.0f - s));
                grad_u[i] = d * silu;
                to[i] = silu * u;
            }
        }
    return RPO_OK;
}
