/* devices.cpp - devices, the contexts that make one current, and what each allows a kernel. */
#include "kernels/simt/devices.h"

#include <cstring>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "kernels/simt/include/cuda.h"

/* The primary context of a device, the only kind here. */
struct CUctx_st {
    int device;
    int retained;     /* by cuDevicePrimaryCtxRetain */
    bool opened_here; /* by the runtime, which keeps it */
};

namespace {

/* Figures of small parts: launch choices made from them lead to grids a CPU can run. */
constexpr simt::Device kFigures[simt::kDevices] = {{8, 0, 4, 1 << 20, 163 * 1024},
                                                   {8, 6, 6, 2 << 20, 99 * 1024}};

constexpr int kSharedByDefault = 48 * 1024;

std::mutex lock;
CUctx_st primaries[simt::kDevices] = {{0, 0, false}, {1, 0, false}};
std::map<std::pair<const void *, int>, int> shared_limits; /* of a kernel on a device, where it was set */
thread_local std::vector<CUcontext> stack;
thread_local cudaError_t last_error = cudaSuccess;

bool is_open(const CUctx_st &primary) {
    return primary.retained > 0 || primary.opened_here;
}

CUcontext open_by_runtime(int device) {
    const std::lock_guard<std::mutex> guard(lock);
    primaries[device].opened_here = true;
    return &primaries[device];
}

int shared_limit(const void *kernel, int device) {
    const std::lock_guard<std::mutex> guard(lock);
    const auto found = shared_limits.find({kernel, device});
    return found == shared_limits.end() ? kSharedByDefault : found->second;
}

} // namespace

namespace simt {

const Device *device_at(int index) {
    return index >= 0 && index < kDevices ? &kFigures[index] : nullptr;
}

int current_device() {
    return stack.empty() ? 0 : stack.back()->device;
}

int use_current_device() {
    if (stack.empty())
        stack.push_back(open_by_runtime(0));
    return stack.back()->device;
}

cudaError_t failed(cudaError_t error) {
    if (error != cudaSuccess)
        last_error = error;
    return error;
}

cudaError_t refused_launch(const void *kernel, size_t shared_bytes, cudaStream_t stream) {
    const int device = use_current_device();
    if (stream != nullptr && device_of(stream) != device)
        return failed(cudaErrorInvalidResourceHandle);
    if (shared_bytes > static_cast<size_t>(shared_limit(kernel, device)))
        return failed(cudaErrorInvalidValue);
    return cudaSuccess;
}

} // namespace simt

/* ---- the driver ---- */

CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
    if (simt::device_at(device) == nullptr)
        return CUDA_ERROR_INVALID_DEVICE;
    const std::lock_guard<std::mutex> guard(lock);
    ++primaries[device].retained;
    *context = &primaries[device];
    return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRelease(CUdevice device) {
    const std::lock_guard<std::mutex> guard(lock);
    if (simt::device_at(device) == nullptr || primaries[device].retained == 0)
        return CUDA_ERROR_INVALID_CONTEXT;
    --primaries[device].retained;
    return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned *flags, int *active) {
    if (simt::device_at(device) == nullptr)
        return CUDA_ERROR_INVALID_DEVICE;
    const std::lock_guard<std::mutex> guard(lock);
    *flags = 0;
    *active = is_open(primaries[device]);
    return CUDA_SUCCESS;
}

CUresult cuCtxPushCurrent(CUcontext context) {
    const std::lock_guard<std::mutex> guard(lock);
    if (context == nullptr || !is_open(*context))
        return CUDA_ERROR_INVALID_CONTEXT;
    stack.push_back(context);
    return CUDA_SUCCESS;
}

CUresult cuCtxPopCurrent(CUcontext *context) {
    if (stack.empty())
        return CUDA_ERROR_INVALID_CONTEXT;
    *context = stack.back();
    stack.pop_back();
    return CUDA_SUCCESS;
}

