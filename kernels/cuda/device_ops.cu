/* device_ops.cu - memory, copies and time of the GPU for the trainer, the tools, tests and the bench. Unlike ops some of
 * these wait or allocate. */
#include <cuda_runtime.h>
#include <nvtx3/nvToolsExt.h>

#include "kernels/cuda/entry.h"
#include "kernels/cuda/gemm.h"

static cudaStream_t stream_of(const rpo_context *context) {
    return static_cast<cudaStream_t>(context->stream);
}

static rpo_status allocate(rpo_context *, void **memory, size_t bytes) {
    *memory = NULL;
    if (bytes == 0)
        return RPO_OK;
    const cudaError_t error = cudaMalloc(memory, bytes);
    if (error != cudaErrorMemoryAllocation)
        return rpo_cuda_check(error, "allocating device memory");
    return rpo_error_set(RPO_ERROR_OUT_OF_MEMORY, "no device memory for %zu bytes", bytes);
}

static void release(rpo_context *, void *memory) {
    (void)cudaFree(memory);
}

static rpo_status allocate_pinned(rpo_context *, void **memory, size_t bytes) {
    *memory = NULL;
    if (bytes == 0)
        return RPO_OK;
    const cudaError_t error = cudaHostAlloc(memory, bytes, cudaHostAllocDefault); /* of whole pages */
    if (error != cudaErrorMemoryAllocation)
        return rpo_cuda_check(error, "allocating pinned memory");
    return rpo_error_set(RPO_ERROR_OUT_OF_MEMORY, "no pinned memory for %zu bytes", bytes);
}

static void release_pinned(rpo_context *, void *memory) {
    (void)cudaFreeHost(memory);
}

static rpo_status enqueue_copy(rpo_context *context, void *to, const void *from, size_t bytes,
                               cudaMemcpyKind kind) {
    if (bytes == 0)
        return RPO_OK;
    return rpo_cuda_check(cudaMemcpyAsync(to, from, bytes, kind, stream_of(context)), "copying");
}

static rpo_status copy(rpo_context *context, void *to, const void *from, size_t bytes, cudaMemcpyKind kind) {
    if (bytes == 0)
        return RPO_OK;
    RPO_TRY(enqueue_copy(context, to, from, bytes, kind));
    return rpo_cuda_check(cudaStreamSynchronize(stream_of(context)), "copying");
}

static rpo_status copy_in(rpo_context *context, void *device, const void *host, size_t bytes) {
    return copy(context, device, host, bytes, cudaMemcpyHostToDevice);
}

static rpo_status copy_out(rpo_context *context, void *host, const void *device, size_t bytes) {
    return copy(context, host, device, bytes, cudaMemcpyDeviceToHost);
}

static rpo_status copy_in_async(rpo_context *context, void *device, const void *pinned, size_t bytes) {
    return enqueue_copy(context, device, pinned, bytes, cudaMemcpyHostToDevice);
}

static rpo_status copy_out_async(rpo_context *context, void *pinned, const void *device, size_t bytes) {
    return enqueue_copy(context, pinned, device, bytes, cudaMemcpyDeviceToHost);
}

static rpo_status fill(rpo_context *context, void *device, int byte, size_t bytes) {
    if (bytes == 0)
        return RPO_OK;
    return rpo_cuda_check(cudaMemsetAsync(device, byte, bytes, stream_of(context)), "filling device memory");
}

static rpo_status timer_start(rpo_context *context) {
    const rpo_cuda_state *state = rpo_cuda_state_of(context);
    return rpo_cuda_check(cudaEventRecord(static_cast<cudaEvent_t>(state->timer[0]), stream_of(context)),
                          "starting the timer");
}

