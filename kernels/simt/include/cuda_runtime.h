/*
 * cuda_runtime.h - simt's stand-in for the toolkit's header: the part of the CUDA runtime that the backend's
 * host code calls, carried out on the CPU. There are two devices, and a current one per thread. Device memory is ordinary
 * memory (so AddressSanitizer guards it), a stream does everything at once and in order. One stream at a time may be captured: what is enqueued on it is
 * recorded, and calls that a capture does not allow (waiting, allocating, the default stream) fail as CUDA's do.
 */
#ifndef RPO_SIMT_CUDA_RUNTIME_H
#define RPO_SIMT_CUDA_RUNTIME_H

#include <cstddef>
#include <functional>
#include <tuple>
#include <utility>

#include "kernels/simt/device.h"

enum cudaError_t {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInvalidConfiguration = 9,
    cudaErrorNoDevice = 100,
    cudaErrorInvalidDevice = 101,
    cudaErrorInvalidResourceHandle = 400,
    cudaErrorLaunchFailure = 719,
    cudaErrorNotSupported = 801,
    cudaErrorStreamCaptureUnsupported = 900,
    cudaErrorStreamCaptureInvalidated = 901,
    cudaErrorStreamCaptureImplicit = 906
};
enum cudaStreamCaptureMode { cudaStreamCaptureModeGlobal = 0 };
enum { cudaStreamDefault = 0 };
enum { cudaHostAllocDefault = 0 };
enum cudaMemcpyKind {
    cudaMemcpyHostToHost = 0,
    cudaMemcpyHostToDevice = 1,
    cudaMemcpyDeviceToHost = 2,
    cudaMemcpyDeviceToDevice = 3,
    cudaMemcpyDefault = 4
};
enum cudaDeviceAttr {
    cudaDevAttrMultiProcessorCount = 16,
    cudaDevAttrL2CacheSize = 38,
    cudaDevAttrComputeCapabilityMajor = 75,
    cudaDevAttrComputeCapabilityMinor = 76,
    cudaDevAttrMaxSharedMemoryPerBlockOptin = 97
};
#define CUDART_VERSION 13000
enum { cudaEnableDefault = 0 };
enum cudaDriverEntryPointQueryResult {
    cudaDriverEntryPointSuccess = 0,
    cudaDriverEntryPointSymbolNotFound = 1
};
enum cudaMemoryType { cudaMemoryTypeUnregistered = 0, cudaMemoryTypeHost = 1, cudaMemoryTypeDevice = 2 };
enum cudaFuncAttribute {
    cudaFuncAttributeMaxDynamicSharedMemorySize = 8,
    cudaFuncAttributePreferredSharedMemoryCarveout = 9
};

typedef struct CUstream_st *cudaStream_t;
typedef struct CUevent_st *cudaEvent_t;
typedef struct CUgraph_st *cudaGraph_t;
typedef struct CUgraphExec_st *cudaGraphExec_t;

struct cudaDeviceProp {
    char name[256];
    size_t totalGlobalMem;
    int major, minor, multiProcessorCount, l2CacheSize;
    size_t sharedMemPerBlockOptin;
};

struct cudaPointerAttributes {
    cudaMemoryType type;
    int device;
};

struct cudaFuncAttributes {
    size_t sharedSizeBytes; /* of static arrays */
    int maxDynamicSharedSizeBytes;
};

const char *cudaGetErrorName(cudaError_t error);
const char *cudaGetErrorString(cudaError_t error); /* of a failed launch: what simt found */
cudaError_t cudaGetLastError();
cudaError_t cudaPeekAtLastError();
cudaError_t cudaGetDeviceCount(int *count);
cudaError_t cudaGetDevice(int *device);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device);
cudaError_t cudaRuntimeGetVersion(int *version);
cudaError_t cudaDriverGetVersion(int *version);
cudaError_t cudaGetDriverEntryPointByVersion(const char *symbol, void **function, unsigned version,
                                             unsigned long long flags,
                                             cudaDriverEntryPointQueryResult *result);
