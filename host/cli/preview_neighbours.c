/* preview_neighbours.c - which prompts lie near a record's, and what weight the loss gives them. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "host/cli/preview.h"

enum { NUM_NEIGHBOURS = 3, TEXT_COLUMNS = 64, WEIGHTS_SHOWN = 16, WEIGHTS_A_LINE = 4 };

typedef struct rpo_neighbour {
    double cosine;
    int64_t index; /* -1 = none */
} rpo_neighbour;

static const float *row_of(const rpo_embeddings *embeddings, int64_t index) {
    return embeddings->rows + index * embeddings->dim;
}

static double cosine(const rpo_embeddings *embeddings, int64_t a, int64_t b) {
    const float *left = row_of(embeddings, a), *right = row_of(embeddings, b);
    double sum = 0;
    for (int64_t i = 0; i < embeddings->dim; ++i)
        sum += (double)left[i] * right[i];
    return sum;
}

static bool same_prompt(const rpo_dataset *dataset, int64_t a, int64_t b) {
    const rpo_record *left = rpo_dataset_record(dataset, a), *right = rpo_dataset_record(dataset, b);
    return left->prompt_size == right->prompt_size &&
           memcmp(left->prompt, right->prompt, left->prompt_size) == 0;
}

/* Keeps the list sorted, the nearest first, and each prompt in it once. */
static void offer(rpo_neighbour *nearest, const rpo_dataset *dataset, rpo_neighbour candidate) {
    for (int i = 0; i < NUM_NEIGHBOURS && nearest[i].index >= 0; ++i)
        if (same_prompt(dataset, nearest[i].index, candidate.index))
            return;
    for (int i = 0; i < NUM_NEIGHBOURS && candidate.index >= 0; ++i)
        if (nearest[i].index < 0 || candidate.cosine > nearest[i].cosine) {
            const rpo_neighbour displaced = nearest[i];
            nearest[i] = candidate;
            candidate = displaced;
        }
}

static void print_prompt_start(const rpo_dataset *dataset, int64_t index) {
    const rpo_record *record = rpo_dataset_record(dataset, index);
    const size_t lead = strspn(record->prompt, " \t\r\n");
    rpo_preview_print_start(record->prompt + lead, record->prompt_size - lead, TEXT_COLUMNS);
}

static void print_nearest(const rpo_data_run *run, const rpo_embeddings *embeddings, int64_t index,
                          const rpo_preview_style *style) {
    rpo_neighbour nearest[NUM_NEIGHBOURS];
    for (int i = 0; i < NUM_NEIGHBOURS; ++i)
        nearest[i] = (rpo_neighbour){.index = -1};
    int64_t same = 0;
    for (int64_t i = 0; i < embeddings->count; ++i) {
        if (i == index)
            continue;
        if (same_prompt(run->train, i, index))
            ++same;
        else
            offer(nearest, run->train, (rpo_neighbour){.cosine = cosine(embeddings, index, i), .index = i});
    }
    printf("  %snearest prompts%s", style->bold, style->reset);
    if (same > 0)
        printf("  (besides %" PRId64 " more record%s with this very prompt)", same, same == 1 ? "" : "s");
    putchar('\n');
    for (int i = 0; i < NUM_NEIGHBOURS && nearest[i].index >= 0; ++i) {
        printf("    cosine %6.3f  record %7" PRId64 "  ", nearest[i].cosine, nearest[i].index);
        print_prompt_start(run->train, nearest[i].index);
        putchar('\n');
    }
}

/* The records of a contrast block: consecutive ones of the epoch's order, within one batch. */
typedef struct rpo_block {
    int64_t begin, end; /* positions in the order */
} rpo_block;

static rpo_block find_block(const rpo_data_run *run, int64_t position) {
    const int64_t count = rpo_dataset_size(run->train);
    const int64_t per_pair = rpo_dataset_is_paired(run->train) ? 1 : 2; /* records that stand for a pair */
    const int64_t batch = run->config->train.batch_size * per_pair;
    const int64_t wanted = run->config->loss.contrast_block * per_pair;
    const int64_t size = wanted > 0 && wanted < batch ? wanted : batch;
    const int64_t batch_begin = position / batch * batch;
    const int64_t batch_end = batch < count - batch_begin ? batch_begin + batch : count;
    const int64_t begin = batch_begin + (position - batch_begin) / size * size;
    return (rpo_block){.begin = begin, .end = size < batch_end - begin ? begin + size : batch_end};
}

/* One side of a block: its records and their embeddings, side by side. */
typedef struct rpo_block_side {
    int64_t *records;
    float *rows;
    int64_t count;
} rpo_block_side;

