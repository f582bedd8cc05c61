/*
 * similarity_tile.cuh - inner products of 128 row embeddings with 128 column embeddings, left in registers:
 * the core of the similarity matrix and of both passes of the tiled contrast loss.
 *
 * A block of 256 threads; warps stand 2 (down) x 4 (across), each over 64 x 32 products; a thread holds 8 x 8
 * of them. Which ones row() and column() say. In every version the lanes that share rows are those with
 * the same lane / 4 and those that share columns have the same lane % 4, so the reductions of the callers fit
 * all of them.
 *
 *   float32          float32 FMA on tiles of 16 along k, transposed on the way into shared memory (two
 * 16-byte loads of A and two of B feed 64 FMA), the next tile prefetched into registers. TF32 tensor cores
 * would be several times as fast and round to 11 bits: similarities off by 1e-3, beyond the contract. Rows
 * are scaled to norm 1 on the way in, so that very long vectors do not overflow. bfloat16,        mma.sync
 * m16n8k16 over tiles of 32 along k that cp.async brings in, kStages in flight. float16          Shared rows
 * are 80 bytes apart, so that the 8 rows of an ldmatrix fall into 8 different groups of banks. Products of
 * two 16-bit numbers are exact in float32. bfloat16 vectors whose norms multiply to more than 3e38 give
 * non-finite values.
 *
 * Embeddings that are not 16-byte aligned row by row are loaded element by element into the same tiles.
 * Speed: not yet measured on a GPU.
 */
#ifndef RPO_CUDA_SIMILARITY_TILE_CUH
#define RPO_CUDA_SIMILARITY_TILE_CUH

#include "kernels/cuda/device/async_copy.cuh"
#include "kernels/cuda/device/convert.cuh"
#include "kernels/cuda/device/mma.cuh"
#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/device/shared.cuh"

constexpr int kTile = 128;        /* rows and columns of a tile */
constexpr int kTileThreads = 256; /* threads of a block that works on tiles */
constexpr int kWarpsDown = 2, kWarpsAcross = 4;
constexpr int kFragment = 8; /* rows and columns of a thread's part */

template <typename T> struct tile_operands {
    const T *rows, *columns;      /* [row_count][dim], [column_count][dim] */
    const float *inverse_rows;    /* [row_count] 1 / norm */
    const float *inverse_columns; /* [column_count] */
    int64_t row_count, column_count, dim;
    bool aligned; /* every row of both starts on a 16-byte boundary */
};

template <typename T> inline bool rows_are_aligned(const void *embeddings, int64_t dim) {
    return reinterpret_cast<uintptr_t>(embeddings) % 16 == 0 && dim * sizeof(T) % 16 == 0;
}

__device__ __forceinline__ int tile_group() { /* lanes with the same one share rows */
    return static_cast<int>(threadIdx.x) % kWarpThreads / 4;
}
__device__ __forceinline__ int tile_pair() { /* lanes with the same one share columns */
    return static_cast<int>(threadIdx.x) % 4;
}
__device__ __forceinline__ int tile_warp_down() {
    return static_cast<int>(threadIdx.x) / kWarpThreads / kWarpsAcross;
}
__device__ __forceinline__ int tile_warp_across() {
    return static_cast<int>(threadIdx.x) / kWarpThreads % kWarpsAcross;
}

/* ---- bfloat16, float16 ---- */

