/*
 * plan.h - a step before it runs: which sequences are forwarded together, which of them are contrasted in one call, and
 * everything the device needs to know of both, packed and uploaded at once.
 *
 * A group is what one call of the contrast loss covers: whole contrast blocks whose sequences fit one micro-batch (its
 * forward is recorded, contrasted and walked back: one pass), or a single block that takes several (two phases), or,
 * with several ranks, everything. Losses that do not contrast rows with each other have blocks of one row. Blocks
 * without chosen or without rejected responses teach nothing and are not run at all.
 *
 * Contrast order: the groups one after another, in each the chosen responses of its blocks in row order, then the
 * rejected ones. Policy and reference log-probs, rewards and gradients stand in this order.
 */
#ifndef RPO_HOST_TRAIN_PLAN_H
#define RPO_HOST_TRAIN_PLAN_H

#include "host/model/model.h"
#include "host/train/global_batch.h"
#include "host/train/pack.h"

typedef struct rpo_micro_batch {
    rpo_device_batch batch;
    int64_t first_segment; /* where its segments stand among all segments of the step */
    const int32_t
        *gradient_index;    /* device [batch.num_segments]: place in contrast order, -1 = no gradient */
    const float *gradients; /* device [batch.num_segments]: known beforehand (sft); NULL otherwise */
} rpo_micro_batch;

typedef struct rpo_contrast_group {
    int64_t first_batch, num_batches;
    int64_t start, m, n; /* places [start, start + m) are chosen, then n rejected */
    int64_t first_block, num_blocks;
    int64_t max_block_m, max_block_n;
    const int32_t
        *segment_index; /* device [m + n]: segment of each place, -1 = another rank's, or no label */
    const int32_t *chosen_bounds, *rejected_bounds; /* device [num_blocks + 1] */
} rpo_contrast_group;

/* A contrast block that contributes, in contrast order. */
typedef struct rpo_contrast_block {
    int64_t group, m, n;
} rpo_contrast_block;

typedef struct rpo_plan_options {
    int64_t micro_batch_tokens; /* most rows of one forward, > 0; a longer sequence goes alone */
    int64_t block_rows;         /* rows of a contrast block, > 0 */
    bool contrasts;             /* rows are contrasted with each other */
    bool likelihood;            /* sft: no contrast, no groups, gradients known beforehand */
    bool both_sides;            /* with likelihood: the rejected responses are scored as well */
    bool share;                 /* shared prompts are computed once */
} rpo_plan_options;

typedef struct rpo_plan {
    rpo_micro_batch *micro_batches;
    rpo_contrast_group *groups;
    rpo_contrast_block *blocks;
    int64_t num_micro_batches, num_groups, num_blocks;
    int64_t empty_blocks, all_blocks;
    int64_t num_places;   /* of contrast order; sft: 0 */
    int64_t num_segments; /* of all micro-batches */
    int64_t num_rows;     /* forwarded */
    double total_rows;    /* m + n of all contributing blocks */
    int64_t *sequence_at; /* [num_places] the global batch's sequence */
    int64_t *segment_of;  /* [sequences] among all segments of the step; -1 = not run here */
    int64_t *place_of;    /* [sequences] in contrast order; -1 = contributes nothing */
    int32_t *scratch;     /* [2 sequences + 2] for arrays on their way to the staging buffer */
    size_t micro_batch_capacity, group_capacity, block_capacity, sequence_capacity;
    rpo_packer packer;
} rpo_plan;

void rpo_plan_free(rpo_plan *plan);

/* Largest rows, segments and bytes of any plan over at most `num_rows` rows of a dataset. */
typedef struct rpo_plan_bounds {
    int64_t batch_rows;     /* of one micro-batch */
    int64_t batch_segments; /* of one micro-batch */
    int64_t total_rows;     /* of all micro-batches */
    int64_t sequences;
    int64_t longest; /* tokens of one sequence */
    size_t staged_bytes;
} rpo_plan_bounds;

/* Makes room, so that no plan within the bounds allocates anything. */
rpo_status rpo_plan_reserve(rpo_plan *plan, const rpo_plan_bounds *bounds);

rpo_status rpo_plan_bound(rpo_plan_bounds *bounds, const rpo_dataset *dataset, int64_t num_rows,
                          const rpo_plan_options *options);

/*
 * Plans this rank's part of `batch` and puts everything that goes to the device into `staging`, which the caller
 * uploads. `model` checks token ids and lengths. The plan's memory is reused.
 */
rpo_status rpo_plan_build(rpo_plan *plan, const rpo_model *model, const rpo_comm *comm,
                          const rpo_global_batch *batch, const rpo_plan_options *options,
                          rpo_staging *staging);

#endif
