/*
 * loss.h - the contrast loss: loss, gradient, rewards and margins of a batch in one call.
 *
 * With sequence log-probs under the policy and a frozen reference,
 *     a_i = policy_chosen[i] - reference_chosen[i],   b_j = policy_rejected[j] - reference_rejected[j],
 *     s_ij = a_i - b_j,   l(x) = -log sigmoid(x),   w_ij the contrastive weights of similarity.h:
 *
 *     rpo-paired    mean_ij l(beta w_ij s_ij)                   m = n; Yin et al. 2024, arXiv 2402.10958
 *     rpo-unpaired  the same                                    m and n may differ
 *     rpo-uniform   the same with w_ij = 1
 *     rpo-diagonal  mean_i [ d l(beta s_ii) + (1-d) mean_{j!=i} l(beta s_ij) ]       m = n; m = 1: l(beta s_00)
 *     dpo           mean_i l(beta s_ii)                         m = n; Rafailov et al. 2023
 *     cdpo          mean_i [ (1-eps) l(beta s_ii) + eps l(-beta s_ii) ]              m = n; Mitchell 2023
 *     ipo           mean_i (s_ii - 1/(2 beta))^2                m = n; Azar et al. 2023
 *     kto-simple    over m + n rows: 1 - sigmoid(beta (a_i - max(mean b, 0))) and
 *                   1 - sigmoid(beta (max(mean a, 0) - b_j)); the gradient flows through the means
 *     sft           mean_i of -policy_chosen[i]
 *
 * Any per-sample score may stand where a log-prob stands; nothing here assumes text.
 */
#ifndef RPO_LOSS_H
#define RPO_LOSS_H

#include <stddef.h>
#include <stdint.h>

#include "rpo/context.h"
#include "rpo/similarity.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum rpo_loss_kind {
    RPO_LOSS_RPO_PAIRED = 0,
    RPO_LOSS_RPO_UNPAIRED = 1,
    RPO_LOSS_RPO_UNIFORM = 2,
    RPO_LOSS_RPO_DIAGONAL = 3,
    RPO_LOSS_DPO = 4,
    RPO_LOSS_CDPO = 5,
    RPO_LOSS_IPO = 6,
    RPO_LOSS_KTO_SIMPLE = 7,
    RPO_LOSS_SFT = 8
} rpo_loss_kind;

#define RPO_LOSS_KIND_COUNT 9

/* "rpo-paired" and so on; NULL for a value that is no rpo_loss_kind. Static storage. */
RPO_API const char *rpo_loss_kind_name(rpo_loss_kind kind);

/* Writes the kind named `name`; INVALID_ARGUMENT (naming what is allowed) for any other string. */
RPO_API rpo_status rpo_loss_kind_from_name(rpo_loss_kind *kind, const char *name);

/* 1 where the kind reads embeddings, 1 where it needs m = n; 0 otherwise. */
RPO_API int rpo_loss_kind_needs_embeddings(rpo_loss_kind kind);
RPO_API int rpo_loss_kind_needs_pairs(rpo_loss_kind kind);

typedef struct rpo_loss_options {
    size_t struct_size;
    rpo_loss_kind kind;
    float beta;            /* finite, > 0 */
    float tau;             /* distance temperature, finite, > 0; read by rpo-paired and rpo-unpaired */
    float diagonal_weight; /* d in [0, 1]; read by rpo-diagonal */
    float epsilon;         /* label smoothing in [0, 0.5]; read by cdpo */
    rpo_weight_scale weight_scale;
} rpo_loss_options;

/* clang-format off */
#define RPO_LOSS_OPTIONS_INIT \
    { sizeof(rpo_loss_options), RPO_LOSS_RPO_PAIRED, 0.1f, 0.5f, 0.8f, 0.1f, RPO_WEIGHT_SCALE_NONE }
/* clang-format on */

/* All pointers are the caller's, live on the context's device, and are only read. */
typedef struct rpo_contrast_inputs {
    size_t struct_size;
    const float *policy_chosen_logps;      /* [m] */
    const float *policy_rejected_logps;    /* [n] */
    const float *reference_chosen_logps;   /* [m]; NULL = zeros (policy_* then hold log-ratios or scores) */
    const float *reference_rejected_logps; /* [n]; NULL = zeros */
    const void *chosen_embeddings;         /* embedding_dtype [m][dim], row-major; NULL for kinds without */
    const void *rejected_embeddings;       /* embedding_dtype [n][dim]; may equal chosen_embeddings */
    rpo_dtype embedding_dtype;
    int64_t m, n, dim;
} rpo_contrast_inputs;

/* Every pointer but `loss` may be NULL: that output is then not written. All float32, caller's. */
typedef struct rpo_contrast_outputs {
    size_t struct_size;
    float *loss;                /* [1] the mean of row_losses */
    float *row_losses;          /* [m]; kto-simple: [m + n], chosen rows first */
    float *grad_chosen_logps;   /* [m] d loss / d policy_chosen_logps; overwritten */
    float *grad_rejected_logps; /* [n] d loss / d policy_rejected_logps; overwritten */
    float *chosen_rewards;      /* [m] beta a_i */
    float *rejected_rewards;    /* [n] beta b_j */
    float *margins;             /* [min(m, n)] chosen_rewards[i] - rejected_rewards[i] */
    float *accuracy;            /* [1] share of i < min(m, n) with a margin > 0; 0 when min(m, n) = 0 */
} rpo_contrast_outputs;

/* Bytes of workspace rpo_contrast_loss needs: O(m + n) plus a fixed tile, never m x n. */
RPO_API rpo_status rpo_contrast_loss_workspace_size(rpo_context *context, size_t *bytes,
                                                    const rpo_contrast_inputs *inputs,
                                                    const rpo_loss_options *options);

/*
 * Computes the loss and every other output in one call. `options` may be NULL (RPO_LOSS_OPTIONS_INIT).
 *
 * workspace  caller's, at least rpo_contrast_loss_workspace_size bytes, 64-byte aligned; NULL when that is 0
 * Numbers: s_ij, l(x) and the sums in float32 or better; log sigmoid(x) = min(x, 0) - log1p(exp(-|x|)).
 * Stream: enqueues and returns (the CPU computes before it returns). Deterministic: same input, same bits.
 * Edges: m = 0 or n = 0 gives loss 0 and zero gradients for the kinds that contrast (sft needs m only);
 * non-finite input gives a non-finite loss, never a crash; a zero-norm embedding has similarity 0.
 * Errors: INVALID_ARGUMENT (a NULL that is needed, m != n for a paired kind, an option out of its range),
 * UNSUPPORTED (embedding_dtype), WORKSPACE.
 */
RPO_API rpo_status rpo_contrast_loss(rpo_context *context, const rpo_contrast_outputs *outputs,
                                     const rpo_contrast_inputs *inputs, const rpo_loss_options *options,
                                     void *workspace, size_t workspace_size);

#ifdef __cplusplus
}
#endif
#endif
