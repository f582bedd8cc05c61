/*
 * device_ops.h - memory, copies and time of the device behind a context, for programs that are written once for every
 * backend: the trainer, the command line tools, the tests and the bench. Ops never call these.
 *
 * What enqueues is ordered on the context's stream with its ops and returns before it is done; rpo_context_synchronize
 * waits for it.
 */
#ifndef RPO_KERNELS_DEVICE_OPS_H
#define RPO_KERNELS_DEVICE_OPS_H

#include <stddef.h>
#include <stdint.h>

#include "rpo/context.h"

enum {
    RPO_MATMUL_WORKSPACE = 32 << 20,
    RPO_STAMP_SLOTS = 64, /* stamps that a context holds at once */
};

typedef struct rpo_device_ops {
    /* 256-byte aligned, uninitialised; *memory is NULL for bytes = 0. Errors: OUT_OF_MEMORY, DEVICE. */
    rpo_status (*allocate)(rpo_context *context, void **memory, size_t bytes);
    void (*release)(rpo_context *context, void *memory); /* NULL accepted */

    /* Ordered after what the context has enqueued; both return when the host memory may be reused or read. */
    rpo_status (*copy_in)(rpo_context *context, void *device, const void *host, size_t bytes);
    rpo_status (*copy_out)(rpo_context *context, void *host, const void *device, size_t bytes);

    /* Host memory that the device reaches by itself ("pinned"): 256-byte aligned, uninitialised, *memory is NULL for
     * bytes = 0. Errors: OUT_OF_MEMORY, DEVICE. */
    rpo_status (*allocate_pinned)(rpo_context *context, void **memory, size_t bytes);
    void (*release_pinned)(rpo_context *context, void *memory); /* NULL accepted */

    /* As copy_in and copy_out, from and to pinned memory; enqueue and return. The host leaves the pinned bytes alone, and
     * does not read them, before it has waited. */
    rpo_status (*copy_in_async)(rpo_context *context, void *device, const void *pinned, size_t bytes);
    rpo_status (*copy_out_async)(rpo_context *context, void *pinned, const void *device, size_t bytes);

    /* Sets every byte; enqueues and returns. */
    rpo_status (*fill)(rpo_context *context, void *device, int byte, size_t bytes);

    /* Seconds of device time between the two calls on the context's stream; the second one waits. One timer a context. */
    rpo_status (*timer_start)(rpo_context *context);
    rpo_status (*timer_stop)(rpo_context *context, double *seconds);

    /*
     * Moments of the stream, for traces that must not wait. stamp() marks, in a slot of 0 .. RPO_STAMP_SLOTS - 1, the
     * moment at which the stream gets there; enqueues and returns. stamp_seconds() gives the device time between two
     * stamps that were made before the last wait. Errors: INVALID_ARGUMENT (no such slot, or never stamped), DEVICE.
     */
    rpo_status (*stamp)(rpo_context *context, int slot);
    rpo_status (*stamp_seconds)(rpo_context *context, int from, int to, double *seconds);

    /* A named range of the calling thread in a profiler's time line (CUDA: NVTX, which costs next to nothing where no
     * profiler watches; CPU: nothing). Ranges nest, a pop ends the innermost. `name` is not kept. */
    void (*range_push)(rpo_context *context, const char *name);
    void (*range_pop)(rpo_context *context);

    /* What the bench measures the device's limits with, and how much it overwrites to find the caches cold. */

    /* Device to device at the full bandwidth of its memory; enqueues and returns. No overlap. */
    rpo_status (*copy_device)(rpo_context *context, void *to, const void *from, size_t bytes);
    /* c = a b^T, all `size` x `size` of `dtype`, by the library the ops use. workspace: RPO_MATMUL_WORKSPACE
     * bytes on the device. */
    rpo_status (*matmul)(rpo_context *context, void *c, const void *a, const void *b, int64_t size,
                         rpo_dtype dtype, void *workspace);
    /* Bytes of the last cache in front of the device's memory; 0 = not known. */
    size_t (*cache_bytes)(const rpo_context *context);
} rpo_device_ops;

#endif
