/*
 * softmax_row.c - one row of logits, in blocks that stay in the first-level cache.
 *
 * The maximum of a block comes first, so a block costs one pass over memory and one over the cache, and the
 * running sum is rescaled once a block rather than once an element. Sums are float lanes within a block (they
 * hold exponentials <= 1 and are short) and double across blocks.
 */
#include "kernels/cpu/softmax_row.h"

#include <math.h>

#include "kernels/cpu/vector_math.h"

enum { BLOCK = 2048 }; /* 8 KiB of logits */

/* How far from 1 probabilities may sum up: half the last bit of a log-sum-exp in [8, 16). */
static const double NORMALISED = 4.8e-7;

static inline int64_t block_end(int64_t begin, int64_t size) {
    return size - begin < BLOCK ? size : begin + BLOCK;
}

float rpo_cpu_row_max(const float *logits, int64_t vocab_size) {
    float max = logits[0];
#pragma omp simd reduction(max : max)
    for (int64_t v = 0; v < vocab_size; ++v)
        max = logits[v] > max ? logits[v] : max;
    return max;
}

static float sum_of_exp(const float *logits, int64_t size, float shift) {
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (int64_t v = 0; v < size; ++v)
        sum += rpo_exp_nonpositive(logits[v] - shift);
    return sum;
}

rpo_cpu_logsumexp rpo_cpu_row_logsumexp(const float *logits, int64_t vocab_size) {
    float max = -INFINITY;
    double sum = 0.0;
    for (int64_t begin = 0; begin < vocab_size; begin = block_end(begin, vocab_size)) {
        const int64_t size = block_end(begin, vocab_size) - begin;
        const float block_max = rpo_cpu_row_max(logits + begin, size);
        if (block_max > max) {
            sum *= exp((double)max - (double)block_max); /* the first block: 0 times exp(-infinity) */
            max = block_max;
        }
        /* So far only -infinity: no difference to it may be formed. */
        sum += (double)sum_of_exp(logits + begin, size, max == -INFINITY ? 0.0f : max);
    }
    return (rpo_cpu_logsumexp){.max = max, .log_sum = log(sum)};
}

/* gradient[v] = factor exp(logits[v] - shift); returns the sum of the exponentials. */
static double scaled_exponentials(float *gradient, const float *logits, int64_t vocab_size, float shift,
                                  float factor) {
    double sum = 0.0;
    for (int64_t begin = 0; begin < vocab_size; begin = block_end(begin, vocab_size)) {
        const int64_t end = block_end(begin, vocab_size);
        float block_sum = 0.0f;
#pragma omp simd reduction(+ : block_sum)
        for (int64_t v = begin; v < end; ++v) {
            const float e = rpo_exp_nonpositive(logits[v] - shift);
            gradient[v] = factor * e;
            block_sum += e;
        }
        sum += (double)block_sum;
    }
    return sum;
}

static void scale_row(float *row, int64_t size, float factor) {
#pragma omp simd
    for (int64_t v = 0; v < size; ++v)
        row[v] *= factor;
}

double rpo_cpu_row_softmax_gradient(float *gradient, const float *logits, int64_t vocab_size, float max,
                                    int32_t label, float scale) {
    const double sum = scaled_exponentials(gradient, logits, vocab_size, max, 1.0f);
    scale_row(gradient, vocab_size, (float)(-(double)scale / sum));
    gradient[label] += scale;
    return log(sum);
}

double rpo_cpu_row_softmax_gradient_from(float *gradient, const float *logits, int64_t vocab_size,
                                         float logsumexp, int32_t label, float scale) {
    const double sum = scaled_exponentials(gradient, logits, vocab_size, logsumexp, -scale);
    if (!(fabs(sum - 1.0) <= NORMALISED)) /* NaN goes this way too */
        scale_row(gradient, vocab_size, (float)(1.0 / sum));
    gradient[label] += scale;
    return log(sum);
}
