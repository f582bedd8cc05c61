/*
 * linear_logprob_plan.cu - sizes of sweeps, chunks and tiles.
 *
 * What pulls at them, at H = 4096, V = 128256 in 16 bits, with 3 TB/s and 790 TFLOP/s:
 *  - a chunk reads the whole head (1.05 GB, 0.35 ms) per product; with 1024 rows the product takes 1.36 ms,
 * so the reads hide behind it; with 200 rows they would be as long as it;
 *  - a tile of 1024 x 8192 float32 logits is 32 MiB: it fits two thirds of a 50 MB L2, so that the
 * log-sum-exp reads it from there, and the product has some two waves of 128 x 256 blocks;
 *  - a sweep reads and writes the float32 weight gradient once (4.2 GB, 1.4 ms): thousands of rows a sweep
 * when the head is trained, 2^30 bytes of kept exponentials by default; with a frozen head 2^27 are enough.
 * These are reasons, not measurements: not yet measured on a GPU.
 */
#include "kernels/cuda/linear_logprob_plan.h"

#include "kernels/cuda/gemm.h"
#include "kernels/cuda/logprob_rows.h"

static const size_t default_full_bytes = size_t{1} << 30, default_frozen_bytes = size_t{1} << 27;

enum {
    MAX_CHUNK_ROWS = 1024,
    MAX_CACHED_SWEEP_ROWS = 4096, /* bounds the compacted hidden rows, 32 MiB at the shape above */
    FEW_ROWS = 256, /* a sweep below this is bound by reading the head; recomputing costs less */
    MIN_TILE_COLUMNS = 256
};

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static int64_t round_up(int64_t value, int64_t step) {
    return (value + step - 1) / step * step;
}

/* Halves columns, then rows, until a chunk x tile has at most `elements`; columns stay the longer side. */
static void choose_tile(rpo_linear_plan *plan, int64_t elements, int64_t vocab_size) {
    int64_t rows = least(plan->sweep_rows, MAX_CHUNK_ROWS);
    int64_t columns = least(RPO_TILE_COLUMNS, round_up(vocab_size, RPO_TILE_ALIGNMENT));
    while (rows * columns > elements) {
        if (columns > rows && columns > MIN_TILE_COLUMNS)
            columns = round_up(columns / 2, RPO_TILE_ALIGNMENT);
        else if (rows > 1)
            rows = (rows + 1) / 2;
        else
            break;
    }
    plan->chunk_rows = rows;
    plan->tile_columns = columns;
    plan->num_tiles = (vocab_size + columns - 1) / columns;
}

static size_t element_size(const rpo_linear_logprob_shape *shape) {
    return rpo_dtype_size(shape->dtype);
}

/* Rows whose exponentials the budget of a backward holds; 0 when recomputing is better. */
static int64_t rows_kept(const rpo_linear_logprob_shape *shape, const rpo_linear_plan *plan, int64_t rows) {
    const size_t fallback = shape->frozen_head ? default_frozen_bytes : default_full_bytes;
    const size_t budget = shape->chunk_bytes > 0 ? shape->chunk_bytes : fallback;
    const size_t row_bytes = static_cast<size_t>(plan->vocab_stride) * element_size(shape);
    const int64_t kept = static_cast<int64_t>(budget / row_bytes);
    if (kept >= rows)
        return rows;
    if (kept < FEW_ROWS)
        return 0;
    return kept >= MAX_CHUNK_ROWS ? kept / MAX_CHUNK_ROWS * MAX_CHUNK_ROWS : kept / FEW_ROWS * FEW_ROWS;
}

/* Rows that fit into a cache of `bytes`. Parts of the cache start aligned, so a division is only near. */
static int64_t rows_in_cache(const rpo_linear_plan *plan, const rpo_linear_logprob_shape *shape) {
    const size_t row_bytes = sizeof(rpo_row_state) + static_cast<size_t>(plan->num_tiles) * sizeof(float) +
                             static_cast<size_t>(plan->vocab_stride) * element_size(shape);
    int64_t rows = static_cast<int64_t>(shape->cache_bytes / row_bytes);
    rows = least(rows, plan->capacity);
    while (rows > 0 && rpo_linear_cache_bytes(plan, shape, rows) > shape->cache_bytes)
        --rows;
    return rows;
}

