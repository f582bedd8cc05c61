/*
 * attention_backward.c - attention over segments with shared prefixes, backward.
 *
 * With P = exp(scale Q K^T - logsumexp) computed again tile by tile (Dao et al. 2022, FlashAttention):
 *     dV = P^T dO      dP = dO V^T      dS = P * (dP - rowsum(dO * O)) scale      dQ = dS K      dK = dS^T Q
 * One task is one key-value head of one segment that has no prefix, with all query heads that read it: first the
 * segment's own rows, then those of its users in their order, each with all the keys it sees. So every element of
 * dK and dV is summed by one thread in a fixed order, without atomics, and no score is computed a third time.
 */
#include <string.h>

#include "core/bump.h"
#include "kernels/cpu/attention_tile.h"
#include "kernels/cpu/vector_math.h"

/* Of a thread. */
typedef struct backward_scratch {
    float *probabilities, *grads; /* [ATTENTION_QUERIES][ATTENTION_KEYS]: P, and dP that becomes dS */
    float *delta;                 /* [ATTENTION_QUERIES]: rowsum(dO * O) */
} backward_scratch;

static size_t lay_out(backward_scratch *scratch, void *memory) {
    rpo_bump from = rpo_bump_from(memory);
    scratch->probabilities = rpo_bump_take(&from, ATTENTION_TILE, sizeof(float));
    scratch->grads = rpo_bump_take(&from, ATTENTION_TILE, sizeof(float));
    scratch->delta = rpo_bump_take(&from, ATTENTION_QUERIES, sizeof(float));
    return rpo_bump_size(&from);
}

size_t rpo_attention_backward_scratch_size(void) {
    backward_scratch scratch;
    return lay_out(&scratch, NULL);
}

typedef struct backward_arrays {
    float *grad_qkv;
    const float *grad_out, *out, *logsumexp, *qkv;
    const rpo_attention_shape *shape;
    int64_t row_size, out_size; /* elements of a row of qkv, of out */
} backward_arrays;

static float dot(const float *restrict a, const float *restrict b, int64_t count) {
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < count; ++i)
        sum += a[i] * b[i];
    return sum;
}

/* Scores become probabilities, their gradients those of the unscaled scores; 0 beyond the visible ones. */
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

/* A query tile of a head against the key tile that begins at `key` of a span. Gradients are added to. */
static rpo_status backward_keys(rpo_context *context, const backward_arrays *arrays,
                                const rpo_attention_head *head, const rpo_attention_tile *tile,
                                const rpo_attention_span *span, int64_t key,
                                const backward_scratch *scratch) {
    const rpo_attention_shape *shape = arrays->shape;
    const int64_t size = arrays->row_size, rows = tile->rows, dim = shape->head_dim;
    const int64_t width = rpo_attention_min(ATTENTION_KEYS, span->rows - key);
    const int64_t query_row = tile->first * size + head->query_at, key_row = (span->first + key) * size;
    const float *keys = arrays->qkv + key_row + head->key_at;
    const float *values = arrays->qkv + key_row + head->value_at;
    const rpo_cpu_matrix queries = rpo_attention_matrix(arrays->qkv + query_row, size, false);
    const rpo_cpu_matrix grad_out = rpo_attention_matrix(
        arrays->grad_out + tile->first * arrays->out_size + head->query_at, arrays->out_size, false);
    const rpo_cpu_matrix p_transposed = rpo_attention_matrix(scratch->probabilities, ATTENTION_KEYS, true);
    const rpo_cpu_matrix ds = rpo_attention_matrix(scratch->grads, ATTENTION_KEYS, false);
    const rpo_cpu_matrix ds_transposed = rpo_attention_matrix(scratch->grads, ATTENTION_KEYS, true);

    RPO_TRY(rpo_cpu_gemm(context, scratch->probabilities, ATTENTION_KEYS, queries,
                         rpo_attention_matrix(keys, size, true), rows, width, dim, shape->scale, 0.0f));
    RPO_TRY(rpo_cpu_gemm(context, scratch->grads, ATTENTION_KEYS, grad_out,
                         rpo_attention_matrix(values, size, true), rows, width, dim, 1.0f, 0.0f));
    for (int64_t r = 0; r < rows; ++r)
        softmax_row_backward(scratch->probabilities + r * ATTENTION_KEYS, scratch->grads + r * ATTENTION_KEYS,
                             rpo_attention_visible(span, r, key, width), width,
                             arrays->logsumexp[(tile->first + r) * shape->num_heads + head->index],
                             scratch->delta[r], shape->scale);
    RPO_TRY(rpo_cpu_gemm(context, arrays->grad_qkv + key_row + head->value_at, size, p_transposed, grad_out,
                         width, dim, rows, 1.0f, 1.0f));
    RPO_TRY(rpo_cpu_gemm(context, arrays->grad_qkv + key_row + head->key_at, size, ds_transposed, queries,
                         width, dim, rows, 1.0f, 1.0f));
    return rpo_cpu_gemm(context, arrays->grad_qkv + query_row, size, ds,
                        rpo_attention_matrix(keys, size, false), rows, dim, width, 1.0f, 1.0f);
}

