/*
 * contrast_pairs.c - the RPO losses over every (chosen, rejected) pair: loss and gradients, m x n never in
 * memory.
 *
 *     L_i = sum_j c_ij l(x_ij),   x_ij = beta w_ij (a_i - b_j),   loss = mean_i L_i
 *     d loss / d a_i = -(beta / m) sum_j c_ij w_ij sigmoid(-x_ij)
 *     d loss / d b_j = +(beta / m) sum_i c_ij w_ij sigmoid(-x_ij)
 *
 * with c_ij = 1/n, except for rpo-diagonal: d on the diagonal and (1-d)/(n-1) beside it. Weights are
 * constants of the gradient: embeddings do not depend on the policy.
 *
 * This is one block of a call (rpo/loss.h). Its rows are cut into strips (contrast.h) and strips into at most
 * PARTS_MAX parts of consecutive strips. A part is one thread's work: similarity of a strip by one matrix product,
 * softmax row by row, then one pass that yields the loss and both gradients. Row sums end inside the pass; column
 * sums are kept per part and added in the order of the parts, so that the number of threads changes no bit.
 *
 * Row sums are in double; column sums are in float within a strip, where all terms have one sign, and in
 * double beyond it.
 */
#include <math.h>

#include "kernels/api/loss_kinds.h"
#include "kernels/cpu/contrast.h"
#include "kernels/cpu/vector_math.h"

enum { PARTS_MAX = 32 };

/* What decides how much memory a block takes; or bounds of it for all blocks up to a size. */
typedef struct pair_sizes {
    bool weighted;
    int64_t n, strip_rows, num_strips, strips_per_part, num_parts;
    int64_t tile_elements, strip_elements; /* 0 without weights */
} pair_sizes;

typedef struct pair_layout {
    pair_sizes sizes;
    float *rejected_ratios; /* [n] b_j */
    float *inverse_norms;   /* [n], weighted kinds */
    double *part_losses;    /* [num_parts] */
    double *column_sums;    /* [num_parts][column_stride] */
    size_t column_stride;   /* doubles */
    char *scratch;          /* one pair_scratch a thread */
    size_t scratch_stride;  /* bytes */
    size_t bytes;
} pair_layout;

/* What one thread needs while it works on a strip. */
typedef struct pair_scratch {
    float *columns; /* [n] column sums of the strip */
    float *tile;    /* [strip_rows][dim] normalised embeddings, weighted kinds */
    float *strip;   /* [strip_rows][n] similarities, then exponentials, weighted kinds */
    size_t bytes;
} pair_scratch;

static pair_sizes sizes_of(const rpo_contrast_inputs *inputs, const rpo_loss_options *options) {
    const int64_t m = inputs->m, n = inputs->n;
    pair_sizes sizes = {.weighted = rpo_loss_traits_of(options->kind)->needs_embeddings, .n = n};
    const int64_t dim = sizes.weighted ? inputs->dim : 0;
    sizes.strip_rows = rpo_cpu_strip_rows(m, n, dim);
    sizes.num_strips = (m + sizes.strip_rows - 1) / sizes.strip_rows;
    sizes.strips_per_part = (sizes.num_strips + PARTS_MAX - 1) / PARTS_MAX;
    sizes.num_parts = (sizes.num_strips + sizes.strips_per_part - 1) / sizes.strips_per_part;
    sizes.tile_elements = sizes.weighted ? sizes.strip_rows * dim : 0;
    sizes.strip_elements = sizes.weighted ? sizes.strip_rows * n : 0;
    return sizes;
}

/* A smaller block may have longer strips than a larger one, or more parts. */
static pair_sizes most_sizes(const rpo_contrast_inputs *inputs, const rpo_loss_options *options) {
    const int64_t m = inputs->m, n = inputs->n, strips = rpo_cpu_most_strips(m);
    pair_sizes sizes = {.weighted = rpo_loss_traits_of(options->kind)->needs_embeddings, .n = n};
    sizes.num_parts = strips < PARTS_MAX ? strips : PARTS_MAX;
    sizes.tile_elements = sizes.weighted ? rpo_cpu_most_strip_elements(m, inputs->dim) : 0;
    sizes.strip_elements = sizes.weighted ? rpo_cpu_most_strip_elements(m, n) : 0;
    return sizes;
}

