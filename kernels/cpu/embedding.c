/* embedding.c - rows of a table by token id, and the gradient summed back by token. */
#include "kernels/cpu/model.h"

#include <string.h>

rpo_status rpo_cpu_embedding(rpo_context *context, void *out, const void *table, const int32_t *tokens,
                             const rpo_embedding_shape *shape) {
    RPO_TRY(rpo_cpu_require_float32("embedding", shape->dtype));
    const int64_t hidden = shape->hidden_size;
    float *to = out;
    const float *from = table;
#pragma omp parallel for num_threads(rpo_cpu_threads(context)) schedule(static)
    for (int64_t t = 0; t < shape->rows; ++t)
        memcpy(to + t * hidden, from + (int64_t)tokens[t] * hidden, (size_t)hidden * sizeof *to);
    return RPO_OK;
}

/* Index of the first of the order's tokens that is not below `token`. */
static int64_t find_token(const rpo_token_order *order, int64_t token) {
    int64_t low = 0, high = order->distinct;
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        if (order->tokens[middle] < token)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The sum over the rows of distinct token k, in rising order. */
static void sum_rows(float *restrict to, const float *grad, const rpo_token_order *order, int64_t k,
                     int64_t hidden, bool accumulate) {
    int64_t at = order->bounds[k];
    if (!accumulate)
        memcpy(to, grad + (int64_t)order->order[at++] * hidden, (size_t)hidden * sizeof *to);
    for (; at < order->bounds[k + 1]; ++at) {
        const float *restrict from = grad + (int64_t)order->order[at] * hidden;
        for (int64_t h = 0; h < hidden; ++h)
            to[h] += from[h];
    }
}

/* Threads share strips of the table: every row of it is written by one thread, once. */
rpo_status rpo_cpu_embedding_backward(rpo_context *context, float *grad_table, const void *grad_out,
                                      const rpo_token_order *order, const rpo_embedding_shape *shape,
                                      bool accumulate) {
    RPO_TRY(rpo_cpu_require_float32("embedding_backward", shape->dtype));
    enum { STRIP = 16 }; /* rows of the table: a vocabulary of bytes gives work to many threads */
    const int64_t vocab = shape->vocab_size, hidden = shape->hidden_size;
    const int64_t strips = (vocab + STRIP - 1) / STRIP;
#pragma omp parallel for num_threads(rpo_cpu_threads(context)) schedule(dynamic, 4)
    for (int64_t s = 0; s < strips; ++s) {
        const int64_t end = (s + 1) * STRIP < vocab ? (s + 1) * STRIP : vocab;
        int64_t k = find_token(order, s * STRIP);
        for (int64_t v = s * STRIP; v < end; ++v) {
            float *to = grad_table + v * hidden;
            if (k < order->distinct && order->tokens[k] == v)
                sum_rows(to, grad_out, order, k++, hidden, accumulate);
            else if (!accumulate)
                memset(to, 0, (size_t)hidden * sizeof *to);
        }
    }
    return RPO_OK;
}