extern "C" rpo_linear_plan rpo_linear_plan_choose(const rpo_cuda_state *state,
                                                  const rpo_linear_logprob_shape *shape, bool backward) {
    rpo_linear_plan plan = {};
    plan.capacity = shape->valid_rows > 0 ? shape->valid_rows : shape->rows;
    plan.vocab_stride = round_up(shape->vocab_size, RPO_TILE_ALIGNMENT);
    plan.hidden_stride = round_up(shape->hidden_size, RPO_TILE_ALIGNMENT);
    plan.sweep_rows = least(plan.capacity, MAX_CHUNK_ROWS);
    if (plan.capacity == 0)
        return plan;

    /* The forward's tiles, which the cache is laid out by: both directions must choose the same. */
    const size_t l2_budget = state->l2_bytes / 3 * 2;
    const size_t budget =
        shape->chunk_bytes > 0 && shape->chunk_bytes < l2_budget ? shape->chunk_bytes : l2_budget;
    choose_tile(&plan, static_cast<int64_t>(budget / sizeof(float)), shape->vocab_size);
    plan.cached_rows = rows_in_cache(&plan, shape);
    if (!backward) {
        plan.sweep_rows = plan.chunk_rows;
        return plan;
    }
    const int64_t beyond_cache = plan.capacity - plan.cached_rows;
    const int64_t kept = rows_kept(shape, &plan, beyond_cache);
    plan.recompute = beyond_cache > 0 && kept == 0;
    if (plan.recompute) {
        /* A tile of logits and one of gradients share the budget: fewer rows, the same columns. */
        const int64_t pair = plan.tile_columns * static_cast<int64_t>(sizeof(float) + element_size(shape));
        const int64_t rows = static_cast<int64_t>(budget) / pair;
        plan.chunk_rows = rows < 1 ? 1 : least(plan.chunk_rows, rows);
        plan.sweep_rows = plan.chunk_rows;
    } else {
        plan.sweep_rows = kept;
    }
    if (plan.cached_rows > 0) {
        const int64_t longest = shape->frozen_head ? plan.chunk_rows : int64_t{MAX_CACHED_SWEEP_ROWS};
        const int64_t sweep = least(plan.cached_rows, longest);
        if (plan.cached_rows == plan.capacity || plan.recompute)
            plan.sweep_rows = plan.sweep_rows > sweep ? plan.sweep_rows : sweep;
    }
    plan.chunk_rows = least(plan.chunk_rows, plan.sweep_rows);
    return plan;
}

template <typename T> static void take(rpo_bump *from, T **part, int64_t count) {
    *part = static_cast<T *>(rpo_bump_take(from, count, sizeof(T)));
}

static void take_store(rpo_bump *from, rpo_exp_store *store, const rpo_linear_plan *plan,
                       const rpo_linear_logprob_shape *shape, int64_t rows, bool keep) {
    take(from, &store->states, rows);
    take(from, &store->shifts, keep ? rows * plan->num_tiles : 0);
    store->exps = rpo_bump_take(from, keep ? rows * plan->vocab_stride : 0, element_size(shape));
}

extern "C" size_t rpo_linear_cache_bytes(const rpo_linear_plan *plan, const rpo_linear_logprob_shape *shape,
                                         int64_t rows) {
    rpo_exp_store store;
    rpo_bump sizes = rpo_bump_from(NULL);
    take_store(&sizes, &store, plan, shape, rows, true);
    return rpo_bump_size(&sizes);
}

extern "C" rpo_exp_store rpo_linear_plan_cache(const rpo_linear_plan *plan,
                                               const rpo_linear_logprob_shape *shape, void *cache) {
    rpo_exp_store store = {};
    rpo_bump from = rpo_bump_from(cache);
    if (plan->cached_rows > 0)
        take_store(&from, &store, plan, shape, plan->cached_rows, true);
    return store;
}

/* cuBLASLt wants its full workspace only where memory is no object. */
static size_t gemm_bytes_of(const rpo_linear_logprob_shape *shape) {
    const size_t quarter = rpo_bump_align(shape->chunk_bytes / 4 + 1);
    return shape->chunk_bytes > 0 && quarter < RPO_GEMM_WORKSPACE ? quarter : size_t{RPO_GEMM_WORKSPACE};
}

extern "C" size_t rpo_linear_plan_lay_out(rpo_linear_buffers *buffers, const rpo_linear_plan *plan,
                                          const rpo_linear_logprob_shape *shape, bool backward,
                                          void *workspace) {
    *buffers = {};
    if (plan->capacity == 0)
        return 0;
    const size_t size = element_size(shape);
    /* The caller's workspace is aligned to 64 bytes; the parts start on multiples of 256. */
    const uintptr_t start = rpo_bump_align(reinterpret_cast<uintptr_t>(workspace));
    rpo_bump from = rpo_bump_from(workspace != NULL ? reinterpret_cast<void *>(start) : NULL);
    const bool all_cached = backward && plan->cached_rows == plan->capacity;
    const bool keep = backward && !plan->recompute && !all_cached;
    buffers->gemm_bytes = gemm_bytes_of(shape);
    buffers->gemm = rpo_bump_take(&from, static_cast<int64_t>(buffers->gemm_bytes), 1);
    take(&from, &buffers->logits, all_cached ? 0 : plan->chunk_rows * plan->tile_columns);
    buffers->grad_logits =
        rpo_bump_take(&from, plan->recompute ? plan->chunk_rows * plan->tile_columns : 0, size);
    buffers->hidden = rpo_bump_take(&from, plan->sweep_rows * plan->hidden_stride, size);
    take(&from, &buffers->grad_hidden, backward ? plan->chunk_rows * plan->hidden_stride : 0);
    take_store(&from, &buffers->store, plan, shape, all_cached ? 0 : plan->sweep_rows, keep);
    take(&from, &buffers->row_logps, shape->rows);
    take(&from, &buffers->scales, backward ? shape->rows : 0);
    take(&from, &buffers->valid, plan->capacity);
    take(&from, &buffers->num_valid, 1);
    return rpo_bump_size(&from) + RPO_BUMP_ALIGNMENT - 64;
}
