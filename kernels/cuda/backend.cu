/* backend.cu - the CUDA backend's entry in the op table: opening a device, reporting faults of launches. */
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <cublasLt.h>
#include <cuda_runtime.h>

#include "kernels/cuda/entry.h"

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
    ++context->launches;
#if defined(RPO_SIMT)
    simt::name_next_launch(name);
#endif
    if (rpo_cuda_state_of(context)->trace_launch)
        fprintf(stderr, "rpo: launch %s grid %u,%u,%u block %u,%u,%u shared %zu\n", name, grid_x, grid_y,
                grid_z, block_x, block_y, block_z, shared_bytes);
}

static rpo_status launch_failed(const char *name, cudaError_t error) {
    return rpo_error_set(RPO_ERROR_DEVICE, "kernel %s: %s: %s", name, cudaGetErrorName(error),
                         cudaGetErrorString(error));
}

/* The place of a kernel, or a free one; NULL where the table is full of others. */
static rpo_cuda_shared_limit *shared_limit_of(rpo_cuda_state *state, const void *kernel) {
    const size_t start = reinterpret_cast<uintptr_t>(kernel) / 16 % RPO_CUDA_KNOWN_KERNELS;
    for (size_t i = 0; i < RPO_CUDA_KNOWN_KERNELS; ++i) {
        rpo_cuda_shared_limit *limit = &state->shared_limits[(start + i) % RPO_CUDA_KNOWN_KERNELS];
        if (limit->kernel == kernel || limit->kernel == NULL)
            return limit;
    }
    return NULL;
}

/*
 * The limit belongs to the kernel and the device, whoever launches: always set to the most the device has, so that no
 * context takes from a kernel what another is about to use. Each context sets it once.
 */
extern "C" rpo_status rpo_cuda_allow_shared(rpo_context *context, const char *name, const void *kernel,
                                            size_t shared_bytes) {
    rpo_cuda_state *state = static_cast<rpo_cuda_state *>(context->state);
    rpo_cuda_shared_limit *known = shared_limit_of(state, kernel);
    rpo_cuda_shared_limit limit = known != NULL ? *known : rpo_cuda_shared_limit{NULL, 0};
    if (limit.kernel == NULL) {
        cudaFuncAttributes attributes;
        cudaError_t error = cudaFuncGetAttributes(&attributes, kernel);
        if (error != cudaSuccess)
            return launch_failed(name, error);
        limit = {kernel, state->shared_bytes_limit - attributes.sharedSizeBytes};
        error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                     static_cast<int>(limit.bytes));
        if (error != cudaSuccess)
            return launch_failed(name, error);
        if (known != NULL)
            *known = limit;
    }
    if (shared_bytes > limit.bytes)
        return rpo_error_set(RPO_ERROR_DEVICE,
                             "kernel %s: %zu bytes of shared memory; this device gives a block %zu", name,
                             shared_bytes, limit.bytes);
    return RPO_OK;
}

extern "C" rpo_status rpo_cuda_after_launch(rpo_context *context, const char *name, int error) {
    cudaError_t code = static_cast<cudaError_t>(error);
    if (code == cudaSuccess && rpo_cuda_state_of(context)->debug_sync)
        code = cudaStreamSynchronize(static_cast<cudaStream_t>(context->stream));
    return code == cudaSuccess ? RPO_OK : launch_failed(name, code);
}

static rpo_status read_attribute(int *value, cudaDeviceAttr attribute, int device) {
    return rpo_cuda_check(cudaDeviceGetAttribute(value, attribute, device), "reading the device's figures");
}

static void destroy_event(void *event) {
    if (event != NULL)
        (void)cudaEventDestroy(static_cast<cudaEvent_t>(event));
}

static void destroy_handles(rpo_context *context) {
    const rpo_cuda_entry entry(context);
    rpo_cuda_state *state = static_cast<rpo_cuda_state *>(context->state);
    if (entry.status() != RPO_OK)
        return;
    if (state->blas != NULL)
        (void)cublasLtDestroy(static_cast<cublasLtHandle_t>(state->blas));
    for (void *event : state->timer)
        destroy_event(event);
    for (void *event : state->stamps)
        destroy_event(event);
}

static void cuda_close(rpo_context *context) {
    rpo_cuda_state *state = static_cast<rpo_cuda_state *>(context->state);
    if (state == NULL)
        return;
    if (state->driver.primary != NULL)
        destroy_handles(context);
    rpo_cuda_driver_close(&state->driver);
    free(state);
    context->state = NULL;
}

