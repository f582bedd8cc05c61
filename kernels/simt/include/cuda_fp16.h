/* cuda_fp16.h - simt's stand-in for the toolkit's header: __half with round-to-nearest-even conversions. */
#ifndef RPO_SIMT_CUDA_FP16_H
#define RPO_SIMT_CUDA_FP16_H

#include <cmath>
#include <cstdint>
#include <cstring>

struct alignas(2) __half {
    uint16_t bits;
};

struct alignas(4) __half2 {
    __half x, y;
};

inline __half __float2half(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    const uint16_t sign = static_cast<uint16_t>(bits >> 16 & 0x8000u);
    const uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u)
        return {0x7fff};
    if (magnitude >= 0x477ff000u) /* rounds to 65536 or more */
        return {static_cast<uint16_t>(sign | 0x7c00u)};
    if (magnitude < 0x38800000u) { /* subnormal: steps of 2^-24; nearbyint rounds to even */
        const float steps = std::nearbyintf(std::fabs(value) * 16777216.0f);
        return {static_cast<uint16_t>(sign | static_cast<uint16_t>(steps))};
    }
    return {
        static_cast<uint16_t>(sign | ((magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1u)) >> 13))};
}

inline __half __float2half_rn(float value) {
    return __float2half(value);
}

inline float __half2float(__half value) {
    const int exponent = value.bits >> 10 & 0x1f;
    const float fraction = static_cast<float>(value.bits & 0x3ff);
    float result;
    if (exponent == 31)
        result = fraction == 0.0f ? INFINITY : NAN;
    else if (exponent == 0)
        result = std::ldexp(fraction, -24);
    else
        result = std::ldexp(fraction + 1024.0f, exponent - 25);
    return value.bits & 0x8000 ? -result : result;
}

#endif
