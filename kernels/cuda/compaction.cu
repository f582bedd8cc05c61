/*
 * compaction.cu - from masked rows to dense ones and back.
 *
 * The list of valid rows is made by one block: it takes 4096 labels a step, so 8192 rows are two steps, and a
 * million rows some hundreds of microseconds beside products of seconds. A scan over many blocks would need a
 * second launch and save nothing that could be seen.
 */
#include "kernels/cuda/compaction.h"

#include "kernels/cuda/device/softmax_row.cuh"
#include "kernels/cuda/dispatch.cuh"
#include "kernels/cuda/launch.cuh"

constexpr int kCompactThreads = 1024, kLabelsPerThread = 4;
constexpr int kRowThreads = 128;

/* Sum over the lower-ranked threads of the block; *total receives the sum over all. */
__device__ static int block_exclusive_sum(int value, int *scratch, int *total) {
    const int lane = static_cast<int>(threadIdx.x) % kWarpThreads,
              warp = static_cast<int>(threadIdx.x) / kWarpThreads;
    int inclusive = value;
    for (int offset = 1; offset < kWarpThreads; offset *= 2) {
        const int other = __shfl_up_sync(kFullWarp, inclusive, offset);
        inclusive += lane >= offset ? other : 0;
    }
    if (lane == kWarpThreads - 1)
        scratch[warp] = inclusive;
    __syncthreads();
    int before = 0, sum = 0;
    for (int w = 0; w < kCompactThreads / kWarpThreads; ++w) {
        before += w < warp ? scratch[w] : 0;
        sum += scratch[w];
    }
    __syncthreads();
    *total = sum;
    return before + inclusive - value;
}

/* Grid: one block. Shared: 128 bytes. Reads the labels twice (the second time from the cache), writes an
 * index and a float a row. */
__global__ static void __launch_bounds__(kCompactThreads)
    compact_rows_kernel(int32_t *valid, int32_t *num_valid, float *row_logps, const int32_t *labels,
                        int64_t rows, int64_t capacity) {
    RPO_SHARED(int, scratch, kMaxWarps);
    int64_t found = 0;
    for (int64_t begin = 0; begin < rows; begin += int64_t{kCompactThreads} * kLabelsPerThread) {
        const int64_t first = begin + int64_t{threadIdx.x} * kLabelsPerThread;
        const int64_t end = first + kLabelsPerThread < rows ? first + kLabelsPerThread : rows;
        int count = 0, total = 0;
        for (int64_t t = first; t < end; ++t)
            count += labels[t] != RPO_IGNORE_LABEL;
        int64_t rank = found + block_exclusive_sum(count, scratch, &total);
        for (int64_t t = first; t < end; ++t) {
            const bool is_valid = labels[t] != RPO_IGNORE_LABEL;
            if (is_valid && rank < capacity)
                valid[rank] = static_cast<int32_t>(t);
            rank += is_valid;
            row_logps[t] = is_valid ? NAN : 0.0f;
        }
        found += total;
    }
    if (threadIdx.x == 0)
        *num_valid = static_cast<int32_t>(found);
}

/* Grid: a warp a compacted row. Reads and writes a row once, in 16-byte vectors where the source allows. */
template <typename T>
__global__ static void __launch_bounds__(kRowThreads, 8) /* 64 registers: at its own 32 sm_80 spills */
    gather_rows_kernel(T *compact, int64_t compact_stride, const T *hidden, int64_t width,
                       rpo_compacted rows) {
    constexpr int kCount = rpo_vector<T>::kCount;
    const int64_t i = rpo_team_row<false>();
    if (i >= rows.count)
        return;
    const int lane = rpo_team_rank<false>();
    T *to = compact + i * compact_stride;
    if (rows.first + i >= *rows.num_valid) {
        rpo_row_fill(to, width, 0.0f, lane, kWarpThreads);
        return;
    }
    const T *from = hidden + rows.valid[rows.first + i] * width;
    const bool aligned = reinterpret_cast<uintptr_t>(from) % 16 == 0;
    const int64_t vectors = aligned ? width / kCount : 0;
    for (int64_t v = lane; v < vectors; v += kWarpThreads)
        rpo_store_vector(to + v * kCount, rpo_load_streaming(from + v * kCount));
    for (int64_t h = vectors * kCount + lane; h < width; h += kWarpThreads)
        to[h] = from[h];
}

