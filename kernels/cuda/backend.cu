/* backend.cu - the CUDA backend's entry in the op table: opening a device, reporting faults of launches. */
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <cublasLt.h>
#include <cuda_runtime.h>

#include "kernels/cuda/cuda.h"

static bool is_set(const char *name) {
    const char *value = getenv(name);
    return value != NULL && value[0] != '\0' && strcmp(value, "0") != 0;
}

extern "C" rpo_status rpo_cuda_check(int error, const char *what) {
    if (error == cudaSuccess)
        return RPO_OK;
    const cudaError_t code = static_cast<cudaError_t>(error);
    return rpo_error_set(RPO_ERROR_DEVICE, "%s: %s: %s", what, cudaGetErrorName(code),
                         cudaGetErrorString(code));
}

extern "C" void rpo_cuda_before_launch(rpo_context *context, const char *name, unsigned grid_x,
                                       unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,
                                       unsigned block_z, size_t shared_bytes) {
#if defined(RPO_SIMT)
    simt::name_next_launch(name);
#endif
    if (rpo_cuda_state_of(context)->trace_launch)
        fprintf(stderr, "rpo: launch %s grid %u,%u,%u block %u,%u,%u shared %zu\n", name, grid_x, grid_y,
                grid_z, block_x, block_y, block_z, shared_bytes);
}

extern "C" rpo_status rpo_cuda_launch_failed(rpo_context *context, const char *name, int error) {
    (void)context;
    (void)cudaGetLastError(); /* the fault is reported here; later calls start clean where the device allows
                                 it */
    const cudaError_t code = static_cast<cudaError_t>(error);
    return rpo_error_set(RPO_ERROR_DEVICE, "kernel %s: %s: %s", name, cudaGetErrorName(code),
                         cudaGetErrorString(code));
}

extern "C" rpo_status rpo_cuda_after_launch(rpo_context *context, const char *name) {
    cudaError_t error = cudaPeekAtLastError();
    if (error == cudaSuccess && rpo_cuda_state_of(context)->debug_sync)
        error = cudaStreamSynchronize(static_cast<cudaStream_t>(context->stream));
    return error == cudaSuccess ? RPO_OK : rpo_cuda_launch_failed(context, name, static_cast<int>(error));
}

static rpo_status read_attribute(int *value, cudaDeviceAttr attribute, int device) {
    return rpo_cuda_check(cudaDeviceGetAttribute(value, attribute, device), "reading the device's figures");
}

static void destroy_event(void *event) {
    if (event != NULL)
        (void)cudaEventDestroy(static_cast<cudaEvent_t>(event));
}

static void cuda_close(rpo_context *context) {
    rpo_cuda_state *state = static_cast<rpo_cuda_state *>(context->state);
    if (state == NULL)
        return;
    if (state->blas != NULL)
        (void)cublasLtDestroy(static_cast<cublasLtHandle_t>(state->blas));
    for (void *event : state->timer)
        destroy_event(event);
    for (void *event : state->stamps)
        destroy_event(event);
    free(state);
    context->state = NULL;
}

static rpo_status create_handles(rpo_cuda_state *state) {
    for (void *&event : state->timer) {
        cudaEvent_t created = NULL;
        RPO_TRY(rpo_cuda_check(cudaEventCreate(&created), "creating a timer"));
        event = created;
    }
    cublasLtHandle_t blas = NULL;
    const cublasStatus_t status = cublasLtCreate(&blas);
    if (status != CUBLAS_STATUS_SUCCESS)
        return rpo_error_set(RPO_ERROR_DEVICE, "cuBLASLt: %s", cublasLtGetStatusString(status));
    state->blas = blas;
    return RPO_OK;
}

