/*
 * blas.c - CBLAS behind one function.
 *
 * OpenBLAS built for OpenMP takes its number of threads from OpenMP's own setting of the calling thread, one
 * built for pthreads from openblas_set_num_threads. Both are set for the length of a call only. The OpenBLAS
 * extras are weak symbols: with another CBLAS they are absent and its own default holds.
 */
#include "kernels/cpu/blas.h"

#include <limits.h>
#include <stdio.h>

#include <cblas.h>
#include <omp.h>

/* Declared here and not taken from cblas.h: only OpenBLAS's own header has them. */
#if defined(__GNUC__)
#    pragma weak openblas_set_num_threads
#    pragma weak openblas_get_num_threads
#    pragma weak openblas_get_parallel
#    pragma weak openblas_get_config
#endif
extern void openblas_set_num_threads(int num_threads);
extern int openblas_get_num_threads(void);
extern int openblas_get_parallel(void);
extern char *openblas_get_config(void);

enum { BLAS_PTHREADS = 1, BLAS_OPENMP = 2 }; /* what openblas_get_parallel answers */

static int blas_parallel(void) {
    return openblas_get_parallel != NULL ? openblas_get_parallel() : BLAS_OPENMP;
}

/* Sets the library's threads for the calling thread; returns what to hand to the same function afterwards. */
static int set_blas_threads(int num_threads) {
    int before = omp_get_max_threads();
    if (blas_parallel() == BLAS_PTHREADS) {
        before = openblas_get_num_threads();
        if (before != num_threads)
            openblas_set_num_threads(num_threads);
    } else if (before != num_threads) {
        omp_set_num_threads(num_threads);
    }
    return before;
}

static rpo_status check_operand(const char *name, int64_t rows, int64_t columns, int64_t stride) {
    if (rows < 0 || rows > INT_MAX || columns < 0 || columns > INT_MAX || stride > INT_MAX)
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT,
                             "gemm %s: is %lld x %lld with rows of %lld; the BLAS library counts to %d", name,
                             (long long)rows, (long long)columns, (long long)stride, INT_MAX);
    if (stride < columns || stride < 1)
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT, "gemm %s: stride is %lld; must be at least %lld",
                             name, (long long)stride, (long long)(columns > 1 ? columns : 1));
    return RPO_OK;
}

rpo_status rpo_cpu_gemm(rpo_context *context, float *c, int64_t c_stride, rpo_cpu_matrix a, rpo_cpu_matrix b,
                        int64_t m, int64_t n, int64_t k, float alpha, float beta) {
    RPO_TRY(check_operand("c", m, n, c_stride));
    RPO_TRY(check_operand("a", a.transposed ? k : m, a.transposed ? m : k, a.stride));
    RPO_TRY(check_operand("b", b.transposed ? n : k, b.transposed ? k : n, b.stride));
    if (m == 0 || n == 0)
        return RPO_OK;

    const bool nested = omp_in_parallel() != 0;
    const int before = nested ? 0 : set_blas_threads(rpo_cpu_threads(context));
    cblas_sgemm(CblasRowMajor, a.transposed ? CblasTrans : CblasNoTrans,
                b.transposed ? CblasTrans : CblasNoTrans, (int)m, (int)n, (int)k, alpha, a.data,
                (int)a.stride, b.data, (int)b.stride, beta, c, (int)c_stride);
    if (!nested)
        set_blas_threads(before);
    return RPO_OK;
}

void rpo_cpu_blas_describe(char *text, size_t size) {
    snprintf(text, size, "%s", openblas_get_config != NULL ? openblas_get_config() : "CBLAS (not OpenBLAS)");
}
