/* test_blocks.c - contrast blocks against single calls of the loss op; empty blocks; micro-batch plans;
 * ranks. */
#include <math.h>
#include <string.h>

#include "host/train/contrast.h"
#include "tests/train_fixture.h"

typedef struct fixture {
    char folder[64];
    rpo_context *context;
    rpo_comm *comm;
    rpo_tokenizer *tokenizer;
    rpo_dataset *dataset;
    rpo_embeddings embeddings;
    rpo_global_batch scope;
    float *policy, *reference, *gradients;
} fixture;

/* `labels` NULL: `count` pairs; otherwise unpaired records. */
static void open_fixture(fixture *f, int count, const char *labels) {
    *f = (fixture){0};
    make_folder(f->folder);
    must(rpo_context_create(&f->context, NULL));
    must(rpo_comm_open(&f->comm));
    must(rpo_tokenizer_open(&f->tokenizer, NULL, RPO_TOKENIZER_AUTO));
    f->dataset = labels == NULL ? make_pairs(f->folder, count, f->tokenizer)
                                : make_unpaired(f->folder, labels, f->tokenizer);
    const rpo_embedding_options embedding = {RPO_EMBEDDING_HASHED, NULL};
    must(rpo_embeddings_compute(&f->embeddings, f->dataset, f->dataset, &embedding, NULL, 1));
    const rpo_global_batch_options options = {.micro_batch_tokens = 100};
    must(
        rpo_global_batch_build(&f->scope, f->comm, f->dataset, NULL, rpo_dataset_size(f->dataset), &options));
    const size_t sequences = (size_t)f->scope.num_sequences;
    f->policy = rpo_alloc_array(sequences, sizeof(float));
    f->reference = rpo_alloc_array(sequences, sizeof(float));
    f->gradients = rpo_alloc_array(sequences, sizeof(float));
    for (size_t s = 0; s < sequences; ++s) {
        f->policy[s] = (float)(-40 + 5 * rpo_random_normal(1, 0, s));
        f->reference[s] = (float)(-40 + 5 * rpo_random_normal(1, 1, s));
    }
}

static void close_fixture(fixture *f) {
    rpo_free(f->gradients);
    rpo_free(f->reference);
    rpo_free(f->policy);
    rpo_global_batch_free(&f->scope);
    rpo_embeddings_free(&f->embeddings);
    rpo_dataset_free(f->dataset);
    rpo_tokenizer_free(f->tokenizer);
    rpo_comm_close(f->comm);
    rpo_context_free(f->context);
    must(rpo_remove_tree(f->folder));
}

static rpo_contrast_options options_of(rpo_loss_kind kind, int64_t block_rows) {
    rpo_contrast_options options = {.loss = RPO_LOSS_OPTIONS_INIT, .block_rows = block_rows};
    options.loss.kind = kind;
    return options;
}

/* What the op says of rows [first, first + count) alone: the block as a user would compute it. */
typedef struct direct {
    float loss, gradients[2][64], rewards[2][64];
    int64_t counts[2];
} direct;

static void compute_directly(direct *out, const fixture *f, int64_t first, int64_t count,
                             rpo_loss_kind kind) {
    float policy[2][64], reference[2][64];
    const int64_t dim = f->embeddings.dim;
    float *embeddings[2] = {rpo_alloc_array((size_t)(64 * dim), sizeof(float)),
                            rpo_alloc_array((size_t)(64 * dim), sizeof(float))};
    *out = (direct){0};
    for (int64_t s = 0; s < f->scope.num_sequences; ++s) {
        const rpo_batch_sequence *sequence = &f->scope.sequences[s];
        if (sequence->row < first || sequence->row >= first + count)
            continue;
        const int side = sequence->rejected;
        const int64_t at = out->counts[side]++;
        policy[side][at] = f->policy[s];
        reference[side][at] = f->reference[s];
        memcpy(embeddings[side] + at * dim, f->embeddings.rows + sequence->row * dim,
               (size_t)dim * sizeof(float));
    }
    rpo_loss_options options = RPO_LOSS_OPTIONS_INIT;
    options.kind = kind;
    const rpo_contrast_inputs inputs = {.struct_size = sizeof inputs,
                                        .policy_chosen_logps = policy[0],
                                        .policy_rejected_logps = policy[1],
                                        .reference_chosen_logps = reference[0],
                                        .reference_rejected_logps = reference[1],
                                        .chosen_embeddings = embeddings[0],
                                        .rejected_embeddings = embeddings[1],
                                        .m = out->counts[0],
                                        .n = out->counts[1],
                                        .dim = dim};
    const rpo_contrast_outputs outputs = {.struct_size = sizeof outputs,
                                          .loss = &out->loss,
                                          .grad_chosen_logps = out->gradients[0],
                                          .grad_rejected_logps = out->gradients[1],
                                          .chosen_rewards = out->rewards[0],
                                          .rejected_rewards = out->rewards[1]};
    size_t bytes = 0;
    must(rpo_contrast_loss_workspace_size(f->context, &bytes, &inputs, &options));
    void *workspace = rpo_alloc_array(bytes, 1);
    must(rpo_contrast_loss(f->context, &outputs, &inputs, &options, workspace, bytes));
    rpo_free(workspace);
    rpo_free(embeddings[0]);
    rpo_free(embeddings[1]);
}