CUresult cuCtxGetCurrent(CUcontext *context) {
    *context = stack.empty() ? nullptr : stack.back();
    return CUDA_SUCCESS;
}

cudaError_t cudaGetDriverEntryPointByVersion(const char *symbol, void **function, unsigned,
                                             unsigned long long, cudaDriverEntryPointQueryResult *result) {
    const struct {
        const char *name;
        void *address;
    } known[] = {
        {"cuDevicePrimaryCtxRetain", reinterpret_cast<void *>(cuDevicePrimaryCtxRetain)},
        {"cuDevicePrimaryCtxRelease", reinterpret_cast<void *>(cuDevicePrimaryCtxRelease)},
        {"cuDevicePrimaryCtxGetState", reinterpret_cast<void *>(cuDevicePrimaryCtxGetState)},
        {"cuCtxPushCurrent", reinterpret_cast<void *>(cuCtxPushCurrent)},
        {"cuCtxPopCurrent", reinterpret_cast<void *>(cuCtxPopCurrent)},
        {"cuCtxGetCurrent", reinterpret_cast<void *>(cuCtxGetCurrent)},
    };
    *function = nullptr;
    *result = cudaDriverEntryPointSymbolNotFound;
    for (const auto &one : known)
        if (strcmp(one.name, symbol) == 0) {
            *function = one.address;
            *result = cudaDriverEntryPointSuccess;
        }
    return cudaSuccess;
}

/* ---- the runtime ---- */

cudaError_t cudaGetLastError() {
    const cudaError_t error = last_error;
    last_error = cudaSuccess;
    return error;
}

cudaError_t cudaPeekAtLastError() {
    return last_error;
}

cudaError_t cudaGetDeviceCount(int *count) {
    *count = simt::kDevices;
    return cudaSuccess;
}

cudaError_t cudaGetDevice(int *device) {
    *device = simt::current_device();
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
    if (simt::device_at(device) == nullptr)
        return simt::failed(cudaErrorInvalidDevice);
    const CUcontext context = open_by_runtime(device);
    if (stack.empty())
        stack.push_back(context);
    else
        stack.back() = context;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device) {
    const simt::Device *figures = simt::device_at(device);
    if (figures == nullptr)
        return simt::failed(cudaErrorInvalidDevice);
    switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
        *value = figures->multiprocessors;
        return cudaSuccess;
    case cudaDevAttrL2CacheSize:
        *value = figures->l2_bytes;
        return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
        *value = figures->major;
        return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
        *value = figures->minor;
        return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
        *value = figures->shared_bytes;
        return cudaSuccess;
    }
    return simt::failed(cudaErrorInvalidValue);
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device) {
    const simt::Device *figures = simt::device_at(device);
    if (figures == nullptr)
        return simt::failed(cudaErrorInvalidDevice);
    *properties = cudaDeviceProp{};
    snprintf(properties->name, sizeof properties->name, "simt (CUDA sources on the CPU)");
    properties->totalGlobalMem = simt::kMemoryBytes;
    properties->major = figures->major;
    properties->minor = figures->minor;
    properties->multiProcessorCount = figures->multiprocessors;
    properties->l2CacheSize = figures->l2_bytes;
    properties->sharedMemPerBlockOptin = static_cast<size_t>(figures->shared_bytes);
    return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void *kernel, cudaFuncAttribute attribute, int value) {
    const int device = simt::use_current_device();
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize)
        return cudaSuccess;
    if (value < 0 || value > kFigures[device].shared_bytes)
        return simt::failed(cudaErrorInvalidValue);
    const std::lock_guard<std::mutex> guard(lock);
    shared_limits[{kernel, device}] = value;
    return cudaSuccess;
}

/* Static shared arrays are met when the kernel runs; none is counted here. */
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *attributes, const void *kernel) {
    *attributes = {0, shared_limit(kernel, simt::use_current_device())};
    return cudaSuccess;
}
