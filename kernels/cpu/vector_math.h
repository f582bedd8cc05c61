/*
 * vector_math.h - exp and log sigmoid without branches or calls, so that a loop over them vectorises.
 *
 * Polynomials are minimax fits in float32; the error of each function is tested over its whole range against
 * libm in double (tests/unit/test_vector_math.c). NaN goes in as NaN and comes out as NaN.
 */
#ifndef RPO_KERNELS_CPU_VECTOR_MATH_H
#define RPO_KERNELS_CPU_VECTOR_MATH_H

#include <math.h>
#include <stdint.h>
#include <string.h>

/*
 * exp(x) for x <= 0, within 2 units in the last place; 0 below -87.33, where the result would be subnormal.
 *
 * x = k ln 2 + r with |r| <= ln(2)/2; exp(r) = 1 + r + r^2 q(r); 2^k is built from exponent bits. Adding and
 * subtracting 1.5 * 2^23 rounds to the nearest integer and leaves k in the low bits of the sum.
 */
static inline float rpo_exp_nonpositive(float x) {
    const float round_shift = 12582912.0f;
    const float shifted = x * 1.44269504f + round_shift;
    const float k = shifted - round_shift;
    const float r = (x - k * 0.693359375f) + k * 2.12194440e-4f;
    const float q = 0.5f + r * (0.1666652f + r * (0.0416684f + r * (0.008368852f + r * 0.001381432f)));
    uint32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits << 23) + 0x3f800000u;
    float power;
    memcpy(&power, &bits, sizeof power);
    const float result = (1.0f + (r + r * r * q)) * power;
    return x < -87.33f ? 0.0f : result;
}

/*
 * *loss = -log sigmoid(x) = max(-x, 0) + log1p(exp(-|x|)), *slope = sigmoid(-x) = -d loss / dx, both with
 * small relative error for every x.
 *
 * With t = exp(-|x|) in [0, 1]: log1p(t) = 2 atanh(u), u = t / (2 + t) <= 1/3, atanh(u) = u (1 + u^2 q(u^2)).
 */
static inline void rpo_log_sigmoid_loss(float x, float *loss, float *slope) {
    const float t = rpo_exp_nonpositive(-fabsf(x));
    const float u = t / (2.0f + t);
    const float z = u * u;
    const float q = 0.33333337f + z * (0.19999444f + z * (0.14308307f + z * (0.10715278f + z * 0.12145157f)));
    const float log1p_t = 2.0f * (u + u * (z * q));
    *loss = (x < 0.0f ? -x : 0.0f) + log1p_t;
    *slope = (x < 0.0f ? 1.0f : t) / (1.0f + t);
}

/* The same in double through libm, for the O(m) work. */
static inline void rpo_log_sigmoid_loss_double(double x, double *loss, double *slope) {
    const double t = exp(-fabs(x));
    *loss = (x < 0.0 ? -x : 0.0) + log1p(t);
    *slope = (x < 0.0 ? 1.0 : t) / (1.0 + t);
}

#endif