static pair_scratch lay_out_scratch(const pair_sizes *sizes, void *memory) {
    rpo_bump from = rpo_bump_from(memory);
    pair_scratch scratch = {.columns = rpo_bump_take(&from, sizes->n, sizeof(float)),
                            .tile = rpo_bump_take(&from, sizes->tile_elements, sizeof(float)),
                            .strip = rpo_bump_take(&from, sizes->strip_elements, sizeof(float))};
    scratch.bytes = rpo_bump_size(&from);
    return scratch;
}

static pair_layout lay_out(const pair_sizes *sizes, int num_threads, void *workspace) {
    pair_layout layout = {.sizes = *sizes};
    rpo_bump from = rpo_bump_from(workspace);
    const size_t column_bytes = rpo_bump_align((size_t)sizes->n * sizeof(double));
    layout.column_stride = column_bytes / sizeof(double);
    layout.scratch_stride = lay_out_scratch(sizes, NULL).bytes;
    layout.rejected_ratios = rpo_bump_take(&from, sizes->n, sizeof(float));
    layout.inverse_norms = rpo_bump_take(&from, sizes->weighted ? sizes->n : 0, sizeof(float));
    layout.part_losses = rpo_bump_take(&from, sizes->num_parts, sizeof(double));
    layout.column_sums = rpo_bump_take(&from, sizes->num_parts, column_bytes);
    layout.scratch = rpo_bump_take(&from, num_threads, layout.scratch_stride);
    layout.bytes = rpo_bump_size(&from);
    return layout;
}

size_t rpo_cpu_contrast_pairs_workspace(const rpo_contrast_inputs *inputs, const rpo_loss_options *options,
                                        int num_threads, bool exact) {
    const pair_sizes sizes = exact ? sizes_of(inputs, options) : most_sizes(inputs, options);
    return lay_out(&sizes, num_threads, NULL).bytes;
}

/* Sums over one row. */
typedef struct row_sums {
    double loss;  /* of c l(x) */
    double slope; /* of c w sigmoid(-x) */
} row_sums;

/*
 * Adds columns [begin, end) of a row. Weights are factor * exponentials[j], or 1 where exponentials is NULL;
 * `coefficient` is c_ij up to the factor that the column sums get at the end.
 */
static void add_pairs(row_sums *sums, float *restrict columns, const float *restrict exponentials,
                      float factor, float ratio, const float *restrict rejected_ratios, float beta,
                      float coefficient, int64_t begin, int64_t end) {
    double loss_sum = 0.0, slope_sum = 0.0;
    if (exponentials != NULL) {
#pragma omp simd reduction(+ : loss_sum, slope_sum)
        for (int64_t j = begin; j < end; ++j) {
            const float weight = factor * exponentials[j];
            float loss, slope;
            rpo_log_sigmoid_loss(beta * weight * (ratio - rejected_ratios[j]), &loss, &slope);
            slope *= weight;
            loss_sum += (double)loss;
            slope_sum += (double)slope;
            columns[j] += slope;
        }
    } else {
#pragma omp simd reduction(+ : loss_sum, slope_sum)
        for (int64_t j = begin; j < end; ++j) {
            float loss, slope;
            rpo_log_sigmoid_loss(beta * (ratio - rejected_ratios[j]), &loss, &slope);
            loss_sum += (double)loss;
            slope_sum += (double)slope;
            columns[j] += coefficient * slope;
        }
    }
    sums->loss += (double)coefficient * loss_sum;
    sums->slope += (double)coefficient * slope_sum;
}