cudaError_t cudaFuncSetAttribute(const void *kernel, cudaFuncAttribute attribute, int value);
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *attributes, const void *kernel);
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *attributes, const void *memory);
cudaError_t cudaMalloc(void **memory, size_t size);
cudaError_t cudaFree(void *memory);
cudaError_t cudaHostAlloc(void **memory, size_t size, unsigned flags);
cudaError_t cudaFreeHost(void *memory);
cudaError_t cudaMemcpy(void *to, const void *from, size_t size, cudaMemcpyKind kind);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t size, cudaMemcpyKind kind,
                            cudaStream_t stream = nullptr);
cudaError_t cudaMemset(void *memory, int value, size_t size);
cudaError_t cudaMemsetAsync(void *memory, int value, size_t size, cudaStream_t stream = nullptr);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaDeviceSynchronize();
cudaError_t cudaEventCreate(cudaEvent_t *event);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream = nullptr);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t begin, cudaEvent_t end);
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *executable, cudaGraph_t graph,
                                 unsigned long long flags = 0);
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable);

template <typename T> cudaError_t cudaMalloc(T **memory, size_t size) {
    return cudaMalloc(reinterpret_cast<void **>(memory), size);
}

namespace simt {

int device_of(cudaStream_t stream);
cudaError_t refused_launch(const void *kernel, size_t shared_bytes, cudaStream_t stream); /* devices.h */
int device_of_last_launch();

/* Does the work, or records it where `stream` is being captured. */
cudaError_t enqueue(cudaStream_t stream, std::function<cudaError_t()> work);

/* Name of the next launch; the backend's one launch function says it so that reports can. */
void name_next_launch(const char *name);
const char *next_launch_name();
cudaError_t launch_erased(const char *name, dim3 grid, dim3 block, size_t shared_bytes, void (*body)(void *),
                          void *argument);

/* A kernel and its arguments, copied: the caller's may be gone when a captured launch runs. */
template <typename... Parameters> struct Call {
    void (*kernel)(Parameters...);
    std::tuple<Parameters...> arguments;

    static void body(void *self) {
        const Call *call = static_cast<const Call *>(self);
        std::apply(call->kernel, call->arguments);
    }
};

template <typename... Parameters, size_t... Index>
Call<Parameters...> call_of(void (*kernel)(Parameters...), void **arguments, std::index_sequence<Index...>) {
    return {kernel, {*static_cast<Parameters *>(arguments[Index])...}};
}

} // namespace simt

template <typename... Parameters>
cudaError_t cudaLaunchKernel(void (*kernel)(Parameters...), dim3 grid, dim3 block, void **arguments,
                             size_t shared_bytes = 0, cudaStream_t stream = nullptr) {
    const cudaError_t refused =
        simt::refused_launch(reinterpret_cast<const void *>(kernel), shared_bytes, stream);
    if (refused != cudaSuccess)
        return refused;
    auto call = simt::call_of(kernel, arguments, std::index_sequence_for<Parameters...>());
    const char *name = simt::next_launch_name();
    return simt::enqueue(stream, [=]() mutable {
        return simt::launch_erased(name, grid, block, shared_bytes, simt::Call<Parameters...>::body, &call);
    });
}

template <typename... Parameters>
cudaError_t cudaFuncSetAttribute(void (*kernel)(Parameters...), cudaFuncAttribute attribute, int value) {
    return cudaFuncSetAttribute(reinterpret_cast<const void *>(kernel), attribute, value);
}

template <typename... Parameters>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *attributes, void (*kernel)(Parameters...)) {
    return cudaFuncGetAttributes(attributes, reinterpret_cast<const void *>(kernel));
}

template <typename Kernel>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, Kernel *, int block_size, size_t) {
    *blocks = block_size > 0 ? std::max(1, 2048 / block_size) : 1;
    return cudaSuccess;
}

#endif
