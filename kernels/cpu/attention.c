/*
 * attention.c - attention over segments with shared prefixes, forward.
 *
 * One task is one query tile of one head. Scores live in a tile of 64 queries x 256 keys per thread; the softmax
 * runs along the keys, the prefix's first, with a running maximum and sum (Milakov and Gimelshein 2018, as in
 * FlashAttention), the output being rescaled whenever the maximum moves. Products are BLAS calls on tiles, one
 * thread each. Tasks write disjoint outputs and compute in a fixed order, so the number of threads does not show in
 * the result.
 */
#include <math.h>

#include "core/bump.h"
#include "kernels/cpu/attention_tile.h"
#include "kernels/cpu/vector_math.h"

/* Of a thread. */
typedef struct forward_scratch {
    float *scores;        /* [ATTENTION_QUERIES][ATTENTION_KEYS] */
    float *maxima, *sums; /* [ATTENTION_QUERIES], running */
} forward_scratch;

static size_t lay_out(forward_scratch *scratch, void *memory) {
    rpo_bump from = rpo_bump_from(memory);
    scratch->scores = rpo_bump_take(&from, ATTENTION_TILE, sizeof(float));
    scratch->maxima = rpo_bump_take(&from, ATTENTION_QUERIES, sizeof(float));
    scratch->sums = rpo_bump_take(&from, ATTENTION_QUERIES, sizeof(float));
    return rpo_bump_size(&from);
}

static size_t forward_scratch_size(void) {
    forward_scratch scratch;
    return lay_out(&scratch, NULL);
}

size_t rpo_cpu_attention_workspace_size(rpo_context *context, const rpo_segments *segments,
                                        const rpo_attention_shape *shape, bool backward) {
    (void)segments;
    (void)shape;
    return (size_t)rpo_cpu_threads(context) *
           (backward ? rpo_attention_backward_scratch_size() : forward_scratch_size());
}

typedef struct attention_arrays {
    float *out, *logsumexp; /* logsumexp may be NULL */
    const float *qkv;
    const rpo_attention_shape *shape;
    int64_t row_size, out_size; /* elements of a row of qkv, of out */
} attention_arrays;

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

/* Row r's scores of one key tile join its softmax; `first` begins it. */
static void soften_row(const forward_scratch *scratch, int64_t r, int64_t visible, int64_t width, float *out,
                       int64_t head_dim, bool first) {
    float *row = scratch->scores + r * ATTENTION_KEYS;
    float maximum = row_maximum(row, visible);
    if (first) {
        scratch->sums[r] = 0.0f;
    } else if (!(maximum > scratch->maxima[r])) {
        maximum = scratch->maxima[r];
    } else {
        const float shrink = rpo_exp_nonpositive(scratch->maxima[r] - maximum);
        scale_row(out, head_dim, shrink);
        scratch->sums[r] *= shrink;
    }
    scratch->maxima[r] = maximum;
    scratch->sums[r] += exponentiate_row(row, visible, width, maximum);
}

/* A query tile of a head against the key tile that begins at `key` of a span. */
static rpo_status attend_keys(rpo_context *context, const attention_arrays *arrays,
                              const rpo_attention_head *head, const rpo_attention_tile *tile,
                              const rpo_attention_span *span, int64_t key, bool first,
                              const forward_scratch *scratch) {
    const int64_t size = arrays->row_size, dim = arrays->shape->head_dim;
    const int64_t width = rpo_attention_min(ATTENTION_KEYS, span->rows - key);
    const float *queries = arrays->qkv + tile->first * size + head->query_at;
    const float *keys = arrays->qkv + (span->first + key) * size;
    float *out = arrays->out + tile->first * arrays->out_size + head->query_at;
    RPO_TRY(rpo_cpu_gemm(context, scratch->scores, ATTENTION_KEYS, rpo_attention_matrix(queries, size, false),
                         rpo_attention_matrix(keys + head->key_at, size, true), tile->rows, width, dim,
                         arrays->shape->scale, 0.0f));
    for (int64_t r = 0; r < tile->rows; ++r)
        soften_row(scratch, r, rpo_attention_visible(span, r, key, width), width, out + r * arrays->out_size,
                   dim, first);
    return rpo_cpu_gemm(context, out, arrays->out_size,
                        rpo_attention_matrix(scratch->scores, ATTENTION_KEYS, false),
                        rpo_attention_matrix(keys + head->value_at, size, false), tile->rows, dim, width,
                        1.0f, first ? 0.0f : 1.0f);
}

static rpo_status attend_tile(rpo_context *context, const attention_arrays *arrays,
                              const rpo_attention_head *head, const rpo_attention_tile *tile,
                              const forward_scratch *scratch) {
    bool first = true;
    for (int s = 0; s < 2; ++s)
        for (int64_t key = 0; key < tile->spans[s].rows; key += ATTENTION_KEYS) {
            RPO_TRY(attend_keys(context, arrays, head, tile, &tile->spans[s], key, first, scratch));
            first = false;
        }
    for (int64_t r = 0; r < tile->rows; ++r) {
        const int64_t row = tile->first + r;
        scale_row(arrays->out + row * arrays->out_size + head->query_at, arrays->shape->head_dim,
                  1.0f / scratch->sums[r]);
        if (arrays->logsumexp != NULL)
            arrays->logsumexp[row * arrays->shape->num_heads + head->index] =
                scratch->maxima[r] + logf(scratch->sums[r]);
    }
    return RPO_OK;
}

rpo_status rpo_cpu_attention(rpo_context *context, void *out, float *logsumexp, const void *qkv,
                             const rpo_segments *segments, const rpo_attention_shape *shape, void *workspace,
                             size_t workspace_size) {
    RPO_TRY(rpo_cpu_require_float32("attention", shape->dtype));
    RPO_TRY(rpo_cpu_require_workspace("attention", workspace_size,
                                      rpo_cpu_attention_workspace_size(context, segments, shape, false)));
    const attention_arrays arrays = {
        .out = out,
        .logsumexp = logsumexp,
        .qkv = qkv,
        .shape = shape,
        .row_size = rpo_attention_row_size(shape),
        .out_size = shape->num_heads * shape->head_dim,
    };
    rpo_status status = RPO_OK;
#pragma omp parallel for num_threads(rpo_cpu_threads(context)) schedule(dynamic, 1)
    for (int64_t task = 0; task < segments->num_tiles * shape->num_heads; ++task) {
        const int32_t *place = segments->tiles + 2 * (task / shape->num_heads);
        const rpo_attention_tile tile = rpo_attention_tile_at(segments, place[0], place[1]);
        const rpo_attention_head head = rpo_attention_head_at(shape, task % shape->num_heads);
        forward_scratch scratch;
        lay_out(&scratch, (char *)workspace + (size_t)rpo_cpu_thread_index() * forward_scratch_size());
        const rpo_status done = attend_tile(context, &arrays, &head, &tile, &scratch);
        if (done != RPO_OK) {
#pragma omp atomic write
            status = done;
        }
    }
    if (status != RPO_OK)
        return rpo_error_set(status,
                             "attention: head_dim %lld or its row of %lld is beyond the BLAS library's",
                             (long long)shape->head_dim, (long long)arrays.row_size);
    return RPO_OK;
}
