/*
 * attention.c - causal attention over packed sequences, forward.
 *
 * One task is one head of one sequence. Scores live in a tile of 64 queries x 256 keys per thread; the
 * softmax runs along the keys with a running maximum and sum (Milakov and Gimelshein 2018, as in
 * FlashAttention), the output being rescaled whenever the maximum moves. Products are BLAS calls on tiles,
 * one thread each. Tasks write disjoint outputs and compute in a fixed order, so the number of threads does
 * not show in the result.
 */
#include "kernels/cpu/attention_tile.h"

#include <math.h>

#include "kernels/cpu/vector_math.h"

/* Per thread: the score tile, and the running maximum and sum of its rows. */
enum { FORWARD_FLOATS = ATTENTION_TILE + 2 * ATTENTION_QUERIES };
/* Per thread: probabilities, their gradient, and rowwise <grad_out, out>. */
enum { BACKWARD_FLOATS = 2 * ATTENTION_TILE + ATTENTION_QUERIES };

size_t rpo_cpu_attention_workspace_size(rpo_context *context, const rpo_attention_shape *shape,
                                        bool backward) {
    (void)shape;
    const size_t floats = backward ? BACKWARD_FLOATS : FORWARD_FLOATS;
    return (size_t)rpo_cpu_threads(context) * floats * sizeof(float);
}

/* One head of one sequence. Pointers stand at the head's first element in the sequence's first row. */
typedef struct attention_head {
    float *out;
    float *logsumexp; /* or NULL */
    const float *queries, *keys, *values;
    int64_t length, head_dim, row_size, out_stride, lse_stride;
    float scale;
} attention_head;

/* Turns the scores of a row into exp(score - maximum), 0 beyond the visible ones; returns their sum. */
static float exponentiate_row(float *restrict scores, int64_t visible, int64_t width, float maximum) {
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (int64_t k = 0; k < visible; ++k) {
        const float p = rpo_exp_nonpositive(scores[k] - maximum);
        scores[k] = p;
        sum += p;
    }
    for (int64_t k = visible; k < width; ++k)
        scores[k] = 0.0f;
    return sum;
}

static float row_maximum(const float *scores, int64_t count) {
    float maximum = scores[0];
#pragma omp simd reduction(max : maximum)
    for (int64_t k = 1; k < count; ++k)
        maximum = scores[k] > maximum ? scores[k] : maximum;
    return maximum;
}

static void scale_row(float *restrict row, int64_t count, float factor) {
    for (int64_t d = 0; d < count; ++d)
        row[d] *= factor;
}

/* Query rows [query, query_end) of a head against every key they see. */
static rpo_status attend_tile(rpo_context *context, const attention_head *head, int64_t query,
                              int64_t query_end, float *scores) {
    float *maxima = scores + ATTENTION_TILE;
    float *sums = maxima + ATTENTION_QUERIES;
    float *out = head->out + query * head->out_stride;
    const int64_t rows = query_end - query;
    for (int64_t key = 0; key < query_end; key += ATTENTION_KEYS) {
        const int64_t key_end = rpo_attention_min(key + ATTENTION_KEYS, query_end);
        const int64_t width = key_end - key;
        RPO_TRY(
            rpo_cpu_gemm(context, scores, ATTENTION_KEYS,
                         rpo_attention_matrix(head->queries + query * head->row_size, head->row_size, false),
                         rpo_attention_matrix(head->keys + key * head->row_size, head->row_size, true), rows,
                         width, head->head_dim, head->scale, 0.0f));
        for (int64_t r = 0; r < rows; ++r) {
            float *row = scores + r * ATTENTION_KEYS;
            const int64_t visible = rpo_attention_visible(query + r, key, key_end);
            float maximum = row_maximum(row, visible);
            if (key == 0) {
                sums[r] = 0.0f;
            } else {
                if (!(maximum > maxima[r])) {
                    maximum = maxima[r];
                } else {
                    const float shrink = rpo_exp_nonpositive(maxima[r] - maximum);
                    scale_row(out + r * head->out_stride, head->head_dim, shrink);
                    sums[r] *= shrink;
                }
            }
            maxima[r] = maximum;
            sums[r] += exponentiate_row(row, visible, width, maximum);
        }
        RPO_TRY(rpo_cpu_gemm(context, out, head->out_stride,
                             rpo_attention_matrix(scores, ATTENTION_KEYS, false),
                             rpo_attention_matrix(head->values + key * head->row_size, head->row_size, false),
                             rows, head->head_dim, width, 1.0f, key == 0 ? 0.0f : 1.0f));
    }
    for (int64_t r = 0; r < rows; ++r) {
        scale_row(out + r * head->out_stride, head->head_dim, 1.0f / sums[r]);
        if (head->logsumexp != NULL)
            head->logsumexp[(query + r) * head->lse_stride] = maxima[r] + logf(sums[r]);
    }
    return RPO_OK;
}

static rpo_status attend_head(rpo_context *context, const attention_head *head, float *scores) {
    for (int64_t query = 0; query < head->length; query += ATTENTION_QUERIES)
        RPO_TRY(attend_tile(context, head, query, rpo_attention_min(query + ATTENTION_QUERIES, head->length),
                            scores));
    return RPO_OK;
}

rpo_status rpo_cpu_attention(rpo_context *context, void *out, float *logsumexp, const void *qkv,
                             const int32_t *cu_seqlens, const rpo_attention_shape *shape, void *workspace,
                             size_t workspace_size) {
    RPO_TRY(rpo_cpu_require_float32("attention", shape->dtype));
    RPO_TRY(rpo_cpu_require_workspace("attention", workspace_size,
                                      rpo_cpu_attention_workspace_size(context, shape, false)));
    const int64_t dim = shape->head_dim;
    const int64_t group = shape->num_heads / shape->num_kv_heads;
    const int64_t row_size = rpo_attention_row_size(shape);
    rpo_status status = RPO_OK;
#pragma omp parallel for num_threads(rpo_cpu_threads(context)) schedule(dynamic, 1)
    for (int64_t task = 0; task < shape->num_sequences * shape->num_heads; ++task) {
        const int64_t sequence = task / shape->num_heads;
        const int64_t h = task % shape->num_heads;
        const int64_t first = cu_seqlens[sequence];
        const float *row = (const float *)qkv + first * row_size;
        const attention_head head = {
            .out = (float *)out + (first * shape->num_heads + h) * dim,
            .logsumexp = logsumexp != NULL ? logsumexp + first * shape->num_heads + h : NULL,
            .queries = row + h * dim,
            .keys = row + (shape->num_heads + h / group) * dim,
            .values = row + (shape->num_heads + shape->num_kv_heads + h / group) * dim,
            .length = cu_seqlens[sequence + 1] - first,
            .head_dim = dim,
            .row_size = row_size,
            .out_stride = shape->num_heads * dim,
            .lse_stride = shape->num_heads,
            .scale = shape->scale,
        };
        const rpo_status done =
            attend_head(context, &head, (float *)workspace + rpo_cpu_thread_index() * FORWARD_FLOATS);
        if (done != RPO_OK) {
#pragma omp atomic write
            status = done;
        }
    }
    if (status != RPO_OK)
        return rpo_error_set(status,
                             "attention: head_dim %lld or its row of %lld is beyond the BLAS library's",
                             (long long)dim, (long long)row_size);
    return RPO_OK;
}
