/*
 * similarity_tile.cuh - inner products of 128 row embeddings with 128 column embeddings, left in registers:
 * the core of the similarity matrix and of both passes of the tiled contrast loss.
 *
 * A block of 256 threads; warps stand 2 (down) x 4 (across), each over 64 x 32 products; a thread holds 8 x 8
 * of them. Which ones row() and column() say. The lanes that share rows are those with the same lane / 4, those
 * that share columns have the same lane % 4.
 *
 * 64 bytes of every embedding at a time come in by cp.async, kStages of them in flight. Shared rows are 80 bytes
 * apart, so that the 8 rows of an ldmatrix fall into 8 different groups of banks. Embeddings that are not
 * 16-byte aligned row by row are loaded element by element into the same tiles.
 *
 *   bfloat16, float16   mma.sync m16n8k16. Products of two 16-bit numbers are exact in float32. bfloat16 vectors
 *                       whose norms multiply to more than 3e38 give non-finite values.
 *   float32             version 2: each element, scaled to norm 1 so that long vectors do not overflow, is cut
 *                       into two TF32 parts on the way from shared memory, and three mma.sync m16n8k8 put a
 *                       product together again (mma.cuh): as good as float32 FMA in emulation. TF32 alone
 *                       rounds to 11 bits, errors of 1e-3, beyond the contract. For 8 elements along k a warp
 *                       issues 48 mma, 64 additions, 96 instructions of cutting and 18 loads.
 *                       version 1: float32 FMA on tiles transposed on the way into shared memory; bound by 60
 *                       TFLOP/s, where three products of TF32 leave 165 at the peak and some 100 if
 *                       mma.sync reaches 62 % of it, an assumption.
 *
 * Speed: by counting, not yet measured on a GPU.
 */
#ifndef RPO_CUDA_SIMILARITY_TILE_CUH
#define RPO_CUDA_SIMILARITY_TILE_CUH

#include "kernels/cuda/device/async_copy.cuh"
#include "kernels/cuda/device/convert.cuh"
#include "kernels/cuda/device/mma.cuh"
#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/device/shared.cuh"
#include "kernels/cuda/device/thread.cuh"

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

/* A thread's place. Work on a finished tile begins with rpo_thread_index() anew: the compiler computes places
 * before the loop over tiles otherwise, and has no registers for them while products are formed. */
__device__ __forceinline__ int tile_group(int thread) { /* lanes with the same one share rows */
    return thread % kWarpThreads / 4;
}
__device__ __forceinline__ int tile_pair(int thread) { /* lanes with the same one share columns */
    return thread % 4;
}
__device__ __forceinline__ int tile_warp_down(int thread) {
    return thread / kWarpThreads / kWarpsAcross;
}
__device__ __forceinline__ int tile_warp_across(int thread) {
    return thread / kWarpThreads % kWarpsAcross;
}

/* ---- what the warps do with a stage in shared memory ---- */

/* Elements from one shared row to the next: 64 bytes and 16 more, see the top of the file. */
template <typename T> constexpr int kTileStride = 80 / static_cast<int>(sizeof(T));

/* Where a lane's ldmatrix addresses begin: 16 rows of A, and 16 of B for two fragments. */
template <typename T> __device__ __forceinline__ const T *tile_a_address(const T *stage) {
    const int thread = rpo_thread_index(), lane = thread % kWarpThreads;
    return stage + (tile_warp_down(thread) * 64 + lane % 16) * kTileStride<T> +
           lane / 16 * rpo_vector<T>::kCount;
}
template <typename T> __device__ __forceinline__ const T *tile_b_address(const T *stage) {
    const int thread = rpo_thread_index(), lane = thread % kWarpThreads;
    return stage + (kTile + tile_warp_across(thread) * 32 + lane / 16 * 8 + lane % 8) * kTileStride<T> +
           lane / 8 % 2 * rpo_vector<T>::kCount;
}

