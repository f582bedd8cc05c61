/*
 * block_cases.h - contrast losses of several blocks in one call, for tests on any backend: each block must come out
 * as the op gives it alone, and the call as their weighted sum.
 */
#ifndef RPO_TESTS_OPS_BLOCK_CASES_H
#define RPO_TESTS_OPS_BLOCK_CASES_H

#include "tests/ops/contrast_run.h"

enum { BLOCKS_MOST = 48 };

typedef struct block_case {
    const char *name;
    int num_blocks;
    int m[BLOCKS_MOST], n[BLOCKS_MOST]; /* rows of the blocks; kinds over pairs have m on both sides */
    int64_t dim;
} block_case;

static const block_case block_cases[] = {
    {"one block with bounds", 1, {5}, {7}, 8},
    {"ragged", 3, {3, 1, 4}, {2, 6, 5}, 9},
    {"blocks of eight and a rest", 4, {8, 8, 8, 3}, {8, 8, 8, 3}, 12},
    {"empty sides", 6, {0, 3, 2, 0, 1, 4}, {4, 0, 3, 0, 1, 0}, 8},
    {"nothing contributes", 2, {3, 0}, {0, 4}, 8},
    {"no blocks", 0, {0}, {0}, 8},
    {"many",
     40,
     {1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2,
      3, 1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3, 1},
     {2, 2, 1, 3, 3, 1, 1, 1, 1, 4, 2, 2, 1, 3, 3, 1, 1, 1, 1, 4,
      2, 2, 1, 3, 3, 1, 1, 1, 1, 4, 2, 2, 1, 3, 3, 1, 1, 1, 1, 4},
     5},
    {"large beside small", 4, {70, 1, 30, 90}, {150, 2, 85, 9}, 20},
};

enum { BLOCK_CASES = sizeof block_cases / sizeof block_cases[0] };

/* ---- a call and its blocks ---- */

typedef struct block_call {
    contrast_data data; /* all blocks */
    int32_t chosen_bounds[BLOCKS_MOST + 1], rejected_bounds[BLOCKS_MOST + 1];
} block_call;

static inline int block_columns(const block_case *one, rpo_loss_kind kind, int b) {
    return rpo_loss_kind_needs_pairs(kind) ? one->m[b] : one->n[b];
}

/* The bounds stay in *call, which therefore may not move. */
static inline void block_call_new(block_call *call, const block_case *one, rpo_loss_kind kind,
                                  double total_rows, rpo_dtype dtype) {
    int longest[2] = {0, 0};
    call->chosen_bounds[0] = call->rejected_bounds[0] = 0;
    for (int b = 0; b < one->num_blocks; ++b) {
        const int n = block_columns(one, kind, b);
        call->chosen_bounds[b + 1] = call->chosen_bounds[b] + one->m[b];
        call->rejected_bounds[b + 1] = call->rejected_bounds[b] + n;
        longest[0] = one->m[b] > longest[0] ? one->m[b] : longest[0];
        longest[1] = n > longest[1] ? n : longest[1];
    }
    const contrast_case all = {.name = one->name,
                               .kind = kind,
                               .m = call->chosen_bounds[one->num_blocks],
                               .n = call->rejected_bounds[one->num_blocks],
                               .dim = one->dim,
                               .beta = 0.1f,
                               .tau = 0.5f,
                               .spread = 20,
                               .diagonal_weight = 0.8f,
                               .epsilon = 0.1f,
                               .scale = RPO_WEIGHT_SCALE_BLOCK,
                               .zero_every = 7};
    call->data = contrast_data_new(&all, 900 + (uint64_t)kind);
    contrast_data_round(&call->data, dtype);
    call->data.inputs.chosen_bounds = call->chosen_bounds;
    call->data.inputs.rejected_bounds = call->rejected_bounds;
    call->data.inputs.num_blocks = one->num_blocks;
    call->data.inputs.max_block_m = longest[0];
    call->data.inputs.max_block_n = longest[1];
    call->data.inputs.total_rows = total_rows;
}

static inline float *block_rows_from(float *values, int64_t first) {
    return values != NULL ? values + first : NULL;
}

/* Block b as data of its own; borrows the call's arrays. */
static inline contrast_data block_alone(const block_call *call, int b) {
    const int64_t i = call->chosen_bounds[b], j = call->rejected_bounds[b], dim = call->data.inputs.dim;
    const contrast_data *all = &call->data;
    contrast_data one = {.options = all->options,
                         .chosen = all->chosen + i,
                         .rejected = all->rejected + j,
                         .reference_chosen = block_rows_from(all->reference_chosen, i),
                         .reference_rejected = block_rows_from(all->reference_rejected, j),
                         .chosen_embeddings = block_rows_from(all->chosen_embeddings, i * dim),
                         .rejected_embeddings = block_rows_from(all->rejected_embeddings, j * dim)};
    one.inputs = (rpo_contrast_inputs){.struct_size = sizeof one.inputs,
                                       .policy_chosen_logps = one.chosen,
                                       .policy_rejected_logps = one.rejected,
                                       .reference_chosen_logps = one.reference_chosen,
                                       .reference_rejected_logps = one.reference_rejected,
                                       .chosen_embeddings = one.chosen_embeddings,
                                       .rejected_embeddings = one.rejected_embeddings,
                                       .embedding_dtype = all->inputs.embedding_dtype,
                                       .m = call->chosen_bounds[b + 1] - i,
                                       .n = call->rejected_bounds[b + 1] - j,
                                       .dim = dim};
    return one;
}

