/*
 * contrast.h - phase 3: the loss of a planned step's groups on the device, and the figures of it on the host.
 */
#ifndef RPO_HOST_TRAIN_CONTRAST_H
#define RPO_HOST_TRAIN_CONTRAST_H

#include "host/embed/embed.h"
#include "host/metrics/figures.h"
#include "host/train/plan.h"

typedef struct rpo_contrast_options {
    rpo_loss_options loss;
    int64_t block_rows; /* rows of a block, > 0: pairs, or unpaired records (two for every pair) */
} rpo_contrast_options;

/* One figure per record and side; 0 where a record lacks the side. */
typedef struct rpo_scores {
    float *chosen, *rejected; /* [count] */
    int64_t count;
} rpo_scores;

rpo_status rpo_scores_create(rpo_scores *scores, int64_t count);
void rpo_scores_free(rpo_scores *scores);
/* Files a batch's log-probs, in sequence order, under the records they belong to. */
void rpo_scores_keep(rpo_scores *scores, const rpo_global_batch *batch, const float *logps);

/* The arrays of one step in contrast order, on the device; `host` where they are downloaded to. */
typedef struct rpo_contrast_arrays {
    float *losses, *policy, *rewards; /* [num_groups], [num_places], [num_places] */
    float *gradients;                 /* [num_places] dL / d policy */
    const float *reference;           /* [num_places] */
    const float *embeddings;          /* [num_places][dim] in contrast order; NULL for kinds that read none */
    int64_t dim;
    struct {
        const float *losses, *policy, *rewards;
    } host;
} rpo_contrast_arrays;

/* Puts what the loss reads besides the policy into the plan's staging. embeddings: rows of the dataset, or NULL. */
rpo_status rpo_contrast_stage(rpo_contrast_arrays *arrays, const rpo_plan *plan,
                              const rpo_global_batch *batch, const rpo_scores *reference,
                              const rpo_embeddings *embeddings, rpo_staging *staging);

/* Takes room in the staging that the step downloads. */
rpo_status rpo_contrast_place(rpo_contrast_arrays *arrays, const rpo_plan *plan, rpo_staging *figures);

/* Enqueues the loss of one group, whose policy log-probs are there. */
rpo_status rpo_contrast_group_loss(const rpo_contrast_arrays *arrays, const rpo_plan *plan, int64_t group,
                                   rpo_context *context, const rpo_contrast_options *options, void *workspace,
                                   size_t workspace_bytes);

/* Workspace of any group of at most `places` places. */
rpo_status rpo_contrast_workspace_bound(size_t *bytes, rpo_context *context,
                                        const rpo_contrast_options *options, int64_t places, int64_t dim);

/*
 * Figures of several batches together. Blocks weigh by their rows. A block without chosen or without rejected responses
 * contributes nothing and counts as empty; when all are, the loss is 0.
 * Margins: mean chosen reward minus mean rejected reward. Accuracy: share of i below min(m, n) of each block whose i-th
 * chosen reward is above its i-th rejected one (a tie is no win).
 */
typedef struct rpo_figure_sums {
    double loss, loss_rows, rewards[2], logps[2]; /* [0] chosen, [1] rejected */
    int64_t counts[2], wins, compared, labels, blocks, empty_blocks;
} rpo_figure_sums;

/* Adds a downloaded step's figures. */
void rpo_contrast_sum(rpo_figure_sums *sums, const rpo_contrast_arrays *arrays, const rpo_plan *plan);
rpo_figures rpo_contrast_figures(const rpo_figure_sums *sums);

/* sft: adds a batch of chosen responses; the figures are the mean negative log-prob per label token. */
void rpo_likelihood_sum(rpo_figure_sums *sums, const rpo_global_batch *batch, const float *logps);
rpo_figures rpo_likelihood_figures(const rpo_figure_sums *sums);

#endif
