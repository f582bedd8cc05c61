/* contrast.c - groups to calls of the loss op, its outputs to figures. */
#include "host/train/contrast.h"

#include <math.h>
#include <string.h>

rpo_status rpo_scores_create(rpo_scores *scores, int64_t count) {
    scores->chosen = rpo_calloc_array((size_t)count, sizeof(float));
    scores->rejected = rpo_calloc_array((size_t)count, sizeof(float));
    scores->count = count;
    if (scores->chosen != NULL && scores->rejected != NULL)
        return RPO_OK;
    rpo_scores_free(scores);
    return RPO_ERROR_OUT_OF_MEMORY;
}

void rpo_scores_free(rpo_scores *scores) {
    rpo_free(scores->chosen);
    rpo_free(scores->rejected);
    *scores = (rpo_scores){0};
}

void rpo_scores_keep(rpo_scores *scores, const rpo_global_batch *batch, const float *logps) {
    for (int64_t s = 0; s < batch->num_sequences; ++s) {
        const rpo_batch_sequence *sequence = &batch->sequences[s];
        (sequence->rejected ? scores->rejected : scores->chosen)[batch->records[sequence->row]] = logps[s];
    }
}

/* ---- to the device ---- */

static rpo_status no_room(void) {
    return rpo_error_set(RPO_ERROR_INTERNAL, "contrast: its arrays are larger than their segment of memory");
}

static int64_t record_at(const rpo_plan *plan, const rpo_global_batch *batch, int64_t place) {
    return batch->records[batch->sequences[plan->sequence_at[place]].row];
}

static rpo_status stage_embeddings(rpo_contrast_arrays *arrays, const rpo_plan *plan,
                                   const rpo_global_batch *batch, const rpo_embeddings *embeddings,
                                   rpo_staging *staging) {
    void *device = NULL;
    const int64_t dim = embeddings->dim;
    float *rows = rpo_staging_put(staging, NULL, plan->num_places * dim, sizeof *rows, &device);
    if (rows == NULL)
        return no_room();
    for (int64_t i = 0; i < plan->num_places; ++i)
        memcpy(rows + i * dim, embeddings->rows + record_at(plan, batch, i) * dim,
               (size_t)dim * sizeof *rows);
    arrays->embeddings = device;
    arrays->dim = dim;
    return RPO_OK;
}

rpo_status rpo_contrast_stage(rpo_contrast_arrays *arrays, const rpo_plan *plan,
                              const rpo_global_batch *batch, const rpo_scores *reference,
                              const rpo_embeddings *embeddings, rpo_staging *staging) {
    void *device = NULL;
    *arrays = (rpo_contrast_arrays){0};
    if (plan->num_places == 0)
        return RPO_OK;
    float *scores = rpo_staging_put(staging, NULL, plan->num_places, sizeof *scores, &device);
    if (scores == NULL)
        return no_room();
    arrays->reference = device;
    for (int64_t i = 0; i < plan->num_places; ++i) {
        const bool rejected = batch->sequences[plan->sequence_at[i]].rejected;
        scores[i] = (rejected ? reference->rejected : reference->chosen)[record_at(plan, batch, i)];
    }
    return embeddings != NULL ? stage_embeddings(arrays, plan, batch, embeddings, staging) : RPO_OK;
}

static float *place(rpo_staging *figures, int64_t count, const float **host) {
    void *device = NULL;
    *host = rpo_staging_put(figures, NULL, count, sizeof(float), &device);
    return device;
}

rpo_status rpo_contrast_place(rpo_contrast_arrays *arrays, const rpo_plan *plan, rpo_staging *figures) {
    const float *unused = NULL;
    if (plan->num_places == 0)
        return RPO_OK;
    arrays->losses = place(figures, plan->num_groups, &arrays->host.losses);
    arrays->policy = place(figures, plan->num_places, &arrays->host.policy);
    arrays->rewards = place(figures, plan->num_places, &arrays->host.rewards);
    arrays->gradients = place(figures, plan->num_places, &unused);
    return arrays->gradients != NULL ? RPO_OK : no_room();
}

static rpo_contrast_inputs inputs_of(const rpo_contrast_arrays *arrays, const rpo_plan *plan,
                                     const rpo_contrast_group *group) {
    const float *embeddings =
        arrays->embeddings == NULL ? NULL : arrays->embeddings + group->start * arrays->dim;
    return (rpo_contrast_inputs){
        .struct_size = sizeof(rpo_contrast_inputs),
        .policy_chosen_logps = arrays->policy + group->start,
        .policy_rejected_logps = arrays->policy + group->start + group->m,
        .reference_chosen_logps = arrays->reference + group->start,
        .reference_rejected_logps = arrays->reference + group->start + group->m,
        .chosen_embeddings = embeddings,
        .rejected_embeddings = embeddings == NULL ? NULL : embeddings + group->m * arrays->dim,
        .embedding_dtype = RPO_FLOAT32,
        .m = group->m,
        .n = group->n,
        .dim = embeddings == NULL ? 0 : arrays->dim,
        .chosen_bounds = group->chosen_bounds,
        .rejected_bounds = group->rejected_bounds,
        .num_blocks = group->chosen_bounds != NULL ? group->num_blocks : 0,
        .max_block_m = group->max_block_m,
        .max_block_n = group->max_block_n,
        .total_rows = plan->total_rows,
    };
}