/* Coefficients of rpo-diagonal: on the diagonal and beside it. With one pair the diagonal is all there is. */
typedef struct diagonal_coefficients {
    double on, off;
} diagonal_coefficients;

static diagonal_coefficients diagonal_of(const rpo_loss_options *options, int64_t n) {
    const double d = (double)options->diagonal_weight;
    return n == 1 ? (diagonal_coefficients){1.0, 0.0}
                  : (diagonal_coefficients){d, (1.0 - d) / (double)(n - 1)};
}

static row_sums diagonal_row(float *columns, double ratio, const float *rejected_ratios, int64_t i, int64_t n,
                             const rpo_loss_options *options) {
    const diagonal_coefficients c = diagonal_of(options, n);
    double loss, slope;
    rpo_log_sigmoid_loss_double((double)options->beta * (ratio - (double)rejected_ratios[i]), &loss, &slope);
    row_sums sums = {c.on * loss, c.on * slope};
    columns[i] += (float)(c.on * slope);
    const float off = (float)c.off;
    add_pairs(&sums, columns, NULL, 1.0f, (float)ratio, rejected_ratios, options->beta, off, 0, i);
    add_pairs(&sums, columns, NULL, 1.0f, (float)ratio, rejected_ratios, options->beta, off, i + 1, n);
    return sums;
}

/* One strip: rows [first, first + rows). Adds to the part's loss and column sums. */
static rpo_status add_strip(rpo_context *context, const pair_layout *layout, const pair_scratch *scratch,
                            double *part_loss, double *column_sums, const rpo_cpu_contrast_block *block,
                            const rpo_loss_options *options, int64_t first, int64_t rows) {
    const rpo_contrast_inputs *inputs = &block->inputs;
    const rpo_contrast_outputs *outputs = &block->outputs;
    const int64_t m = inputs->m, n = inputs->n, dim = inputs->dim;
    const bool diagonal = options->kind == RPO_LOSS_RPO_DIAGONAL, weighted = layout->sizes.weighted;
    const double shared =
        diagonal ? 1.0 : 1.0 / (double)n; /* of c_ij; the diagonal kind has its own inside */
    const float weight_scale = options->weight_scale == RPO_WEIGHT_SCALE_BLOCK ? (float)n : 1.0f;
    const float *ratios = layout->rejected_ratios;
    if (weighted) {
        const float *chosen = (const float *)inputs->chosen_embeddings + first * dim;
        RPO_TRY(rpo_cpu_similarity_strip(context, scratch->strip, scratch->tile, chosen,
                                         inputs->rejected_embeddings, rows, n, dim));
    }
    for (int64_t j = 0; j < n; ++j)
        scratch->columns[j] = 0.0f;

    for (int64_t r = 0; r < rows; ++r) {
        const int64_t i = first + r;
        const double ratio = rpo_cpu_finite_or_nan(
            rpo_cpu_log_ratio(inputs->policy_chosen_logps, inputs->reference_chosen_logps, i));
        row_sums sums = {0.0, 0.0};
        if (diagonal) {
            sums = diagonal_row(scratch->columns, ratio, ratios, i, n, options);
        } else {
            float *row = weighted ? scratch->strip + r * n : NULL;
            const float factor =
                row != NULL ? rpo_cpu_softmax_row(row, layout->inverse_norms, n, options->tau, weight_scale)
                            : 1.0f;
            add_pairs(&sums, scratch->columns, row, factor, (float)ratio, ratios, options->beta, 1.0f, 0, n);
        }
        const double row_loss = shared * sums.loss;
        *part_loss += row_loss;
        if (outputs->row_losses != NULL)
            outputs->row_losses[i] = (float)row_loss;
        if (outputs->grad_chosen_logps != NULL)
            outputs->grad_chosen_logps[i] =
                (float)(-(double)options->beta / (double)m * shared * sums.slope * block->weight);
    }
    for (int64_t j = 0; j < n; ++j)
        column_sums[j] += (double)scratch->columns[j];
    return RPO_OK;
}

