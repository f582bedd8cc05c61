/*
 * cuda.h - what the CUDA ops share: the device's figures, launch bookkeeping, the op declarations. Included
 * by the .cu files, which nvcc compiles for the GPU and simt/ for the CPU.
 */
#ifndef RPO_CUDA_CUDA_H
#define RPO_CUDA_CUDA_H

#include "core/bump.h"
#include "core/error.h"
#include "kernels/op_table.h"

/* The device's primary context and the driver's calls around it (entry.h). */
typedef struct rpo_cuda_driver {
    void *primary; /* CUcontext, held open from rpo_context_create to rpo_context_free */
    int device;
    void *release, *push, *pop; /* functions, typed in entry.cu */
} rpo_cuda_driver;

enum { RPO_CUDA_KNOWN_KERNELS = 256 };

/* What a kernel may have of dynamic shared memory on the context's device, once that was set to the most there is. */
typedef struct rpo_cuda_shared_limit {
    const void *kernel; /* NULL: a free place */
    size_t bytes;
} rpo_cuda_shared_limit;

/* Found once, when the context is opened; ops choose their launches from it and never ask the device again.
 */
typedef struct rpo_cuda_state {
    int compute_capability; /* 80, 90, ... */
    int num_sms;
    size_t l2_bytes;
    size_t shared_bytes_limit;     /* dynamic shared memory a block can have */
    bool debug_sync;               /* RPO_DEBUG_SYNC=1 */
    bool trace_launch;             /* RPO_TRACE_LAUNCH=1 */
    void *blas;                    /* cublasLtHandle_t */
    void *timer[2];                /* cudaEvent_t: begin and end */
    void *stamps[RPO_STAMP_SLOTS]; /* cudaEvent_t, made when first used */
    rpo_cuda_driver driver;
    rpo_cuda_shared_limit shared_limits[RPO_CUDA_KNOWN_KERNELS]; /* by the kernel's address */
} rpo_cuda_state;

#ifdef __cplusplus
extern "C" {
#endif

static inline const rpo_cuda_state *rpo_cuda_state_of(const rpo_context *context) {
    return (const rpo_cuda_state *)context->state;
}

/* The parts of rpo_launch that need no template. `error` is a cudaError_t. */
void rpo_cuda_before_launch(rpo_context *context, const char *name, unsigned grid_x, unsigned grid_y,
                            unsigned grid_z, unsigned block_x, unsigned block_y, unsigned block_z,
                            size_t shared_bytes);
rpo_status rpo_cuda_allow_shared(rpo_context *context, const char *name, const void *kernel,
                                 size_t shared_bytes);
rpo_status rpo_cuda_after_launch(rpo_context *context, const char *name, int error);

/* DEVICE with "WHAT: cudaErrorName: text" for a failed runtime call; OK for cudaSuccess. */
rpo_status rpo_cuda_check(int error, const char *what);

/* device_ops.cu */
extern const rpo_device_ops rpo_cuda_device_ops;

/* The ops; contracts and signatures: include/rpo. Arguments arrive checked, pointers are device memory. */
extern __typeof__(rpo_prompt_similarity_workspace_size) rpo_cuda_prompt_similarity_workspace_size;
extern __typeof__(rpo_prompt_similarity) rpo_cuda_prompt_similarity;
extern __typeof__(rpo_contrast_weights) rpo_cuda_contrast_weights;
extern __typeof__(rpo_contrast_loss_workspace_size) rpo_cuda_contrast_loss_workspace_size;
extern __typeof__(rpo_contrast_loss) rpo_cuda_contrast_loss;
extern __typeof__(rpo_logprob_gather_workspace_size) rpo_cuda_logprob_gather_workspace_size;
extern __typeof__(rpo_logprob_gather) rpo_cuda_logprob_gather;
extern __typeof__(rpo_logprob_gather_backward) rpo_cuda_logprob_gather_backward;
extern __typeof__(rpo_linear_logprob_workspace_size) rpo_cuda_linear_logprob_workspace_size;
extern __typeof__(rpo_linear_logprob) rpo_cuda_linear_logprob;
extern __typeof__(rpo_linear_logprob_backward) rpo_cuda_linear_logprob_backward;
extern __typeof__(rpo_linear_logprob_cache_size) rpo_cuda_linear_logprob_cache_size;

#ifdef __cplusplus
}
#endif
#endif