static void expect_close(double got, double expected, const char *what) {
    cr_expect(fabs(got - expected) <= 1e-6 * fmax(1.0, fabs(expected)), "%s: %.9g, expected %.9g", what, got,
              expected);
}

/* Compares a scope's figures with the sum over its blocks, each computed alone. */
static void check_scope(fixture *f, rpo_loss_kind kind, int64_t block_rows) {
    const rpo_contrast_options options = options_of(kind, block_rows);
    rpo_figures figures;
    must(rpo_contrast_blocks(&figures, f->gradients, f->context, &f->scope, f->policy, f->reference,
                             &f->embeddings, &options));
    int64_t contributing = 0, empty = 0;
    for (int64_t row = 0; row < f->scope.num_rows; row += block_rows) {
        const int64_t count = row + block_rows < f->scope.num_rows ? block_rows : f->scope.num_rows - row;
        direct block;
        compute_directly(&block, f, row, count, kind);
        const bool counts = block.counts[0] > 0 && block.counts[1] > 0;
        contributing += counts ? count : 0;
        empty += !counts;
    }
    cr_expect_eq(figures.empty_blocks, empty);

    double loss = 0, rewards[2] = {0}, wins = 0, compared = 0;
    int64_t sides[2] = {0}, sequence = 0;
    for (int64_t row = 0; row < f->scope.num_rows; row += block_rows) {
        const int64_t count = row + block_rows < f->scope.num_rows ? block_rows : f->scope.num_rows - row;
        direct block;
        compute_directly(&block, f, row, count, kind);
        const bool counts = block.counts[0] > 0 && block.counts[1] > 0;
        const double weight = counts ? (double)count / (double)contributing : 0;
        loss += weight * (double)block.loss;
        int64_t at[2] = {0, 0};
        for (; sequence < f->scope.num_sequences && f->scope.sequences[sequence].row < row + count;
             ++sequence) {
            const int side = f->scope.sequences[sequence].rejected;
            const float expected = counts ? (float)(weight * (double)block.gradients[side][at[side]]) : 0.0f;
            expect_close((double)f->gradients[sequence], (double)expected, "gradient");
            if (counts)
                rewards[side] += (double)block.rewards[side][at[side]];
            ++at[side];
        }
        for (int64_t i = 0; counts && i < block.counts[0] && i < block.counts[1]; ++i) {
            wins += block.rewards[0][i] > block.rewards[1][i];
            compared += 1;
        }
        sides[0] += counts ? block.counts[0] : 0;
        sides[1] += counts ? block.counts[1] : 0;
    }
    expect_close(figures.loss, loss, "loss");
    if (contributing == 0)
        return;
    expect_close(figures.rewards_chosen, rewards[0] / (double)sides[0], "chosen reward");
    expect_close(figures.rewards_rejected, rewards[1] / (double)sides[1], "rejected reward");
    expect_close(figures.rewards_margins, rewards[0] / (double)sides[0] - rewards[1] / (double)sides[1],
                 "margin");
    expect_close(figures.rewards_accuracies, wins / compared, "accuracy");
}

Test(blocks, pairs_of_every_kind_and_ragged_blocks) {
    fixture f;
    open_fixture(&f, 13, NULL);
    for (int kind = 0; kind < RPO_LOSS_SFT; ++kind) {
        check_scope(&f, (rpo_loss_kind)kind, 4); /* 4 + 4 + 4 + 1 */
        check_scope(&f, (rpo_loss_kind)kind, 13);
        check_scope(&f, (rpo_loss_kind)kind, 64); /* more than there are */
        check_scope(&f, (rpo_loss_kind)kind, 1);
    }
    close_fixture(&f);
}

Test(blocks, unpaired_blocks_without_a_class_count_as_empty) {
    static const rpo_loss_kind kinds[] = {RPO_LOSS_RPO_UNPAIRED, RPO_LOSS_KTO_SIMPLE};
    for (size_t k = 0; k < 2; ++k) {
        fixture f;
        open_fixture(&f, 0,
                     "1101"
                     "1111"
                     "0100"
                     "0000"
                     "01"); /* two of five blocks lack a class */
        check_scope(&f, kinds[k], 4);
        check_scope(&f, kinds[k], 18);
        const rpo_contrast_options options = options_of(kinds[k], 4);
        rpo_figures figures;
        must(rpo_contrast_blocks(&figures, f.gradients, f.context, &f.scope, f.policy, f.reference,
                                 &f.embeddings, &options));
        cr_expect_eq(figures.blocks, 5);
        cr_expect_eq(figures.empty_blocks, 2);
        close_fixture(&f);
    }
}

