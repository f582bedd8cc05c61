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
 * Rows are cut into strips (contrast.h) and strips into at most PARTIALS_MAX blocks of consecutive strips. A
 * block is one thread's work: similarity of a strip by one matrix product, softmax row by row, then one pass
 * that yields the loss and both gradients. Row sums end inside the pass; column sums are kept per block and
 * added in the order of the blocks, so that the number of threads changes no bit.
 *
 * Row sums are in double; column sums are in float within a strip, where all terms have one sign, and in
 * double beyond it.
 */
#include <math.h>

#include "kernels/cpu/contrast.h"
#include "kernels/cpu/vector_math.h"

enum { PARTIALS_MAX = 32 };

typedef struct pair_layout {
    bool weighted;
    int64_t strip_rows, num_strips, strips_per_block, num_blocks;
    float *rejected_ratios; /* [n] b_j */
    float *inverse_norms;   /* [n], weighted kinds */
    double *block_losses;   /* [num_blocks] */
    double *column_sums;    /* [num_blocks][column_stride] */
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

static pair_scratch lay_out_scratch(const pair_layout *layout, void *memory, int64_t n, int64_t dim) {
    pair_scratch scratch = {0};
    const size_t rows = layout->weighted ? (size_t)layout->strip_rows : 0;
    scratch.columns = rpo_cpu_carve(memory, &scratch.bytes, (size_t)n * sizeof(float));
    scratch.tile = rpo_cpu_carve(memory, &scratch.bytes, rows * (size_t)dim * sizeof(float));
    scratch.strip = rpo_cpu_carve(memory, &scratch.bytes, rows * (size_t)n * sizeof(float));
    return scratch;
}

static pair_layout lay_out(const rpo_context *context, void *workspace, const rpo_contrast_inputs *inputs,
                           const rpo_loss_options *options) {
    const int64_t m = inputs->m, n = inputs->n;
    pair_layout layout = {.weighted = rpo_loss_kind_needs_embeddings(options->kind) != 0};
    layout.strip_rows = rpo_cpu_strip_rows(m, n, layout.weighted ? inputs->dim : 0);
    layout.num_strips = (m + layout.strip_rows - 1) / layout.strip_rows;
    layout.strips_per_block = (layout.num_strips + PARTIALS_MAX - 1) / PARTIALS_MAX;
    layout.num_blocks = (layout.num_strips + layout.strips_per_block - 1) / layout.strips_per_block;

    const size_t column_bytes = rpo_cpu_align((size_t)n * sizeof(double));
    const size_t blocks = (size_t)layout.num_blocks;
    layout.column_stride = column_bytes / sizeof(double);
    layout.scratch_stride = lay_out_scratch(&layout, NULL, n, inputs->dim).bytes;
    layout.rejected_ratios = rpo_cpu_carve(workspace, &layout.bytes, (size_t)n * sizeof(float));
    layout.inverse_norms =
        rpo_cpu_carve(workspace, &layout.bytes, layout.weighted ? (size_t)n * sizeof(float) : 0);
    layout.block_losses = rpo_cpu_carve(workspace, &layout.bytes, blocks * sizeof(double));
    layout.column_sums = rpo_cpu_carve(workspace, &layout.bytes, blocks * column_bytes);
    layout.scratch =
        rpo_cpu_carve(workspace, &layout.bytes, (size_t)rpo_cpu_threads(context) * layout.scratch_stride);
    return layout;
}

size_t rpo_cpu_contrast_pairs_workspace(const rpo_context *context, const rpo_contrast_inputs *inputs,
                                        const rpo_loss_options *options) {
    return lay_out(context, NULL, inputs, options).bytes;
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

/* One strip: rows [first, first + rows). Adds to the block's loss and column sums. */
static rpo_status add_strip(rpo_context *context, const pair_layout *layout, const pair_scratch *scratch,
                            double *block_loss, double *column_sums, const rpo_contrast_outputs *outputs,
                            const rpo_contrast_inputs *inputs, const rpo_loss_options *options, int64_t first,
                            int64_t rows) {
    const int64_t m = inputs->m, n = inputs->n, dim = inputs->dim;
    const bool diagonal = options->kind == RPO_LOSS_RPO_DIAGONAL;
    const double shared =
        diagonal ? 1.0 : 1.0 / (double)n; /* of c_ij; the diagonal kind has its own inside */
    const float weight_scale = options->weight_scale == RPO_WEIGHT_SCALE_BLOCK ? (float)n : 1.0f;
    const float *ratios = layout->rejected_ratios;
    if (layout->weighted) {
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
            float *row = layout->weighted ? scratch->strip + r * n : NULL;
            const float factor =
                row != NULL ? rpo_cpu_softmax_row(row, layout->inverse_norms, n, options->tau, weight_scale)
                            : 1.0f;
            add_pairs(&sums, scratch->columns, row, factor, (float)ratio, ratios, options->beta, 1.0f, 0, n);
        }
        const double row_loss = shared * sums.loss;
        *block_loss += row_loss;
        if (outputs->row_losses != NULL)
            outputs->row_losses[i] = (float)row_loss;
        if (outputs->grad_chosen_logps != NULL)
            outputs->grad_chosen_logps[i] = (float)(-(double)options->beta / (double)m * shared * sums.slope);
    }
    for (int64_t j = 0; j < n; ++j)
        column_sums[j] += (double)scratch->columns[j];
    return RPO_OK;
}

static rpo_status add_block(rpo_context *context, const pair_layout *layout, int64_t block,
                            const rpo_contrast_outputs *outputs, const rpo_contrast_inputs *inputs,
                            const rpo_loss_options *options) {
    char *memory = layout->scratch + (size_t)omp_get_thread_num() * layout->scratch_stride;
    const pair_scratch scratch = lay_out_scratch(layout, memory, inputs->n, inputs->dim);
    double *column_sums = layout->column_sums + (size_t)block * layout->column_stride;
    double loss = 0.0;
    for (int64_t j = 0; j < inputs->n; ++j)
        column_sums[j] = 0.0;

    const int64_t begin = block * layout->strips_per_block;
    for (int64_t s = begin; s < begin + layout->strips_per_block && s < layout->num_strips; ++s) {
        const int64_t first = s * layout->strip_rows;
        const int64_t left = inputs->m - first;
        RPO_TRY(add_strip(context, layout, &scratch, &loss, column_sums, outputs, inputs, options, first,
                          left < layout->strip_rows ? left : layout->strip_rows));
    }
    layout->block_losses[block] = loss;
    return RPO_OK;
}

/* Adds the blocks' sums, always in the same order. */
static void reduce_blocks(const rpo_context *context, const pair_layout *layout,
                          const rpo_contrast_outputs *outputs, const rpo_contrast_inputs *inputs,
                          const rpo_loss_options *options) {
    const double m = (double)inputs->m;
    const double shared = options->kind == RPO_LOSS_RPO_DIAGONAL ? 1.0 : 1.0 / (double)inputs->n;
    double loss = 0.0;
    for (int64_t block = 0; block < layout->num_blocks; ++block)
        loss += layout->block_losses[block];
    *outputs->loss = (float)(loss / m);

    if (outputs->grad_rejected_logps == NULL)
        return;
    const double factor = (double)options->beta / m * shared;
#pragma omp parallel for schedule(static) num_threads(rpo_cpu_threads(context))
    for (int64_t j = 0; j < inputs->n; ++j) {
        double sum = 0.0;
        for (int64_t block = 0; block < layout->num_blocks; ++block)
            sum += layout->column_sums[(size_t)block * layout->column_stride + (size_t)j];
        outputs->grad_rejected_logps[j] = (float)(factor * sum);
    }
}

rpo_status rpo_cpu_contrast_pairs(rpo_context *context, const rpo_contrast_outputs *outputs,
                                  const rpo_contrast_inputs *inputs, const rpo_loss_options *options,
                                  void *workspace) {
    const pair_layout layout = lay_out(context, workspace, inputs, options);
    for (int64_t j = 0; j < inputs->n; ++j)
        layout.rejected_ratios[j] = (float)rpo_cpu_finite_or_nan(
            rpo_cpu_log_ratio(inputs->policy_rejected_logps, inputs->reference_rejected_logps, j));
    if (layout.weighted)
        rpo_cpu_inverse_norms(context, layout.inverse_norms, inputs->rejected_embeddings, inputs->n,
                              inputs->dim);

    rpo_status status = RPO_OK;
#pragma omp parallel for schedule(dynamic, 1) num_threads(rpo_cpu_threads(context))
    for (int64_t block = 0; block < layout.num_blocks; ++block) {
        const rpo_status block_status = add_block(context, &layout, block, outputs, inputs, options);
        if (block_status != RPO_OK) {
#pragma omp atomic write
            status = block_status;
        }
    }
    if (status != RPO_OK)
        return rpo_error_set(status, "contrast loss: the matrix product failed");
    reduce_blocks(context, &layout, outputs, inputs, options);
    return RPO_OK;
}
