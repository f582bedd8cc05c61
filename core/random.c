/*
 * random.c - random numbers as pure functions of (seed, stream, counter).
 *
 * Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"): the key is the seed, the
 * 128-bit counter is (counter, stream). No state, so any draw can be repeated from anywhere: what shuffles
 * and resumed runs rest on.
 */
#include <math.h>

#include "core/core.h"

static void philox(uint32_t out[4], uint64_t seed, uint64_t stream, uint64_t counter) {
    uint32_t x0 = (uint32_t)counter, x1 = (uint32_t)(counter >> 32);
    uint32_t x2 = (uint32_t)stream, x3 = (uint32_t)(stream >> 32);
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; ++round) {
        const uint64_t a = UINT64_C(0xD2511F53) * x0, b = UINT64_C(0xCD9E8D57) * x2;
        const uint32_t y0 = (uint32_t)(b >> 32) ^ x1 ^ k0, y2 = (uint32_t)(a >> 32) ^ x3 ^ k1;
        x0 = y0;
        x1 = (uint32_t)b;
        x2 = y2;
        x3 = (uint32_t)a;
        k0 += UINT32_C(0x9E3779B9); /* golden ratio */
        k1 += UINT32_C(0xBB67AE85); /* sqrt(3) - 1 */
    }
    out[0] = x0;
    out[1] = x1;
    out[2] = x2;
    out[3] = x3;
}

static uint64_t join(uint32_t low, uint32_t high) {
    return (uint64_t)high << 32 | low;
}

/* The 53 bits a double holds exactly, in [0, 1). */
static double unit_interval(uint64_t bits) {
    return (double)(bits >> 11) * 0x1p-53;
}

/* The values are part of what a seed means: they never change. */
uint64_t rpo_random_stream(rpo_random_purpose purpose, uint64_t index) {
    static const uint64_t first[] = {
        [RPO_RANDOM_INITIAL_WEIGHTS] = 0,
        [RPO_RANDOM_EPOCH_ORDER] = UINT64_C(0x73687566) << 32,
        [RPO_RANDOM_REFERENCE_SAMPLE] = UINT64_C(0x7265666572656e63),
    };
    return first[purpose] + index;
}

uint64_t rpo_random_u64(uint64_t seed, uint64_t stream, uint64_t counter) {
    uint32_t out[4];
    philox(out, seed, stream, counter);
    return join(out[0], out[1]);
}

double rpo_random_uniform(uint64_t seed, uint64_t stream, uint64_t counter) {
    return unit_interval(rpo_random_u64(seed, stream, counter));
}

/* Box-Muller on the two halves of one Philox block: a draw needs no neighbour. */
double rpo_random_normal(uint64_t seed, uint64_t stream, uint64_t counter) {
    static const double two_pi = 6.283185307179586476925286766559;
    uint32_t out[4];
    philox(out, seed, stream, counter);
    const double radius_uniform =
        1.0 - unit_interval(join(out[0], out[1])); /* (0, 1]: the logarithm is finite */
    const double angle_uniform = unit_interval(join(out[2], out[3]));
    return sqrt(-2.0 * log(radius_uniform)) * cos(two_pi * angle_uniform);
}

/* Uniform in [0, bound) without bias: numbers below 2^64 mod bound would favour small results and are
 * redrawn. */
static uint64_t bounded(uint64_t bound, uint64_t seed, uint64_t stream, uint64_t *counter) {
    const uint64_t threshold = (UINT64_MAX - bound + 1) % bound;
    uint64_t drawn;
    do
        drawn = rpo_random_u64(seed, stream, (*counter)++);
    while (drawn < threshold);
    return drawn % bound;
}

void rpo_random_permutation(int64_t *order, int64_t count, uint64_t seed, uint64_t stream) {
    for (int64_t i = 0; i < count; ++i)
        order[i] = i;
    uint64_t counter = 0;
    for (int64_t i = count - 1; i > 0; --i) { /* Fisher-Yates */
        const int64_t j = (int64_t)bounded((uint64_t)i + 1, seed, stream, &counter);
        const int64_t swapped = order[i];
        order[i] = order[j];
        order[j] = swapped;
    }
}
