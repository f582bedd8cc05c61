/*
 * faults.cu - kernels with one planted fault each, and the program that runs one of them:
 *
 *     simt_faults NAME SCHEDULE
 *
 * prints what the runtime found ("fault: ..."), or else whether the values came out right. The sanitizers
 * speak for themselves. test_faults.sh says what must be found and where: at the line marked with the fault's
 * name.
 */
#include <cmath>
#include <cstdio>
#include <cstring>

#include <cuda_runtime.h>

#include "kernels/cuda/device/async_copy.cuh"
#include "kernels/cuda/device/shared.cuh"
#include "kernels/simt/schedule.h"

namespace {

constexpr int kThreads = 64;

/* Threads read what the other warp wrote. The shuffle between makes the threads of each warp wait for each
 * other, so schedules that run all warps in step hide the missing barrier. */
__global__ void missing_barrier_kernel(float *out, const float *in) {
    RPO_SHARED(float, shared, kThreads);
    const int t = static_cast<int>(threadIdx.x);
    shared[t] = in[t];
    const float mine = __shfl_sync(0xffffffffu, in[t], t % 32);
    out[t] = shared[(t + 32) % kThreads] + 0.0f * mine; /* FAULT missing-barrier */
}

__global__ void race_between_blocks_kernel(float *out, const float *in) {
    const int t = static_cast<int>(threadIdx.x);
    if (blockIdx.x == 0)
        out[t] = in[t];
    if (blockIdx.x == 1)
        out[t] = in[t]; /* FAULT race-between-blocks */
}

/* The last block reads what the others wrote, told by a ticket, but nothing orders the two. */
__global__ void missing_fence_kernel(float *out, const float *in, float *partials, unsigned *ticket) {
    RPO_SHARED(unsigned, taken, 1);
    const int t = static_cast<int>(threadIdx.x);
    partials[blockIdx.x * kThreads + t] = in[t] / 2;
    __syncthreads();
    if (t == 0)
        *taken = atomicAdd(ticket, 1u);
    __syncthreads();
    if (*taken == gridDim.x - 1)
        out[t] = partials[t] + partials[kThreads + t]; /* FAULT missing-fence */
}

__global__ void shared_overrun_kernel(float *out, const float *in) {
    RPO_SHARED(float, shared, kThreads);
    const int t = static_cast<int>(threadIdx.x);
    shared[t + 1] = in[t]; /* FAULT shared-overrun */
    __syncthreads();
    out[t] = in[t];
}

__global__ void global_overrun_kernel(float *out, const float *in) {
    const int t = static_cast<int>(threadIdx.x);
    out[t] = in[t];
    out[t + 1] = in[t]; /* FAULT global-overrun */
}

__global__ void divergent_barrier_kernel(float *out, const float *in) {
    const int t = static_cast<int>(threadIdx.x);
    if (t < 40)
        __syncthreads(); /* FAULT divergent-barrier */
    out[t] = in[t];
}

__global__ void divergent_collective_kernel(float *out, const float *in) {
    const int t = static_cast<int>(threadIdx.x);
    float value = in[t];
    if (t % 32 < 16)
        value = __shfl_sync(0xffffffffu, value, t % 32); /* FAULT divergent-collective */
    out[t] = value;
}

__global__ void unwritten_shared_kernel(float *out, const float *in) {
    RPO_SHARED(float, shared, kThreads);
    const int t = static_cast<int>(threadIdx.x);
    if (t > 0)
        shared[t] = in[t];
    __syncthreads();
    out[t] = shared[t];
}

__global__ void missing_copy_wait_kernel(float *out, const float *in) {
    RPO_SHARED(float, shared, kThreads);
    const int t = static_cast<int>(threadIdx.x);
    if (t % 4 == 0)
        rpo_async_copy_16(shared + t, in + t, true);
    rpo_async_copy_commit();
    __syncthreads();
    out[t] = shared[t];
}

/* The same with a wait and barriers: nothing may be found. */
__global__ void clean_kernel(float *out, const float *in, float *partials, unsigned *ticket) {
    RPO_SHARED(float, shared, kThreads);
    RPO_SHARED(unsigned, taken, 1);
    const int t = static_cast<int>(threadIdx.x);
    if (t % 4 == 0)
        rpo_async_copy_16(shared + t, in + t, true);
    rpo_async_copy_commit();
    rpo_async_copy_wait<0>();
    __syncthreads();
    partials[blockIdx.x * kThreads + t] = shared[(t + 32) % kThreads] / 2;
    __syncthreads();
    if (t == 0) {
        __threadfence();
        *taken = atomicAdd(ticket, 1u);
        __threadfence();
    }
    __syncthreads();
    if (*taken == gridDim.x - 1)
        out[(t + 32) % kThreads] = partials[t] + partials[kThreads + t];
}

struct memory {
    float *out, *in, *partials;
    unsigned *ticket;
};

template <typename... Parameters, typename... Arguments>
cudaError_t launch(const char *name, unsigned blocks, void (*kernel)(Parameters...), Arguments... arguments) {
    void *pointers[] = {const_cast<void *>(static_cast<const void *>(&arguments))...};
    simt::name_next_launch(name);
    return cudaLaunchKernel(kernel, dim3(blocks), dim3(kThreads), pointers);
}

cudaError_t launch_named(const char *name, const memory &m) {
    const float *in = m.in;
    const struct {
        const char *name;
        unsigned blocks;
        void (*kernel)(float *, const float *);
    } kernels[] = {
        {"missing-barrier", 1, missing_barrier_kernel},
        {"race-between-blocks", 2, race_between_blocks_kernel},
        {"shared-overrun", 1, shared_overrun_kernel},
        {"global-overrun", 1, global_overrun_kernel},
        {"divergent-barrier", 1, divergent_barrier_kernel},
        {"divergent-collective", 1, divergent_collective_kernel},
        {"unwritten-shared", 1, unwritten_shared_kernel},
        {"missing-copy-wait", 1, missing_copy_wait_kernel},
    };
    for (const auto &one : kernels)
        if (strcmp(name, one.name) == 0)
            return launch(one.name, one.blocks, one.kernel, m.out, in);
    if (strcmp(name, "missing-fence") == 0)
        return launch(name, 2, missing_fence_kernel, m.out, in, m.partials, m.ticket);
    return strcmp(name, "clean") == 0 ? launch(name, 2, clean_kernel, m.out, in, m.partials, m.ticket)
                                      : cudaErrorInvalidValue;
}

int schedule_named(const char *name) {
    for (int schedule = 0; schedule < rpo_simt_schedules(); ++schedule)
        if (strcmp(name, rpo_simt_schedule_name(schedule)) == 0)
            return schedule;
    return -1;
}

/* Every kernel's right answer is a copy; missing-barrier swaps the halves, which hold the same values. */
bool values_are_right(const memory &m) {
    for (int t = 0; t < kThreads; ++t)
        if (!(m.out[t] == static_cast<float>(t % 32)))
            return false;
    return true;
}

} // namespace

