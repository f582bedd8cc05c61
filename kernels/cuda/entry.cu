/* entry.cu - the current device and the last error, kept for the host program. */
#include "kernels/cuda/entry.h"

#include <cuda.h>
#include <cuda_runtime.h>

rpo_cuda_errors::rpo_cuda_errors() : clean_before_(cudaPeekAtLastError() == cudaSuccess) {}

rpo_cuda_errors::~rpo_cuda_errors() {
    if (clean_before_)
        (void)cudaGetLastError();
}

static rpo_status check(CUresult result, const char *what) {
    if (result == CUDA_SUCCESS)
        return RPO_OK;
    return rpo_error_set(RPO_ERROR_DEVICE, "device: %s: the driver says %d", what, static_cast<int>(result));
}

rpo_cuda_current::rpo_cuda_current(const rpo_cuda_driver *driver) : driver_(driver) {
    const auto push = reinterpret_cast<decltype(cuCtxPushCurrent) *>(driver->push);
    status_ = check(push(static_cast<CUcontext>(driver->primary)), "making it current");
}

rpo_cuda_current::~rpo_cuda_current() {
    const auto pop = reinterpret_cast<decltype(cuCtxPopCurrent) *>(driver_->pop);
    CUcontext popped = NULL;
    if (status_ == RPO_OK)
        (void)pop(&popped);
}

/* A function as the loaded driver has it: this library must also start where there is no driver. */
static rpo_status find(void **function, const char *name) {
    *function = NULL;
    cudaDriverEntryPointQueryResult result;
#if CUDART_VERSION >= 12050
    const cudaError_t error =
        cudaGetDriverEntryPointByVersion(name, function, 12000, cudaEnableDefault, &result);
#else
    const cudaError_t error = cudaGetDriverEntryPoint(name, function, cudaEnableDefault, &result);
#endif
    RPO_TRY(rpo_cuda_check(error, name));
    if (result != cudaDriverEntryPointSuccess || *function == NULL)
        return rpo_error_set(RPO_ERROR_DEVICE, "device: the driver has no %s", name);
    return RPO_OK;
}

rpo_status rpo_cuda_driver_open(rpo_cuda_driver *driver, int device) {
    void *retain = NULL;
    CUcontext primary = NULL;
    RPO_TRY(find(&retain, "cuDevicePrimaryCtxRetain"));
    RPO_TRY(find(&driver->release, "cuDevicePrimaryCtxRelease"));
    RPO_TRY(find(&driver->push, "cuCtxPushCurrent"));
    RPO_TRY(find(&driver->pop, "cuCtxPopCurrent"));
    RPO_TRY(check(reinterpret_cast<decltype(cuDevicePrimaryCtxRetain) *>(retain)(&primary, device),
                  "opening it"));
    driver->primary = primary;
    driver->device = device;
    return RPO_OK;
}

void rpo_cuda_driver_close(rpo_cuda_driver *driver) {
    if (driver->primary != NULL)
        (void)reinterpret_cast<decltype(cuDevicePrimaryCtxRelease) *>(driver->release)(driver->device);
    driver->primary = NULL;
}
