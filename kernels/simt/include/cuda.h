/*
 * cuda.h - simt's stand-in for the driver's header: the contexts behind the runtime's "current device". Every thread has
 * a stack of them; the runtime works on the device of the topmost and, where there is none, opens device 0.
 */
#ifndef RPO_SIMT_CUDA_H
#define RPO_SIMT_CUDA_H

enum CUresult {
    CUDA_SUCCESS = 0,
    CUDA_ERROR_INVALID_VALUE = 1,
    CUDA_ERROR_INVALID_DEVICE = 101,
    CUDA_ERROR_INVALID_CONTEXT = 201
};
typedef int CUdevice;
typedef struct CUctx_st *CUcontext;

CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device);
CUresult cuDevicePrimaryCtxRelease(CUdevice device);
CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned *flags, int *active);
CUresult cuCtxPushCurrent(CUcontext context);
CUresult cuCtxPopCurrent(CUcontext *context);
CUresult cuCtxGetCurrent(CUcontext *context);

#endif