Test(blocks, all_empty_gives_nothing) {
    fixture f;
    open_fixture(&f, 0, "111111");
    const rpo_contrast_options options = options_of(RPO_LOSS_RPO_UNPAIRED, 2);
    rpo_figures figures;
    must(rpo_contrast_blocks(&figures, f.gradients, f.context, &f.scope, f.policy, f.reference, &f.embeddings,
                             &options));
    cr_expect_eq(figures.loss, 0.0);
    cr_expect_eq(figures.empty_blocks, 3);
    for (int64_t s = 0; s < f.scope.num_sequences; ++s)
        cr_expect_eq(f.gradients[s], 0.0f);
    close_fixture(&f);
}

Test(blocks, loss_where_policy_is_the_reference) {
    fixture f;
    open_fixture(&f, 9, NULL);
    for (int kind = 0; kind < RPO_LOSS_SFT; ++kind)
        for (int scale = 0; scale < 2; ++scale) {
            rpo_contrast_options options = options_of((rpo_loss_kind)kind, 4);
            options.loss.weight_scale = (rpo_weight_scale)scale;
            rpo_figures figures;
            must(rpo_contrast_blocks(&figures, NULL, f.context, &f.scope, f.policy, f.policy, &f.embeddings,
                                     &options));
            expect_close(figures.loss, rpo_loss_at_start(&options.loss),
                         rpo_loss_kind_name((rpo_loss_kind)kind));
            cr_expect_eq(figures.rewards_accuracies, 0.0); /* ties are no wins */
        }
    rpo_loss_options sft = RPO_LOSS_OPTIONS_INIT;
    sft.kind = RPO_LOSS_SFT;
    cr_expect(isnan(rpo_loss_at_start(&sft)));
    close_fixture(&f);
}

Test(blocks, likelihood_is_a_token_mean_of_the_chosen_side) {
    fixture f;
    open_fixture(&f, 7, NULL);
    const rpo_global_batch_options options = {.micro_batch_tokens = 100, .chosen_only = true};
    must(rpo_global_batch_build(&f.scope, f.comm, f.dataset, NULL, 7, &options));
    cr_assert_eq(f.scope.num_sequences, 7);
    double sum = 0;
    int64_t labels = 0;
    for (int64_t s = 0; s < 7; ++s) {
        cr_assert(!f.scope.sequences[s].rejected);
        const rpo_sequence *chosen = &rpo_dataset_record(f.dataset, s)->chosen;
        labels += chosen->length - chosen->prompt_length;
        sum += (double)f.policy[s];
    }
    rpo_figures figures;
    rpo_likelihood_figures(&figures, &f.scope, f.policy);
    cr_expect_eq(figures.loss, -sum / (double)labels);
    cr_expect_eq(figures.logps_chosen, sum / 7);
    cr_expect(isnan(figures.rewards_margins) && isnan(figures.logps_rejected));
    close_fixture(&f);
}

Test(scope, micro_batches_are_greedy_and_cover_everything) {
    fixture f;
    open_fixture(&f, 20, NULL);
    static const int64_t budgets[] = {1, 60, 100, 333, 1 << 30};
    for (size_t b = 0; b < sizeof budgets / sizeof budgets[0]; ++b) {
        const rpo_global_batch_options options = {.micro_batch_tokens = budgets[b]};
        must(rpo_global_batch_build(&f.scope, f.comm, f.dataset, NULL, 20, &options));
        cr_assert_eq(f.scope.ends[0], 0);
        cr_assert_eq(f.scope.ends[f.scope.num_micro_batches], 40);
        rpo_batch batch = {0};
        int64_t tokens = 0;
        for (int64_t k = 0; k < f.scope.num_micro_batches; ++k) {
            cr_assert_lt(f.scope.ends[k], f.scope.ends[k + 1]);
            must(rpo_global_batch_pack(&f.scope, k, &batch));
            cr_expect(batch.num_tokens <= budgets[b] || batch.num_sequences == 1);
            if (k + 1 < f.scope.num_micro_batches) /* the next sequence did not fit */
                cr_expect_gt(batch.num_tokens + f.scope.sequences[f.scope.ends[k + 1]].tokens->length,
                             budgets[b]);
            tokens += batch.num_tokens;
        }
        cr_expect_eq(tokens, f.scope.num_tokens);
        rpo_batch_free(&batch);
    }
    close_fixture(&f);
}

Test(scope, ranks_own_consecutive_rows) {
    fixture f;
    open_fixture(&f, 0, "1101111101000001"); /* ragged: one sequence a row */
    for (int size = 1; size <= 20; ++size) {
        int64_t next = 0;
        for (int rank = 0; rank < size; ++rank) {
            rpo_comm some = {.ops = f.comm->ops, .rank = rank, .size = size};
            const rpo_global_batch_options options = {.micro_batch_tokens = 50};
            must(rpo_global_batch_build(&f.scope, &some, f.dataset, NULL, 16, &options));
            cr_assert_eq(f.scope.first, next, "rank %d of %d", rank, size);
            cr_assert_eq(f.scope.last - f.scope.first, f.scope.rank_counts[rank]);
            cr_assert(f.scope.rank_counts[rank] >= 16 / size && f.scope.rank_counts[rank] <= 16 / size + 1);
            next = f.scope.last;
        }
        cr_assert_eq(next, 16);
    }
    close_fixture(&f);
}
