/*
 * linear_logprob_tile.cu - log-sum-exp, exponentials and gradients of a tile of logits.
 *
 * A tile comes out of its product in float32 and lies in L2: rounding it to 16 bits would halve the bytes
 * there, but a logit of 16 rounded to bfloat16 is off by up to 0.06, which then stands in every log-prob.
 * What is kept for the backward is exp(logit - the tile's maximum) in the operands' dtype: a relative error
 * of 2^-9 in every probability, where a rounded logit would bring 6 %, and the gradient needs no exponential
 * any more.
 *
 * Versions, newest first (this one is not yet measured on a GPU):
 *   2  tiles: log-sum-exp from L2 by one block a row, 16 logits a thread in registers, so that one read serves
 *      the maximum, the sum and the kept exponentials. HBM bytes an element: none in the forward; in the
 *      backward 2 written, then 2 read and 2 written by the gradient.
 *   1  whole rows of logits through HBM as the CPU's op does: 2 written, 2 read for the sum, 2 read and 2
 *      written.
 */
#include "kernels/cuda/linear_logprob_tile.h"

#include "kernels/cuda/device/softmax_row.cuh"
#include "kernels/cuda/dispatch.cuh"
#include "kernels/cuda/launch.cuh"

constexpr int kTileThreads = 512, kTileQuads = 4;
static_assert(kTileThreads * kTileQuads * 4 == RPO_TILE_COLUMNS, "a block takes a whole row of a tile");

/* Columns of a tile, and where it lies in the vocabulary. */
struct tile_range {
    int64_t index, begin;
    int columns, padded; /* padded to whole 16-byte vectors of any dtype */
    bool is_last;
};

static tile_range range_of(const rpo_tile_job *job, int64_t tile) {
    const int64_t begin = tile * job->tile_columns;
    const int64_t left = job->vocab_size - begin;
    const int columns = static_cast<int>(left < job->tile_columns ? left : job->tile_columns);
    const int padded = (columns + RPO_TILE_ALIGNMENT - 1) / RPO_TILE_ALIGNMENT * RPO_TILE_ALIGNMENT;
    return {tile, begin, columns, padded, tile == job->num_tiles - 1};
}

/* Four neighbours, stored together. */
template <typename T> struct alignas(4 * sizeof(T)) rpo_quad { T element[4]; };

/* The first `count` of four neighbours; `otherwise` stands for the rest, which no product has written. */
__device__ static void load_quad(float (&values)[4], const float *address, int count, float otherwise) {
    if (count >= 4) {
        const float4 loaded = *reinterpret_cast<const float4 *>(address);
        values[0] = loaded.x, values[1] = loaded.y, values[2] = loaded.z, values[3] = loaded.w;
        return;
    }
    for (int e = 0; e < 4; ++e)
        values[e] = e < count ? address[e] : otherwise;
}

__device__ static rpo_lse_state lse_of(const rpo_row_state &state) {
    return {state.maximum, state.sum};
}

/* The row's new state: by one thread, once a tile. */
__device__ static void merge_tile(const rpo_tile_job &job, const tile_range &tile, const float *row,
                                  int64_t i, const rpo_lse_state &found) {
    const int32_t t = job.rows.valid[job.rows.first + i];
    const int64_t label = job.labels[t] - tile.begin;
    rpo_row_state state = {-INFINITY, 0.0f, NAN}; /* NaN stays where no tile has the label */
    if (tile.index > 0)
        state = job.store.states[i];
    if (job.labels[t] >= 0 && label >= 0 && label < tile.columns)
        state.label_logit = row[label];
    const rpo_lse_state merged = rpo_lse_merge(lse_of(state), found);
    state.maximum = merged.maximum;
    state.sum = merged.sum;
    job.store.states[i] = state;
    if (!tile.is_last)
        return;
    job.row_logps[t] = rpo_lse_logp(merged, state.label_logit);
    if (job.logsumexp != NULL)
        job.logsumexp[t] = merged.maximum + logf(merged.sum);
}

/* Grid: a block a row, 16 columns a thread. Shared: 256 bytes. Reads the tile once; writes a state a row and,
 * with kKeep, the exponentials once. */
