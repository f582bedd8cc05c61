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

/* The preference ops. Contracts: the public headers; arguments arrive checked. */
typedef struct rpo_preference_ops {
    rpo_status (*prompt_similarity_workspace_size)(rpo_context *context, size_t *bytes, int64_t m, int64_t n,
                                                   int64_t dim, rpo_dtype dtype);
    rpo_status (*prompt_similarity)(rpo_context *context, float *similarity, const void *chosen_embeddings,
                                    const void *rejected_embeddings, int64_t m, int64_t n, int64_t dim,
                                    rpo_dtype dtype, void *workspace, size_t workspace_size);
    rpo_status (*contrast_weights)(rpo_context *context, float *weights, const void *chosen_embeddings,
                                   const void *rejected_embeddings, int64_t m, int64_t n, int64_t dim,
                                   rpo_dtype dtype, float tau, rpo_weight_scale scale, void *workspace,
                                   size_t workspace_size);
    rpo_status (*contrast_loss_workspace_size)(rpo_context *context, size_t *bytes,
                                               const rpo_contrast_inputs *inputs,
                                               const rpo_loss_options *options);
    rpo_status (*contrast_loss)(rpo_context *context, const rpo_contrast_outputs *outputs,
                                const rpo_contrast_inputs *inputs, const rpo_loss_options *options,
                                void *workspace, size_t workspace_size);
    rpo_status (*logprob_gather_workspace_size)(rpo_context *context, size_t *bytes,
                                                const rpo_logprob_shape *shape);
    rpo_status (*logprob_gather)(rpo_context *context, float *sequence_logps, float *token_logps,
                                 float *logsumexp, const void *logits, const int32_t *labels,
                                 const int32_t *cu_seqlens, const rpo_logprob_shape *shape, void *workspace,
                                 size_t workspace_size);
    rpo_status (*logprob_gather_backward)(rpo_context *context, void *grad_logits, const void *logits,
                                          const float *logsumexp, const int32_t *labels,
                                          const int32_t *cu_seqlens, const float *grad_sequence_logps,
                                          const rpo_logprob_shape *shape, void *workspace,
                                          size_t workspace_size);
    rpo_status (*linear_logprob_workspace_size)(rpo_context *context, size_t *bytes,
                                                const rpo_linear_logprob_shape *shape, int backward);
    rpo_status (*linear_logprob)(rpo_context *context, float *sequence_logps, float *token_logps,
                                 const void *hidden, const void *head, const int32_t *labels,
                                 const int32_t *cu_seqlens, const rpo_linear_logprob_shape *shape,
                                 void *workspace, size_t workspace_size);
    rpo_status (*linear_logprob_backward)(rpo_context *context, void *grad_hidden, float *grad_head,
                                          float *sequence_logps, const void *hidden, const void *head,
                                          const int32_t *labels, const int32_t *cu_seqlens,
                                          const float *grad_sequence_logps,
                                          const rpo_linear_logprob_shape *shape, void *workspace,
                                          size_t workspace_size);
    rpo_status (*linear_logprob_cache_size)(rpo_context *context, size_t *bytes,
                                            const rpo_linear_logprob_shape *shape);
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

struct rpo_context {
    const rpo_backend *backend;
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
