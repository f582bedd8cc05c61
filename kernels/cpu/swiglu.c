/* swiglu.c - gate * sigmoid(gate) * up, forward and backward. */
#include "kernels/cpu/model.h"
#include "kernels/cpu/vector_math.h"

/* Elements a thread takes at once: a fixed number, so that vector and scalar ends fall on the same elements.
 */
enum { BLOCK = 4096 };

static inline float sigmoid(float x) {
    const float t = rpo_exp_nonpositive(-fabsf(x));
    return (x < 0.0f ? t : 1.0f) / (1.0f + t);
}

rpo_status rpo_cpu_swiglu(rpo_context *context, void *out, const void *gate, const void *up, int64_t count,
                          rpo_dtype dtype) {
    RPO_TRY(rpo_cpu_require_float32("swiglu", dtype));
    float *o = out;
    const float *g = gate;
    const float *u = up;
#pragma omp parallel for simd num_threads(rpo_cpu_threads(context)) schedule(static, BLOCK)
    for (int64_t i = 0; i < count; ++i)
        o[i] = g[i] * sigmoid(g[i]) * u[i];
    return RPO_OK;
}

rpo_status rpo_cpu_swiglu_backward(rpo_context *context, void *grad_gate, void *grad_up, void *out,
                                   const void *grad_out, const void *gate, const void *up, int64_t count,
                                   rpo_dtype dtype) {
    RPO_TRY(rpo_cpu_require_float32("swiglu_backward", dtype));
    float *grad_g = grad_gate;
    float *grad_u = grad_up;
    float *o = out;
    const float *grad_o = grad_out;
    const float *gates = gate;
    const float *ups = up;
#pragma omp parallel for simd num_threads(rpo_cpu_threads(context)) schedule(static, BLOCK)
    for (int64_t i = 0; i < count; ++i) {
        const float g = gates[i];
        const float u = ups[i];
        const float d = grad_o[i];
        const float s = sigmoid(g);
        const float silu = g * s;
        grad_g[i] = d * u * (s + silu * (1.0f - s));
        grad_u[i] = d * silu;
        o[i] = silu * u;
    }
    return RPO_OK;
}
