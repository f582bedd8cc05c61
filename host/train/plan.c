/* plan.c - rows to blocks, blocks to groups and micro-batches. */
#include "host/train/plan.h"

#include <stdlib.h>
#include <string.h>

void rpo_plan_free(rpo_plan *plan) {
    rpo_packer_free(&plan->packer);
    rpo_free(plan->scratch);
    rpo_free(plan->place_of);
    rpo_free(plan->segment_of);
    rpo_free(plan->sequence_at);
    rpo_free(plan->blocks);
    rpo_free(plan->groups);
    rpo_free(plan->micro_batches);
    *plan = (rpo_plan){0};
}

/* ---- memory ---- */

static rpo_status grow(void *array, size_t *capacity, int64_t needed, size_t size) {
    void *memory = NULL;
    memcpy(&memory, array, sizeof memory);
    const rpo_status status = rpo_grow_array(&memory, capacity, (size_t)needed, size);
    memcpy(array, &memory, sizeof memory);
    return status;
}

/* Of a batch of `sequences`: no more groups, blocks or micro-batches than that. */
static rpo_status reserve(rpo_plan *plan, int64_t sequences) {
    const size_t capacity = plan->sequence_capacity;
    size_t places = capacity, segments = capacity, scratch = 2 * capacity + 2;
    RPO_TRY(grow(&plan->micro_batches, &plan->micro_batch_capacity, sequences, sizeof *plan->micro_batches));
    RPO_TRY(grow(&plan->groups, &plan->group_capacity, sequences, sizeof *plan->groups));
    RPO_TRY(grow(&plan->blocks, &plan->block_capacity, sequences, sizeof *plan->blocks));
    if ((size_t)sequences <= capacity)
        return RPO_OK;
    size_t grown = capacity;
    if (capacity == 0)
        scratch = 0;
    RPO_TRY(grow(&plan->sequence_at, &grown, sequences, sizeof *plan->sequence_at));
    RPO_TRY(grow(&plan->place_of, &places, sequences, sizeof *plan->place_of));
    RPO_TRY(grow(&plan->segment_of, &segments, sequences, sizeof *plan->segment_of));
    RPO_TRY(grow(&plan->scratch, &scratch, 2 * (int64_t)grown + 2, sizeof *plan->scratch));
    plan->sequence_capacity = grown;
    return RPO_OK;
}

rpo_status rpo_plan_reserve(rpo_plan *plan, const rpo_plan_bounds *bounds) {
    RPO_TRY(reserve(plan, bounds->sequences));
    return rpo_packer_reserve(&plan->packer, bounds->sequences, bounds->batch_rows, bounds->batch_segments);
}

/* ---- building ---- */

typedef struct builder {
    rpo_plan *plan;
    const rpo_model *model;
    const rpo_global_batch *batch;
    const rpo_plan_options *options;
    rpo_staging *staging;
    bool spans_ranks; /* one group for everything */
    bool is_open;     /* the last group takes more blocks */
} builder;

/* Ends the micro-batch being packed, if there is anything in it. */
static rpo_status close_micro_batch(builder *build) {
    rpo_plan *plan = build->plan;
    rpo_batch *packed = &plan->packer.batch;
    if (packed->num_segments > 0) {
        rpo_micro_batch *micro = &plan->micro_batches[plan->num_micro_batches++];
        *micro = (rpo_micro_batch){.first_segment = plan->num_segments};
        RPO_TRY(rpo_model_check_batch(build->model, packed));
        RPO_TRY(rpo_batch_stage(packed, build->staging, &micro->batch));
        plan->num_segments += packed->num_segments;
        plan->num_rows += packed->num_rows;
        if (plan->num_groups > 0)
            ++plan->groups[plan->num_groups - 1].num_batches;
    }
    rpo_packer_clear(&plan->packer);
    return RPO_OK;
}

static rpo_status pack(builder *build, int64_t sequence) {
    rpo_plan *plan = build->plan;
    int64_t segment = -1;
    RPO_TRY(rpo_packer_add(&plan->packer, sequence, &segment));
    plan->segment_of[sequence] = segment < 0 ? -1 : plan->num_segments + segment;
    return RPO_OK;
}

static bool fits(builder *build, int64_t first, int64_t end, bool alone) {
    const int64_t held = alone ? 0 : build->plan->packer.batch.num_rows;
    return held + rpo_packer_rows(&build->plan->packer, first, end, alone) <=
           build->options->micro_batch_tokens;
}

