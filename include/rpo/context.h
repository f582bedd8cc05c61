/*
 * context.h - where ops run: a device, a stream and a number of host threads.
 */
#ifndef RPO_CONTEXT_H
#define RPO_CONTEXT_H

#include <stddef.h>
#include <stdint.h>

#include "rpo/export.h"
#include "rpo/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum rpo_device { RPO_DEVICE_CPU = 0, RPO_DEVICE_CUDA = 1 } rpo_device;

typedef enum rpo_dtype { RPO_FLOAT32 = 0, RPO_BFLOAT16 = 1, RPO_FLOAT16 = 2 } rpo_dtype;

/* Bytes of one element; 0 for a value that is no rpo_dtype. */
RPO_API size_t rpo_dtype_size(rpo_dtype dtype);

/* "float32", "bfloat16", "float16"; "unknown" otherwise. Static storage. */
RPO_API const char *rpo_dtype_name(rpo_dtype dtype);

typedef struct rpo_context rpo_context;

/*
 * Every struct of this interface begins with struct_size, its sizeof, which tells the library which version of the
 * struct the caller was compiled with; RPO_<STRUCT>_INIT sets it and the defaults. A program older than the library
 * hands in a smaller one: what it lacks has its default. One from a newer program is larger: accepted as long as
 * what this library does not know is all zero, INVALID_ARGUMENT otherwise.
 */
typedef struct rpo_context_options {
    size_t struct_size;
    rpo_device device;
    int device_index; /* which accelerator; ignored by the CPU */
    int num_threads;  /* host threads an op may use; 0 = as many as OpenMP would */
    void *stream;     /* cudaStream_t the ops enqueue on; NULL = the default stream; ignored by the CPU */
} rpo_context_options;

/* clang-format off */
#define RPO_CONTEXT_OPTIONS_INIT { sizeof(rpo_context_options), RPO_DEVICE_CPU, 0, 0, NULL }
/* clang-format on */

/*
 * Creates a context. `options` may be NULL (CPU, all threads). The caller owns *context and frees it with
 * rpo_context_free. On failure *context is NULL.
 * A context may be used by one thread at a time; several contexts may be used at once.
 * The CPU's ops run on the host program's OpenMP threads. How long these spin before they sleep is read from the
 * environment when the runtime is loaded, so the library cannot choose it: where other work shares the cores,
 * start the program with OMP_WAIT_POLICY=passive and GOMP_SPINCOUNT=1000, or give fewer num_threads; the default
 * is several times slower there. docs/threads.md has that, and OPENBLAS_CORETYPE for processors newer than OpenBLAS.
 * Errors: INVALID_ARGUMENT, UNSUPPORTED (the build has no such backend), DEVICE, OUT_OF_MEMORY.
 */
RPO_API rpo_status rpo_context_create(rpo_context **context, const rpo_context_options *options);

/* Frees the context; NULL is accepted. Work already enqueued on its stream is not waited for. */
RPO_API void rpo_context_free(rpo_context *context);

/* The following ops enqueue on `stream`. The caller keeps ownership of the stream. */
RPO_API rpo_status rpo_context_set_stream(rpo_context *context, void *stream);

RPO_API rpo_device rpo_context_device(const rpo_context *context);
RPO_API int rpo_context_num_threads(const rpo_context *context);

/* Waits until everything enqueued through this context is done; reports faults of earlier launches. */
RPO_API rpo_status rpo_context_synchronize(rpo_context *context);

/* "0.2.0"; static storage. */
RPO_API const char *rpo_version(void);

#ifdef __cplusplus
}
#endif
#endif
