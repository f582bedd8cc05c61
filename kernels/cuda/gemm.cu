/* gemm.cu - cuBLASLt behind gemm.h: descriptors on the stack, one heuristic query, one call. The library remembers its
 * answers to such queries; others report that a memory of their own saved less than a microsecond; products here take hundreds. */
#include "kernels/cuda/gemm.h"

#include <cublasLt.h>
#include <cuda_runtime.h>

static cudaDataType_t data_type(rpo_dtype dtype) {
    switch (dtype) {
    case RPO_BFLOAT16:
        return CUDA_R_16BF;
    case RPO_FLOAT16:
        return CUDA_R_16F;
    case RPO_FLOAT32:
        break;
    }
    return CUDA_R_32F;
}

static rpo_status check(cublasStatus_t status, const char *what) {
    if (status == CUBLAS_STATUS_SUCCESS)
        return RPO_OK;
    return rpo_error_set(RPO_ERROR_DEVICE, "cuBLASLt: %s: %s", what, cublasLtGetStatusString(status));
}

/* The alignment cuBLASLt may count on; without it an algorithm for 256-byte aligned matrices may be chosen.
 */
static rpo_status set_alignment(cublasLtMatmulPreference_t preference,
                                cublasLtMatmulPreferenceAttributes_t attribute, const void *matrix) {
    const uintptr_t address = reinterpret_cast<uintptr_t>(matrix);
    const uint32_t lowest_bit = static_cast<uint32_t>(address & (~address + 1) & 255);
    const uint32_t alignment = lowest_bit == 0 ? 256 : lowest_bit;
    return check(cublasLtMatmulPreferenceSetAttribute(preference, attribute, &alignment, sizeof alignment),
                 "setting an alignment");
}

/* cuBLASLt thinks column-major: a row-major matrix is its transpose there, so A and B change places. */
extern "C" rpo_status rpo_cuda_gemm(rpo_context *context, const rpo_gemm *gemm, void *workspace,
                                    size_t workspace_size) {
    if (gemm->m == 0 || gemm->n == 0 || gemm->k == 0)
        return RPO_OK;
    const cublasLtHandle_t handle = static_cast<cublasLtHandle_t>(rpo_cuda_state_of(context)->blas);
    const cublasOperation_t first_op = gemm->transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cublasOperation_t second_op = gemm->transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cudaDataType_t operand = data_type(gemm->operand_dtype), result = data_type(gemm->result_dtype);

    cublasLtMatmulDescOpaque_t description;
    cublasLtMatrixLayoutOpaque_t first, second, out;
    cublasLtMatmulPreferenceOpaque_t preference;
    RPO_TRY(
        check(cublasLtMatmulDescInit(&description, CUBLAS_COMPUTE_32F, CUDA_R_32F), "describing a product"));
    RPO_TRY(check(
        cublasLtMatmulDescSetAttribute(&description, CUBLASLT_MATMUL_DESC_TRANSA, &first_op, sizeof first_op),
        "setting a transpose"));
    RPO_TRY(check(cublasLtMatmulDescSetAttribute(&description, CUBLASLT_MATMUL_DESC_TRANSB, &second_op,
                                                 sizeof second_op),
                  "setting a transpose"));
    const uint64_t m = static_cast<uint64_t>(gemm->m), n = static_cast<uint64_t>(gemm->n);
    const uint64_t k = static_cast<uint64_t>(gemm->k);
    RPO_TRY(check(cublasLtMatrixLayoutInit(&first, operand, gemm->transpose_b ? k : n,
                                           gemm->transpose_b ? n : k, gemm->ldb),
                  "describing a matrix"));
    RPO_TRY(check(cublasLtMatrixLayoutInit(&second, operand, gemm->transpose_a ? m : k,
                                           gemm->transpose_a ? k : m, gemm->lda),
                  "describing a matrix"));
    RPO_TRY(check(cublasLtMatrixLayoutInit(&out, result, n, m, gemm->ldc), "describing a matrix"));
    RPO_TRY(check(cublasLtMatmulPreferenceInit(&preference), "preparing the choice of an algorithm"));
    RPO_TRY(check(cublasLtMatmulPreferenceSetAttribute(&preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                       &workspace_size, sizeof workspace_size),
                  "setting the workspace"));
    RPO_TRY(set_alignment(&preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, gemm->b));
    RPO_TRY(set_alignment(&preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, gemm->a));
    RPO_TRY(set_alignment(&preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, gemm->c));
    RPO_TRY(set_alignment(&preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, gemm->c));
    cublasLtMatmulHeuristicResult_t choice;
    int found = 0;
    RPO_TRY(check(cublasLtMatmulAlgoGetHeuristic(handle, &description, &first, &second, &out, &out,
                                                 &preference, 1, &choice, &found),
                  "choosing an algorithm"));
    if (found == 0)
        return rpo_error_set(RPO_ERROR_DEVICE,
                             "cuBLASLt: no algorithm for a %lld x %lld x %lld product of %s",
                             static_cast<long long>(gemm->m), static_cast<long long>(gemm->n),
                             static_cast<long long>(gemm->k), rpo_dtype_name(gemm->operand_dtype));
    ++context->launches;
    return check(cublasLtMatmul(handle, &description, &gemm->alpha, gemm->b, &first, gemm->a, &second,
                                &gemm->beta, gemm->c, &out, gemm->c, &out, &choice.algo, workspace,
                                workspace_size, static_cast<cudaStream_t>(context->stream)),
                 "enqueuing a product");
}