int main(int argc, char **argv) {
    if (argc != 3 || schedule_named(argv[2]) < 0) {
        fprintf(stderr, "usage: simt_faults NAME SCHEDULE\n");
        return 2;
    }
    memory m = {};
    const size_t bytes = kThreads * sizeof(float);
    if (cudaMalloc(&m.out, bytes) != cudaSuccess || cudaMalloc(&m.in, bytes) != cudaSuccess ||
        cudaMalloc(&m.partials, 2 * bytes) != cudaSuccess ||
        cudaMalloc(&m.ticket, sizeof *m.ticket) != cudaSuccess)
        return 2;
    *m.ticket = 0;
    for (int t = 0; t < kThreads; ++t) {
        m.in[t] = static_cast<float>(t % 32);
        m.out[t] = NAN;
    }
    rpo_simt_set_schedule(schedule_named(argv[2]));
    const cudaError_t error = launch_named(argv[1], m);
    if (error == cudaErrorLaunchFailure)
        printf("fault: %s\n", cudaGetErrorString(error));
    else if (error != cudaSuccess)
        return 2;
    else
        printf("values: %s\n", values_are_right(m) ? "right" : "wrong");
    cudaFree(m.ticket);
    cudaFree(m.partials);
    cudaFree(m.in);
    cudaFree(m.out);
    return 0;
}
