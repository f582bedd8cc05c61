/*
 * blas.h - matrix products of the CPU backend: row-major sgemm on 64-bit dimensions.
 *
 * Everything that multiplies matrices goes through here, so that the number of threads is the context's and
 * no dimension is ever cut to the library's int.
 */
#ifndef RPO_KERNELS_CPU_BLAS_H
#define RPO_KERNELS_CPU_BLAS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/cpu/cpu.h"

/* A row-major matrix operand: `stride` elements from one stored row to the next; transposed = read as its
 * transpose. */
typedef struct rpo_cpu_matrix {
    const float *data;
    int64_t stride;
    bool transposed;
} rpo_cpu_matrix;

/*
 * c[m][n] = alpha op(a) op(b) + beta c, where op(a) is [m][k] and op(b) is [k][n]; c has rows of `c_stride`.
 * beta = 0 overwrites c whatever it held, NaN included. m, n or k = 0 is allowed (k = 0: c = beta c).
 *
 * Threads: outside a parallel region the context's number; inside one a single thread, so a caller may run
 * one product per thread. Same input and number of threads: same bits. Errors: INVALID_ARGUMENT when a
 * dimension or stride exceeds what the BLAS library can count, or a stride is shorter than its row.
 */
rpo_status rpo_cpu_gemm(rpo_context *context, float *c, int64_t c_stride, rpo_cpu_matrix a, rpo_cpu_matrix b,
                        int64_t m, int64_t n, int64_t k, float alpha, float beta);

/* One line about the BLAS library: its name, version and the processor kernels it chose. */
void rpo_cpu_blas_describe(char *text, size_t size);

#endif