template <typename T> struct similarity_tile {
    static constexpr int kDepth = 32, kStages = 3;
    static constexpr int kStride = kDepth + 8; /* elements from one shared row to the next */
    static constexpr int kVector = 8;          /* elements of 16 bytes */
    static constexpr int kStageElements = 2 * kTile * kStride;
    static constexpr size_t kSharedBytes = kStages * kStageElements * sizeof(T);

    /* Of the tile: row and column of product[i][j]. */
    static __device__ __forceinline__ int row(int i) {
        return tile_warp_down() * 64 + (i / 2) * 16 + (i % 2) * 8 + tile_group();
    }
    static __device__ __forceinline__ int column(int j) {
        return tile_warp_across() * 32 + (j / 2) * 8 + 2 * tile_pair() + j % 2;
    }

    /* What still makes a product a cosine, beside the column's inverse norm. */
    static __device__ __forceinline__ float row_factor(float inverse_norm) {
        return inverse_norm;
    }

    /* Elements k to k + 7 of one row; zeros beyond the row's or the matrix's end. */
    static __device__ __forceinline__ void load_vector(T *target, const T *matrix, int64_t row_index,
                                                       int64_t row_count, int64_t k, int64_t dim,
                                                       bool aligned) {
        const bool inside = row_index < row_count && k < dim;
        const T *source = matrix + (inside ? row_index * dim + k : 0);
        if (aligned) {
            rpo_async_copy_16(target, source, inside);
            return;
        }
        rpo_vector<T> vector;
        for (int e = 0; e < kVector; ++e)
            vector.element[e] = inside && k + e < dim ? source[e] : rpo_from_float<T>(0.0f);
        rpo_store_vector(target, vector);
    }

    /* A stage holds 128 shared rows of A, then 128 of B. */
    static __device__ __forceinline__ void load_stage(T *stage, const tile_operands<T> &operands,
                                                      int64_t first_row, int64_t first_column, int64_t k) {
        constexpr int kVectorsPerRow = kDepth / kVector;
#pragma unroll
        for (int vector = static_cast<int>(threadIdx.x); vector < kTile * kVectorsPerRow;
             vector += kTileThreads) {
            const int r = vector / kVectorsPerRow, offset = vector % kVectorsPerRow * kVector;
            load_vector(stage + r * kStride + offset, operands.rows, first_row + r, operands.row_count,
                        k + offset, operands.dim, operands.aligned);
            load_vector(stage + (kTile + r) * kStride + offset, operands.columns, first_column + r,
                        operands.column_count, k + offset, operands.dim, operands.aligned);
        }
    }

    static __device__ __forceinline__ void multiply_stage(float (&c)[kFragment / 2][kFragment / 2][4],
                                                          const T *stage) {
        const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
        const T *a_row = stage + (tile_warp_down() * 64 + lane % 16) * kStride + lane / 16 * 8;
        const T *b_row =
            stage + (kTile + tile_warp_across() * 32 + lane / 16 * 8 + lane % 8) * kStride + lane / 8 % 2 * 8;
#pragma unroll
        for (int k = 0; k < kDepth; k += 16) {
            uint32_t a[kFragment / 2][4], b[kFragment / 2][2];
#pragma unroll
            for (int i = 0; i < kFragment / 2; ++i)
                rpo_ldmatrix_x4(a[i], a_row + i * 16 * kStride + k);
#pragma unroll
            for (int j = 0; j < kFragment / 2; j += 2) {
                uint32_t two[4];
                rpo_ldmatrix_x4(two, b_row + j * 8 * kStride + k);
                b[j][0] = two[0], b[j][1] = two[1], b[j + 1][0] = two[2], b[j + 1][1] = two[3];
            }
#pragma unroll
            for (int i = 0; i < kFragment / 2; ++i)
#pragma unroll
                for (int j = 0; j < kFragment / 2; ++j)
                    rpo_mma_16x8x16<T>(c[i][j], a[i], b[j]);
        }
    }

    /* All threads of the block call. Leaves the shared memory free; at least one barrier lies inside. */
    static __device__ __forceinline__ void multiply(float (&product)[kFragment][kFragment],
                                                    const tile_operands<T> &operands, int64_t first_row,
                                                    int64_t first_column, unsigned char *shared) {
        T *stages = reinterpret_cast<T *>(shared);
        float c[kFragment / 2][kFragment / 2][4] = {};
        const int64_t steps = (operands.dim + kDepth - 1) / kDepth;
        for (int s = 0; s < kStages - 1; ++s) {
            if (s < steps)
                load_stage(stages + s * kStageElements, operands, first_row, first_column, s * kDepth);
            rpo_async_copy_commit();
        }
        for (int64_t step = 0; step < steps; ++step) {
            rpo_async_copy_wait<kStages - 2>();
            __syncthreads(); /* this stage has arrived, and nobody reads the one that is filled next */
            const int64_t next = step + kStages - 1;
            if (next < steps)
                load_stage(stages + next % kStages * kStageElements, operands, first_row, first_column,
                           next * kDepth);
            rpo_async_copy_commit();
            multiply_stage(c, stages + step % kStages * kStageElements);
        }
        rpo_async_copy_wait<0>();
        __syncthreads();
#pragma unroll
        for (int i = 0; i < kFragment; ++i)
#pragma unroll
            for (int j = 0; j < kFragment; ++j)
                product[i][j] = c[i / 2][j / 2][i % 2 * 2 + j % 2];
    }
};

/* ---- float32 ---- */

