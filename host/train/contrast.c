/* contrast.c - the contrast of a scope, block by block. */
#include "host/train/contrast.h"

#include <math.h>
#include <string.h>

/* One block's inputs and outputs, split into its two sides. Sized for the largest block of the scope. */
typedef struct block_memory {
    float *policy[2], *reference[2], *gradients[2], *rewards[2]; /* [0] chosen, [1] rejected */
    float *embeddings[2];                                        /* [rows][dim] */
    int64_t *sequences[2];                                       /* the scope's sequence behind each row */
    int64_t counts[2];
    void *workspace;
    size_t workspace_size;
} block_memory;

typedef struct sums {
    double loss, rewards[2], logps[2];
    int64_t counts[2], wins, compared;
} sums;

static void free_memory(block_memory *memory) {
    for (int side = 0; side < 2; ++side) {
        rpo_free(memory->policy[side]);
        rpo_free(memory->reference[side]);
        rpo_free(memory->gradients[side]);
        rpo_free(memory->rewards[side]);
        rpo_free(memory->embeddings[side]);
        rpo_free(memory->sequences[side]);
    }
    rpo_free(memory->workspace);
}

static rpo_status allocate(block_memory *memory, int64_t rows, int64_t dim) {
    const size_t count = (size_t)rows;
    for (int side = 0; side < 2; ++side) {
        memory->policy[side] = rpo_alloc_array(count, sizeof(float));
        memory->reference[side] = rpo_alloc_array(count, sizeof(float));
        memory->gradients[side] = rpo_alloc_array(count, sizeof(float));
        memory->rewards[side] = rpo_alloc_array(count, sizeof(float));
        memory->sequences[side] = rpo_alloc_array(count, sizeof(int64_t));
        memory->embeddings[side] = rpo_alloc_array(count * (size_t)dim, sizeof(float));
        if (memory->policy[side] == NULL || memory->reference[side] == NULL ||
            memory->gradients[side] == NULL || memory->rewards[side] == NULL ||
            memory->sequences[side] == NULL || memory->embeddings[side] == NULL)
            return RPO_ERROR_OUT_OF_MEMORY;
    }
    return RPO_OK;
}

static int64_t block_end(const rpo_global_batch *scope, int64_t first_row, int64_t block_rows) {
    return block_rows < scope->num_rows - first_row ? first_row + block_rows : scope->num_rows;
}

/* Copies the sequences of rows [.., end_row) from `sequence` on into the block; returns the sequence after
 * them. */
static int64_t collect(block_memory *memory, const rpo_global_batch *scope, int64_t sequence, int64_t end_row,
                       const float *policy, const float *reference, const rpo_embeddings *embeddings) {
    memory->counts[0] = memory->counts[1] = 0;
    for (; sequence < scope->num_sequences && scope->sequences[sequence].row < end_row; ++sequence) {
        const int side = scope->sequences[sequence].rejected ? 1 : 0;
        const int64_t at = memory->counts[side]++;
        memory->policy[side][at] = policy[sequence];
        memory->reference[side][at] = reference[sequence];
        memory->sequences[side][at] = sequence;
        if (embeddings == NULL)
            continue;
        const int64_t dim = embeddings->dim, record = scope->records[scope->sequences[sequence].row];
        memcpy(memory->embeddings[side] + at * dim, embeddings->rows + record * dim,
               (size_t)dim * sizeof(float));
    }
    return sequence;
}