static rpo_status backward_tile(rpo_context *context, const backward_arrays *arrays,
                                const rpo_attention_head *head, const rpo_attention_tile *tile,
                                const backward_scratch *scratch) {
    for (int64_t r = 0; r < tile->rows; ++r) {
        const int64_t at = (tile->first + r) * arrays->out_size + head->query_at;
        scratch->delta[r] = dot(arrays->grad_out + at, arrays->out + at, arrays->shape->head_dim);
    }
    for (int s = 0; s < 2; ++s)
        for (int64_t key = 0; key < tile->spans[s].rows; key += ATTENTION_KEYS)
            RPO_TRY(backward_keys(context, arrays, head, tile, &tile->spans[s], key, scratch));
    return RPO_OK;
}

static void zero_columns(float *data, int64_t stride, int64_t rows, int64_t columns) {
    for (int64_t r = 0; r < rows; ++r)
        memset(data + r * stride, 0, (size_t)columns * sizeof *data);
}

/* All queries of a segment that read a key-value head; the gradients of the segment's own rows begin here. */
static rpo_status backward_segment(rpo_context *context, const backward_arrays *arrays,
                                   const rpo_segments *segments, int64_t segment, int64_t kv,
                                   const backward_scratch *scratch) {
    const rpo_attention_shape *shape = arrays->shape;
    const int64_t dim = shape->head_dim, group = shape->num_heads / shape->num_kv_heads;
    const int64_t length = rpo_attention_length(segments, segment);
    const rpo_attention_head first = rpo_attention_head_at(shape, kv * group);
    float *grad_row = arrays->grad_qkv + segments->cu_seqlens[segment] * arrays->row_size;
    zero_columns(grad_row + first.query_at, arrays->row_size, length, group * dim);
    zero_columns(grad_row + first.key_at, arrays->row_size, length, dim);
    zero_columns(grad_row + first.value_at, arrays->row_size, length, dim);
    for (int64_t h = kv * group; h < (kv + 1) * group; ++h) {
        const rpo_attention_head head = rpo_attention_head_at(shape, h);
        for (int64_t query = 0; query < length; query += ATTENTION_QUERIES) {
            const rpo_attention_tile tile = rpo_attention_tile_at(segments, segment, query);
            RPO_TRY(backward_tile(context, arrays, &head, &tile, scratch));
        }
    }
    return RPO_OK;
}

/* A segment without a prefix and its users. A segment with one is done where its prefix is. */
static rpo_status backward_family(rpo_context *context, const backward_arrays *arrays,
                                  const rpo_segments *segments, int64_t segment, int64_t kv,
                                  const backward_scratch *scratch) {
    if (segments->prefix[segment] >= 0)
        return RPO_OK;
    RPO_TRY(backward_segment(context, arrays, segments, segment, kv, scratch));
    for (int64_t u = segments->user_bounds[segment]; u < segments->user_bounds[segment + 1]; ++u)
        RPO_TRY(backward_segment(context, arrays, segments, segments->users[u], kv, scratch));
    return RPO_OK;
}

rpo_status rpo_cpu_attention_backward(rpo_context *context, void *grad_qkv, const void *grad_out,
                                      const rpo_attention_saved *saved, const rpo_segments *segments,
                                      const rpo_attention_shape *shape, void *workspace,
                                      size_t workspace_size) {
    RPO_TRY(rpo_cpu_require_float32("attention_backward", shape->dtype));
    RPO_TRY(rpo_cpu_require_workspace("attention_backward", workspace_size,
                                      rpo_cpu_attention_workspace_size(context, segments, shape, true)));
    const backward_arrays arrays = {
        .grad_qkv = grad_qkv,
        .grad_out = grad_out,
        .out = saved->out,
        .logsumexp = saved->logsumexp,
        .qkv = saved->qkv,
        .shape = shape,
        .row_size = rpo_attention_row_size(shape),
        .out_size = shape->num_heads * shape->head_dim,
    };
    rpo_status status = RPO_OK;
#pragma omp parallel for num_threads(rpo_cpu_threads(context)) schedule(dynamic, 1)
    for (int64_t task = 0; task < segments->num_segments * shape->num_kv_heads; ++task) {
        backward_scratch scratch;
        lay_out(&scratch,
                (char *)workspace + (size_t)rpo_cpu_thread_index() * rpo_attention_backward_scratch_size());
        const rpo_status done = backward_family(context, &arrays, segments, task / shape->num_kv_heads,
                                                task % shape->num_kv_heads, &scratch);
        if (done != RPO_OK) {
#pragma omp atomic write
            status = done;
        }
    }
    if (status != RPO_OK)
        return rpo_error_set(status,
                             "attention_backward: head_dim %lld or its row of %lld is beyond the BLAS "
                             "library's",
                             (long long)shape->head_dim, (long long)arrays.row_size);
    return RPO_OK;
}
