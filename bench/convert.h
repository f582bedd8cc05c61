/* convert.h - bfloat16 and float16 on the host, rounded to nearest even. */
#ifndef RPO_BENCH_CONVERT_H
#define RPO_BENCH_CONVERT_H

#include <stddef.h>
#include <stdint.h>

#include "rpo/context.h"

/* Writes `value` as element `index` of an array of `dtype`; reads it back. */
void bench_store(void *array, int64_t index, rpo_dtype dtype, float value);
float bench_load(const void *array, int64_t index, rpo_dtype dtype);

#endif
