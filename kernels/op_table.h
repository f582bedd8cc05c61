/*
 * op_table.h - what a backend is: a struct of function pointers, one per op, plus supports().
 *
 * The public functions of include/rpo check arguments that no backend need check again (NULLs, ranges, workspace
 * size) in kernels/api/ and then call through this table. The orchestrator in host/ calls the model and
 * optimizer ops through it directly. A NULL pointer means that the backend lacks the op.
 */
#ifndef RPO_KERNELS_OP_TABLE_H
#define RPO_KERNELS_OP_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/device_ops.h"
#include "kernels/model_ops.h"
#include "kernels/optimizer_ops.h"
#include "rpo/rpo.h"

typedef enum rpo_op {
    RPO_OP_PROMPT_SIMILARITY,
    RPO_OP_CONTRAST_WEIGHTS,
    RPO_OP_CONTRAST_LOSS,
    RPO_OP_LOGPROB_GATHER,
    RPO_OP_LINEAR_LOGPROB,
    RPO_OP_MODEL,
    RPO_OP_OPTIMIZER
} rpo_op;

/*
 * The preference ops. Contracts and signatures: the public headers, whose prototypes these are; there is no other
 * copy of them. Arguments arrive checked, structs in this library's own version, saved is never NULL, and a contrast
 * loss without bounds as one block (num_blocks 1, max_block_* its sides).
 */
typedef struct rpo_preference_ops {
    __typeof__(rpo_prompt_similarity_workspace_size) *prompt_similarity_workspace_size;
    __typeof__(rpo_prompt_similarity) *prompt_similarity;
    __typeof__(rpo_contrast_weights) *contrast_weights;
    __typeof__(rpo_contrast_loss_workspace_size) *contrast_loss_workspace_size;
    __typeof__(rpo_contrast_loss) *contrast_loss;
    __typeof__(rpo_logprob_gather_workspace_size) *logprob_gather_workspace_size;
    __typeof__(rpo_logprob_gather) *logprob_gather;
    __typeof__(rpo_logprob_gather_backward) *logprob_gather_backward;
    __typeof__(rpo_linear_logprob_workspace_size) *linear_logprob_workspace_size;
    __typeof__(rpo_linear_logprob) *linear_logprob;
    __typeof__(rpo_linear_logprob_backward) *linear_logprob_backward;
    __typeof__(rpo_linear_logprob_cache_size) *linear_logprob_cache_size;
} rpo_preference_ops;

typedef struct rpo_backend {
    const char *name; /* "cpu", "cuda" */
    rpo_device device;

    /* Fills the context's backend part; reports a missing device. */
    rpo_status (*open)(rpo_context *context, const rpo_context_options *options);
    void (*close)(rpo_context *context);
    rpo_status (*synchronize)(rpo_context *context);

    /* One line for `rpo info`: device names, library versions. */
    void (*describe)(char *text, size_t size);

    bool (*supports)(rpo_op op, rpo_dtype dtype);

    const rpo_device_ops *device_ops;
    rpo_preference_ops preference;
    rpo_model_ops model;
    rpo_optimizer_ops optimizer;
} rpo_backend;

typedef struct rpo_instrument rpo_instrument;

struct rpo_context {
    const rpo_backend *backend;
    rpo_instrument *instrument; /* stands between (instrument.h); NULL = nothing does */
    int64_t launches;           /* kernels and library products that the CUDA backend enqueued */
    int device_index;
    int num_threads;
    void *stream;
    void *state; /* the backend's own */
};

/* Backends compiled into this build, the CPU first; *count receives their number. */
const rpo_backend *const *rpo_backends(size_t *count);

/* The backend of a device, or NULL when the build has none. */
const rpo_backend *rpo_backend_find(rpo_device device);

#endif