template <typename T, bool kKeep>
__global__ static void __launch_bounds__(kTileThreads, 2)
    tile_logsumexp_kernel(rpo_tile_job job, const float *logits, tile_range tile) {
    RPO_SHARED(rpo_lse_state, scratch, kMaxWarps);
    const int64_t i = blockIdx.x;
    const bool exists = job.rows.first + i < *job.rows.num_valid;
    const float *row = logits + i * job.tile_columns;
    float values[kTileQuads][4];
    for (int k = 0; k < kTileQuads; ++k) { /* all loads before the first use */
        const int column = static_cast<int>(k * blockDim.x + threadIdx.x) * 4;
        load_quad(values[k], row + column, exists ? tile.columns - column : 0, -INFINITY);
    }
    float maximum = -INFINITY;
    for (int k = 0; k < kTileQuads; ++k)
        for (int e = 0; e < 4; ++e)
            maximum = fmaxf(maximum, values[k][e]);
    const float shift = maximum == -INFINITY ? 0.0f : maximum; /* -inf - -inf would be NaN */
    rpo_lse_state mine = {maximum, 0.0f};
    for (int k = 0; k < kTileQuads; ++k) {
        for (int e = 0; e < 4; ++e)
            values[k][e] = __expf(values[k][e] - shift);
        mine.sum += (values[k][0] + values[k][1]) + (values[k][2] + values[k][3]);
    }
    const rpo_lse_state found = rpo_block_lse(mine, scratch);
    if (!exists)
        return;
    if (threadIdx.x == 0)
        merge_tile(job, tile, row, i, found);
    if constexpr (kKeep) {
        const float tile_shift = found.maximum == -INFINITY ? 0.0f : found.maximum;
        const float rescale = __expf(maximum - tile_shift);
        T *exps = static_cast<T *>(job.store.exps) + i * job.vocab_stride + tile.begin;
        if (threadIdx.x == 0)
            job.store.shifts[i * job.num_tiles + tile.index] = found.maximum; /* -inf: all of it is exp = 0 */
        for (int k = 0; k < kTileQuads; ++k) {
            const int column = static_cast<int>(k * blockDim.x + threadIdx.x) * 4;
            rpo_quad<T> quad;
            for (int e = 0; e < 4; ++e)
                quad.element[e] = rpo_from_float<T>(values[k][e] * rescale);
            if (column < tile.padded)
                *reinterpret_cast<rpo_quad<T> *>(exps + column) = quad;
        }
    }
}

/* Exponentials of the columns from `first` on become their gradient. */
template <typename T>
__device__ static void scale_exponentials(rpo_vector<T> &vector, float factor, float scale, int64_t label,
                                          int64_t first) {
    constexpr int kCount = rpo_vector<T>::kCount;
    const int within = label >= first && label < first + kCount ? static_cast<int>(label - first) : -1;
    for (int e = 0; e < kCount; ++e)
        vector.element[e] =
            rpo_from_float<T>((e == within ? scale : 0.0f) - factor * rpo_to_float(vector.element[e]));
}

/* Grid: x a row, y tiles in turn. Reads and writes the exponentials once, two vectors a thread in flight: the
 * second load would not be moved before the first store, for all the compiler knows they may overlap. */
template <typename T>
__global__ static void __launch_bounds__(kTileThreads, 3) kept_gradient_kernel(rpo_tile_job job) {
    constexpr int kCount = rpo_vector<T>::kCount;
    const int64_t i = blockIdx.x;
    const bool exists = job.rows.first + i < *job.rows.num_valid;
    const int64_t t = exists ? job.rows.valid[job.rows.first + i] : 0;
    const int64_t label = exists ? job.labels[t] : -1;
    const float scale = exists ? job.scales[t] : 0.0f;
    rpo_row_state state = {0.0f, 1.0f, 0.0f};
    if (exists)
        state = job.store.states[i];
    if (exists && blockIdx.y == 0 && threadIdx.x == 0)
        job.row_logps[t] = rpo_lse_logp(lse_of(state), state.label_logit);
    T *row = static_cast<T *>(job.store.exps) + i * job.vocab_stride;
    for (int64_t tile = blockIdx.y; tile < job.num_tiles; tile += gridDim.y) {
        const int64_t begin = tile * job.tile_columns;
        const int64_t end =
            begin + job.tile_columns < job.vocab_stride ? begin + job.tile_columns : job.vocab_stride;
        const float shift = exists ? job.store.shifts[i * job.num_tiles + tile] : 0.0f;
        const float factor = exists ? scale * (__expf(shift - state.maximum) / state.sum) : 0.0f;
        const int64_t step = int64_t{kCount} * blockDim.x;
        for (int64_t v = begin + int64_t{threadIdx.x} * kCount; v < end; v += 2 * step) {
            const bool has_next = v + step < end;
            rpo_vector<T> vector = {}, next = {};
            if (exists) {
                vector = rpo_load_vector(row + v);
                if (has_next)
                    next = rpo_load_vector(row + v + step);
            }
            scale_exponentials(vector, factor, scale, label, v);
            rpo_store_vector(row + v, vector);
            if (has_next) {
                scale_exponentials(next, factor, scale, label, v + step);
                rpo_store_vector(row + v + step, next);
            }
        }
    }
}

