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

/*
 * gradient[v] = scale ([v = label] - softmax(logits)_v); `gradient` may be `logits`. `shift` is the row's
 * maximum or its log-sum-exp: it only keeps the exponentials in range, the softmax is normalised by their own
 * sum, so a shift rounded to float costs no accuracy. Returns log sum_v exp(logits[v] - shift).
 */
double rpo_cpu_row_softmax_gradient(float *gradient, const float *logits, int64_t vocab_size, float shift,
                                    int32_t label, float scale);

#endif