static rpo_status ensure_workspace(block_memory *memory, rpo_context *context,
                                   const rpo_contrast_inputs *inputs, const rpo_loss_options *options) {
    size_t needed = 0;
    RPO_TRY(rpo_contrast_loss_workspace_size(context, &needed, inputs, options));
    if (needed <= memory->workspace_size)
        return RPO_OK;
    rpo_free(memory->workspace);
    memory->workspace_size = 0;
    memory->workspace = rpo_alloc_array(needed, 1);
    if (memory->workspace == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    memory->workspace_size = needed;
    return RPO_OK;
}

static rpo_status run_block(float *loss, block_memory *memory, rpo_context *context,
                            const rpo_embeddings *embeddings, const rpo_loss_options *options) {
    const rpo_contrast_inputs inputs = {
        .struct_size = sizeof inputs,
        .policy_chosen_logps = memory->policy[0],
        .policy_rejected_logps = memory->policy[1],
        .reference_chosen_logps = memory->reference[0],
        .reference_rejected_logps = memory->reference[1],
        .chosen_embeddings = embeddings == NULL ? NULL : memory->embeddings[0],
        .rejected_embeddings = embeddings == NULL ? NULL : memory->embeddings[1],
        .embedding_dtype = RPO_FLOAT32,
        .m = memory->counts[0],
        .n = memory->counts[1],
        .dim = embeddings == NULL ? 0 : embeddings->dim,
    };
    const rpo_contrast_outputs outputs = {
        .struct_size = sizeof outputs,
        .loss = loss,
        .grad_chosen_logps = memory->gradients[0],
        .grad_rejected_logps = memory->gradients[1],
        .chosen_rewards = memory->rewards[0],
        .rejected_rewards = memory->rewards[1],
    };
    RPO_TRY(ensure_workspace(memory, context, &inputs, options));
    return rpo_contrast_loss(context, &outputs, &inputs, options, memory->workspace, memory->workspace_size);
}

static void add_block(sums *total, float *gradients, const block_memory *memory, float loss, double weight) {
    total->loss += weight * (double)loss;
    for (int side = 0; side < 2; ++side) {
        total->counts[side] += memory->counts[side];
        for (int64_t i = 0; i < memory->counts[side]; ++i) {
            total->rewards[side] += (double)memory->rewards[side][i];
            total->logps[side] += (double)memory->policy[side][i];
            if (gradients != NULL)
                gradients[memory->sequences[side][i]] = (float)(weight * (double)memory->gradients[side][i]);
        }
    }
    const int64_t compared = memory->counts[0] < memory->counts[1] ? memory->counts[0] : memory->counts[1];
    for (int64_t i = 0; i < compared; ++i)
        total->wins += memory->rewards[0][i] > memory->rewards[1][i];
    total->compared += compared;
}

static double mean(double sum, int64_t count) {
    return count > 0 ? sum / (double)count : NAN;
}

static void average(rpo_figures *figures, const sums *total) {
    figures->loss = total->loss;
    figures->rewards_chosen = mean(total->rewards[0], total->counts[0]);
    figures->rewards_rejected = mean(total->rewards[1], total->counts[1]);
    figures->rewards_margins = figures->rewards_chosen - figures->rewards_rejected;
    figures->rewards_accuracies = mean((double)total->wins, total->compared);
    figures->logps_chosen = mean(total->logps[0], total->counts[0]);
    figures->logps_rejected = mean(total->logps[1], total->counts[1]);
}

/* Rows of the blocks that have both sides: what a block's weight is a share of. */
static int64_t count_contributing(const rpo_global_batch *scope, int64_t block_rows, rpo_figures *figures) {
    int64_t contributing = 0, sequence = 0;
    for (int64_t row = 0; row < scope->num_rows;) {
        const int64_t end = block_end(scope, row, block_rows);
        bool has[2] = {false, false};
        for (; sequence < scope->num_sequences && scope->sequences[sequence].row < end; ++sequence)
            has[scope->sequences[sequence].rejected ? 1 : 0] = true;
        ++figures->blocks;
        if (has[0] && has[1])
            contributing += end - row;
        else
            ++figures->empty_blocks;
        row = end;
    }
    return contributing;
}

rpo_status rpo_contrast_blocks(rpo_figures *figures, float *gradients, rpo_context *context,
                               const rpo_global_batch *scope, const float *policy, const float *reference,
                               const rpo_embeddings *embeddings, const rpo_contrast_options *options) {
    *figures = (rpo_figures){0};
    if (gradients != NULL)
        memset(gradients, 0, (size_t)scope->num_sequences * sizeof *gradients);
    const int64_t contributing = count_contributing(scope, options->block_rows, figures);
    const int64_t largest = options->block_rows < scope->num_rows ? options->block_rows : scope->num_rows;

    block_memory memory = {0};
    sums total = {0};
    rpo_status status = allocate(&memory, largest, embeddings == NULL ? 0 : embeddings->dim);
    int64_t sequence = 0;
    for (int64_t row = 0; row < scope->num_rows && status == RPO_OK;) {
        const int64_t end = block_end(scope, row, options->block_rows);
        sequence = collect(&memory, scope, sequence, end, policy, reference, embeddings);
        if (memory.counts[0] > 0 && memory.counts[1] > 0) {
            float loss = 0;
            status = run_block(&loss, &memory, context, embeddings, &options->loss);
            if (status == RPO_OK)
                add_block(&total, gradients, &memory, loss, (double)(end - row) / (double)contributing);
        }
        row = end;
    }
    if (status == RPO_OK)
        average(figures, &total);
    free_memory(&memory);
    return status;
}

void rpo_likelihood_figures(rpo_figures *figures, const rpo_global_batch *scope, const float *policy) {
    *figures = rpo_figures_empty();
    double sum = 0;
    for (int64_t s = 0; s < scope->num_sequences; ++s)
        sum += (double)policy[s];
    figures->loss = scope->num_labels > 0 ? -sum / (double)scope->num_labels : 0;
    figures->logps_chosen = mean(sum, scope->num_sequences);
}
