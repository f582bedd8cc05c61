/*
 * similarity.h - how alike prompts are, and the contrastive weights made of it.
 *
 * The contrast loss (loss.h) computes both inside its own tiles and never stores them; these two ops are for
 * looking at them and for pipelines that want the matrices.
 */
#ifndef RPO_SIMILARITY_H
#define RPO_SIMILARITY_H

#include <stddef.h>
#include <stdint.h>

#include "rpo/context.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What the row softmax is multiplied with. */
typedef enum rpo_weight_scale {
    RPO_WEIGHT_SCALE_NONE = 0, /* rows sum to 1, as in the paper */
    RPO_WEIGHT_SCALE_BLOCK = 1 /* times n, so that the mean weight is 1 whatever the block's size */
} rpo_weight_scale;

/* m row prompts and n column prompts. Caller's, on the context's device, only read. */
typedef struct rpo_similarity_inputs {
    size_t struct_size;
    const void *chosen_embeddings; /* `dtype` [m][dim], row-major */
    const void
        *rejected_embeddings; /* `dtype` [n][dim], row-major; may be the same pointer as chosen_embeddings */
    int64_t m, n;             /* >= 0 */
    int64_t dim;              /* >= 1 */
    rpo_dtype dtype;
} rpo_similarity_inputs;

/* clang-format off */
#define RPO_SIMILARITY_INPUTS_INIT { sizeof(rpo_similarity_inputs), NULL, NULL, 0, 0, 0, RPO_FLOAT32 }
/* clang-format on */

/* Bytes of workspace both functions below need, at most O(m + n) plus a fixed tile. Pointers are not read. */
RPO_API rpo_status rpo_prompt_similarity_workspace_size(rpo_context *context, size_t *bytes,
                                                        const rpo_similarity_inputs *inputs);

/*
 * Cosine similarity of every row prompt with every column prompt:
 *     similarity[i][j] = <e_i, f_j> / (|e_i| |f_j|)
 *
 * similarity  out, float32 [m][n], row-major, caller's
 * workspace   caller's, at least rpo_prompt_similarity_workspace_size bytes, 64-byte aligned; NULL when 0
 * Stream: enqueues and returns (the CPU computes before it returns). Deterministic: same input, same bits.
 * Edges: a zero-norm embedding has similarity 0 to everything; m or n = 0 writes nothing; non-finite
 * embeddings give non-finite similarities in their row or column only.
 * Errors: INVALID_ARGUMENT, UNSUPPORTED (dtype), WORKSPACE.
 */
RPO_API rpo_status rpo_prompt_similarity(rpo_context *context, float *similarity,
                                         const rpo_similarity_inputs *inputs, void *workspace,
                                         size_t workspace_size);

/*
 * Contrastive weights (Yin et al. 2024, arXiv 2402.10958, the prompt-distance weighting):
 *     weights[i][j] = softmax over j of ( -(1 - similarity[i][j]) / tau ), times n with RPO_WEIGHT_SCALE_BLOCK
 *
 * tau  distance temperature, finite and > 0. Other parameters, edges and errors as rpo_prompt_similarity.
 */
RPO_API rpo_status rpo_contrast_weights(rpo_context *context, float *weights,
                                        const rpo_similarity_inputs *inputs, float tau,
                                        rpo_weight_scale scale, void *workspace, size_t workspace_size);

#ifdef __cplusplus
}
#endif
#endif