/* ---- what is expected ---- */

/* values[i] is factor times the block's, as far as float32 sums of another order may differ; with `exact` to the last
 * bit but one, or with factor 1 to the last. */
static inline void block_expect(const float *values, const float *alone, int64_t count, double factor,
                                bool exact, const char *name, const char *what) {
    double largest = 0.0;
    for (int64_t i = 0; i < count; ++i)
        largest = fmax(largest, fabs(factor * (double)alone[i]));
    for (int64_t i = 0; i < count; ++i) {
        const double expected = factor * (double)alone[i];
        const double tolerance = !exact ? 4e-6 * largest : factor == 1.0 ? 0.0 : 1.5e-7 * fabs(expected);
        cr_assert(fabs((double)values[i] - expected) <= tolerance, "%s: %s[%lld] is %.9g; alone it is %.9g",
                  name, what, (long long)i, (double)values[i], expected);
    }
}

typedef struct block_sums {
    double loss, total;
    int64_t pairs, correct;
} block_sums;

static inline double block_weight(const contrast_data *alone) {
    const int64_t m = alone->inputs.m, n = alone->inputs.n;
    if (alone->options.kind == RPO_LOSS_SFT)
        return (double)m;
    return m > 0 && n > 0 ? (double)(m + n) : 0.0;
}

/* Block b of the call's results against the block alone. */
static inline void block_compare(block_sums *sums, const contrast_run *all, const block_call *call, int b,
                                 rpo_context *context, bool exact, const char *name) {
    contrast_data data = block_alone(call, b);
    contrast_run alone = contrast_run_new(context, &data, name);
    const int64_t i = call->chosen_bounds[b], j = call->rejected_bounds[b], m = data.inputs.m,
                  n = data.inputs.n;
    const int64_t all_rows = call->data.inputs.m, pairs = m < n ? m : n;
    const double weight = sums->total > 0.0 ? block_weight(&data) / sums->total : 0.0;
    const float *rows = all->row_losses.data, *rows_alone = alone.row_losses.data;
    const float *margins = (const float *)all->margins.data + sums->pairs;
    block_expect(rows + i, rows_alone, m, 1.0, exact, name, "row_losses");
    if (data.options.kind == RPO_LOSS_KTO_SIMPLE)
        block_expect(rows + all_rows + j, rows_alone + m, n, 1.0, exact, name, "row_losses of rejected rows");
    block_expect((float *)all->grad_chosen.data + i, alone.grad_chosen.data, m, weight, exact, name,
                 "grad_chosen_logps");
    block_expect((float *)all->grad_rejected.data + j, alone.grad_rejected.data, n, weight, exact, name,
                 "grad_rejected_logps");
    block_expect((float *)all->chosen_rewards.data + i, alone.chosen_rewards.data, m, 1.0, true, name,
                 "chosen_rewards");
    block_expect((float *)all->rejected_rewards.data + j, alone.rejected_rewards.data, n, 1.0, true, name,
                 "rejected_rewards");
    block_expect(margins, alone.margins.data, pairs, 1.0, true, name, "margins");
    for (int64_t k = 0; k < pairs; ++k)
        sums->correct += margins[k] > 0.0f;
    sums->pairs += pairs;
    sums->loss += weight * (double)*(float *)alone.loss.data;
    contrast_run_free(&alone);
}

/* `exact`: the backend works on a block the same way alone and beside others. */
static inline void block_case_run(rpo_context *context, const block_case *one, rpo_loss_kind kind,
                                  double total_rows, rpo_dtype dtype, bool exact) {
    char name[128];
    snprintf(name, sizeof name, "%s, %s, total %g", one->name, rpo_loss_kind_name(kind), total_rows);
    block_call call;
    block_call_new(&call, one, kind, total_rows, dtype);
    contrast_run all = contrast_run_new(context, &call.data, name);
    block_sums sums = {.total = total_rows};
    for (int b = 0; b < one->num_blocks && total_rows == 0.0; ++b) {
        const contrast_data alone = block_alone(&call, b);
        sums.total += block_weight(&alone);
    }
    for (int b = 0; b < one->num_blocks; ++b)
        block_compare(&sums, &all, &call, b, context, exact, name);
    const double loss = (double)*(float *)all.loss.data, accuracy = (double)*(float *)all.accuracy.data;
    const double right = sums.pairs > 0 ? (double)sums.correct / (double)sums.pairs : 0.0;
    cr_assert(fabs(loss - sums.loss) <= 1e-6 * fmax(fabs(sums.loss), 1e-3),
              "%s: loss is %.9g, the blocks' sum %.9g", name, loss, sums.loss);
    cr_assert(fabs(accuracy - right) <= 1e-6, "%s: accuracy is %.9g; must be %.9g", name, accuracy, right);
    contrast_run_free(&all);
    contrast_data_free(&call.data);
}

/* The same bits on two contexts. */
static inline void block_case_compare(rpo_context *one, rpo_context *other, const block_case *c,
                                      rpo_loss_kind kind, const char *what) {
    block_call call;
    block_call_new(&call, c, kind, 0.0, RPO_FLOAT32);
    contrast_run a = contrast_run_new(one, &call.data, c->name),
                 b = contrast_run_new(other, &call.data, c->name);
    contrast_runs_equal(&a, &b, c->name, what);
    contrast_run_free(&b);
    contrast_run_free(&a);
    contrast_data_free(&call.data);
}

#endif
