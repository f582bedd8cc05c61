/* convert.c - bfloat16 and float16 on the host, rounded to nearest even. */
#include "bench/convert.h"

#include <math.h>
#include <string.h>

static uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint16_t to_bfloat16(float value) {
    const uint32_t bits = bits_of(value);
    if (isnan(value))
        return 0x7fff;
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static uint16_t to_float16(float value) {
    const uint32_t bits = bits_of(value), magnitude = bits & 0x7fffffff;
    const uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    if (magnitude > 0x7f800000)
        return 0x7fff;
    if (magnitude >= 0x477ff000) /* 65520: from here on rounding gives infinity */
        return sign | 0x7c00;
    if (magnitude < 0x38800000) /* below 2^-14 float16 counts in steps of 2^-24 */
        return sign | (uint16_t)nearbyintf(float_of(magnitude) * 0x1p24f);
    /* The exponent's bias changes from 127 to 15; a carry of the rounding runs into the exponent, as it should. */
    const uint32_t rounded = magnitude + 0xfff + (magnitude >> 13 & 1);
    return sign | (uint16_t)((rounded >> 13) - (112u << 10));
}

static float from_float16(uint16_t half) {
    const uint32_t sign = (uint32_t)(half & 0x8000) << 16, exponent = half >> 10 & 31, fraction = half & 1023;
    if (exponent == 31)
        return float_of(sign | 0x7f800000 | fraction << 13);
    if (exponent == 0)
        return sign != 0 ? -(float)fraction * 0x1p-24f : (float)fraction * 0x1p-24f;
    return float_of(sign | (exponent + 112) << 23 | fraction << 13);
}

void bench_store(void *array, int64_t index, rpo_dtype dtype, float value) {
    if (dtype == RPO_FLOAT32)
        ((float *)array)[index] = value;
    else
        ((uint16_t *)array)[index] = dtype == RPO_BFLOAT16 ? to_bfloat16(value) : to_float16(value);
}

float bench_load(const void *array, int64_t index, rpo_dtype dtype) {
    if (dtype == RPO_FLOAT32)
        return ((const float *)array)[index];
    const uint16_t bits = ((const uint16_t *)array)[index];
    return dtype == RPO_BFLOAT16 ? float_of((uint32_t)bits << 16) : from_float16(bits);
}
