/* cublaslt.cpp - matrix products for simt: column-major as cuBLASLt's, plain loops, every element read
 * through its layout so that AddressSanitizer sees a wrong leading dimension. */
#include "kernels/simt/include/cublasLt.h"

#include <vector>

#include "kernels/simt/devices.h"
#include "kernels/simt/include/cuda_bf16.h"
#include "kernels/simt/include/cuda_fp16.h"

namespace {

float read(const void *data, cudaDataType_t type, int64_t index) {
    switch (type) {
    case CUDA_R_16BF:
        return __bfloat162float(static_cast<const __nv_bfloat16 *>(data)[index]);
    case CUDA_R_16F:
        return __half2float(static_cast<const __half *>(data)[index]);
    case CUDA_R_32F:
        break;
    }
    return static_cast<const float *>(data)[index];
}

void write(void *data, cudaDataType_t type, int64_t index, float value) {
    switch (type) {
    case CUDA_R_16BF:
        static_cast<__nv_bfloat16 *>(data)[index] = __float2bfloat16(value);
        return;
    case CUDA_R_16F:
        static_cast<__half *>(data)[index] = __float2half(value);
        return;
    case CUDA_R_32F:
        static_cast<float *>(data)[index] = value;
        return;
    }
}

/* op(matrix) as floats, `rows` x `inner`, row after row: the inner products then run over neighbours. */
std::vector<float> unpack(const void *data, const cublasLtMatrixLayoutOpaque_t &layout,
                          bool rows_are_stored_rows) {
    const int64_t stored_rows = static_cast<int64_t>(layout.rows),
                  stored_columns = static_cast<int64_t>(layout.columns);
    std::vector<float> values(static_cast<size_t>(stored_rows * stored_columns));
    for (int64_t column = 0; column < stored_columns; ++column)
        for (int64_t row = 0; row < stored_rows; ++row) {
            const int64_t to =
                rows_are_stored_rows ? row * stored_columns + column : column * stored_rows + row;
            values[static_cast<size_t>(to)] = read(data, layout.type, row + column * layout.leading);
        }
    return values;
}

/* One product as enqueued: d = alpha op(a) op(b) + beta c. */
struct Product {
    const void *a, *b, *c;
    void *d, *workspace;
    cublasLtMatrixLayoutOpaque_t a_layout, b_layout, c_layout, d_layout;
    bool a_transposed, b_transposed;
    uint64_t m, n, k;
    float alpha, beta;
    size_t workspace_size;
};

cudaError_t multiply(const Product &product) {
    if (product.workspace_size > 0) /* the real library scribbles over it */
        memset(product.workspace, 0xff, std::min<size_t>(product.workspace_size, 4096));
    const std::vector<float> left = unpack(product.a, product.a_layout, !product.a_transposed),
                             right = unpack(product.b, product.b_layout, product.b_transposed);
    const uint64_t k = product.k;
    for (uint64_t column = 0; column < product.n; ++column)
        for (uint64_t row = 0; row < product.m; ++row) {
            double sum = 0;
            for (uint64_t i = 0; i < k; ++i)
                sum += static_cast<double>(left[row * k + i]) * static_cast<double>(right[column * k + i]);
            const int64_t to_row = static_cast<int64_t>(row), to_column = static_cast<int64_t>(column);
            float value = product.alpha * static_cast<float>(sum);
            if (product.beta != 0.0f)
                value += product.beta * read(product.c, product.c_layout.type,
                                             to_row + to_column * product.c_layout.leading);
            write(product.d, product.d_layout.type, to_row + to_column * product.d_layout.leading, value);
        }
    return cudaSuccess;
}

} // namespace

const char *cublasLtGetStatusString(cublasStatus_t status) {
    return status == CUBLAS_STATUS_SUCCESS            ? "CUBLAS_STATUS_SUCCESS"
           : status == CUBLAS_STATUS_NOT_SUPPORTED    ? "CUBLAS_STATUS_NOT_SUPPORTED"
           : status == CUBLAS_STATUS_EXECUTION_FAILED ? "CUBLAS_STATUS_EXECUTION_FAILED"
                                                      : "CUBLAS_STATUS_INVALID_VALUE";
}

/* A handle is its device's: products go wrong on another. */
struct cublasLtContext {
    int device;
};

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle) {
    *handle = new cublasLtContext{simt::use_current_device()};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}

size_t cublasLtGetVersion() {
    return 0;
}

