/*
 * gemm.h - matrix products through cuBLASLt, in the row-major form the ops think in.
 */
#ifndef RPO_CUDA_GEMM_H
#define RPO_CUDA_GEMM_H

#include "kernels/cuda/cuda.h"

/* C = alpha op(A) op(B) + beta C. All matrices row-major; C is m x n, op(A) m x k, op(B) k x n; leading
 * dimensions in elements. Products accumulate in float32 (float32 operands are not rounded to TF32). */
typedef struct rpo_gemm {
    int64_t m, n, k;
    const void *a;
    int64_t lda;
    bool transpose_a; /* A is stored k x m */
    const void *b;
    int64_t ldb;
    bool transpose_b; /* B is stored n x k */
    rpo_dtype operand_dtype;
    void *c;
    int64_t ldc;
    rpo_dtype result_dtype; /* float32, or operand_dtype */
    float alpha, beta;
} rpo_gemm;

/* Workspace that lets cuBLASLt pick from all its algorithms on every architecture served. */
enum { RPO_GEMM_WORKSPACE = 32 << 20 };

#ifdef __cplusplus
extern "C" {
#endif

/* Enqueues on the context's stream. `workspace` is 256-byte aligned device memory. m, n or k = 0: beta C
 * alone is not computed either; nothing is enqueued. */
rpo_status rpo_cuda_gemm(rpo_context *context, const rpo_gemm *gemm, void *workspace, size_t workspace_size);

#ifdef __cplusplus
}
#endif
#endif
