/*
 * float16.h - bfloat16 and IEEE binary16 on the host: exact widening, narrowing to nearest even. Subnormals,
 * infinities and NaN (which stays NaN) included.
 */
#ifndef RPO_CORE_FLOAT16_H
#define RPO_CORE_FLOAT16_H

#include <stdint.h>
#include <string.h>

static inline uint32_t rpo_float_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float rpo_float_from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline float rpo_float_from_bfloat16(uint16_t bits) {
    return rpo_float_from_bits((uint32_t)bits << 16);
}

static inline uint16_t rpo_bfloat16_from_float(float value) {
    const uint32_t bits = rpo_float_bits(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) /* NaN: its payload must not round to infinity */
        return (uint16_t)(bits >> 16 | 0x40u);
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

static inline float rpo_float_from_float16(uint16_t half) {
    const uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    const uint32_t exponent = half >> 10 & 31u, fraction = half & 1023u;
    if (exponent == 31) /* infinity, NaN */
        return rpo_float_from_bits(sign | 0x7f800000u | fraction << 13);
    if (exponent != 0)
        return rpo_float_from_bits(sign | (exponent + 112u) << 23 | fraction << 13);
    const float magnitude = (float)fraction * 0x1p-24f; /* subnormal or zero: exact */
    return rpo_float_from_bits(sign | rpo_float_bits(magnitude));
}

static inline uint16_t rpo_float16_from_float(float value) {
    const uint32_t bits = rpo_float_bits(value), magnitude = bits & 0x7fffffffu;
    const uint16_t sign = (uint16_t)(bits >> 16 & 0x8000u);
    if (magnitude > 0x7f800000u) /* NaN */
        return (uint16_t)(sign | 0x7e00u);
    if (magnitude >= 0x477ff000u) /* 65,520 and more round to infinity */
        return (uint16_t)(sign | 0x7c00u);
    if (magnitude < 0x38800000u) { /* below 2^-14: adding 0.5 lets the hardware round at 2^-24 */
        const uint32_t rounded = rpo_float_bits(rpo_float_from_bits(magnitude) + 0.5f);
        return (uint16_t)(sign | (rounded - 0x3f000000u));
    }
    const uint32_t rounded = magnitude + 0xfffu + (magnitude >> 13 & 1u);
    return (uint16_t)(sign | ((rounded - 0x38000000u) >> 13));
}

#endif