cublasStatus_t cublasLtMatmulDescInit(cublasLtMatmulDescOpaque_t *description, cublasComputeType_t,
                                      cudaDataType_t) {
    *description = {CUBLAS_OP_N, CUBLAS_OP_N};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDescOpaque_t *description,
                                              cublasLtMatmulDescAttributes_t attribute, const void *value,
                                              size_t size) {
    if (size != sizeof(cublasOperation_t))
        return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(attribute == CUBLASLT_MATMUL_DESC_TRANSA ? &description->transpose_a : &description->transpose_b,
           value, size);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutInit(cublasLtMatrixLayoutOpaque_t *layout, cudaDataType_t type,
                                        uint64_t rows, uint64_t columns, int64_t leading) {
    *layout = {type, rows, columns, leading};
    return leading >= static_cast<int64_t>(rows) ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmulPreferenceInit(cublasLtMatmulPreferenceOpaque_t *preference) {
    *preference = {0, {256, 256, 256, 256}};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreferenceOpaque_t *preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void *value, size_t size) {
    if (attribute != CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES) {
        uint32_t *alignment = &preference->alignment[attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES];
        if (size != sizeof *alignment)
            return CUBLAS_STATUS_INVALID_VALUE;
        memcpy(alignment, value, size);
        return CUBLAS_STATUS_SUCCESS;
    }
    if (size != sizeof preference->workspace)
        return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(&preference->workspace, value, size);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDescOpaque_t *,
                                              cublasLtMatrixLayoutOpaque_t *, cublasLtMatrixLayoutOpaque_t *,
                                              cublasLtMatrixLayoutOpaque_t *, cublasLtMatrixLayoutOpaque_t *,
                                              cublasLtMatmulPreferenceOpaque_t *preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t *results, int *found) {
    *found = wanted > 0 ? 1 : 0;
    if (wanted > 0) {
        results[0] = {};
        results[0].algo.workspace = results[0].workspaceSize = preference->workspace;
        memcpy(results[0].algo.alignment, preference->alignment, sizeof preference->alignment);
    }
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDescOpaque_t *description,
                              const void *alpha, const void *a, cublasLtMatrixLayoutOpaque_t *a_layout,
                              const void *b, cublasLtMatrixLayoutOpaque_t *b_layout, const void *beta,
                              const void *c, cublasLtMatrixLayoutOpaque_t *c_layout, void *d,
                              cublasLtMatrixLayoutOpaque_t *d_layout, const cublasLtMatmulAlgo_t *algo,
                              void *workspace, size_t workspace_size, cudaStream_t stream) {
    const bool a_transposed = description->transpose_a == CUBLAS_OP_T,
               b_transposed = description->transpose_b == CUBLAS_OP_T;
    const uint64_t m = a_transposed ? a_layout->columns : a_layout->rows,
                   k = a_transposed ? a_layout->rows : a_layout->columns;
    const uint64_t n = b_transposed ? b_layout->rows : b_layout->columns,
                   b_k = b_transposed ? b_layout->columns : b_layout->rows;
    if (handle->device != simt::use_current_device())
        return CUBLAS_STATUS_EXECUTION_FAILED;
    if (k != b_k || d_layout->rows != m || d_layout->columns != n || c_layout->rows != m ||
        c_layout->columns != n)
        return CUBLAS_STATUS_INVALID_VALUE;
    if (algo->workspace > workspace_size ||
        (workspace_size > 0 && reinterpret_cast<uintptr_t>(workspace) % 16 != 0))
        return CUBLAS_STATUS_INVALID_VALUE;
    const void *matrices[] = {a, b, c, d};
    for (int i = 0; i < 4; ++i)
        if (reinterpret_cast<uintptr_t>(matrices[i]) % algo->alignment[i] != 0)
            return CUBLAS_STATUS_INVALID_VALUE;
    const Product product = {a,
                             b,
                             c,
                             d,
                             workspace,
                             *a_layout,
                             *b_layout,
                             *c_layout,
                             *d_layout,
                             a_transposed,
                             b_transposed,
                             m,
                             n,
                             k,
                             *static_cast<const float *>(alpha),
                             *static_cast<const float *>(beta),
                             workspace_size};
    return simt::enqueue(stream, [product] { return multiply(product); }) == cudaSuccess
               ? CUBLAS_STATUS_SUCCESS
               : CUBLAS_STATUS_EXECUTION_FAILED;
}
