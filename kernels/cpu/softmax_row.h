/*
 * softmax_row.h - log-sum-exp and softmax gradient of one row of float32 logits, on the calling thread.
 */
#ifndef RPO_KERNELS_CPU_SOFTMAX_ROW_H
#define RPO_KERNELS_CPU_SOFTMAX_ROW_H

#include <stdint.h>

/* log sum_v exp(logits[v]) = max + log_sum, kept in two parts so that large logits lose nothing; log_sum >=
 * 0. */
typedef struct rpo_cpu_logsumexp {
    float max;
    double log_sum;
} rpo_cpu_logsumexp;

/* One read of the row. NaN or +infinity anywhere in it gives a NaN log_sum. */
rpo_cpu_logsumexp rpo_cpu_row_logsumexp(const float *logits, int64_t vocab_size);

/* The label's log-probability, <= 0. */
static inline double rpo_cpu_row_logp(rpo_cpu_logsumexp lse, float label_logit) {
    return ((double)label_logit - (double)lse.max) - lse.log_sum;
}

float rpo_cpu_row_max(const float *logits, int64_t vocab_size);

/* Its log-sum-exp rounded to one float, as a forward leaves it for a backward. */
static inline float rpo_cpu_row_logsumexp_rounded(rpo_cpu_logsumexp lse) {
    return (float)((double)lse.max + lse.log_sum);
}

/*
 * gradient[v] = scale ([v = label] - softmax(logits)_v); `gradient` may be `logits`. `max` is the row's maximum; the
 * softmax is normalised by its own sum. Returns log sum_v exp(logits[v] - max). Two passes, the second over cached
 * lines while the row is short.
 */
double rpo_cpu_row_softmax_gradient(float *gradient, const float *logits, int64_t vocab_size, float max,
                                    int32_t label, float scale);

/*
 * The same from the row's log-sum-exp, rounded to a float: one pass, which shows on the way how far off the rounding
 * made it; only where that is more than a float32 result may lose (from about 16 on) a second pass puts it right.
 * Returns log sum_v exp(logits[v] - logsumexp), near 0.
 */
double rpo_cpu_row_softmax_gradient_from(float *gradient, const float *logits, int64_t vocab_size,
                                         float logsumexp, int32_t label, float scale);

#endif