/* Sequences [first, end) of one row: together where they fit one micro-batch, so that they share their prompt. */
static rpo_status pack_row(builder *build, int64_t first, int64_t end) {
    const bool together = fits(build, first, end, true);
    for (int64_t s = first; s < end;) {
        const int64_t next = together ? end : s + 1;
        if (build->plan->packer.batch.num_segments > 0 && !fits(build, s, next, false))
            RPO_TRY(close_micro_batch(build));
        for (; s < next; ++s)
            RPO_TRY(pack(build, s));
    }
    return RPO_OK;
}

/* This rank's part of sequences [first, end), row by row. */
static rpo_status pack_rows(builder *build, int64_t first, int64_t end) {
    const rpo_global_batch *batch = build->batch;
    int64_t s = first > batch->first ? first : batch->first;
    const int64_t last = end < batch->last ? end : batch->last;
    while (s < last) {
        int64_t next = s + 1;
        while (next < last && batch->sequences[next].row == batch->sequences[s].row)
            ++next;
        RPO_TRY(pack_row(build, s, next));
        s = next;
    }
    return RPO_OK;
}

static rpo_status close_group(builder *build) {
    RPO_TRY(close_micro_batch(build));
    build->is_open = false;
    return RPO_OK;
}

static void open_group(builder *build) {
    rpo_plan *plan = build->plan;
    plan->groups[plan->num_groups++] = (rpo_contrast_group){
        .first_batch = plan->num_micro_batches, .start = plan->num_places, .first_block = plan->num_blocks};
    build->is_open = true;
}

static int64_t count_rejected(const rpo_global_batch *batch, int64_t first, int64_t end) {
    int64_t count = 0;
    for (int64_t s = first; s < end; ++s)
        count += batch->sequences[s].rejected;
    return count;
}

/* The block's figures in the list and in the group that holds it. */
static void note_block(rpo_plan *plan, int64_t m, int64_t n) {
    rpo_contrast_group *group = &plan->groups[plan->num_groups - 1];
    plan->blocks[plan->num_blocks++] = (rpo_contrast_block){plan->num_groups - 1, m, n};
    ++group->num_blocks;
    group->m += m;
    group->n += n;
    group->max_block_m = m > group->max_block_m ? m : group->max_block_m;
    group->max_block_n = n > group->max_block_n ? n : group->max_block_n;
    plan->num_places += m + n;
    plan->total_rows += (double)(m + n);
}

/* One contrast block: sequences [first, end). */
static rpo_status add_block(builder *build, int64_t first, int64_t end) {
    rpo_plan *plan = build->plan;
    const int64_t n = count_rejected(build->batch, first, end), m = end - first - n;
    if (m == 0 || n == 0) { /* counted by the caller; nothing to run */
        for (int64_t s = first; s < end; ++s)
            plan->segment_of[s] = -1;
        return RPO_OK;
    }
    if (!build->spans_ranks && build->is_open && !fits(build, first, end, false))
        RPO_TRY(close_group(build));
    if (!build->is_open)
        open_group(build);
    note_block(plan, m, n);
    const bool whole = build->spans_ranks || fits(build, first, end, true);
    if (whole && !build->spans_ranks) {
        for (int64_t s = first; s < end; ++s)
            RPO_TRY(pack(build, s));
        return RPO_OK;
    }
    RPO_TRY(pack_rows(build, first, end));
    return build->spans_ranks ? RPO_OK
                              : close_group(build); /* a block of several micro-batches stands alone */
}

static rpo_status add_blocks(builder *build) {
    const rpo_global_batch *batch = build->batch;
    const int64_t rows = build->options->contrasts ? build->options->block_rows : 1;
    int64_t sequence = 0;
    for (int64_t row = 0; row < batch->num_rows;) {
        const int64_t next = rows < batch->num_rows - row ? row + rows : batch->num_rows;
        const int64_t end = rpo_global_batch_sequence_of(batch, next, sequence);
        RPO_TRY(add_block(build, sequence, end));
        sequence = end;
        row = next;
    }
    return close_group(build);
}

/* Blocks as people count them: of block_rows rows, whatever the loss contrasts. */
static void count_blocks(rpo_plan *plan, const rpo_global_batch *batch, int64_t block_rows) {
    int64_t sequence = 0;
    plan->all_blocks = plan->empty_blocks = 0;
    for (int64_t row = 0; row < batch->num_rows;) {
        const int64_t next = block_rows < batch->num_rows - row ? row + block_rows : batch->num_rows;
        const int64_t end = rpo_global_batch_sequence_of(batch, next, sequence);
        const int64_t rejected = count_rejected(batch, sequence, end);
        ++plan->all_blocks;
        plan->empty_blocks += rejected == 0 || rejected == end - sequence;
        sequence = end;
        row = next;
    }
}