/* Grid: a warp a compacted row. Reads a float, writes an element a column. */
template <typename T>
__global__ static void __launch_bounds__(kRowThreads)
    scatter_rows_kernel(T *grad_hidden, int64_t width, const float *compact, int64_t compact_stride,
                        rpo_compacted rows) {
    const int64_t i = rpo_team_row<false>();
    if (i >= rows.count || rows.first + i >= *rows.num_valid)
        return;
    T *to = grad_hidden + rows.valid[rows.first + i] * width;
    const float *from = compact + i * compact_stride;
    for (int64_t h = rpo_team_rank<false>(); h < width; h += kWarpThreads)
        to[h] = rpo_from_float<T>(from[h]);
}

/* Grid: a warp a row. Writes the ignored and the lost rows. */
template <typename T>
__global__ static void __launch_bounds__(kRowThreads)
    clear_rows_kernel(T *grad_hidden, int64_t width, const int32_t *labels, int64_t num_rows,
                      const int32_t *valid, const int32_t *num_valid, int64_t capacity) {
    const int64_t t = rpo_team_row<false>();
    if (t >= num_rows)
        return;
    const bool ignored = labels[t] == RPO_IGNORE_LABEL;
    const bool lost = !ignored && *num_valid > capacity && t > valid[capacity - 1];
    if (ignored || lost)
        rpo_row_fill(grad_hidden + t * width, width, ignored ? 0.0f : NAN, rpo_team_rank<false>(),
                     kWarpThreads);
}

extern "C" rpo_status rpo_cuda_compact(rpo_context *context, int32_t *valid, int32_t *num_valid,
                                       float *row_logps, const int32_t *labels, int64_t rows,
                                       int64_t capacity) {
    const rpo_launch_choice choice = {"compact_rows", dim3(1), dim3(kCompactThreads), 0};
    return rpo_launch(context, choice, compact_rows_kernel, valid, num_valid, row_logps, labels, rows,
                      capacity);
}

static rpo_launch_choice choose_rows(const char *name, int64_t rows) {
    const int64_t rows_per_block = kRowThreads / kWarpThreads;
    const int64_t blocks = (rows + rows_per_block - 1) / rows_per_block;
    return {name, dim3(static_cast<unsigned>(blocks)), dim3(kRowThreads), 0};
}

extern "C" rpo_status rpo_cuda_gather_rows(rpo_context *context, void *compact, int64_t compact_stride,
                                           const void *hidden, int64_t width, rpo_dtype dtype,
                                           const rpo_compacted *rows) {
    return rpo_with_dtype(dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        return rpo_launch(context, choose_rows("gather_rows", rows->count), gather_rows_kernel<T>,
                          static_cast<T *>(compact), compact_stride, static_cast<const T *>(hidden), width,
                          *rows);
    });
}

extern "C" rpo_status rpo_cuda_scatter_rows(rpo_context *context, void *grad_hidden, int64_t width,
                                            rpo_dtype dtype, const float *compact, int64_t compact_stride,
                                            const rpo_compacted *rows) {
    return rpo_with_dtype(dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        return rpo_launch(context, choose_rows("scatter_rows", rows->count), scatter_rows_kernel<T>,
                          static_cast<T *>(grad_hidden), width, compact, compact_stride, *rows);
    });
}

extern "C" rpo_status rpo_cuda_clear_rows(rpo_context *context, void *grad_hidden, int64_t width,
                                          rpo_dtype dtype, const int32_t *labels, int64_t num_rows,
                                          const int32_t *valid, const int32_t *num_valid, int64_t capacity) {
    return rpo_with_dtype(dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        return rpo_launch(context, choose_rows("clear_rows", num_rows), clear_rows_kernel<T>,
                          static_cast<T *>(grad_hidden), width, labels, num_rows, valid, num_valid, capacity);
    });
}