static rpo_status add_part(rpo_context *context, const pair_layout *layout, int64_t part,
                           const rpo_cpu_contrast_block *block, const rpo_loss_options *options,
                           const pair_scratch *scratch) {
    const pair_sizes *sizes = &layout->sizes;
    double *column_sums = layout->column_sums + (size_t)part * layout->column_stride;
    double loss = 0.0;
    for (int64_t j = 0; j < sizes->n; ++j)
        column_sums[j] = 0.0;

    const int64_t begin = part * sizes->strips_per_part;
    for (int64_t s = begin; s < begin + sizes->strips_per_part && s < sizes->num_strips; ++s) {
        const int64_t first = s * sizes->strip_rows;
        const int64_t left = block->inputs.m - first;
        RPO_TRY(add_strip(context, layout, scratch, &loss, column_sums, block, options, first,
                          left < sizes->strip_rows ? left : sizes->strip_rows));
    }
    layout->part_losses[part] = loss;
    return RPO_OK;
}

/* Adds the parts' sums, always in the same order; returns the block's loss. */
static double reduce_parts(const pair_layout *layout, const rpo_cpu_contrast_block *block,
                           const rpo_loss_options *options, int num_threads) {
    const double m = (double)block->inputs.m;
    const double shared = options->kind == RPO_LOSS_RPO_DIAGONAL ? 1.0 : 1.0 / (double)block->inputs.n;
    const int64_t num_parts = layout->sizes.num_parts;
    double loss = 0.0;
    for (int64_t part = 0; part < num_parts; ++part)
        loss += layout->part_losses[part];
    float *gradient = block->outputs.grad_rejected_logps;
    if (gradient == NULL)
        return loss / m;
    const double factor = (double)options->beta / m * shared;
#pragma omp parallel for schedule(static) num_threads(num_threads)
    for (int64_t j = 0; j < block->inputs.n; ++j) {
        double sum = 0.0;
        for (int64_t part = 0; part < num_parts; ++part)
            sum += layout->column_sums[(size_t)part * layout->column_stride + (size_t)j];
        gradient[j] = (float)(factor * sum * block->weight);
    }
    return loss / m;
}

rpo_status rpo_cpu_contrast_pairs(rpo_context *context, double *loss, const rpo_cpu_contrast_block *block,
                                  const rpo_loss_options *options, int num_threads, void *workspace) {
    const rpo_contrast_inputs *inputs = &block->inputs;
    const pair_sizes sizes = sizes_of(inputs, options);
    const pair_layout layout = lay_out(&sizes, num_threads, workspace);
    for (int64_t j = 0; j < inputs->n; ++j)
        layout.rejected_ratios[j] = (float)rpo_cpu_finite_or_nan(
            rpo_cpu_log_ratio(inputs->policy_rejected_logps, inputs->reference_rejected_logps, j));
    if (sizes.weighted)
        rpo_cpu_inverse_norms(num_threads, layout.inverse_norms, inputs->rejected_embeddings, inputs->n,
                              inputs->dim);

    rpo_status status = RPO_OK;
#pragma omp parallel for schedule(dynamic, 1) num_threads(num_threads)
    for (int64_t part = 0; part < sizes.num_parts; ++part) {
        /* Where the block itself is one thread's, the region above is that thread alone. */
        const size_t thread = num_threads > 1 ? (size_t)omp_get_thread_num() : 0;
        const pair_scratch scratch = lay_out_scratch(&sizes, layout.scratch + thread * layout.scratch_stride);
        const rpo_status part_status = add_part(context, &layout, part, block, options, &scratch);
        if (part_status != RPO_OK) {
#pragma omp atomic write
            status = part_status;
        }
    }
    if (status != RPO_OK)
        return rpo_error_set(status, "contrast loss: the matrix product failed");
    *loss = reduce_parts(&layout, block, options, num_threads);
    return RPO_OK;
}
