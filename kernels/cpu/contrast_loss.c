/*
 * contrast_loss.c - the loss op of the CPU: the blocks of a call, rewards and margins, and which half computes the
 * rest.
 *
 * Every block writes its own rows and its loss; the losses are added in the order of the blocks at the end, so
 * neither the number of threads nor who works on what changes a bit. Small blocks over a matrix are shared out,
 * a block a thread; a large one is worked on by all threads together (contrast_pairs.c).
 */
#include <math.h>

#include "kernels/api/loss_kinds.h"
#include "kernels/cpu/contrast.h"

/* A block up to this many pairs is too little work for several threads, */
static const int64_t small_block_pairs = INT64_C(64) * 64;
/* and with this many columns at most its memory a thread stays small. */
static const int64_t shared_out_columns = 4096;

typedef struct loss_layout {
    int workers, threads_each; /* blocks at once, and threads for each */
    double *losses;            /* [num_blocks] */
    char *pairs;               /* one workspace of contrast_pairs.c a worker */
    size_t pairs_stride;
    size_t bytes;
} loss_layout;

static void choose_threads(loss_layout *layout, const rpo_context *context,
                           const rpo_contrast_inputs *inputs) {
    const int threads = rpo_cpu_threads(context);
    const bool small = inputs->max_block_m * inputs->max_block_n <= small_block_pairs;
    const bool many = inputs->num_blocks >= threads && inputs->max_block_n <= shared_out_columns;
    const bool shared_out = inputs->num_blocks > 1 && (small || many);
    layout->workers = shared_out ? threads : 1;
    layout->threads_each = shared_out ? 1 : threads;
}

static loss_layout lay_out(const rpo_context *context, const rpo_contrast_inputs *inputs,
                           const rpo_loss_options *options, void *workspace) {
    loss_layout layout = {0};
    rpo_bump from = rpo_bump_from(workspace);
    choose_threads(&layout, context, inputs);
    layout.losses = rpo_bump_take(&from, inputs->num_blocks, sizeof(double));
    if (rpo_loss_traits_of(options->kind)->over_matrix && inputs->max_block_m > 0 &&
        inputs->max_block_n > 0) {
        rpo_contrast_inputs largest = *inputs;
        largest.m = inputs->max_block_m;
        largest.n = inputs->max_block_n;
        layout.pairs_stride = rpo_bump_align(rpo_cpu_contrast_pairs_workspace(
            &largest, options, layout.threads_each, inputs->num_blocks == 1));
        layout.pairs = rpo_bump_take(&from, layout.workers, layout.pairs_stride);
    }
    layout.bytes = rpo_bump_size(&from);
    return layout;
}

rpo_status rpo_cpu_contrast_loss_workspace_size(rpo_context *context, size_t *bytes,
                                                const rpo_contrast_inputs *inputs,
                                                const rpo_loss_options *options) {
    *bytes = lay_out(context, inputs, options, NULL).bytes;
    return RPO_OK;
}

/* ---- blocks ---- */

/* Where a block's rows lie. */
typedef struct block_rows {
    int64_t chosen, m, rejected, n; /* first rows and counts */
} block_rows;

static block_rows rows_of(const rpo_contrast_inputs *inputs, int64_t block) {
    if (inputs->chosen_bounds == NULL)
        return (block_rows){0, inputs->m, 0, inputs->n};
    const int32_t *chosen = inputs->chosen_bounds + block, *rejected = inputs->rejected_bounds + block;
    return (block_rows){chosen[0], chosen[1] - chosen[0], rejected[0], rejected[1] - rejected[0]};
}

/* sft reads one side; everything else needs something on both. */
static bool contributes(const block_rows *rows, const rpo_loss_options *options) {
    return rows->m > 0 && (rows->n > 0 || options->kind == RPO_LOSS_SFT);
}

/* What the block weighs by. */
static double weight_of(const block_rows *rows, const rpo_loss_options *options) {
    return (double)(options->kind == RPO_LOSS_SFT ? rows->m : rows->m + rows->n);
}

static rpo_status check_bounds(const char *name, const int32_t *bounds, int64_t num_blocks, int64_t rows,
                               int64_t most) {
    if (bounds[0] != 0)
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT, "inputs.%s[0]: is %d; must be 0", name, bounds[0]);
    for (int64_t b = 0; b < num_blocks; ++b)
        if (bounds[b + 1] < bounds[b] || (int64_t)bounds[b + 1] - bounds[b] > most)
            return rpo_error_set(
                RPO_ERROR_INVALID_ARGUMENT,
                "inputs.%s[%lld]: is %d after %d; must not decrease, nor grow by more than the "
                "longest block said, %lld",
                name, (long long)(b + 1), bounds[b + 1], bounds[b], (long long)most);
    if (bounds[num_blocks] != rows)
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT, "inputs.%s[%lld]: is %d; must be all rows, %lld",
                             name, (long long)num_blocks, bounds[num_blocks], (long long)rows);
    return RPO_OK;
}

