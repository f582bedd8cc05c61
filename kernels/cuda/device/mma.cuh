/*
 * mma.cuh - one warp's tensor core product of bfloat16 or float16 tiles: ldmatrix and mma.sync m16n8k16.
 *
 * Fragments, with group = lane / 4 and pair = lane % 4; a register holds two neighbours along k:
 *     A 16 x 16   [0] row group,     k 2 pair, +1     [1] row group + 8, the same
 *                 [2] row group,     k 2 pair + 8, +9 [3] row group + 8, the same
 *     B 16 x 8    [0] k 2 pair, +1   [1] k 2 pair + 8, +9           of column group
 *     C 16 x 8    [0] [1] row group, columns 2 pair, +1             [2] [3] row group + 8, the same
 */
#ifndef RPO_CUDA_DEVICE_MMA_CUH
#define RPO_CUDA_DEVICE_MMA_CUH

#include <cstdint>
#include <cstring>

#include "kernels/cuda/device/convert.cuh"

#if defined(RPO_SIMT)

namespace rpo_simt {

/* The two elements of a register. */
template <typename T> inline void unpack(float *pair, uint32_t bits) {
    T elements[2];
    memcpy(elements, &bits, sizeof bits);
    pair[0] = rpo_to_float(elements[0]);
    pair[1] = rpo_to_float(elements[1]);
}

struct MmaOperands {
    uint32_t a[4], b[2];
};

template <typename T> inline void mma_16x8x16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    MmaOperands mine;
    memcpy(mine.a, a, sizeof mine.a);
    memcpy(mine.b, b, sizeof mine.b);
    size_t stride;
    const unsigned char *deposits = simt::warp_exchange(&mine, sizeof mine, &stride, __FILE__, __LINE__);
    const int group = simt::lane() / 4, pair = simt::lane() % 4;
    float rows[2][16], columns[2][16];
    for (int p = 0; p < 4; ++p) {
        const MmaOperands left = simt::take<MmaOperands>(deposits, stride, 4 * group + p);
        for (int part = 0; part < 4; ++part)
            unpack<T>(&rows[part % 2][8 * (part / 2) + 2 * p], left.a[part]);
        for (int column = 0; column < 2; ++column) {
            const MmaOperands right = simt::take<MmaOperands>(deposits, stride, 4 * (2 * pair + column) + p);
            for (int part = 0; part < 2; ++part)
                unpack<T>(&columns[column][8 * part + 2 * p], right.b[part]);
        }
    }
    for (int i = 0; i < 4; ++i)
        for (int k = 0; k < 16; ++k)
            c[i] += rows[i / 2][k] * columns[i % 2][k];
}

inline void ldmatrix_x4(uint32_t (&fragment)[4], const void *row) {
    size_t stride;
    const unsigned char *deposits = simt::warp_exchange(&row, sizeof row, &stride, __FILE__, __LINE__);
    for (int part = 0; part < 4; ++part) {
        const void *source = simt::take<const void *>(deposits, stride, 8 * part + simt::lane() / 4);
        memcpy(&fragment[part], static_cast<const unsigned char *>(source) + 4 * (simt::lane() % 4), 4);
    }
}

} // namespace rpo_simt

#endif

/* Four 8 x 8 matrices of 16-bit elements from shared memory. Lane 8 q + r gives the address of row r of
 * matrix q (16 bytes, aligned); it receives elements 2 pair, +1 of row `group` of each matrix. */
__device__ __forceinline__ void rpo_ldmatrix_x4(uint32_t (&fragment)[4], const void *row) {
#if defined(RPO_SIMT)
    rpo_simt::ldmatrix_x4(fragment, row);
#else
    const unsigned shared = static_cast<unsigned>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(fragment[0]), "=r"(fragment[1]), "=r"(fragment[2]), "=r"(fragment[3])
                 : "r"(shared)
                 : "memory");
#endif
}

/* c += A B, accumulated in float32. T is __nv_bfloat16 or __half. */
template <typename T>
__device__ __forceinline__ void rpo_mma_16x8x16(float (&c)[4], const uint32_t (&a)[4],
                                                const uint32_t (&b)[2]);

#if defined(RPO_SIMT)
#    define RPO_MMA_BODY(T, name) rpo_simt::mma_16x8x16<T>(c, a, b)
#else
#    define RPO_MMA_BODY(T, name)                                                                            \
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." name "." name ".f32 "                          \
                     "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"                       \
                     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])                                        \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]))
#endif

template <>
__device__ __forceinline__ void rpo_mma_16x8x16<__nv_bfloat16>(float (&c)[4], const uint32_t (&a)[4],
                                                               const uint32_t (&b)[2]) {
    RPO_MMA_BODY(__nv_bfloat16, "bf16");
}

template <>
__device__ __forceinline__ void rpo_mma_16x8x16<__half>(float (&c)[4], const uint32_t (&a)[4],
                                                        const uint32_t (&b)[2]) {
    RPO_MMA_BODY(__half, "f16");
}

#undef RPO_MMA_BODY

#endif
