/*
 * host_program.cu - what a host program that has its own dealings with CUDA keeps, whatever it calls of ours: its current
 * device, its last error, devices that it never opened; and what it must not do to us: a stale error, another device
 * that is current, a kernel's limit that another context has set. Built for simt, which has two devices that differ, and
 * for a GPU, where the cases of a second device want a second device.
 */
#include <cstdio>
#include <cstring>
#include <thread>
#include <vector>

#include <cuda.h>
#include <cuda_runtime.h>

#include "kernels/cuda/device/shared.cuh"
#include "kernels/cuda/launch.cuh"

namespace {

int failures = 0;

void require(bool held, const char *what) {
    if (held)
        return;
    printf("failed: %s; the last message is \"%s\"\n", what, rpo_last_error());
    ++failures;
}

/* The driver's functions, which nothing here is linked with. */
template <typename Function> Function *driver(const char *name) {
    void *address = nullptr;
    cudaDriverEntryPointQueryResult result;
#if CUDART_VERSION >= 12050
    const cudaError_t error =
        cudaGetDriverEntryPointByVersion(name, &address, 12000, cudaEnableDefault, &result);
#else
    const cudaError_t error = cudaGetDriverEntryPoint(name, &address, cudaEnableDefault, &result);
#endif
    require(error == cudaSuccess && address != nullptr, name);
    return reinterpret_cast<Function *>(address);
}

bool is_open(int device) {
    unsigned flags = 0;
    int active = 0;
    driver<decltype(cuDevicePrimaryCtxGetState)>("cuDevicePrimaryCtxGetState")(device, &flags, &active);
    return active != 0;
}

bool has_current() {
    CUcontext context = nullptr;
    driver<decltype(cuCtxGetCurrent)>("cuCtxGetCurrent")(&context);
    return context != nullptr;
}

int current() {
    int device = -1;
    (void)cudaGetDevice(&device);
    return device;
}

int device_of(const void *memory) {
    cudaPointerAttributes attributes;
    return cudaPointerGetAttributes(&attributes, memory) == cudaSuccess ? attributes.device : -1;
}

rpo_context *open_on(int device) {
    rpo_context_options options = RPO_CONTEXT_OPTIONS_INIT;
    options.device = RPO_DEVICE_CUDA;
    options.device_index = device;
    rpo_context *context = nullptr;
    require(rpo_context_create(&context, &options) == RPO_OK, "a context on the device");
    return context;
}

/* Everything a context offers, once: ops through the public functions, and every device op. */
void use(rpo_context *context, int device) {
    const rpo_device_ops *ops = context->backend->device_ops;
    const int64_t m = 5, n = 4, dim = 8;
    void *memory = nullptr, *pinned = nullptr, *workspace = nullptr;
    double seconds = 0.0;
    require(ops->allocate(context, &memory, 1 << 20) == RPO_OK, "allocate");
    require(device_of(memory) == device, "memory is the context's device's");
    require(ops->allocate(context, &workspace, RPO_MATMUL_WORKSPACE) == RPO_OK, "allocate a workspace");
    require(ops->allocate_pinned(context, &pinned, 4096) == RPO_OK, "allocate_pinned");
    std::vector<float> host(1024, 0.25f);
    memset(pinned, 0, 4096);
    float *numbers = static_cast<float *>(memory), *out = numbers + 4096;
    require(ops->timer_start(context) == RPO_OK && ops->stamp(context, 0) == RPO_OK, "timer and stamp");
    require(ops->fill(context, memory, 0, 1 << 20) == RPO_OK, "fill");
    require(ops->copy_in_async(context, numbers, pinned, 4096) == RPO_OK, "copy_in_async");
    require(ops->copy_in(context, numbers, host.data(), 4096) == RPO_OK, "copy_in");
    require(ops->copy_device(context, numbers + 1024, numbers, 4096) == RPO_OK, "copy_device");
    require(ops->matmul(context, out, numbers, numbers + 1024, 16, RPO_FLOAT32, workspace) == RPO_OK,
            "matmul");
    require(ops->copy_out_async(context, pinned, numbers, 4096) == RPO_OK, "copy_out_async");
    require(ops->copy_out(context, host.data(), out, 4096) == RPO_OK, "copy_out");
    require(host[0] == 1.0f, "sixteen times a quarter squared");

    size_t size = 0;
    const rpo_similarity_inputs inputs = {sizeof inputs, numbers, numbers + 1024, m, n, dim, RPO_FLOAT32};
    require(rpo_prompt_similarity_workspace_size(context, &size, &inputs) == RPO_OK, "size");
    require(rpo_prompt_similarity(context, out, &inputs, workspace, size) == RPO_OK, "an op");
#if defined(RPO_SIMT)
    require(simt::device_of_last_launch() == device, "an op runs on the context's device");
#endif
    require(ops->stamp(context, 1) == RPO_OK && ops->timer_stop(context, &seconds) == RPO_OK, "timer");
    require(rpo_context_synchronize(context) == RPO_OK, "synchronize");
    require(ops->stamp_seconds(context, 0, 1, &seconds) == RPO_OK && seconds > 0.0, "stamps");
    ops->release_pinned(context, pinned);
    ops->release(context, workspace);
    ops->release(context, memory);
}

/* A thread that never touched CUDA still has not, and a device that nobody asked for stays closed. */
void test_nothing_is_opened(int devices) {
    const int last = devices - 1;
    std::thread([=] {
        rpo_context *context = open_on(last);
        require(!has_current(), "opening leaves the thread without a current context");
        if (context != nullptr)
            use(context, last);
        require(!has_current(), "ops leave the thread without a current context");
        require(last == 0 || !is_open(0), "device 0 stays closed");
        rpo_context_free(context);
        require(!has_current(), "closing leaves the thread without a current context");
    }).join();
    require(!is_open(last), "a context that is closed gives its device back");
}

void test_current_device_is_kept(int devices) {
    for (int mine = 0; mine < devices; ++mine)
        for (int ours = 0; ours < devices; ++ours) {
            require(cudaSetDevice(mine) == cudaSuccess, "cudaSetDevice");
            rpo_context *context = open_on(ours);
            require(current() == mine, "opening leaves the device that was current");
            if (context != nullptr)
                use(context, ours);
            require(current() == mine, "ops leave the device that was current");
            rpo_context_free(context);
            require(current() == mine, "closing leaves the device that was current");
        }
}

void test_contexts_of_two_devices(int devices) {
    if (devices < 2)
        return;
    rpo_context *first = open_on(0), *second = open_on(1);
    for (int i = 0; i < 2; ++i) {
        use(first, 0);
        use(second, 1);
    }
    rpo_context_free(first);
    rpo_context_free(second);
}

/* The host's error is not ours, and stays the host's. */
void test_stale_error() {
    require(cudaSetDevice(99) == cudaErrorInvalidDevice, "there are no hundred devices");
    rpo_context *context = open_on(0);
    if (context == nullptr)
        return;
    use(context, 0);
    require(cudaPeekAtLastError() == cudaErrorInvalidDevice, "the host's error is as it was");
    rpo_context_free(context);
    require(cudaGetLastError() == cudaErrorInvalidDevice, "closing leaves the host's error");
}

/* Nor is ours left for the host to find. */
void test_our_error() {
    rpo_context *context = open_on(0);
    if (context == nullptr)
        return;
    void *memory = nullptr;
    require(context->backend->device_ops->allocate(context, &memory, size_t{1} << 60) ==
                RPO_ERROR_OUT_OF_MEMORY,
            "2^60 bytes are refused");
    require(cudaPeekAtLastError() == cudaSuccess, "a failed call leaves no error of ours");
    rpo_context_free(context);
    rpo_context_options options = RPO_CONTEXT_OPTIONS_INIT;
    options.device = RPO_DEVICE_CUDA;
    options.device_index = 99;
    require(rpo_context_create(&context, &options) == RPO_ERROR_DEVICE, "device 99 is refused");
    require(cudaPeekAtLastError() == cudaSuccess, "a failed opening leaves no error of ours");
}

__global__ void shared_kernel(float *out, int count) {
    RPO_SHARED_DYNAMIC(float, values);
    values[threadIdx.x] = static_cast<float>(count);
    __syncthreads();
    out[threadIdx.x] = values[threadIdx.x];
}

rpo_status launch(rpo_context *context, float *out, size_t shared_bytes) {
    return rpo_launch(context, {"shared_kernel", dim3(1), dim3(32), shared_bytes}, shared_kernel, out, 3);
}

int limit_of_kernel() {
    cudaFuncAttributes attributes = {};
    require(cudaFuncGetAttributes(&attributes, shared_kernel) == cudaSuccess, "cudaFuncGetAttributes");
    return attributes.maxDynamicSharedSizeBytes;
}

/* A small launch of one context must not forbid the large one that another is about to make. */
void test_shared_limit_never_falls() {
    require(cudaSetDevice(0) == cudaSuccess, "cudaSetDevice");
    rpo_context *one = open_on(0), *other = open_on(0);
    void *out = nullptr;
    require(cudaMalloc(&out, 4096) == cudaSuccess, "cudaMalloc");
    require(launch(one, static_cast<float *>(out), 80 * 1024) == RPO_OK, "80 KiB of shared memory");
    const int before = limit_of_kernel();
    require(launch(other, static_cast<float *>(out), 40 * 1024) == RPO_OK, "40 KiB of shared memory");
    require(before >= 80 * 1024 && limit_of_kernel() == before,
            "a launch with less leaves the limit for one with more");
    require(launch(one, static_cast<float *>(out), 90 * 1024) == RPO_OK, "and the other context still can");
    require(launch(one, static_cast<float *>(out), size_t{1} << 20) == RPO_ERROR_DEVICE &&
                strstr(rpo_last_error(), "kernel shared_kernel: 1048576 bytes of shared memory") != nullptr,
            "a megabyte is refused by name");
    require(rpo_context_synchronize(one) == RPO_OK, "synchronize");
    (void)cudaFree(out);
    rpo_context_free(one);
    rpo_context_free(other);
}

} // namespace

int main() {
    int devices = 0;
    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
        puts("no usable CUDA device");
        return 0;
    }
    test_nothing_is_opened(devices);
    test_stale_error();
    test_our_error();
    test_shared_limit_never_falls();
    test_current_device_is_kept(devices);
    test_contexts_of_two_devices(devices);
    if (failures == 0)
        puts("host program: right");
    return failures != 0;
}