rpo_status rpo_contrast_group_loss(const rpo_contrast_arrays *arrays, const rpo_plan *plan, int64_t group,
                                   rpo_context *context, const rpo_contrast_options *options, void *workspace,
                                   size_t workspace_bytes) {
    const rpo_contrast_group *of = &plan->groups[group];
    const rpo_contrast_inputs inputs = inputs_of(arrays, plan, of);
    const rpo_contrast_outputs outputs = {
        .struct_size = sizeof outputs,
        .loss = arrays->losses + group,
        .grad_chosen_logps = arrays->gradients + of->start,
        .grad_rejected_logps = arrays->gradients + of->start + of->m,
        .chosen_rewards = arrays->rewards + of->start,
        .rejected_rewards = arrays->rewards + of->start + of->m,
    };
    return rpo_contrast_loss(context, &outputs, &inputs, &options->loss, workspace, workspace_bytes);
}

rpo_status rpo_contrast_workspace_bound(size_t *bytes, rpo_context *context,
                                        const rpo_contrast_options *options, int64_t places, int64_t dim) {
    static const float none; /* sizes follow from the numbers; a pointer says that there are embeddings */
    static const int32_t no_bounds;
    *bytes = 0;
    for (int64_t blocks = 0; blocks <= places; blocks = blocks == 0 ? 1 : 2 * blocks) {
        const int64_t rows = (places + 1) / 2, block = blocks == 0 ? rows : (rows + blocks - 1) / blocks;
        const rpo_contrast_inputs inputs = {
            .struct_size = sizeof inputs,
            .policy_chosen_logps = &none,
            .policy_rejected_logps = &none,
            .chosen_embeddings = dim > 0 ? &none : NULL,
            .rejected_embeddings = dim > 0 ? &none : NULL,
            .m = rows,
            .n = rows,
            .dim = dim,
            .chosen_bounds = blocks > 0 ? &no_bounds : NULL,
            .rejected_bounds = blocks > 0 ? &no_bounds : NULL,
            .num_blocks = blocks,
            .max_block_m = block,
            .max_block_n = block,
        };
        size_t needed = 0;
        RPO_TRY(rpo_contrast_loss_workspace_size(context, &needed, &inputs, &options->loss));
        *bytes = needed > *bytes ? needed : *bytes;
    }
    *bytes *= 2; /* one side may hold all the rows of an unpaired block */
    return RPO_OK;
}

/* ---- figures ---- */

/* The blocks of a group stand one after another on either side. */
static void sum_group(rpo_figure_sums *sums, const rpo_contrast_arrays *arrays, const rpo_plan *plan,
                      const rpo_contrast_group *group) {
    const float *rewards[2] = {arrays->host.rewards + group->start,
                               arrays->host.rewards + group->start + group->m};
    const float *policy[2] = {arrays->host.policy + group->start,
                              arrays->host.policy + group->start + group->m};
    const int64_t counts[2] = {group->m, group->n};
    for (int side = 0; side < 2; ++side) {
        sums->counts[side] += counts[side];
        for (int64_t i = 0; i < counts[side]; ++i) {
            sums->rewards[side] += (double)rewards[side][i];
            sums->logps[side] += (double)policy[side][i];
        }
    }
    for (int64_t b = group->first_block; b < group->first_block + group->num_blocks; ++b) {
        const rpo_contrast_block *block = &plan->blocks[b];
        const int64_t compared = block->m < block->n ? block->m : block->n;
        for (int64_t i = 0; i < compared; ++i)
            sums->wins += rewards[0][i] > rewards[1][i];
        sums->compared += compared;
        rewards[0] += block->m;
        rewards[1] += block->n;
    }
}

void rpo_contrast_sum(rpo_figure_sums *sums, const rpo_contrast_arrays *arrays, const rpo_plan *plan) {
    double loss = 0;
    sums->blocks += plan->all_blocks;
    sums->empty_blocks += plan->empty_blocks;
    for (int64_t g = 0; g < plan->num_groups; ++g) {
        loss += (double)arrays->host.losses[g];
        sum_group(sums, arrays, plan, &plan->groups[g]);
    }
    sums->loss += loss * plan->total_rows;
    sums->loss_rows += plan->total_rows;
}

static double mean(double sum, double count) {
    return count > 0 ? sum / count : NAN;
}

rpo_figures rpo_contrast_figures(const rpo_figure_sums *sums) {
    rpo_figures figures = rpo_figures_empty();
    figures.loss = sums->loss_rows > 0 ? sums->loss / sums->loss_rows : 0;
    figures.rewards_chosen = mean(sums->rewards[0], (double)sums->counts[0]);
    figures.rewards_rejected = mean(sums->rewards[1], (double)sums->counts[1]);
    figures.rewards_margins = figures.rewards_chosen - figures.rewards_rejected;
    figures.rewards_accuracies = mean((double)sums->wins, (double)sums->compared);
    figures.logps_chosen = mean(sums->logps[0], (double)sums->counts[0]);
    figures.logps_rejected = mean(sums->logps[1], (double)sums->counts[1]);
    figures.blocks = sums->blocks;
    figures.empty_blocks = sums->empty_blocks;
    return figures;
}

void rpo_likelihood_sum(rpo_figure_sums *sums, const rpo_global_batch *batch, const float *logps) {
    for (int64_t s = 0; s < batch->num_sequences; ++s)
        sums->logps[0] += (double)logps[s];
    sums->counts[0] += batch->num_sequences;
    sums->labels += batch->num_labels;
}

rpo_figures rpo_likelihood_figures(const rpo_figure_sums *sums) {
    rpo_figures figures = rpo_figures_empty();
    figures.loss = sums->labels > 0 ? -sums->logps[0] / (double)sums->labels : 0;
    figures.logps_chosen = mean(sums->logps[0], (double)sums->counts[0]);
    return figures;
}
