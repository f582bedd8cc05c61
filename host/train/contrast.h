/*
 * contrast.h - contrast blocks: a scope cut into runs of rows that are contrasted with each other, the loss of
 * each from the contrast op, and their combination into one loss and one gradient scalar per sequence.
 */
#ifndef RPO_HOST_TRAIN_CONTRAST_H
#define RPO_HOST_TRAIN_CONTRAST_H

#include "host/embed/embed.h"
#include "host/metrics/figures.h"
#include "host/train/global_batch.h"

typedef struct rpo_contrast_options {
    rpo_loss_options loss;
    int64_t block_rows; /* rows of a block, > 0: pairs, or unpaired records (two for every pair) */
} rpo_contrast_options;

/*
 * Loss and figures of a scope. Blocks weigh by their rows. A block without chosen or without rejected
 * responses contributes nothing and counts as empty; when all are, the loss is 0 and so is every gradient.
 *
 * figures     out
 * gradients   out, [num_sequences] dL / d policy log-prob; or NULL
 * policy      in, [num_sequences] log-probs under the policy; `reference` the same under the frozen model
 * embeddings  in, one row per record of the scope's dataset; NULL for kinds that read none
 * Margins: mean chosen reward minus mean rejected reward. Accuracy: share of i below min(m, n) of each block
 * whose i-th chosen reward is above its i-th rejected one (a tie is no win).
 */
rpo_status rpo_contrast_blocks(rpo_figures *figures, float *gradients, rpo_context *context,
                               const rpo_global_batch *scope, const float *policy, const float *reference,
                               const rpo_embeddings *embeddings, const rpo_contrast_options *options);

/* sft: mean negative log-prob per label token of the scope's chosen responses. */
void rpo_likelihood_figures(rpo_figures *figures, const rpo_global_batch *scope, const float *policy);

#endif
