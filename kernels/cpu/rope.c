/* rope.c - rotary position embeddings: the table of angles and the rotation. */
#include "kernels/cpu/model.h"

#include <math.h>

rpo_status rpo_cpu_rope_table(rpo_context *context, float *table, int64_t first, int64_t count,
                              int64_t head_dim, double theta) {
    const int64_t half = head_dim / 2;
#pragma omp parallel for num_threads(rpo_cpu_threads(context)) schedule(static)
    for (int64_t p = first; p < first + count; ++p) {
        float *cosines = table + p * head_dim;
        float *sines = cosines + half;
        for (int64_t i = 0; i < half; ++i) {
            const double angle = (double)p * pow(theta, -2.0 * (double)i / (double)head_dim);
            cosines[i] = (float)cos(angle);
            sines[i] = (float)sin(angle);
        }
    }
    return RPO_OK;
}

static void rotate(float *restrict head, const float *restrict cosines, const float *restrict sines,
                   int64_t half, float direction) {
    float *restrict upper = head + half;
    for (int64_t i = 0; i < half; ++i) {
        const float a = head[i];
        const float b = upper[i];
        const float s = direction * sines[i];
        head[i] = a * cosines[i] - b * s;
        upper[i] = b * cosines[i] + a * s;
    }
}

rpo_status rpo_cpu_rope(rpo_context *context, void *x, const float *table, const int32_t *positions,
                        const rpo_rope_shape *shape, bool inverse) {
    RPO_TRY(rpo_cpu_require_float32("rope", shape->dtype));
    const int64_t dim = shape->head_dim, half = dim / 2;
    const float direction = inverse ? -1.0f : 1.0f;
#pragma omp parallel for num_threads(rpo_cpu_threads(context)) schedule(static)
    for (int64_t t = 0; t < shape->rows; ++t) {
        const float *cosines = table + (int64_t)positions[t] * dim;
        for (int64_t h = 0; h < shape->num_heads; ++h)
            rotate((float *)x + t * shape->stride + h * dim, cosines, cosines + half, half, direction);
    }
    return RPO_OK;
}
