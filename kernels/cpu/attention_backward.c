/*
 * attention_backward.c - causal attention over packed sequences, backward.
 *
 * With P = exp(scale Q K^T - logsumexp) computed again tile by tile (Dao et al. 2022, FlashAttention):
 *     dV = P^T dO      dP = dO V^T      dS = P * (dP - rowsum(dO * O)) scale      dQ = dS K      dK = dS^T Q
 * One task is one key-value head of one sequence with all query heads that read it, so that dK and dV are
 * summed by one thread in a fixed order and no atomics are needed.
 */
#include "kernels/cpu/attention_tile.h"

#include <string.h>

#include "kernels/cpu/vector_math.h"

/* One query head of one sequence. Pointers stand at the head's first element in the sequence's first row. */
typedef struct backward_head {
    float *grad_queries, *grad_keys, *grad_values;
    const float *grad_out, *out, *logsumexp;
    const float *queries, *keys, *values;
    int64_t length, head_dim, row_size, out_stride, lse_stride;
    float scale;
} backward_head;

static float dot(const float *restrict a, const float *restrict b, int64_t count) {
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < count; ++i)
        sum += a[i] * b[i];
    return sum;
}

/* Scores become probabilities, their gradients become those of the unscaled scores; 0 beyond the visible
 * ones. */
static void softmax_row_backward(float *restrict scores, float *restrict grads, int64_t visible,
                                 int64_t width, float logsumexp, float delta, float scale) {
#pragma omp simd
    for (int64_t k = 0; k < visible; ++k) {
        const float p = rpo_exp_nonpositive(scores[k] - logsumexp);
        scores[k] = p;
        grads[k] = p * (grads[k] - delta) * scale;
    }
    for (int64_t k = visible; k < width; ++k) {
        scores[k] = 0.0f;
        grads[k] = 0.0f;
    }
}

/* Query rows [query, query_end) of a head against every key they see. Gradients are added to. */
static rpo_status backward_tile(rpo_context *context, const backward_head *head, int64_t query,
                                int64_t query_end, float *scores) {
    float *grads = scores + ATTENTION_TILE;
    float *delta = grads + ATTENTION_TILE;
    const int64_t rows = query_end - query;
    const int64_t stride = head->row_size;
    const int64_t dim = head->head_dim;
    const rpo_cpu_matrix queries = rpo_attention_matrix(head->queries + query * stride, stride, false);
    const rpo_cpu_matrix grad_out =
        rpo_attention_matrix(head->grad_out + query * head->out_stride, head->out_stride, false);
    const rpo_cpu_matrix p_transposed = rpo_attention_matrix(scores, ATTENTION_KEYS, true);
    const rpo_cpu_matrix ds = rpo_attention_matrix(grads, ATTENTION_KEYS, false);
    const rpo_cpu_matrix ds_transposed = rpo_attention_matrix(grads, ATTENTION_KEYS, true);

    for (int64_t r = 0; r < rows; ++r)
        delta[r] = dot(grad_out.data + r * head->out_stride, head->out + (query + r) * head->out_stride, dim);
    for (int64_t key = 0; key < query_end; key += ATTENTION_KEYS) {
        const int64_t key_end = rpo_attention_min(key + ATTENTION_KEYS, query_end);
        const int64_t width = key_end - key;
        const float *keys = head->keys + key * stride;
        RPO_TRY(rpo_cpu_gemm(context, scores, ATTENTION_KEYS, queries,
                             rpo_attention_matrix(keys, stride, true), rows, width, dim, head->scale, 0.0f));
        RPO_TRY(rpo_cpu_gemm(context, grads, ATTENTION_KEYS, grad_out,
                             rpo_attention_matrix(head->values + key * stride, stride, true), rows, width,
                             dim, 1.0f, 0.0f));
        for (int64_t r = 0; r < rows; ++r)
            softmax_row_backward(scores + r * ATTENTION_KEYS, grads + r * ATTENTION_KEYS,
                                 rpo_attention_visible(query + r, key, key_end), width,
                                 head->logsumexp[(query + r) * head->lse_stride], delta[r], head->scale);
        RPO_TRY(rpo_cpu_gemm(context, head->grad_values + key * stride, stride, p_transposed, grad_out, width,
                             dim, rows, 1.0f, 1.0f));
        RPO_TRY(rpo_cpu_gemm(context, head->grad_keys + key * stride, stride, ds_transposed, queries, width,
                             dim, rows, 1.0f, 1.0f));
        RPO_TRY(rpo_cpu_gemm(context, head->grad_queries + query * stride, stride, ds,
                             rpo_attention_matrix(keys, stride, false), rows, dim, width, 1.0f, 1.0f));
    }
    return RPO_OK;
}

