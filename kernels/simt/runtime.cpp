/* runtime.cpp - the CUDA runtime calls of include/cuda_runtime.h, carried out on the CPU. */
#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "kernels/simt/include/cuda_runtime.h"

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

namespace simt {

void name_next_launch(const char *name) {
    next_name = name;
}

cudaError_t launch_erased(dim3 grid, dim3 block, size_t shared_bytes, void (*body)(void *), void *argument) {
    const Launch launch = {next_name, {grid.x, grid.y, grid.z}, {block.x, block.y, block.z}, shared_bytes};
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
    *memory = size == 0 ? nullptr : aligned_alloc(256, (size + 255) / 256 * 256);
    return *memory == nullptr && size > 0 ? failed(cudaErrorMemoryAllocation) : cudaSuccess;
}

cudaError_t cudaFree(void *memory) {
    free(memory);
    return cudaSuccess;
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t size, cudaMemcpyKind) {
    if (size > 0)
        memmove(to, from, size);
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t size, cudaMemcpyKind kind, cudaStream_t) {
    return cudaMemcpy(to, from, size, kind);
}

cudaError_t cudaMemset(void *memory, int value, size_t size) {
    if (size > 0)
        memset(memory, value, size);
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *memory, int value, size_t size, cudaStream_t) {
    return cudaMemset(memory, value, size);
}

cudaError_t cudaStreamCreate(cudaStream_t *stream) {
    *stream = nullptr;
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t) {
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t) {
    return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() {
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
    return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t begin, cudaEvent_t end) {
    *milliseconds = std::chrono::duration<float, std::milli>(end->time - begin->time).count();
    return cudaSuccess;
}