static rpo_status create_handles(rpo_context *context) {
    const rpo_cuda_entry entry(context);
    RPO_TRY(entry.status());
    rpo_cuda_state *state = static_cast<rpo_cuda_state *>(context->state);
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

static rpo_status check_device(int device) {
    int count = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess || count == 0)
        return rpo_error_set(RPO_ERROR_DEVICE, "device: no usable CUDA device: %s",
                             error != cudaSuccess ? cudaGetErrorString(error) : "none is installed");
    if (device < 0 || device >= count)
        return rpo_error_set(RPO_ERROR_DEVICE, "options.device_index: is %d; this machine has 0 to %d",
                             device, count - 1);
    return RPO_OK;
}

static rpo_status read_figures(rpo_cuda_state *state, int device) {
    int major = 0, minor = 0, sms = 0, l2 = 0, shared = 0;
    RPO_TRY(read_attribute(&major, cudaDevAttrComputeCapabilityMajor, device));
    RPO_TRY(read_attribute(&minor, cudaDevAttrComputeCapabilityMinor, device));
    RPO_TRY(read_attribute(&sms, cudaDevAttrMultiProcessorCount, device));
    RPO_TRY(read_attribute(&l2, cudaDevAttrL2CacheSize, device));
    RPO_TRY(read_attribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
    if (major < 8)
        return rpo_error_set(RPO_ERROR_UNSUPPORTED, "device: compute capability %d.%d; must be 8.0 or newer",
                             major, minor);
    state->compute_capability = major * 10 + minor;
    state->num_sms = sms;
    state->l2_bytes = static_cast<size_t>(l2);
    state->shared_bytes_limit = static_cast<size_t>(shared);
    return RPO_OK;
}

static rpo_status open_device(rpo_context *context, int device) {
    rpo_cuda_state *state = static_cast<rpo_cuda_state *>(context->state);
    RPO_TRY(read_figures(state, device));
    state->debug_sync = is_set("RPO_DEBUG_SYNC");
    state->trace_launch = is_set("RPO_TRACE_LAUNCH");
    RPO_TRY(rpo_cuda_driver_open(&state->driver, device));
    return create_handles(context);
}

static rpo_status cuda_open(rpo_context *context, const rpo_context_options *options) {
    const rpo_cuda_errors errors;
    RPO_TRY(check_device(options->device_index));
    context->state = calloc(1, sizeof(rpo_cuda_state));
    if (context->state == NULL)
        return rpo_error_set(RPO_ERROR_OUT_OF_MEMORY, "context: no memory for %zu bytes",
                             sizeof(rpo_cuda_state));
    const rpo_status status = open_device(context, options->device_index);
    if (status != RPO_OK)
        cuda_close(context);
    return status;
}

static rpo_status cuda_synchronize(rpo_context *context) {
    return rpo_cuda_check(cudaStreamSynchronize(static_cast<cudaStream_t>(context->stream)),
                          "waiting for the stream");
}

static void cuda_describe(char *text, size_t size) {
    const rpo_cuda_errors errors;
    int count = 0;
    cudaDeviceProp properties;
    const cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess || count == 0) {
        snprintf(text, size, "no usable device: %s",
                 error != cudaSuccess ? cudaGetErrorString(error) : "none is installed");
        return;
    }
    if (cudaGetDeviceProperties(&properties, 0) != cudaSuccess) {
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
    rpo_cuda_entered<cuda_synchronize>::call,
    cuda_describe,
    cuda_supports,
    &rpo_cuda_device_ops,
    {
        rpo_cuda_entered<rpo_cuda_prompt_similarity_workspace_size>::call,
        rpo_cuda_entered<rpo_cuda_prompt_similarity>::call,
        rpo_cuda_entered<rpo_cuda_contrast_weights>::call,
        rpo_cuda_entered<rpo_cuda_contrast_loss_workspace_size>::call,
        rpo_cuda_entered<rpo_cuda_contrast_loss>::call,
        rpo_cuda_entered<rpo_cuda_logprob_gather_workspace_size>::call,
        rpo_cuda_entered<rpo_cuda_logprob_gather>::call,
        rpo_cuda_entered<rpo_cuda_logprob_gather_backward>::call,
        rpo_cuda_entered<rpo_cuda_linear_logprob_workspace_size>::call,
        rpo_cuda_entered<rpo_cuda_linear_logprob>::call,
        rpo_cuda_entered<rpo_cuda_linear_logprob_backward>::call,
        rpo_cuda_entered<rpo_cuda_linear_logprob_cache_size>::call,
    },
    {}, /* model and optimizer ops follow with the whole step on the GPU */
    {},
};
