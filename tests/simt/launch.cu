/*
 * launch.cu - what becomes of a launch that the device refuses, and of a kernel that fails while it runs: a DEVICE
 * status whose message names the kernel, and a context that works on afterwards.
 */
#include <cstdio>
#include <cstring>

#include <cuda_runtime.h>

#include "kernels/cuda/device/shared.cuh"
#include "kernels/cuda/launch.cuh"

namespace {

__global__ void fill_kernel(float *out, float value) {
    out[threadIdx.x] = value;
}

__global__ void divergent_kernel(float *out) {
    if (threadIdx.x < 40)
        __syncthreads();
    out[threadIdx.x] = 1.0f;
}

int failures = 0;

void require(bool held, const char *what) {
    if (held)
        return;
    printf("failed: %s; the last message is \"%s\"\n", what, rpo_last_error());
    ++failures;
}

bool is_fault_of(rpo_status status, const char *kernel, const char *says) {
    char place[96];
    snprintf(place, sizeof place, "kernel %s: ", kernel);
    return status == RPO_ERROR_DEVICE && strncmp(rpo_last_error(), place, strlen(place)) == 0 &&
           strstr(rpo_last_error(), says) != NULL;
}

void test_launches(rpo_context *context) {
    float out[64] = {};
    const rpo_launch_choice impossible = {"refused_kernel", dim3(1), dim3(64), size_t{1} << 20};
    require(is_fault_of(rpo_launch(context, impossible, fill_kernel, out, 1.0f), "refused_kernel",
                        "shared memory"),
            "a megabyte of shared memory is refused");
    require(is_fault_of(rpo_launch(context, {"wide_kernel", dim3(1), dim3(2048), 0}, fill_kernel, out, 1.0f),
                        "wide_kernel", "block size"),
            "2048 threads a block are refused");
    require(
        is_fault_of(rpo_launch(context, {"tall_kernel", dim3(1, 65536), dim3(64), 0}, fill_kernel, out, 1.0f),
                    "tall_kernel", "grid"),
        "65536 blocks along y are refused");
    require(out[0] == 0.0f && out[63] == 0.0f, "what was refused has not run");
    require(
        is_fault_of(rpo_launch(context, {"divergent_kernel", dim3(1), dim3(64), 0}, divergent_kernel, out),
                    "divergent_kernel", "divergent barrier"),
        "a fault inside a kernel is its launch's");
    require(rpo_launch(context, {"fill_kernel", dim3(1), dim3(64), 0}, fill_kernel, out, 2.0f) == RPO_OK &&
                rpo_context_synchronize(context) == RPO_OK && out[0] == 2.0f && out[63] == 2.0f,
            "the next launch is clean");
}

} // namespace

int main() {
    rpo_context_options options = RPO_CONTEXT_OPTIONS_INIT;
    options.device = RPO_DEVICE_CUDA;
    rpo_context *context = NULL;
    require(rpo_context_create(&context, &options) == RPO_OK, "a context on the device");
    if (context != NULL)
        test_launches(context);
    rpo_context_free(context);
    if (failures == 0)
        puts("launches: right");
    return failures != 0;
}