/* ---- contrast order, and what the device is told of it ---- */

static void place_sequences(rpo_plan *plan, const rpo_global_batch *batch) {
    int64_t sequence = 0, block = 0;
    for (int64_t g = 0; g < plan->num_groups; ++g) {
        const rpo_contrast_group *group = &plan->groups[g];
        int64_t chosen = group->start, rejected = group->start + group->m;
        for (; block < group->first_block + group->num_blocks; ++block)
            for (int64_t left = plan->blocks[block].m + plan->blocks[block].n; left > 0; ++sequence) {
                if (plan->place_of[sequence] == -1) /* of a block that is not run */
                    continue;
                int64_t *next = batch->sequences[sequence].rejected ? &rejected : &chosen;
                plan->place_of[sequence] = *next;
                plan->sequence_at[(*next)++] = sequence;
                --left;
            }
    }
}

static rpo_status put(rpo_staging *staging, const void *data, int64_t count, const void **device) {
    void *where = NULL;
    const bool done = count == 0 || rpo_staging_put(staging, data, count, sizeof(int32_t), &where) != NULL;
    *device = where;
    return done ? RPO_OK : rpo_error_set(RPO_ERROR_INTERNAL, "plan: is larger than its segment of memory");
}

static rpo_status put_ints(rpo_staging *staging, const int32_t *data, int64_t count, const int32_t **device) {
    const void *where = NULL;
    RPO_TRY(put(staging, data, count, &where));
    *device = where;
    return RPO_OK;
}

static rpo_status stage_bounds(const builder *build, rpo_contrast_group *group) {
    rpo_plan *plan = build->plan;
    int32_t *chosen = plan->scratch, *rejected = plan->scratch + group->num_blocks + 1;
    chosen[0] = rejected[0] = 0;
    for (int64_t b = 0; b < group->num_blocks; ++b) {
        const rpo_contrast_block *block = &plan->blocks[group->first_block + b];
        chosen[b + 1] = chosen[b] + (int32_t)block->m;
        rejected[b + 1] = rejected[b] + (int32_t)block->n;
    }
    RPO_TRY(put_ints(build->staging, chosen, group->num_blocks + 1, &group->chosen_bounds));
    return put_ints(build->staging, rejected, group->num_blocks + 1, &group->rejected_bounds);
}

static rpo_status stage_group(const builder *build, rpo_contrast_group *group) {
    rpo_plan *plan = build->plan;
    for (int64_t i = 0; i < group->m + group->n; ++i)
        plan->scratch[i] = (int32_t)plan->segment_of[plan->sequence_at[group->start + i]];
    RPO_TRY(put_ints(build->staging, plan->scratch, group->m + group->n, &group->segment_index));
    return build->options->contrasts ? stage_bounds(build, group) : RPO_OK;
}

/* For every segment of every micro-batch the place its gradient comes from. */
static rpo_status stage_gradient_indices(const builder *build) {
    rpo_plan *plan = build->plan;
    const rpo_global_batch *batch = build->batch;
    int64_t sequence = batch->first;
    for (int64_t k = 0; k < plan->num_micro_batches; ++k) {
        rpo_micro_batch *micro = &plan->micro_batches[k];
        const int64_t segments = micro->batch.num_segments, end = micro->first_segment + segments;
        for (int64_t i = 0; i < segments; ++i)
            plan->scratch[i] = -1;
        for (; sequence < batch->last && plan->segment_of[sequence] < end; ++sequence)
            if (plan->segment_of[sequence] >= 0)
                plan->scratch[plan->segment_of[sequence] - micro->first_segment] =
                    (int32_t)plan->place_of[sequence];
        RPO_TRY(put_ints(build->staging, plan->scratch, segments, &micro->gradient_index));
    }
    return RPO_OK;
}

/* Token mean over the global batch: every sequence's scalar is the same and known before any forward. */
static rpo_status stage_likelihood(const builder *build) {
    rpo_plan *plan = build->plan;
    const float gradient = (float)(-1.0 / (double)build->batch->num_labels);
    float *values = (float *)(void *)plan->scratch;
    for (int64_t k = 0; k < plan->num_micro_batches; ++k) {
        rpo_micro_batch *micro = &plan->micro_batches[k];
        const void *where = NULL;
        for (int64_t i = 0; i < micro->batch.num_segments; ++i)
            values[i] = gradient;
        RPO_TRY(put(build->staging, values, micro->batch.num_segments, &where));
        micro->gradients = where;
    }
    return RPO_OK;
}

