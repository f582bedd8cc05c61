/* convert.c - bfloat16 and float16 on the host, rounded to nearest even. */
#include "bench/convert.h"

#include "core/float16.h"

void bench_store(void *array, int64_t index, rpo_dtype dtype, float value) {
    if (dtype == RPO_FLOAT32)
        ((float *)array)[index] = value;
    else
        ((uint16_t *)array)[index] =
            dtype == RPO_BFLOAT16 ? rpo_bfloat16_from_float(value) : rpo_float16_from_float(value);
}

float bench_load(const void *array, int64_t index, rpo_dtype dtype) {
    if (dtype == RPO_FLOAT32)
        return ((const float *)array)[index];
    const uint16_t bits = ((const uint16_t *)array)[index];
    return dtype == RPO_BFLOAT16 ? rpo_float_from_bfloat16(bits) : rpo_float_from_float16(bits);
}
