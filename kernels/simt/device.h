/*
 * device.h - the CUDA language and its device functions, as far as the kernels use them, on the CPU.
 *
 * Only full-mask collectives are offered: a kernel that wants a part of a warp is refused when it runs.
 */
#ifndef RPO_SIMT_DEVICE_H
#define RPO_SIMT_DEVICE_H

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/simt/grid.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __restrict__ __restrict
#define __launch_bounds__(...)
#define __constant__     static
#define __align__(bytes) alignas(bytes)

#define threadIdx (simt::view->thread)
#define blockIdx  (simt::view->block)
#define blockDim  (simt::view->block_dim)
#define gridDim   (simt::view->grid_dim)
#define warpSize  32

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(16) int4 {
    int x, y, z, w;
};
inline float2 make_float2(float x, float y) {
    return {x, y};
}
inline float4 make_float4(float x, float y, float z, float w) {
    return {x, y, z, w};
}
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) {
    return {x, y, z, w};
}

namespace simt {

constexpr unsigned kFullMask = 0xffffffffu;

inline void need_full_mask(unsigned mask, const char *file, int line) {
    if (mask != kFullMask)
        fault("collective with the partial mask %08x at %s:%d; only full masks are allowed", mask, file,
              line);
}

template <typename T> T take(const unsigned char *deposits, size_t stride, int from) {
    T value;
    memcpy(&value, deposits + static_cast<size_t>(from) * stride, sizeof value);
    return value;
}

template <typename T> T shuffle(unsigned mask, T value, int from, const char *file, int line) {
    need_full_mask(mask, file, line);
    size_t stride;
    const unsigned char *deposits = warp_exchange(&value, sizeof value, &stride, file, line);
    return take<T>(deposits, stride, from & 31);
}

template <typename T> T shuffle_down(unsigned mask, T value, unsigned delta, const char *file, int line) {
    const int from = lane() + static_cast<int>(delta);
    return shuffle(mask, value, from < kWarpSize ? from : lane(), file, line);
}

template <typename T> T shuffle_up(unsigned mask, T value, unsigned delta, const char *file, int line) {
    const int from = lane() - static_cast<int>(delta);
    return shuffle(mask, value, from >= 0 ? from : lane(), file, line);
}

inline unsigned ballot(unsigned mask, bool predicate, const char *file, int line) {
    need_full_mask(mask, file, line);
    const unsigned char mine = predicate;
    size_t stride;
    const unsigned char *deposits = warp_exchange(&mine, 1, &stride, file, line);
    unsigned bits = 0;
    for (int i = 0; i < kWarpSize; ++i)
        bits |= static_cast<unsigned>(deposits[static_cast<size_t>(i) * stride]) << i;
    return bits;
}

/* Atomics through the compiler's own, so that ThreadSanitizer knows them. */
template <typename T, typename Update> T atomic_update(T *address, Update update) {
    T seen, wanted;
    __atomic_load(address, &seen, __ATOMIC_RELAXED);
    do
        wanted = update(seen);
    while (!__atomic_compare_exchange(address, &seen, &wanted, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return seen;
}

} // namespace simt

#define __syncthreads()                   simt::block_barrier(__FILE__, __LINE__)
#define __syncwarp(...)                   ((void)simt::ballot(simt::kFullMask, true, __FILE__, __LINE__))
#define __shfl_sync(mask, value, from)    simt::shuffle(mask, value, from, __FILE__, __LINE__)
#define __shfl_xor_sync(mask, value, by)  simt::shuffle(mask, value, simt::lane() ^ (by), __FILE__, __LINE__)
#define __shfl_down_sync(mask, value, by) simt::shuffle_down(mask, value, by, __FILE__, __LINE__)
#define __shfl_up_sync(mask, value, by)   simt::shuffle_up(mask, value, by, __FILE__, __LINE__)
#define __ballot_sync(mask, predicate)    simt::ballot(mask, predicate, __FILE__, __LINE__)
#define __any_sync(mask, predicate)       (simt::ballot(mask, predicate, __FILE__, __LINE__) != 0)
#define __all_sync(mask, predicate)       (simt::ballot(mask, predicate, __FILE__, __LINE__) == simt::kFullMask)

template <typename T> T atomicAdd(T *address, T value) {
    return simt::atomic_update(address, [=](T old) { return static_cast<T>(old + value); });
}
template <typename T> T atomicMax(T *address, T value) {
    return simt::atomic_update(address, [=](T old) { return std::max(old, value); });
}
template <typename T> T atomicMin(T *address, T value) {
    return simt::atomic_update(address, [=](T old) { return std::min(old, value); });
}
template <typename T> T atomicExch(T *address, T value) {
    return simt::atomic_update(address, [=](T) { return value; });
}
inline unsigned atomicInc(unsigned *address, unsigned limit) {
    return simt::atomic_update(address, [=](unsigned old) { return old >= limit ? 0u : old + 1u; });
}

inline void __threadfence() {
    simt::fence();
}
inline void __threadfence_block() {
    simt::fence();
}

template <typename T> T __ldg(const T *address) {
    return *address;
}
/* As the hardware: the argument's product with log2(e) is rounded, which costs up to 2^-24 |x| of the result. */
inline float __expf(float x) {
    return std::exp2(x * 1.44269504f);
}
inline float __logf(float x) {
    return std::log(x);
}
inline float __fdividef(float x, float y) {
    return x / y;
}
inline float rsqrtf(float x) {
    return 1.0f / std::sqrt(x);
}
inline float __frcp_rn(float x) {
    return 1.0f / x;
}
inline float __fmaf_rn(float x, float y, float z) {
    return std::fma(x, y, z);
}
inline float __int_as_float(int bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}
inline int __float_as_int(float value) {
    int bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}
inline unsigned __float_as_uint(float value) {
    unsigned bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}
inline float __uint_as_float(unsigned bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}
inline int __popc(unsigned bits) {
    return __builtin_popcount(bits);
}
inline int __ffs(int bits) {
    return __builtin_ffs(bits);
}
inline int __clz(int bits) {
    return bits == 0 ? 32 : __builtin_clz(static_cast<unsigned>(bits));
}
template <typename T> T min(T a, T b) {
    return b < a ? b : a;
}
template <typename T> T max(T a, T b) {
    return a < b ? b : a;
}

#endif