static void zero_columns(float *data, int64_t stride, int64_t rows, int64_t columns) {
    for (int64_t r = 0; r < rows; ++r)
        memset(data + r * stride, 0, (size_t)columns * sizeof *data);
}

rpo_status rpo_cpu_attention_backward(rpo_context *context, void *grad_qkv, const void *grad_out,
                                      const void *out, const float *logsumexp, const void *qkv,
                                      const int32_t *cu_seqlens, const rpo_attention_shape *shape,
                                      void *workspace, size_t workspace_size) {
    RPO_TRY(rpo_cpu_require_float32("attention_backward", shape->dtype));
    const size_t needed = rpo_cpu_attention_workspace_size(context, shape, true);
    RPO_TRY(rpo_cpu_require_workspace("attention_backward", workspace_size, needed));
    const int64_t tile_floats = (int64_t)(needed / sizeof(float)) / rpo_cpu_threads(context);
    const int64_t dim = shape->head_dim;
    const int64_t group = shape->num_heads / shape->num_kv_heads;
    const int64_t row_size = rpo_attention_row_size(shape);
    const int64_t keys_at = shape->num_heads * dim;
    const int64_t values_at = keys_at + shape->num_kv_heads * dim;
    rpo_status status = RPO_OK;
#pragma omp parallel for num_threads(rpo_cpu_threads(context)) schedule(dynamic, 1)
    for (int64_t task = 0; task < shape->num_sequences * shape->num_kv_heads; ++task) {
        const int64_t sequence = task / shape->num_kv_heads;
        const int64_t kv = task % shape->num_kv_heads;
        const int64_t first = cu_seqlens[sequence];
        const int64_t length = cu_seqlens[sequence + 1] - first;
        float *tile = (float *)workspace + rpo_cpu_thread_index() * tile_floats;
        float *grad_row = (float *)grad_qkv + first * row_size;
        const float *row = (const float *)qkv + first * row_size;
        zero_columns(grad_row + keys_at + kv * dim, row_size, length, dim);
        zero_columns(grad_row + values_at + kv * dim, row_size, length, dim);
        zero_columns(grad_row + kv * group * dim, row_size, length, group * dim);
        for (int64_t h = kv * group; h < (kv + 1) * group; ++h) {
            const int64_t out_at = (first * shape->num_heads + h) * dim;
            const backward_head head = {
                .grad_queries = grad_row + h * dim,
                .grad_keys = grad_row + keys_at + kv * dim,
                .grad_values = grad_row + values_at + kv * dim,
                .grad_out = (const float *)grad_out + out_at,
                .out = (const float *)out + out_at,
                .logsumexp = logsumexp + first * shape->num_heads + h,
                .queries = row + h * dim,
                .keys = row + keys_at + kv * dim,
                .values = row + values_at + kv * dim,
                .length = length,
                .head_dim = dim,
                .row_size = row_size,
                .out_stride = shape->num_heads * dim,
                .lse_stride = shape->num_heads,
                .scale = shape->scale,
            };
            for (int64_t query = 0; query < length; query += ATTENTION_QUERIES) {
                const rpo_status done = backward_tile(
                    context, &head, query, rpo_attention_min(query + ATTENTION_QUERIES, length), tile);
                if (done != RPO_OK) {
#pragma omp atomic write
                    status = done;
                }
            }
        }
    }
    if (status != RPO_OK)
        return rpo_error_set(status, "attention_backward: head_dim %lld is beyond the BLAS library's",
                             (long long)dim);
    return RPO_OK;
}