static rpo_status cuda_open(rpo_context *context, const rpo_context_options *options) {
    int count = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess || count == 0)
        return rpo_error_set(RPO_ERROR_DEVICE, "device: no usable CUDA device: %s",
                             error != cudaSuccess ? cudaGetErrorString(error) : "none is installed");
    if (options->device_index < 0 || options->device_index >= count)
        return rpo_error_set(RPO_ERROR_DEVICE, "options.device_index: is %d; this machine has 0 to %d",
                             options->device_index, count - 1);
    RPO_TRY(rpo_cuda_check(cudaSetDevice(options->device_index), "selecting the device"));
    int major = 0, minor = 0, sms = 0, l2 = 0, shared = 0;
    RPO_TRY(read_attribute(&major, cudaDevAttrComputeCapabilityMajor, options->device_index));
    RPO_TRY(read_attribute(&minor, cudaDevAttrComputeCapabilityMinor, options->device_index));
    RPO_TRY(read_attribute(&sms, cudaDevAttrMultiProcessorCount, options->device_index));
    RPO_TRY(read_attribute(&l2, cudaDevAttrL2CacheSize, options->device_index));
    RPO_TRY(read_attribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, options->device_index));
    if (major < 8)
        return rpo_error_set(RPO_ERROR_UNSUPPORTED, "device: compute capability %d.%d; must be 8.0 or newer",
                             major, minor);

    rpo_cuda_state *state = static_cast<rpo_cuda_state *>(calloc(1, sizeof *state));
    if (state == NULL)
        return rpo_error_set(RPO_ERROR_OUT_OF_MEMORY, "context: no memory for %zu bytes", sizeof *state);
    context->state = state;
    state->compute_capability = major * 10 + minor;
    state->num_sms = sms;
    state->l2_bytes = static_cast<size_t>(l2);
    state->shared_bytes_limit = static_cast<size_t>(shared);
    state->debug_sync = is_set("RPO_DEBUG_SYNC");
    state->trace_launch = is_set("RPO_TRACE_LAUNCH");
    const rpo_status status = create_handles(state);
    if (status != RPO_OK)
        cuda_close(context);
    return status;
}

static rpo_status cuda_synchronize(rpo_context *context) {
    return rpo_cuda_check(cudaStreamSynchronize(static_cast<cudaStream_t>(context->stream)),
                          "waiting for the stream");
}

static void cuda_describe(char *text, size_t size) {
    int count = 0;
    cudaDeviceProp properties;
    const cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess || count == 0) {
        (void)cudaGetLastError();
        snprintf(text, size, "no usable device: %s",
                 error != cudaSuccess ? cudaGetErrorString(error) : "none is installed");
        return;
    }
    if (cudaGetDeviceProperties(&properties, 0) != cudaSuccess) {
        (void)cudaGetLastError();
        snprintf(text, size, "%d device(s)", count);
        return;
    }
    int runtime = 0, driver = 0;
    (void)cudaRuntimeGetVersion(&runtime);
    (void)cudaDriverGetVersion(&driver);
    snprintf(text, size, "%d x %s, sm_%d%d, %.0f GiB; CUDA runtime %d.%d, driver %d.%d", count,
             properties.name, properties.major, properties.minor,
             static_cast<double>(properties.totalGlobalMem) / (1 << 30), runtime / 1000, runtime % 1000 / 10,
             driver / 1000, driver % 1000 / 10);
}

static bool cuda_supports(rpo_op op, rpo_dtype dtype) {
    return op != RPO_OP_MODEL && op != RPO_OP_OPTIMIZER && rpo_dtype_size(dtype) > 0;
}

extern "C" const rpo_backend rpo_cuda_backend;
const rpo_backend rpo_cuda_backend = {
#if defined(RPO_SIMT)
    "simt",
#else
    "cuda",
#endif
    RPO_DEVICE_CUDA,
    cuda_open,
    cuda_close,
    cuda_synchronize,
    cuda_describe,
    cuda_supports,
    &rpo_cuda_device_ops,
    {
        rpo_cuda_prompt_similarity_workspace_size,
        rpo_cuda_prompt_similarity,
        rpo_cuda_contrast_weights,
        rpo_cuda_contrast_loss_workspace_size,
        rpo_cuda_contrast_loss,
        rpo_cuda_logprob_gather_workspace_size,
        rpo_cuda_logprob_gather,
        rpo_cuda_logprob_gather_backward,
        rpo_cuda_linear_logprob_workspace_size,
        rpo_cuda_linear_logprob,
        rpo_cuda_linear_logprob_backward,
        rpo_cuda_linear_logprob_cache_size,
    },
    {}, /* model and optimizer ops follow with the whole step on the GPU */
    {},
};
