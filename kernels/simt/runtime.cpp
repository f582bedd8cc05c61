/* runtime.cpp - the CUDA runtime calls of include/cuda_runtime.h, carried out on the CPU. */
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "kernels/simt/include/cuda_runtime.h"
#include "kernels/simt/include/nvtx3/nvToolsExt.h"

namespace {

cudaError_t last_error = cudaSuccess;
char last_message[600] = "";
const char *next_name = "?";

cudaError_t failed(cudaError_t error) {
    if (error != cudaSuccess)
        last_error = error;
    return error;
}

} // namespace

struct CUstream_st {};

struct CUgraph_st {
    std::vector<std::function<cudaError_t()>> work;
};

struct CUgraphExec_st {
    std::vector<std::function<cudaError_t()>> work;
};

namespace {

/* The capture under way. One that met a forbidden call stays open until it is ended, and then gives no graph. */
cudaStream_t captured = nullptr;
std::unique_ptr<CUgraph_st> recorded;
bool invalidated = false;

/* Waiting, allocating and freeing, while anything is captured: CUDA's global mode, the strictest. */
cudaError_t refused_while_capturing() {
    if (captured == nullptr)
        return cudaSuccess;
    invalidated = true;
    return failed(cudaErrorStreamCaptureUnsupported);
}

} // namespace

namespace simt {

cudaError_t enqueue(cudaStream_t stream, std::function<cudaError_t()> work) {
    if (captured == nullptr)
        return work();
    if (stream == nullptr) { /* it would wait for the captured one */
        invalidated = true;
        return failed(cudaErrorStreamCaptureImplicit);
    }
    if (stream != captured)
        return work();
    recorded->work.push_back(std::move(work));
    return cudaSuccess;
}

void name_next_launch(const char *name) {
    next_name = name;
}

const char *next_launch_name() {
    return next_name;
}

cudaError_t launch_erased(const char *name, dim3 grid, dim3 block, size_t shared_bytes, void (*body)(void *),
                          void *argument) {
    const Launch launch = {name, {grid.x, grid.y, grid.z}, {block.x, block.y, block.z}, shared_bytes};
    const char *fault = run_grid(launch, body, argument);
    if (fault == nullptr)
        return cudaSuccess;
    snprintf(last_message, sizeof last_message, "%s", fault);
    return failed(cudaErrorLaunchFailure);
}

} // namespace simt

const char *cudaGetErrorName(cudaError_t error) {
    switch (error) {
    case cudaSuccess:
        return "cudaSuccess";
    case cudaErrorInvalidValue:
        return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
        return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration:
        return "cudaErrorInvalidConfiguration";
    case cudaErrorNoDevice:
        return "cudaErrorNoDevice";
    case cudaErrorInvalidDevice:
        return "cudaErrorInvalidDevice";
    case cudaErrorNotSupported:
        return "cudaErrorNotSupported";
    case cudaErrorLaunchFailure:
        return "cudaErrorLaunchFailure";
    case cudaErrorStreamCaptureUnsupported:
        return "cudaErrorStreamCaptureUnsupported";
    case cudaErrorStreamCaptureInvalidated:
        return "cudaErrorStreamCaptureInvalidated";
    case cudaErrorStreamCaptureImplicit:
        return "cudaErrorStreamCaptureImplicit";
    }
    return "unknown";
}

const char *cudaGetErrorString(cudaError_t error) {
    return error == cudaErrorLaunchFailure && last_message[0] != '\0' ? last_message
                                                                      : cudaGetErrorName(error);
}

cudaError_t cudaGetLastError() {
    const cudaError_t error = last_error;
    last_error = cudaSuccess;
    return error;
}

cudaError_t cudaPeekAtLastError() {
    return last_error;
}

cudaError_t cudaGetDeviceCount(int *count) {
    *count = 1;
    return cudaSuccess;
}

cudaError_t cudaGetDevice(int *device) {
    *device = 0;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
    return failed(device == 0 ? cudaSuccess : cudaErrorInvalidDevice);
}

