/*
 * contrast.h - what the CPU's similarity, weight and loss ops share.
 *
 * All three walk the m x n matrix in strips: a few consecutive rows, all n columns. A strip is the largest
 * piece of the matrix that ever exists inside the loss; it holds a fixed number of elements, or a fixed
 * number of rows where n alone exceeds that. Strips depend on the shape only, never on the number of threads,
 * and so do the bits of every result.
 */
#ifndef RPO_KERNELS_CPU_CONTRAST_H
#define RPO_KERNELS_CPU_CONTRAST_H

#include <omp.h>

#include "core/bump.h"
#include "kernels/cpu/cpu.h"

/* ---- the ops themselves; contracts: rpo/similarity.h, rpo/loss.h ---- */

__typeof__(rpo_prompt_similarity_workspace_size) rpo_cpu_prompt_similarity_workspace_size;
__typeof__(rpo_prompt_similarity) rpo_cpu_prompt_similarity;
__typeof__(rpo_contrast_weights) rpo_cpu_contrast_weights;
__typeof__(rpo_contrast_loss_workspace_size) rpo_cpu_contrast_loss_workspace_size;
__typeof__(rpo_contrast_loss) rpo_cpu_contrast_loss;

/* policy[i] - reference[i], the latter 0 without a reference. */
static inline double rpo_cpu_log_ratio(const float *policy, const float *reference, int64_t i) {
    return (double)policy[i] - (reference != NULL ? (double)reference[i] : 0.0);
}

/* An infinite score could end in a loss of 0; as NaN it shows in the loss, as the contract says. */
static inline double rpo_cpu_finite_or_nan(double x) {
    return x + 0.0 * x;
}

/* ---- strips (contrast_strip.c) ---- */

/* Rows of a strip of an m x n matrix over embeddings of `dim` (0 = no embeddings). */
int64_t rpo_cpu_strip_rows(int64_t m, int64_t n, int64_t dim);

/* Of every matrix of at most m rows, whatever its other sides: more strips than this it does not have; and no strip
 * has more rows x `width` elements, where width is at most the matrix's n or dim. */
int64_t rpo_cpu_most_strips(int64_t m);
int64_t rpo_cpu_most_strip_elements(int64_t m, int64_t width);

/* inverse[j] = 1 / |x_j|; 0 for a zero norm, NaN for a non-finite row. */
void rpo_cpu_inverse_norms(int num_threads, float *inverse, const float *x, int64_t count, int64_t dim);

/*
 * strip[r][j] = <e_r, f_j> / |e_r| for `rows` rows from `chosen` on; times the column's inverse norm it is
 * the cosine, a factor that each reader applies on the way. `tile` holds rows x dim floats. One thread does
 * it all: called from inside a parallel region.
 */
rpo_status rpo_cpu_similarity_strip(rpo_context *context, float *strip, float *tile, const float *chosen,
                                    const float *rejected, int64_t rows, int64_t n, int64_t dim);

/*
 * Turns a row of rpo_cpu_similarity_strip, in place, into exp((cos_j - max cos) / tau) and returns the factor
 * that makes weights of it: `scale` over the row's sum.
 */
float rpo_cpu_softmax_row(float *row, const float *inverse_norms, int64_t n, float tau, float scale);

/* ---- the whole matrix, for the two ops that return one (similarity.c) ---- */

/* What becomes of each row of a strip. */
typedef void (*rpo_cpu_finish_row)(float *row, const float *inverse_norms, int64_t n, float tau, float scale);

rpo_status rpo_cpu_similarity_matrix(rpo_context *context, float *matrix, const rpo_similarity_inputs *inputs,
                                     rpo_cpu_finish_row finish, float tau, float scale, void *workspace);

/* ---- the two halves of rpo_contrast_loss (contrast_pairs.c, contrast_baseline.c) ---- */

/* One block of a call that contributes: its rows as the inputs and outputs of a call of their own. */
typedef struct rpo_cpu_contrast_block {
    rpo_contrast_inputs inputs;   /* without bounds; m >= 1, and n >= 1 except for sft */
    rpo_contrast_outputs outputs; /* row_losses: those of its chosen rows; `loss` is not written */
    float *rejected_row_losses;   /* [n], kto-simple */
    double weight;                /* what the gradients are multiplied with */
} rpo_cpu_contrast_block;

/* Kinds over the whole m x n matrix. Enough for every block of at most the inputs' m and n; with `exact` for a block
 * of just this size. */
size_t rpo_cpu_contrast_pairs_workspace(const rpo_contrast_inputs *inputs, const rpo_loss_options *options,
                                        int num_threads, bool exact);

/* *loss receives the block's, unweighted. The same bits whatever num_threads is. */
rpo_status rpo_cpu_contrast_pairs(rpo_context *context, double *loss, const rpo_cpu_contrast_block *block,
                                  const rpo_loss_options *options, int num_threads, void *workspace);

/* Kinds over its diagonal or over the two vectors; returns the block's loss, unweighted. */
double rpo_cpu_contrast_baseline(const rpo_cpu_contrast_block *block, const rpo_loss_options *options);

#endif