/* bfloat16, float16: products of what the embeddings hold. */
template <typename T> struct tile_product {
    static constexpr bool kNormalised = false; /* whether norms are taken out before the product */

    static constexpr int kScales = 0;

    __device__ __forceinline__ tile_product(const tile_operands<T> &, int64_t, int64_t, float *) {}

    __device__ __forceinline__ void add(float (&c)[kFragment / 2][kFragment / 2][4], const T *stage) const {
        const T *a_row = tile_a_address(stage), *b_row = tile_b_address(stage);
#pragma unroll
        for (int k = 0; k < kTileStride<T> - 8; k += 16) {
            uint32_t a[kFragment / 2][4], b[kFragment / 2][2];
#pragma unroll
            for (int i = 0; i < kFragment / 2; ++i)
                rpo_ldmatrix_x4(a[i], a_row + i * 16 * kTileStride<T> + k);
#pragma unroll
            for (int j = 0; j < kFragment / 2; j += 2) {
                uint32_t two[4];
                rpo_ldmatrix_x4(two, b_row + j * 8 * kTileStride<T> + k);
                b[j][0] = two[0], b[j][1] = two[1], b[j + 1][0] = two[2], b[j + 1][1] = two[3];
            }
#pragma unroll
            for (int i = 0; i < kFragment / 2; ++i)
#pragma unroll
                for (int j = 0; j < kFragment / 2; ++j)
                    rpo_mma_16x8x16<T>(c[i][j], a[i], b[j]);
        }
    }
};

/* float32: rows and columns are scaled to norm 1 on the way from shared memory, then cut into TF32 parts. The
 * scales stay in shared memory too, each warp's beside each other behind one address: with more registers than
 * that the kernels spill. */
template <> struct tile_product<float> {
    static constexpr bool kNormalised = true;
    static constexpr int kWarpRows = kTile / kWarpsDown, kWarpScales = kWarpRows + kTile / kWarpsAcross;
    static constexpr int kScales = kTileThreads / kWarpThreads * kWarpScales;
    const float *scale; /* of this lane's first row; the others follow 8 apart, then the columns */

    /* Written here, read in `add` behind the caller's barrier. */
    __device__ __forceinline__ tile_product(const tile_operands<float> &operands, int64_t first_row,
                                            int64_t first_column, float *memory) {
        const int thread = rpo_thread_index();
        float *scales = memory + thread / kWarpThreads * kWarpScales;
        for (int t = thread % kWarpThreads; t < kWarpScales; t += kWarpThreads) {
            const bool of_row = t < kWarpRows;
            const int64_t index = of_row ? first_row + tile_warp_down(thread) * kWarpRows + t
                                         : first_column + tile_warp_across(thread) * 32 + t - kWarpRows;
            const bool exists = index < (of_row ? operands.row_count : operands.column_count);
            scales[t] = exists ? (of_row ? operands.inverse_rows : operands.inverse_columns)[index] : 0.0f;
        }
        scale = scales + tile_group(thread);
    }

    __device__ __forceinline__ void add(float (&c)[kFragment / 2][kFragment / 2][4],
                                        const float *stage) const {
        const float *a_row = tile_a_address(stage), *b_row = tile_b_address(stage);
#pragma unroll 1
        for (int k = 0; k < kTileStride<float> - 4; k += 8) {
            rpo_tf32_pair<2> b[kFragment / 2];
#pragma unroll
            for (int j = 0; j < kFragment / 2; j += 2) {
                uint32_t two[4];
                rpo_ldmatrix_x4(two, b_row + j * 8 * kTileStride<float> + k);
#pragma unroll
                for (int part = 0; part < 4; ++part)
                    rpo_split_tf32(b[j + part / 2], part % 2,
                                   __uint_as_float(two[part]) * scale[kWarpRows + (j + part / 2) * 8]);
            }
#pragma unroll
            for (int i = 0; i < kFragment / 2; ++i) {
                uint32_t raw[4];
                rpo_ldmatrix_x4(raw, a_row + i * 16 * kTileStride<float> + k);
                rpo_tf32_pair<4> a;
#pragma unroll
                for (int part = 0; part < 4; ++part)
                    rpo_split_tf32(a, part, __uint_as_float(raw[part]) * scale[i * 16 + part % 2 * 8]);
#pragma unroll
                for (int j = 0; j < kFragment / 2; ++j)
                    rpo_mma_16x8x8_split(c[i][j], a, b[j]);
            }
        }
    }
};

