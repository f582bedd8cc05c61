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
 * A call may hold several blocks: consecutive rows of either side that are contrasted with each other and with
 * nothing else, as the sequences of a packed batch are cut by cu_seqlens. Above, m, n and the means are then those
 * of a block, and the call's loss and gradients are those of sum_b weight_b loss_b.
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

/* 1 where a pair's loss depends on other pairs than itself, so that blocks matter; 0 where cutting a block into
 * its pairs (sft: its responses) leaves the loss as it is. */
RPO_API int rpo_loss_kind_contrasts(rpo_loss_kind kind);

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

/* The loss where policy and reference agree, at which a run starts, as theory fixes it; NAN where it does not (sft)
 * or where the options are no valid ones. */
RPO_API double rpo_loss_at_start(const rpo_loss_options *options);

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
    int64_t m, n, dim; /* rows of all blocks; dim is read by kinds with embeddings */

    /* Several blocks; 0 and NULL = one block of m and n. */
    const int32_t *chosen_bounds;   /* [num_blocks + 1], non-decreasing from 0 to m: block b holds the rows
                                       chosen_bounds[b] .. chosen_bounds[b + 1] - 1 */
    const int32_t *rejected_bounds; /* [num_blocks + 1], the same for n */
    int64_t num_blocks;
    int64_t max_block_m, max_block_n; /* no block has more rows; 0 = m, n. What a backend plans for */
    double total_rows; /* weight_b = (m_b + n_b) / total_rows (sft: m_b / total_rows); 0 = the sum over the
                          blocks that contribute */
} rpo_contrast_inputs;

/* clang-format off */
#define RPO_CONTRAST_INPUTS_INIT \
    { sizeof(rpo_contrast_inputs), NULL, NULL, NULL, NULL, NULL, NULL, RPO_FLOAT32, 0, 0, 0, \
      NULL, NULL, 0, 0, 0, 0.0 }
/* clang-format on */

/* Every pointer but `loss` may be NULL: that output is then not written. All float32, caller's. */
typedef struct rpo_contrast_outputs {
    size_t struct_size;
    float *loss;                /* [1] sum_b weight_b loss_b; loss_b is the mean of the block's row_losses */
    float *row_losses;          /* [m] each row's own, unweighted; kto-simple: [m + n], chosen rows first */
    float *grad_chosen_logps;   /* [m] d loss / d policy_chosen_logps; overwritten */
    float *grad_rejected_logps; /* [n] d loss / d policy_rejected_logps; overwritten */
    float *chosen_rewards;      /* [m] beta a_i */
    float *rejected_rewards;    /* [n] beta b_j */
    float *margins;  /* [min(m, n)] chosen_rewards[i] - rejected_rewards[i] of the pairs i of a block,
                                   i < min(m_b, n_b), block after block; what lies beyond them is not written */
    float *accuracy; /* [1] share of these pairs with a margin > 0; 0 when there are none */
} rpo_contrast_outputs;

/* clang-format off */
#define RPO_CONTRAST_OUTPUTS_INIT \
    { sizeof(rpo_contrast_outputs), NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL }
/* clang-format on */

/* Bytes of workspace rpo_contrast_loss needs: O(m + n + num_blocks) plus a fixed tile for each thread, never
 * m x n. Reads sizes only, no array. */
RPO_API rpo_status rpo_contrast_loss_workspace_size(rpo_context *context, size_t *bytes,
                                                    const rpo_contrast_inputs *inputs,
                                                    const rpo_loss_options *options);

/*
 * Computes the loss and every other output, of all blocks, in one call. `options` may be NULL
 * (RPO_LOSS_OPTIONS_INIT).
 *
 * workspace  caller's, at least rpo_contrast_loss_workspace_size bytes, 64-byte aligned; NULL when that is 0
 * Numbers: s_ij, l(x) and the sums in float32 or better; log sigmoid(x) = min(x, 0) - log1p(exp(-|x|)).
 * Stream: enqueues and returns (the CPU computes before it returns). Deterministic: same input, same bits.
 * Edges: a block without chosen or without rejected rows contributes nothing: its row losses and gradients are
 * 0, its rewards what they are (sft needs chosen rows only). With no block that contributes the loss is 0.
 * Non-finite input gives a non-finite loss, never a crash; a zero-norm embedding has similarity 0.
 * Errors: INVALID_ARGUMENT (a NULL that is needed, m != n for a paired kind, an option out of its range),
 * UNSUPPORTED (embedding_dtype; on an accelerator, for kinds over all pairs, several blocks in one call with more
 * than 512 rows a side or embeddings too long for its shared memory), WORKSPACE. Bounds that break their contract
 * (not from 0 to m, decreasing, a block longer than max_block_*, m_b != n_b for a paired kind) are INVALID_ARGUMENT
 * on the CPU; an accelerator, which cannot look at them without waiting, reads nothing outside the arrays and gives
 * a NaN loss instead.
 */
RPO_API rpo_status rpo_contrast_loss(rpo_context *context, const rpo_contrast_outputs *outputs,
                                     const rpo_contrast_inputs *inputs, const rpo_loss_options *options,
                                     void *workspace, size_t workspace_size);

#ifdef __cplusplus
}
#endif
#endif