static rpo_status timer_stop(rpo_context *context, double *seconds) {
    const rpo_cuda_state *state = rpo_cuda_state_of(context);
    const cudaEvent_t begin = static_cast<cudaEvent_t>(state->timer[0]);
    const cudaEvent_t end = static_cast<cudaEvent_t>(state->timer[1]);
    float milliseconds = 0.0f;
    RPO_TRY(rpo_cuda_check(cudaEventRecord(end, stream_of(context)), "stopping the timer"));
    RPO_TRY(rpo_cuda_check(cudaEventSynchronize(end), "waiting for the timer"));
    RPO_TRY(rpo_cuda_check(cudaEventElapsedTime(&milliseconds, begin, end), "reading the timer"));
    *seconds = 1e-3 * static_cast<double>(milliseconds);
    return RPO_OK;
}

static rpo_status stamp(rpo_context *context, int slot) {
    rpo_cuda_state *state = static_cast<rpo_cuda_state *>(context->state);
    if (slot < 0 || slot >= RPO_STAMP_SLOTS)
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT, "stamp: slot is %d; must be 0 to %d", slot,
                             RPO_STAMP_SLOTS - 1);
    cudaEvent_t event = static_cast<cudaEvent_t>(state->stamps[slot]);
    if (event == NULL) {
        RPO_TRY(rpo_cuda_check(cudaEventCreate(&event), "creating a stamp"));
        state->stamps[slot] = event;
    }
    return rpo_cuda_check(cudaEventRecord(event, stream_of(context)), "stamping the stream");
}

static rpo_status stamp_seconds(rpo_context *context, int from, int to, double *seconds) {
    const rpo_cuda_state *state = rpo_cuda_state_of(context);
    for (const int slot : {from, to})
        if (slot < 0 || slot >= RPO_STAMP_SLOTS || state->stamps[slot] == NULL)
            return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT, "stamp: slot %d was never stamped", slot);
    float milliseconds = 0.0f;
    RPO_TRY(rpo_cuda_check(cudaEventElapsedTime(&milliseconds, static_cast<cudaEvent_t>(state->stamps[from]),
                                                static_cast<cudaEvent_t>(state->stamps[to])),
                           "reading a stamp"));
    *seconds = 1e-3 * static_cast<double>(milliseconds);
    return RPO_OK;
}

static void range_push(rpo_context *, const char *name) {
    (void)nvtxRangePushA(name);
}

static void range_pop(rpo_context *) {
    (void)nvtxRangePop();
}

static rpo_status copy_device(rpo_context *context, void *to, const void *from, size_t bytes) {
    if (bytes == 0)
        return RPO_OK;
    return rpo_cuda_check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream_of(context)),
                          "copying on the device");
}

static rpo_status matmul(rpo_context *context, void *c, const void *a, const void *b, int64_t size,
                         rpo_dtype dtype, void *workspace) {
    rpo_gemm gemm = {};
    gemm.m = gemm.n = gemm.k = size;
    gemm.a = a, gemm.lda = size;
    gemm.b = b, gemm.ldb = size, gemm.transpose_b = true;
    gemm.c = c, gemm.ldc = size;
    gemm.operand_dtype = gemm.result_dtype = dtype;
    gemm.alpha = 1.0f;
    return rpo_cuda_gemm(context, &gemm, workspace, RPO_MATMUL_WORKSPACE);
}

static size_t cache_bytes(const rpo_context *context) {
    return rpo_cuda_state_of(context)->l2_bytes;
}

extern "C" const rpo_device_ops rpo_cuda_device_ops = {
    rpo_cuda_entered<allocate>::call,
    rpo_cuda_entered<release>::call,
    rpo_cuda_entered<copy_in>::call,
    rpo_cuda_entered<copy_out>::call,
    rpo_cuda_entered<allocate_pinned>::call,
    rpo_cuda_entered<release_pinned>::call,
    rpo_cuda_entered<copy_in_async>::call,
    rpo_cuda_entered<copy_out_async>::call,
    rpo_cuda_entered<fill>::call,
    rpo_cuda_entered<timer_start>::call,
    rpo_cuda_entered<timer_stop>::call,
    rpo_cuda_entered<stamp>::call,
    rpo_cuda_entered<stamp_seconds>::call,
    range_push,
    range_pop,
    rpo_cuda_entered<copy_device>::call,
    rpo_cuda_entered<matmul>::call,
    cache_bytes,
};