/* Grid: a block a row. Reads the tile once, writes its gradient once. */
template <typename T>
__global__ static void __launch_bounds__(kTileThreads)
    tile_gradient_kernel(rpo_tile_job job, T *grad_logits, const float *logits, tile_range tile) {
    constexpr int kCount = rpo_vector<T>::kCount;
    const int64_t i = blockIdx.x;
    const bool exists = job.rows.first + i < *job.rows.num_valid;
    rpo_row_gradient of = {0.0f, 0.0f, 0.0f, -1};
    if (exists) {
        const int32_t t = job.rows.valid[job.rows.first + i];
        const rpo_row_state state = job.store.states[i];
        of = {state.maximum, job.scales[t] / state.sum, job.scales[t], job.labels[t]};
    }
    const float *row = logits + i * job.tile_columns;
    T *to = grad_logits + i * job.tile_columns;
    for (int column = static_cast<int>(threadIdx.x) * kCount; column < tile.padded;
         column += kCount * static_cast<int>(blockDim.x)) {
        rpo_vector<T> vector = {};
        for (int e = 0; e < kCount; e += 4) {
            float values[4];
            load_quad(values, row + column + e, exists ? tile.columns - column - e : 0, -INFINITY);
            const int label = of.template label_within<4>(tile.begin + column + e);
            for (int q = 0; q < 4; ++q) {
                const float gradient = of(values[q], q == label);
                vector.element[e + q] = rpo_from_float<T>(exists ? gradient : 0.0f);
            }
        }
        rpo_store_vector(to + column, vector);
    }
}

/* Threads for a tile's row: 16 columns each, whole warps. */
static unsigned tile_threads(const rpo_tile_job *job) {
    const int64_t threads = (job->tile_columns + 4 * kTileQuads - 1) / (4 * kTileQuads);
    return static_cast<unsigned>((threads + kWarpThreads - 1) / kWarpThreads * kWarpThreads);
}

static rpo_launch_choice choose_tile(const char *name, const rpo_tile_job *job, int64_t tiles) {
    const int64_t most = 65535; /* of grid.y */
    return {name,
            dim3(static_cast<unsigned>(job->rows.count), static_cast<unsigned>(tiles < most ? tiles : most)),
            dim3(tile_threads(job)), 0};
}

extern "C" rpo_status rpo_cuda_tile_logsumexp(rpo_context *context, const rpo_tile_job *job,
                                              const float *logits, int64_t tile) {
    return rpo_with_dtype(job->dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        return rpo_launch(context, choose_tile("tile_logsumexp", job, 1),
                          job->store.exps != NULL ? tile_logsumexp_kernel<T, true>
                                                  : tile_logsumexp_kernel<T, false>,
                          *job, logits, range_of(job, tile));
    });
}

extern "C" rpo_status rpo_cuda_kept_gradient(rpo_context *context, const rpo_tile_job *job) {
    return rpo_with_dtype(job->dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        return rpo_launch(context, choose_tile("kept_gradient", job, job->num_tiles), kept_gradient_kernel<T>,
                          *job);
    });
}

extern "C" rpo_status rpo_cuda_tile_gradient(rpo_context *context, const rpo_tile_job *job, void *grad_logits,
                                             const float *logits, int64_t tile) {
    return rpo_with_dtype(job->dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        return rpo_launch(context, choose_tile("tile_gradient", job, 1), tile_gradient_kernel<T>, *job,
                          static_cast<T *>(grad_logits), logits, range_of(job, tile));
    });
}
