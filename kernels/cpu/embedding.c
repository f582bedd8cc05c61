/* embedding.c - rows of a table by token id, and the gradient scattered back. */
#include "kernels/cpu/model.h"

#include <string.h>

rpo_status rpo_cpu_embedding(rpo_context *context, void *out, const void *table, const int32_t *tokens,
                             int64_t rows, int64_t hidden, rpo_dtype dtype) {
    RPO_TRY(rpo_cpu_require_float32("embedding", dtype));
    float *to = out;
    const float *from = table;
#pragma omp parallel for num_threads(rpo_cpu_threads(context)) schedule(static)
    for (int64_t t = 0; t < rows; ++t)
        memcpy(to + t * hidden, from + (int64_t)tokens[t] * hidden, (size_t)hidden * sizeof *to);
    return RPO_OK;
}

/* Threads share the columns, not the rows: a token that occurs twice is added up in row order by one thread.
 */
rpo_status rpo_cpu_embedding_backward(rpo_context *context, float *grad_table, const void *grad_out,
                                      const int32_t *tokens, int64_t rows, int64_t hidden, rpo_dtype dtype) {
    RPO_TRY(rpo_cpu_require_float32("embedding_backward", dtype));
    enum { SLICE = 64 };
    const float *grad = grad_out;
    const int64_t slices = (hidden + SLICE - 1) / SLICE;
#pragma omp parallel for num_threads(rpo_cpu_threads(context)) schedule(static)
    for (int64_t s = 0; s < slices; ++s) {
        const int64_t begin = s * SLICE;
        const int64_t end = begin + SLICE < hidden ? begin + SLICE : hidden;
        for (int64_t t = 0; t < rows; ++t) {
            float *restrict to = grad_table + (int64_t)tokens[t] * hidden;
            const float *restrict from = grad + t * hidden;
            for (int64_t h = begin; h < end; ++h)
                to[h] += from[h];
        }
    }
    return RPO_OK;
}