static rpo_status check_blocks(const rpo_contrast_inputs *inputs, const rpo_loss_options *options) {
    if (inputs->chosen_bounds == NULL)
        return RPO_OK;
    RPO_TRY(check_bounds("chosen_bounds", inputs->chosen_bounds, inputs->num_blocks, inputs->m,
                         inputs->max_block_m));
    RPO_TRY(check_bounds("rejected_bounds", inputs->rejected_bounds, inputs->num_blocks, inputs->n,
                         inputs->max_block_n));
    const rpo_loss_traits *traits = rpo_loss_traits_of(options->kind);
    for (int64_t b = 0; b < inputs->num_blocks && traits->needs_pairs; ++b) {
        const block_rows rows = rows_of(inputs, b);
        if (rows.m != rows.n)
            return rpo_error_set(
                RPO_ERROR_INVALID_ARGUMENT,
                "inputs.rejected_bounds: block %lld has %lld rows; %s needs as many as chosen "
                "ones, %lld",
                (long long)b, (long long)rows.n, traits->name, (long long)rows.m);
    }
    return RPO_OK;
}

static double total_weight(const rpo_contrast_inputs *inputs, const rpo_loss_options *options) {
    if (inputs->total_rows > 0.0)
        return inputs->total_rows;
    double total = 0.0;
    for (int64_t b = 0; b < inputs->num_blocks; ++b) {
        const block_rows rows = rows_of(inputs, b);
        total += contributes(&rows, options) ? weight_of(&rows, options) : 0.0;
    }
    return total;
}

static const float *read_from(const float *values, int64_t first) {
    return values != NULL ? values + first : NULL;
}

static float *write_to(float *values, int64_t first) {
    return values != NULL ? values + first : NULL;
}

static const void *embeddings_from(const void *embeddings, int64_t first, int64_t dim) {
    return embeddings != NULL ? (const float *)embeddings + first * dim : NULL;
}

static rpo_cpu_contrast_block block_of(const rpo_contrast_outputs *outputs, const rpo_contrast_inputs *inputs,
                                       const rpo_loss_options *options, const block_rows *rows,
                                       double total) {
    const bool both = options->kind == RPO_LOSS_KTO_SIMPLE;
    return (rpo_cpu_contrast_block){
        .inputs = {.struct_size = sizeof *inputs,
                   .policy_chosen_logps = read_from(inputs->policy_chosen_logps, rows->chosen),
                   .policy_rejected_logps = read_from(inputs->policy_rejected_logps, rows->rejected),
                   .reference_chosen_logps = read_from(inputs->reference_chosen_logps, rows->chosen),
                   .reference_rejected_logps = read_from(inputs->reference_rejected_logps, rows->rejected),
                   .chosen_embeddings = embeddings_from(inputs->chosen_embeddings, rows->chosen, inputs->dim),
                   .rejected_embeddings =
                       embeddings_from(inputs->rejected_embeddings, rows->rejected, inputs->dim),
                   .embedding_dtype = inputs->embedding_dtype,
                   .m = rows->m,
                   .n = rows->n,
                   .dim = inputs->dim},
        .outputs = {.struct_size = sizeof *outputs,
                    .row_losses = write_to(outputs->row_losses, rows->chosen),
                    .grad_chosen_logps = write_to(outputs->grad_chosen_logps, rows->chosen),
                    .grad_rejected_logps = write_to(outputs->grad_rejected_logps, rows->rejected)},
        .rejected_row_losses = both ? write_to(outputs->row_losses, inputs->m + rows->rejected) : NULL,
        .weight = weight_of(rows, options) / total,
    };
}

/* ---- a call ---- */

static void zero(float *values, int64_t count) {
    for (int64_t i = 0; values != NULL && i < count; ++i)
        values[i] = 0.0f;
}

static void write_zeros(const rpo_cpu_contrast_block *block) {
    zero(block->outputs.row_losses, block->inputs.m);
    zero(block->rejected_row_losses, block->inputs.n);
    zero(block->outputs.grad_chosen_logps, block->inputs.m);
    zero(block->outputs.grad_rejected_logps, block->inputs.n);
}