template <> struct similarity_tile<float> {
    static constexpr int kDepth = 16;
    static constexpr int kStride = kTile + 4; /* floats from one k to the next; keeps 16-byte alignment */
    static constexpr int kPart =
        kDepth / (kTileThreads / kTile); /* elements along k that a thread brings in */
    static constexpr int kBufferElements = 2 * kDepth * kStride;
    static constexpr size_t kSharedBytes = 2 * kBufferElements * sizeof(float);

    static __device__ __forceinline__ int row(int i) {
        return tile_warp_down() * 64 + (i / 4) * 32 + tile_group() * 4 + i % 4;
    }
    static __device__ __forceinline__ int column(int j) {
        return tile_warp_across() * 32 + (j / 4) * 16 + tile_pair() * 4 + j % 4;
    }

    /* Rows were normalised when they were loaded. */
    static __device__ __forceinline__ float row_factor(float) {
        return 1.0f;
    }

    struct prefetch {
        float a[kPart], b[kPart];
    };

    static __device__ __forceinline__ void load_part(float (&part)[kPart], const float *matrix,
                                                     int64_t row_index, int64_t row_count, int64_t k,
                                                     int64_t dim, bool aligned, float scale) {
        const float *source = matrix + row_index * dim + k;
        const bool inside = row_index < row_count;
        if (aligned) {
#pragma unroll
            for (int e = 0; e < kPart; e += 4) {
                const bool wanted = inside && k + e < dim;
                const rpo_vector<float> vector = wanted ? rpo_load_vector(source + e) : rpo_vector<float>{};
#pragma unroll
                for (int v = 0; v < 4; ++v)
                    part[e + v] = wanted ? vector.element[v] * scale : 0.0f;
            }
            return;
        }
#pragma unroll
        for (int e = 0; e < kPart; ++e)
            part[e] = inside && k + e < dim ? source[e] * scale : 0.0f;
    }

    static __device__ __forceinline__ void load(prefetch &next, const tile_operands<float> &operands,
                                                int64_t first_row, int64_t first_column, int64_t k) {
        const int mine = static_cast<int>(threadIdx.x) % kTile;
        const int64_t part_k = k + static_cast<int>(threadIdx.x) / kTile * kPart;
        const int64_t r = first_row + mine;
        const float scale = r < operands.row_count ? operands.inverse_rows[r] : 0.0f;
        load_part(next.a, operands.rows, r, operands.row_count, part_k, operands.dim, operands.aligned,
                  scale);
        load_part(next.b, operands.columns, first_column + mine, operands.column_count, part_k, operands.dim,
                  operands.aligned, 1.0f);
    }

    /* A buffer holds A as [k][row], then B as [k][column]. Lanes write neighbours: no bank conflict. */
    static __device__ __forceinline__ void store(float *buffer, const prefetch &next) {
        const int mine = static_cast<int>(threadIdx.x) % kTile;
        const int part_k = static_cast<int>(threadIdx.x) / kTile * kPart;
#pragma unroll
        for (int e = 0; e < kPart; ++e) {
            buffer[(part_k + e) * kStride + mine] = next.a[e];
            buffer[(kDepth + part_k + e) * kStride + mine] = next.b[e];
        }
    }

    static __device__ __forceinline__ void multiply_buffer(float (&product)[kFragment][kFragment],
                                                           const float *buffer) {
#pragma unroll
        for (int k = 0; k < kDepth; ++k) {
            const float *a_k = buffer + k * kStride, *b_k = buffer + (kDepth + k) * kStride;
            rpo_vector<float> a[2], b[2];
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                a[half] = rpo_load_vector(a_k + row(4 * half));
                b[half] = rpo_load_vector(b_k + column(4 * half));
            }
#pragma unroll
            for (int i = 0; i < kFragment; ++i)
#pragma unroll
                for (int j = 0; j < kFragment; ++j)
                    product[i][j] += a[i / 4].element[i % 4] * b[j / 4].element[j % 4];
        }
    }

    static __device__ __forceinline__ void multiply(float (&product)[kFragment][kFragment],
                                                    const tile_operands<float> &operands, int64_t first_row,
                                                    int64_t first_column, unsigned char *shared) {
        float *buffers = reinterpret_cast<float *>(shared);
        prefetch next;
#pragma unroll
        for (int i = 0; i < kFragment; ++i)
#pragma unroll
            for (int j = 0; j < kFragment; ++j)
                product[i][j] = 0.0f;
        load(next, operands, first_row, first_column, 0);
        const int64_t steps = (operands.dim + kDepth - 1) / kDepth;
        for (int64_t step = 0; step < steps; ++step) {
            float *buffer = buffers + step % 2 * kBufferElements;
            store(buffer, next); /* its readers of two steps ago are past the barrier of the step between */
            __syncthreads();
            if (step + 1 < steps)
                load(next, operands, first_row, first_column, (step + 1) * kDepth);
            multiply_buffer(product, buffer);
        }
        __syncthreads();
    }
};

/* Cosine of product[i][j] from the inverse norms of its row and column. */
template <typename T>
__device__ __forceinline__ float tile_cosine(float product, float inverse_row, float inverse_column) {
    return product * similarity_tile<T>::row_factor(inverse_row) * inverse_column;
}

#endif
