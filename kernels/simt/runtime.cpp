/* runtime.cpp - the CUDA runtime calls of include/cuda_runtime.h, carried out on the CPU. */
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "kernels/simt/devices.h"
#include "kernels/simt/include/nvtx3/nvToolsExt.h"

namespace {

using simt::failed;

thread_local char last_message[600] = "";
thread_local const char *next_name = "?";
std::mutex one_grid; /* one at a time, whichever thread launched it */
thread_local int last_device = -1;

} // namespace

struct CUstream_st {
    int device;
};

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

int device_of(cudaStream_t stream) {
    return stream == nullptr ? use_current_device() : stream->device;
}

int device_of_last_launch() {
    return last_device;
}

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
    const std::lock_guard<std::mutex> guard(one_grid);
    last_device = current_device();
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
    case cudaErrorInvalidResourceHandle:
        return "cudaErrorInvalidResourceHandle";
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

cudaError_t cudaRuntimeGetVersion(int *version) {
    *version = 0;
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version) {
    *version = 0;
    return cudaSuccess;
}

namespace {

struct Block {
    size_t size;
    cudaMemoryType type;
    int device;
};

std::mutex blocks_lock;
std::map<const char *, Block> blocks; /* what the runtime has given out */

cudaError_t give_out(void **memory, size_t size, cudaMemoryType type) {
    *memory = nullptr;
    const int device = simt::use_current_device();
    const cudaError_t refused = refused_while_capturing();
    if (refused != cudaSuccess || size == 0)
        return refused;
    *memory = size > simt::kMemoryBytes ? nullptr : aligned_alloc(256, (size + 255) / 256 * 256);
    if (*memory == nullptr)
        return failed(cudaErrorMemoryAllocation);
    const std::lock_guard<std::mutex> guard(blocks_lock);
    blocks[static_cast<const char *>(*memory)] = {size, type, device};
    return cudaSuccess;
}

cudaError_t take_back(void *memory, cudaMemoryType type) {
    const cudaError_t refused = refused_while_capturing();
    if (refused != cudaSuccess || memory == nullptr)
        return refused;
    const std::lock_guard<std::mutex> guard(blocks_lock);
    const auto found = blocks.find(static_cast<const char *>(memory));
    if (found == blocks.end() || found->second.type != type)
        return failed(cudaErrorInvalidValue);
    blocks.erase(found);
    free(memory);
    return cudaSuccess;
}

} // namespace

cudaError_t cudaMalloc(void **memory, size_t size) {
    return give_out(memory, size, cudaMemoryTypeDevice);
}

cudaError_t cudaFree(void *memory) {
    return take_back(memory, cudaMemoryTypeDevice);
}

cudaError_t cudaHostAlloc(void **memory, size_t size, unsigned) {
    return give_out(memory, size, cudaMemoryTypeHost);
}

cudaError_t cudaFreeHost(void *memory) {
    return take_back(memory, cudaMemoryTypeHost);
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *attributes, const void *memory) {
    const char *at = static_cast<const char *>(memory);
    *attributes = {cudaMemoryTypeUnregistered, -1};
    const std::lock_guard<std::mutex> guard(blocks_lock);
    auto found = blocks.upper_bound(at);
    if (found != blocks.begin() && at < (--found)->first + found->second.size)
        *attributes = {found->second.type, found->second.device};
    return cudaSuccess;
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
    *stream = new CUstream_st{simt::use_current_device()};
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
    int device;
    std::chrono::steady_clock::time_point time;
};

cudaError_t cudaEventCreate(cudaEvent_t *event) {
    *event = new CUevent_st{simt::use_current_device(), {}};
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    delete event;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    if (simt::device_of(stream) != event->device)
        return failed(cudaErrorInvalidResourceHandle);
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