/* What one block adds to the loss. `worker` is whose workspace it may use. */
static rpo_status run_block(rpo_context *context, const loss_layout *layout, int64_t index, size_t worker,
                            const rpo_contrast_outputs *outputs, const rpo_contrast_inputs *inputs,
                            const rpo_loss_options *options, double total) {
    const block_rows rows = rows_of(inputs, index);
    const rpo_cpu_contrast_block block = block_of(outputs, inputs, options, &rows, total);
    double loss = 0.0;
    layout->losses[index] = 0.0;
    if (!contributes(&rows, options)) {
        write_zeros(&block);
        return RPO_OK;
    }
    if (rpo_loss_traits_of(options->kind)->over_matrix)
        RPO_TRY(rpo_cpu_contrast_pairs(context, &loss, &block, options, layout->threads_each,
                                       layout->pairs + worker * layout->pairs_stride));
    else
        loss = rpo_cpu_contrast_baseline(&block, options);
    layout->losses[index] = block.weight * loss;
    return RPO_OK;
}

static rpo_status run_blocks(rpo_context *context, const loss_layout *layout,
                             const rpo_contrast_outputs *outputs, const rpo_contrast_inputs *inputs,
                             const rpo_loss_options *options) {
    const double total = total_weight(inputs, options);
    /* What is not over a matrix is a few operations a row. */
    const int workers = rpo_loss_traits_of(options->kind)->over_matrix ? layout->workers : 1;
    rpo_status status = RPO_OK;
    if (workers == 1) {
        for (int64_t b = 0; b < inputs->num_blocks; ++b)
            RPO_TRY(run_block(context, layout, b, 0, outputs, inputs, options, total));
    } else {
#pragma omp parallel for schedule(dynamic, 1) num_threads(workers)
        for (int64_t b = 0; b < inputs->num_blocks; ++b) {
            const rpo_status one =
                run_block(context, layout, b, (size_t)omp_get_thread_num(), outputs, inputs, options, total);
            if (one != RPO_OK) {
#pragma omp atomic write
                status = one;
            }
        }
    }
    /* The message was set on the thread that failed; say it again on this one. */
    return status == RPO_OK ? RPO_OK : rpo_error_set(status, "contrast loss: the matrix product failed");
}

static void write_rewards(float *rewards, const float *policy, const float *reference, int64_t count,
                          double beta) {
    for (int64_t i = 0; i < count && rewards != NULL; ++i)
        rewards[i] = (float)(beta * rpo_cpu_log_ratio(policy, reference, i));
}

/* Margins of the blocks' pairs, one after the other, and the share of those above 0. */
static void write_margins(const rpo_contrast_outputs *outputs, const rpo_contrast_inputs *inputs,
                          double beta) {
    int64_t pairs = 0, correct = 0;
    for (int64_t b = 0; b < inputs->num_blocks; ++b) {
        const block_rows rows = rows_of(inputs, b);
        const int64_t count = rows.m < rows.n ? rows.m : rows.n;
        for (int64_t i = 0; i < count; ++i, ++pairs) {
            const double margin =
                beta * (rpo_cpu_log_ratio(inputs->policy_chosen_logps, inputs->reference_chosen_logps,
                                          rows.chosen + i) -
                        rpo_cpu_log_ratio(inputs->policy_rejected_logps, inputs->reference_rejected_logps,
                                          rows.rejected + i));
            correct += margin > 0.0;
            if (outputs->margins != NULL)
                outputs->margins[pairs] = (float)margin;
        }
    }
    if (outputs->accuracy != NULL)
        *outputs->accuracy = pairs == 0 ? 0.0f : (float)((double)correct / (double)pairs);
}

rpo_status rpo_cpu_contrast_loss(rpo_context *context, const rpo_contrast_outputs *outputs,
                                 const rpo_contrast_inputs *inputs, const rpo_loss_options *options,
                                 void *workspace, size_t workspace_size) {
    (void)workspace_size;
    const double beta = (double)options->beta;
    const loss_layout layout = lay_out(context, inputs, options, workspace);
    RPO_TRY(check_blocks(inputs, options));
    RPO_TRY(run_blocks(context, &layout, outputs, inputs, options));
    double loss = 0.0;
    for (int64_t b = 0; b < inputs->num_blocks; ++b)
        loss += layout.losses[b];
    *outputs->loss = (float)loss;
    write_rewards(outputs->chosen_rewards, inputs->policy_chosen_logps, inputs->reference_chosen_logps,
                  inputs->m, beta);
    write_rewards(outputs->rejected_rewards, inputs->policy_rejected_logps, inputs->reference_rejected_logps,
                  inputs->n, beta);
    write_margins(outputs, inputs, beta);
    return RPO_OK;
}