/* The figures of a small sm_80: launch choices made from them lead to grids a CPU can run. */
cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device) {
    if (device != 0)
        return failed(cudaErrorInvalidDevice);
    switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
        *value = 4;
        return cudaSuccess;
    case cudaDevAttrL2CacheSize:
        *value = 1 << 20;
        return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
        *value = 8;
        return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
        *value = 0;
        return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
        *value = 163 * 1024;
        return cudaSuccess;
    }
    return failed(cudaErrorInvalidValue);
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device) {
    if (device != 0)
        return failed(cudaErrorInvalidDevice);
    *properties = cudaDeviceProp{};
    snprintf(properties->name, sizeof properties->name, "simt (CUDA sources on the CPU)");
    properties->totalGlobalMem = size_t{4} << 30;
    properties->major = 8;
    properties->multiProcessorCount = 4;
    properties->l2CacheSize = 1 << 20;
    properties->sharedMemPerBlockOptin = 163 * 1024;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version) {
    *version = 0;
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version) {
    *version = 0;
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **memory, size_t size) {
    if (refused_while_capturing() != cudaSuccess)
        return last_error;
    *memory = size == 0 ? nullptr : aligned_alloc(256, (size + 255) / 256 * 256);
    return *memory == nullptr && size > 0 ? failed(cudaErrorMemoryAllocation) : cudaSuccess;
}

cudaError_t cudaFree(void *memory) {
    if (refused_while_capturing() != cudaSuccess)
        return last_error;
    free(memory);
    return cudaSuccess;
}

cudaError_t cudaHostAlloc(void **memory, size_t size, unsigned) {
    return cudaMalloc(memory, size);
}

cudaError_t cudaFreeHost(void *memory) {
    return cudaFree(memory);
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t size, cudaMemcpyKind, cudaStream_t stream) {
    return simt::enqueue(stream, [=] {
        if (size > 0)
            memmove(to, from, size);
        return cudaSuccess;
    });
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t size, cudaMemcpyKind kind) {
    return cudaMemcpyAsync(to, from, size, kind, nullptr);
}

cudaError_t cudaMemsetAsync(void *memory, int value, size_t size, cudaStream_t stream) {
    return simt::enqueue(stream, [=] {
        if (size > 0)
            memset(memory, value, size);
        return cudaSuccess;
    });
}

cudaError_t cudaMemset(void *memory, int value, size_t size) {
    return cudaMemsetAsync(memory, value, size, nullptr);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned) {
    *stream = new CUstream_st{};
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    delete stream;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t) {
    return refused_while_capturing();
}

cudaError_t cudaDeviceSynchronize() {
    return refused_while_capturing();
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
    if (captured != nullptr || stream == nullptr)
        return failed(cudaErrorStreamCaptureUnsupported);
    captured = stream;
    recorded = std::make_unique<CUgraph_st>();
    invalidated = false;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
    *graph = nullptr;
    if (captured == nullptr || stream != captured)
        return failed(cudaErrorInvalidValue);
    captured = nullptr;
    if (invalidated) {
        recorded.reset();
        return failed(cudaErrorStreamCaptureInvalidated);
    }
    *graph = recorded.release();
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *executable, cudaGraph_t graph, unsigned long long) {
    *executable = new CUgraphExec_st{graph->work};
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
    for (const auto &work : executable->work)
        if (const cudaError_t error = simt::enqueue(stream, work); error != cudaSuccess)
            return error;
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    delete graph;
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
    delete executable;
    return cudaSuccess;
}

struct CUevent_st {
    std::chrono::steady_clock::time_point time;
};

cudaError_t cudaEventCreate(cudaEvent_t *event) {
    *event = new CUevent_st{};
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    delete event;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t) {
    event->time = std::chrono::steady_clock::now();
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t) {
    return refused_while_capturing();
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t begin, cudaEvent_t end) {
    *milliseconds = std::chrono::duration<float, std::milli>(end->time - begin->time).count();
    return cudaSuccess;
}

namespace {

thread_local int range_depth = 0;

} // namespace

int nvtxRangePushA(const char *) {
    return range_depth++;
}

int nvtxRangePop() {
    return range_depth > 0 ? --range_depth : NVTX_NO_PUSH_POP_TRACKING;
}