static rpo_status gather_side(rpo_block_side *side, const rpo_data_run *run, const rpo_embeddings *embeddings,
                              const int64_t *order, rpo_block block, bool chosen) {
    const size_t most = (size_t)(block.end - block.begin), dim = (size_t)embeddings->dim;
    side->records = rpo_alloc_array(most, sizeof *side->records);
    side->rows = rpo_alloc_array(most, dim * sizeof *side->rows);
    if (side->records == NULL || side->rows == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    for (int64_t p = block.begin; p < block.end; ++p) {
        const rpo_record *record = rpo_dataset_record(run->train, order[p]);
        if ((chosen ? record->chosen : record->rejected).tokens == NULL)
            continue;
        side->records[side->count] = order[p];
        memcpy(side->rows + (size_t)side->count * dim, row_of(embeddings, order[p]),
               dim * sizeof *side->rows);
        ++side->count;
    }
    return RPO_OK;
}

static int64_t find_record(const rpo_block_side *side, int64_t index) {
    for (int64_t i = 0; i < side->count; ++i)
        if (side->records[i] == index)
            return i;
    return -1;
}

static rpo_status compute_weights(float **weights, const rpo_config *config, const rpo_block_side *chosen,
                                  const rpo_block_side *rejected, int64_t dim) {
    const rpo_similarity_inputs prompts = {sizeof prompts,  chosen->rows, rejected->rows, chosen->count,
                                           rejected->count, dim,          RPO_FLOAT32};
    rpo_context *context = NULL;
    void *workspace = NULL;
    size_t bytes = 0;
    rpo_status status = rpo_context_create(&context, NULL);
    if (status != RPO_OK)
        goto cleanup;
    status = rpo_prompt_similarity_workspace_size(context, &bytes, &prompts);
    if (status != RPO_OK)
        goto cleanup;
    workspace = rpo_alloc_array(bytes, 1);
    *weights = rpo_alloc_array((size_t)chosen->count, (size_t)rejected->count * sizeof **weights);
    if (workspace == NULL || *weights == NULL) {
        status = RPO_ERROR_OUT_OF_MEMORY;
        goto cleanup;
    }
    status = rpo_contrast_weights(context, *weights, &prompts, (float)config->loss.distance_temperature,
                                  config->loss.weight_scale, workspace, bytes);

cleanup:
    rpo_free(workspace);
    rpo_context_free(context);
    return status;
}

/* A row of the weight matrix (the record is a chosen one) or, for a rejected record alone, its column. */
static void print_weights(const float *weights, const rpo_block_side *chosen, const rpo_block_side *rejected,
                          int64_t index) {
    const int64_t row = find_record(chosen, index), column = row < 0 ? find_record(rejected, index) : -1;
    const rpo_block_side *others = row >= 0 ? rejected : chosen;
    const int64_t shown = others->count < WEIGHTS_SHOWN ? others->count : WEIGHTS_SHOWN;
    for (int64_t i = 0; i < shown; ++i) {
        const float weight =
            row >= 0 ? weights[row * rejected->count + i] : weights[i * rejected->count + column];
        const char *own = others->records[i] == index ? "*" : " ";
        printf("%s%s%7" PRId64 ": %.4f", i % WEIGHTS_A_LINE == 0 ? "    " : "     ", own, others->records[i],
               weight);
        if (i % WEIGHTS_A_LINE == WEIGHTS_A_LINE - 1 || i + 1 == shown)
            putchar('\n');
    }
    if (shown < others->count)
        printf("     (%" PRId64 " more not shown)\n", others->count - shown);
}

static rpo_status print_block(const rpo_data_run *run, const rpo_embeddings *embeddings, const int64_t *order,
                              int64_t index, const rpo_preview_style *style) {
    rpo_block_side chosen = {0}, rejected = {0};
    float *weights = NULL;
    int64_t position = 0;
    while (order[position] != index)
        ++position;
    const rpo_block block = find_block(run, position);
    rpo_status status = gather_side(&chosen, run, embeddings, order, block, true);
    if (status == RPO_OK)
        status = gather_side(&rejected, run, embeddings, order, block, false);
    if (status != RPO_OK)
        goto cleanup;
    printf("  %scontrast block in epoch 0%s  %" PRId64 " chosen x %" PRId64
           " rejected; record: weight, tau %g (* itself)\n",
           style->bold, style->reset, chosen.count, rejected.count, run->config->loss.distance_temperature);
    if (chosen.count == 0 || rejected.count == 0) {
        printf("    one of the classes is missing, so that this block contributes nothing\n");
        goto cleanup;
    }
    status = compute_weights(&weights, run->config, &chosen, &rejected, embeddings->dim);
    if (status == RPO_OK)
        print_weights(weights, &chosen, &rejected, index);

cleanup:
    rpo_free(weights);
    rpo_free(rejected.rows);
    rpo_free(rejected.records);
    rpo_free(chosen.rows);
    rpo_free(chosen.records);
    return status;
}

rpo_status rpo_preview_print_neighbours(const rpo_data_run *run, const rpo_embeddings *embeddings,
                                        int64_t index, const rpo_preview_style *style) {
    const int64_t count = rpo_dataset_size(run->train);
    int64_t *order = rpo_alloc_array((size_t)count, sizeof *order);
    if (order == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    rpo_dataset_shuffle(order, count, run->config->run.seed, 0);
    print_nearest(run, embeddings, index, style);
    const rpo_status status = print_block(run, embeddings, order, index, style);
    rpo_free(order);
    return status;
}