/* ---- a tile ---- */

template <typename T> struct similarity_tile {
    static constexpr int kVector = rpo_vector<T>::kCount, kStride = kTileStride<T>;
    static constexpr int kDepth = kStride - kVector, kStages = 3;
    static constexpr int kStageElements = 2 * kTile * kStride;
    static constexpr size_t kStageBytes = kStageElements * sizeof(T);
    static constexpr size_t kSharedBytes = kStages * kStageBytes + tile_product<T>::kScales * sizeof(float);

    /* Of the tile: row and column of product[i][j]. */
    static __device__ __forceinline__ int row(int i, int thread) {
        return tile_warp_down(thread) * 64 + (i / 2) * 16 + (i % 2) * 8 + tile_group(thread);
    }
    static __device__ __forceinline__ int column(int j, int thread) {
        return tile_warp_across(thread) * 32 + (j / 2) * 8 + 2 * tile_pair(thread) + j % 2;
    }

    /* 16 bytes of one row, from element k on; zeros beyond the row's or the matrix's end. */
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
#pragma unroll 1 /* unrolled, the float32 kernels spill */
        for (int vector = rpo_thread_index(); vector < kTile * kVectorsPerRow; vector += kTileThreads) {
            const int r = vector / kVectorsPerRow, offset = vector % kVectorsPerRow * kVector;
            load_vector(stage + r * kStride + offset, operands.rows, first_row + r, operands.row_count,
                        k + offset, operands.dim, operands.aligned);
            load_vector(stage + (kTile + r) * kStride + offset, operands.columns, first_column + r,
                        operands.column_count, k + offset, operands.dim, operands.aligned);
        }
    }

    /* All threads of the block call. Leaves the shared memory free; at least one barrier lies inside. */
    static __device__ __forceinline__ void multiply(float (&product)[kFragment][kFragment],
                                                    const tile_operands<T> &operands, int64_t first_row,
                                                    int64_t first_column, unsigned char *shared) {
        T *stages = reinterpret_cast<T *>(shared);
        const tile_product<T> stage_product(operands, first_row, first_column,
                                            reinterpret_cast<float *>(shared + kStages * kStageBytes));
        float c[kFragment / 2][kFragment / 2][4] = {};
        const int steps = static_cast<int>((operands.dim + kDepth - 1) / kDepth);
        for (int s = 0; s < kStages - 1; ++s) {
            if (s < steps)
                load_stage(stages + s * kStageElements, operands, first_row, first_column, s * kDepth);
            rpo_async_copy_commit();
        }
        int full = 0, empty = kStages - 1; /* stages: the one that is multiplied, the one that is filled */
        for (int step = 0; step < steps; ++step) {
            rpo_async_copy_wait<kStages - 2>();
            __syncthreads(); /* this stage has arrived, and nobody reads the one that is filled next */
            const int next = step + kStages - 1;
            if (next < steps)
                load_stage(stages + empty * kStageElements, operands, first_row, first_column,
                           int64_t{next} * kDepth);
            rpo_async_copy_commit();
            stage_product.add(c, stages + full * kStageElements);
            empty = full;
            full = full + 1 < kStages ? full + 1 : 0;
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

/* Cosine of product[i][j] from the inverse norms of its row and column. */
template <typename T>
__device__ __forceinline__ float tile_cosine(float product, float inverse_row, float inverse_column) {
    return tile_product<T>::kNormalised ? product : product * inverse_row * inverse_column;
}

#endif
