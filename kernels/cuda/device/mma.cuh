/*
 * mma.cuh - one warp's tensor core products: ldmatrix, mma.sync m16n8k16 of bfloat16 or float16 tiles, and
 * m16n8k8 of float32 tiles that are cut into TF32 parts.
 *
 * Fragments, with group = lane / 4 and pair = lane % 4. 16 bits, two neighbours along k in a register:
 *     A 16 x 16   [0] row group,     k 2 pair, +1     [1] row group + 8, the same
 *                 [2] row group,     k 2 pair + 8, +9 [3] row group + 8, the same
 *     B 16 x 8    [0] k 2 pair, +1   [1] k 2 pair + 8, +9           of column group
 *     C 16 x 8    [0] [1] row group, columns 2 pair, +1             [2] [3] row group + 8, the same
 * TF32, one element in a register; C is the same:
 *     A 16 x 8    [0] row group,     k pair           [1] row group + 8, the same
 *                 [2] row group,     k pair + 4       [3] row group + 8, the same
 *     B 8 x 8     [0] k pair         [1] k pair + 4                 of column group
 * So ldmatrix, which deals out rows of 16 bytes 4 bytes a lane, fills the fragments of either kind.
 */
#ifndef RPO_CUDA_DEVICE_MMA_CUH
#define RPO_CUDA_DEVICE_MMA_CUH

#include <cstdint>
#include <cstring>

#include "kernels/cuda/device/convert.cuh"

/* Elements of a float32 fragment as hi + lo, both TF32: 8 bits of exponent, 10 explicit bits of mantissa in
 * the upper 19 bits of the register. */
template <int kCount> struct rpo_tf32_pair { uint32_t hi[kCount], lo[kCount]; };

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

/* One element of C after one m16n8k8: products are exact, their sum with c is cut off at 24 bits. PTX leaves
 * rounding open ("at least single precision"); this is the coarsest that tensor cores are known for. */
inline float add_products(float c, const uint32_t (&row)[8], const uint32_t (&column)[8]) {
    double sum = static_cast<double>(c);
    for (int k = 0; k < 8; ++k) {
        if (((row[k] | column[k]) & 0x1fffu) != 0)
            simt::fault("an operand of a TF32 product has more than 10 bits of mantissa");
        sum += static_cast<double>(__uint_as_float(row[k])) * static_cast<double>(__uint_as_float(column[k]));
    }
    const float rounded = static_cast<float>(sum);
    return std::isfinite(rounded) && std::fabs(static_cast<double>(rounded)) > std::fabs(sum)
               ? std::nextafter(rounded, 0.0f)
               : rounded;
}

struct Tf32Operands {
    rpo_tf32_pair<4> a;
    rpo_tf32_pair<2> b;
};

inline void mma_16x8x8_split(float (&c)[4], const rpo_tf32_pair<4> &a, const rpo_tf32_pair<2> &b) {
    const Tf32Operands mine = {a, b};
    size_t stride;
    const unsigned char *deposits = simt::warp_exchange(&mine, sizeof mine, &stride, __FILE__, __LINE__);
    const int group = simt::lane() / 4, pair = simt::lane() % 4;
    uint32_t row_hi[2][8], row_lo[2][8], column_hi[2][8], column_lo[2][8];
    for (int p = 0; p < 4; ++p) {
        const rpo_tf32_pair<4> left = simt::take<Tf32Operands>(deposits, stride, 4 * group + p).a;
        for (int part = 0; part < 4; ++part) {
            row_hi[part % 2][4 * (part / 2) + p] = left.hi[part];
            row_lo[part % 2][4 * (part / 2) + p] = left.lo[part];
        }
        for (int column = 0; column < 2; ++column) {
            const int from = 4 * (2 * pair + column) + p;
            const rpo_tf32_pair<2> right = simt::take<Tf32Operands>(deposits, stride, from).b;
            for (int part = 0; part < 2; ++part) {
                column_hi[column][4 * part + p] = right.hi[part];
                column_lo[column][4 * part + p] = right.lo[part];
            }
        }
    }
    for (int i = 0; i < 4; ++i) {
        float sum = add_products(0.0f, row_lo[i / 2], column_hi[i % 2]);
        sum = add_products(sum, row_hi[i / 2], column_lo[i % 2]);
        c[i] += add_products(sum, row_hi[i / 2], column_hi[i % 2]);
    }
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

/*
 * x = hi + lo to 2^-22 of x. hi is the nearest TF32 number, ties away from zero, as cvt.rna.tf32.f32 gives it:
 * sm_80 and sm_90 carry that out as this addition and mask, behind a guard for NaN that would double its cost.
 * Without it the hi of a NaN may be any number, but lo = NaN - hi is NaN, and so is every product with it. The
 * same for an infinite x: lo = inf - inf. lo is cut off rather than rounded: one instruction, and as its sign
 * does not depend on that of x, errors of many elements cancel.
 */
template <int kCount>
__device__ __forceinline__ void rpo_split_tf32(rpo_tf32_pair<kCount> &pair, int index, float x) {
    const uint32_t hi = (__float_as_uint(x) + 0x1000u) & 0xffffe000u;
    pair.hi[index] = hi;
    pair.lo[index] = __float_as_uint(x - __uint_as_float(hi)) & 0xffffe000u;
}

#if !defined(RPO_SIMT)
__device__ __forceinline__ void rpo_mma_16x8x8_tf32(float (&c)[4], const uint32_t (&a)[4],
                                                    const uint32_t (&b)[2]) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#endif

/*
 * c += A B for a 16 x 8 and an 8 x 8 tile of float32, to 2^-21 of each product: lo hi + hi lo + hi hi. The
 * product of the low parts, 2^-24 of the whole, is left out. Tensor cores cut sums off rather than round them,
 * which pulls a long chain towards zero, by 3e-6 of a cosine near 1 over 384 elements; so each tile is summed by
 * itself and added to c in float32, which leaves 4e-8.
 */
__device__ __forceinline__ void rpo_mma_16x8x8_split(float (&c)[4], const rpo_tf32_pair<4> &a,
                                                     const rpo_tf32_pair<2> &b) {
#if defined(RPO_SIMT)
    rpo_simt::mma_16x8x8_split(c, a, b);
#else
    float sum[4] = {};
    rpo_mma_16x8x8_tf32(sum, a.lo, b.hi);
    rpo_mma_16x8x8_tf32(sum, a.hi, b.lo);
    rpo_mma_16x8x8_tf32(sum, a.hi, b.hi);
    for (int i = 0; i < 4; ++i)
        c[i] += sum[i];
#endif
}

#endif