static void begin(rpo_plan *plan, const rpo_global_batch *batch) {
    plan->num_micro_batches = plan->num_groups = plan->num_blocks = 0;
    plan->num_places = plan->num_segments = plan->num_rows = 0;
    plan->empty_blocks = plan->all_blocks = 0;
    plan->total_rows = 0;
    for (int64_t s = 0; s < batch->num_sequences; ++s)
        plan->segment_of[s] = -1;
}

/* Sequences of blocks that contribute get a place; place_sequences says which. */
static void mark_contributing(rpo_plan *plan, const rpo_global_batch *batch, int64_t block_rows) {
    int64_t sequence = 0;
    for (int64_t row = 0; row < batch->num_rows;) {
        const int64_t next = block_rows < batch->num_rows - row ? row + block_rows : batch->num_rows;
        const int64_t end = rpo_global_batch_sequence_of(batch, next, sequence);
        const int64_t rejected = count_rejected(batch, sequence, end);
        const bool counts = rejected > 0 && rejected < end - sequence;
        for (; sequence < end; ++sequence)
            plan->place_of[sequence] = counts ? 0 : -1;
        row = next;
    }
}

rpo_status rpo_plan_build(rpo_plan *plan, const rpo_model *model, const rpo_comm *comm,
                          const rpo_global_batch *batch, const rpo_plan_options *options,
                          rpo_staging *staging) {
    builder build = {plan, model, batch, options, staging, comm->size > 1, false};
    RPO_TRY(reserve(plan, batch->num_sequences));
    begin(plan, batch);
    RPO_TRY(rpo_packer_begin(&plan->packer, batch, options->share));
    if (options->likelihood) {
        RPO_TRY(pack_rows(&build, 0, batch->num_sequences));
        RPO_TRY(close_micro_batch(&build));
        return stage_likelihood(&build);
    }
    count_blocks(plan, batch, options->block_rows);
    mark_contributing(plan, batch, options->contrasts ? options->block_rows : 1);
    RPO_TRY(add_blocks(&build));
    place_sequences(plan, batch);
    for (int64_t g = 0; g < plan->num_groups; ++g)
        RPO_TRY(stage_group(&build, &plan->groups[g]));
    return stage_gradient_indices(&build);
}

/* ---- bounds ---- */

static int compare_down(const void *a, const void *b) {
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x < y) - (x > y);
}

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

rpo_status rpo_plan_bound(rpo_plan_bounds *bounds, const rpo_dataset *dataset, int64_t num_rows,
                          const rpo_plan_options *options) {
    const int64_t records = rpo_dataset_size(dataset);
    int64_t *tokens = rpo_alloc_array((size_t)records, sizeof *tokens);
    if (tokens == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    *bounds = (rpo_plan_bounds){0};
    for (int64_t i = 0; i < records; ++i) {
        const rpo_record *record = rpo_dataset_record(dataset, i);
        const int64_t chosen = record->chosen.tokens != NULL ? record->chosen.length : 0;
        const int64_t rejected =
            record->rejected.tokens != NULL && (!options->likelihood || options->both_sides)
                ? record->rejected.length
                : 0;
        const int64_t longer = chosen > rejected ? chosen : rejected;
        bounds->longest = longer > bounds->longest ? longer : bounds->longest;
        tokens[i] = chosen + rejected;
    }
    qsort(tokens, (size_t)records, sizeof *tokens, compare_down);
    for (int64_t i = 0; i < least(num_rows, records); ++i)
        bounds->total_rows += tokens[i];
    rpo_free(tokens);
    const int64_t budget = options->micro_batch_tokens;
    bounds->sequences = 2 * num_rows;
    bounds->batch_rows = least(bounds->total_rows, budget > bounds->longest ? budget : bounds->longest);
    bounds->batch_segments = least(bounds->batch_rows, 2 * bounds->sequences);
    /* Micro-batches number no more than sequences; each of their arrays is rounded up. */
    const size_t roundings = (size_t)bounds->sequences * 24 * RPO_BUMP_ALIGNMENT;
    bounds->staged_bytes = rpo_batch_staged_bytes(bounds->total_rows, 2 * bounds->sequences) +
                           (size_t)bounds->sequences * 8 * sizeof(int32_t) + roundings;
    return RPO_OK;
}
