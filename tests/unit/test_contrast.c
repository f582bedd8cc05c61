/*
 * test_contrast.c - the contrast of a planned batch against single calls of the loss op, block by block; empty blocks;
 * figures. Log-probs are made up, so that no forward is needed.
 */
#include "tests/step_fixture.h"

/* A desk whose log-probs are the test's. */
typedef struct contrast_case {
    fixture f;
    rpo_comm *comm;
    step_run run;
    rpo_desk desk;
    float *policy, *reference; /* [sequences] */
    float *gradients;          /* [sequences], of the last contrast */
    rpo_figures figures;
} contrast_case;

/* A pairs file of `count` records where labels is NULL. */
static void open_case(contrast_case *c, int count, const char *labels) {
    *c = (contrast_case){0};
    make_folder(c->f.folder);
    must(rpo_tokenizer_open(&c->f.tokenizer, NULL, RPO_TOKENIZER_AUTO));
    c->f.dataset = labels == NULL ? make_pairs(c->f.folder, count, c->f.tokenizer)
                                  : make_unpaired(c->f.folder, labels, c->f.tokenizer);
    c->f.rows = rpo_dataset_size(c->f.dataset);
    const rpo_embedding_options embedding = {RPO_EMBEDDING_HASHED, NULL};
    must(rpo_embeddings_compute(&c->f.embeddings, c->f.dataset, c->f.dataset, &embedding, NULL, 1));
    must(rpo_scores_create(&c->f.reference, c->f.rows));
    must(rpo_comm_open(&c->comm));
    c->policy = rpo_alloc_array((size_t)(2 * c->f.rows), sizeof(float));
    c->reference = rpo_alloc_array((size_t)(2 * c->f.rows), sizeof(float));
    c->gradients = rpo_alloc_array((size_t)(2 * c->f.rows), sizeof(float));
    int64_t s = 0;
    for (int64_t i = 0; i < c->f.rows; ++i) {
        const rpo_record *record = rpo_dataset_record(c->f.dataset, i);
        for (int side = 0; side < 2; ++side) {
            if ((side == 0 ? record->chosen : record->rejected).tokens == NULL)
                continue;
            c->policy[s] = (float)(-40 + 5 * rpo_random_normal(1, 0, (uint64_t)s));
            c->reference[s] = (float)(-40 + 5 * rpo_random_normal(1, 1, (uint64_t)s));
            (side == 0 ? c->f.reference.chosen : c->f.reference.rejected)[i] = c->reference[s];
            ++s;
        }
    }
}

static void close_case(contrast_case *c) {
    rpo_free(c->gradients);
    rpo_free(c->reference);
    rpo_free(c->policy);
    rpo_comm_close(c->comm);
    close_fixture(&c->f);
}

/* Plans the whole dataset, writes `policy` where forwards would, contrasts, and brings figures and gradients home. */
static void contrast(contrast_case *c, const run_options *options, const float *policy) {
    const int64_t rows = c->f.rows;
    rpo_figure_sums sums = {0};
    float placed[256], gradients[256];
    open_run(&c->run, &c->f, c->comm, options, 1);
    rpo_desk *desk = &c->run.step.desk;
    must(rpo_desk_lay_out(desk, &c->run.objective, NULL, 0, rows));
    must(rpo_staging_upload(c->run.memory->plan));
    cr_assert_leq(desk->plan.num_places, 256);
    for (int64_t i = 0; i < desk->plan.num_places; ++i)
        placed[i] = policy[desk->plan.sequence_at[i]];
    must(rpo_device_write(c->run.context, desk->contrast.policy, placed, 0, desk->plan.num_places));
    for (int64_t g = 0; g < desk->plan.num_groups; ++g)
        must(rpo_contrast_group_loss(&desk->contrast, &desk->plan, g, c->run.context,
                                     &c->run.objective.contrast, c->run.memory->workspace,
                                     c->run.memory->workspace_bytes));
    must(rpo_desk_finish(desk, &c->run.objective));
    rpo_contrast_sum(&sums, &desk->contrast, &desk->plan);
    c->figures = rpo_contrast_figures(&sums);
    must(rpo_device_read(c->run.context, gradients, desk->contrast.gradients, 0, desk->plan.num_places));
    for (int64_t s = 0; s < desk->batch.num_sequences; ++s)
        c->gradients[s] = desk->plan.place_of[s] < 0 ? 0.0f : gradients[desk->plan.place_of[s]];
}

static run_options options_of(rpo_loss_kind kind, int64_t block_rows, int64_t budget) {
    return (run_options){.kind = kind, .block_rows = block_rows, .micro_batch_tokens = budget};
}

/* What the op says of rows [first, first + count) alone: the block as a user would compute it. */
typedef struct direct {
    float loss, gradients[2][64], rewards[2][64];
    int64_t counts[2];
} direct;

static void compute_directly(direct *out, const contrast_case *c, int64_t first, int64_t count,
                             rpo_loss_kind kind) {
    float policy[2][64], reference[2][64];
    const rpo_global_batch *batch = &c->run.step.desk.batch;
    const int64_t dim = c->f.embeddings.dim;
    float *embeddings[2] = {rpo_alloc_array((size_t)(64 * dim), sizeof(float)),
                            rpo_alloc_array((size_t)(64 * dim), sizeof(float))};
    *out = (direct){0};
    for (int64_t s = 0; s < batch->num_sequences; ++s) {
        const rpo_batch_sequence *sequence = &batch->sequences[s];
        if (sequence->row < first || sequence->row >= first + count)
            continue;
        const int side = sequence->rejected;
        const int64_t at = out->counts[side]++;
        policy[side][at] = c->policy[s];
        reference[side][at] = c->reference[s];
        memcpy(embeddings[side] + at * dim, c->f.embeddings.rows + sequence->row * dim,
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
                                        .embedding_dtype = RPO_FLOAT32,
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
    must(rpo_contrast_loss_workspace_size(c->run.context, &bytes, &inputs, &options));
    void *workspace = rpo_alloc_array(bytes, 1);
    must(rpo_contrast_loss(c->run.context, &outputs, &inputs, &options, workspace, bytes));
    rpo_free(workspace);
    rpo_free(embeddings[0]);
    rpo_free(embeddings[1]);
}

static void expect_close(double got, double expected, const char *what) {
    cr_expect(fabs(got - expected) <= 1e-6 * fmax(1.0, fabs(expected)), "%s: %.9g, expected %.9g", what, got,
              expected);
}

/* Compares a batch's figures with the sum over its blocks, each computed alone. */
static void check_batch(contrast_case *c, rpo_loss_kind kind, int64_t block_rows, int64_t budget) {
    const run_options options = options_of(kind, block_rows, budget);
    contrast(c, &options, c->policy);
    const rpo_global_batch *batch = &c->run.step.desk.batch;
    const rpo_figures figures = c->figures;
    int64_t contributing = 0, empty = 0;
    for (int64_t row = 0; row < batch->num_rows; row += block_rows) {
        const int64_t count = row + block_rows < batch->num_rows ? block_rows : batch->num_rows - row;
        direct block;
        compute_directly(&block, c, row, count, kind);
        const bool counts = block.counts[0] > 0 && block.counts[1] > 0;
        contributing += counts ? count : 0;
        empty += !counts;
    }
    cr_expect_eq(figures.empty_blocks, empty);

    double loss = 0, rewards[2] = {0}, wins = 0, compared = 0;
    int64_t sides[2] = {0}, sequence = 0;
    for (int64_t row = 0; row < batch->num_rows; row += block_rows) {
        const int64_t count = row + block_rows < batch->num_rows ? block_rows : batch->num_rows - row;
        direct block;
        compute_directly(&block, c, row, count, kind);
        const bool counts = block.counts[0] > 0 && block.counts[1] > 0;
        const double weight = counts ? (double)count / (double)contributing : 0;
        loss += weight * (double)block.loss;
        int64_t at[2] = {0, 0};
        for (; sequence < batch->num_sequences && batch->sequences[sequence].row < row + count; ++sequence) {
            const int side = batch->sequences[sequence].rejected;
            const float expected = counts ? (float)(weight * (double)block.gradients[side][at[side]]) : 0.0f;
            expect_close((double)c->gradients[sequence], (double)expected, "gradient");
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
    if (contributing > 0) {
        expect_close(figures.rewards_chosen, rewards[0] / (double)sides[0], "chosen reward");
        expect_close(figures.rewards_rejected, rewards[1] / (double)sides[1], "rejected reward");
        expect_close(figures.rewards_margins, rewards[0] / (double)sides[0] - rewards[1] / (double)sides[1],
                     "margin");
        expect_close(figures.rewards_accuracies, wins / compared, "accuracy");
    }
    close_run(&c->run);
}

Test(blocks, pairs_of_every_kind_and_ragged_blocks) {
    contrast_case c;
    open_case(&c, 13, NULL);
    static const int64_t budgets[] = {1, 300, 1 << 20}; /* groups of one block or less, of some, of all */
    for (int kind = 0; kind < RPO_LOSS_SFT; ++kind)
        for (size_t b = 0; b < 3; ++b) {
            check_batch(&c, (rpo_loss_kind)kind, 4, budgets[b]); /* 4 + 4 + 4 + 1 */
            check_batch(&c, (rpo_loss_kind)kind, 13, budgets[b]);
            check_batch(&c, (rpo_loss_kind)kind, 64, budgets[b]); /* more than there are */
            check_batch(&c, (rpo_loss_kind)kind, 1, budgets[b]);
        }
    close_case(&c);
}

Test(blocks, unpaired_blocks_without_a_class_count_as_empty) {
    static const rpo_loss_kind kinds[] = {RPO_LOSS_RPO_UNPAIRED, RPO_LOSS_KTO_SIMPLE};
    for (size_t k = 0; k < 2; ++k)
        for (int64_t budget = 1; budget <= 1 << 20; budget <<= 10) {
            contrast_case c;
            open_case(&c, 0,
                      "1101"
                      "1111"
                      "0100"
                      "0000"
                      "01"); /* two of five blocks lack a class */
            check_batch(&c, kinds[k], 4, budget);
            check_batch(&c, kinds[k], 18, budget);
            const run_options options = options_of(kinds[k], 4, budget);
            contrast(&c, &options, c.policy);
            cr_expect_eq(c.figures.blocks, 5);
            cr_expect_eq(c.figures.empty_blocks, 2);
            close_run(&c.run);
            close_case(&c);
        }
}

Test(blocks, all_empty_gives_nothing) {
    contrast_case c;
    open_case(&c, 0, "111111");
    const run_options options = options_of(RPO_LOSS_RPO_UNPAIRED, 2, 100);
    contrast(&c, &options, c.policy);
    cr_expect_eq(c.figures.loss, 0.0);
    cr_expect_eq(c.figures.empty_blocks, 3);
    cr_expect_eq(c.run.step.desk.plan.num_micro_batches, 0, "nothing is run");
    for (int64_t s = 0; s < c.run.step.desk.batch.num_sequences; ++s)
        cr_expect_eq(c.gradients[s], 0.0f);
    close_run(&c.run);
    close_case(&c);
}

Test(blocks, loss_where_policy_is_the_reference) {
    contrast_case c;
    open_case(&c, 9, NULL);
    for (int kind = 0; kind < RPO_LOSS_SFT; ++kind)
        for (int scale = 0; scale < 2; ++scale) {
            run_options options = options_of((rpo_loss_kind)kind, 4, 1000);
            options.scale = (rpo_weight_scale)scale;
            contrast(&c, &options, c.reference);
            expect_close(c.figures.loss, rpo_loss_at_start(&c.run.objective.contrast.loss),
                         rpo_loss_kind_name((rpo_loss_kind)kind));
            cr_expect_eq(c.figures.rewards_accuracies, 0.0); /* ties are no wins */
            close_run(&c.run);
        }
    rpo_loss_options sft = RPO_LOSS_OPTIONS_INIT;
    sft.kind = RPO_LOSS_SFT;
    cr_expect(isnan(rpo_loss_at_start(&sft)));
    close_case(&c);
}

/* The evaluation of a policy that still is its reference needs no forward, and finds the same. */
Test(blocks, an_evaluation_of_the_reference_itself) {
    contrast_case c;
    open_case(&c, 9, NULL);
    rpo_figures known;
    int64_t tokens = 0;
    run_options options = options_of(RPO_LOSS_RPO_PAIRED, 4, 500);
    open_run(&c.run, &c.f, c.comm, &options, 1);
    c.run.objective.rows_at_once = 4;
    must(rpo_evaluate(&known, &tokens, &c.run.objective, &c.f.reference, NULL));
    close_run(&c.run);
    contrast(&c, &options, c.reference);
    expect_close(known.loss, c.figures.loss, "loss");
    expect_close(known.logps_chosen, c.figures.logps_chosen, "chosen log-prob");
    expect_close(known.rewards_margins, 0.0, "margin");
    cr_expect_eq(tokens, rpo_dataset_report(c.f.dataset)->tokens);
    cr_expect_eq(known.blocks, 3);
    close_run(&c.run);
    close_case(&c);
}

Test(blocks, likelihood_is_a_token_mean_of_the_chosen_side) {
    contrast_case c;
    open_case(&c, 7, NULL);
    rpo_global_batch batch = {0};
    rpo_figure_sums sums = {0};
    must(rpo_global_batch_build(&batch, c.comm, c.f.dataset, NULL, 0, 7, true));
    cr_assert_eq(batch.num_sequences, 7);
    double sum = 0;
    int64_t labels = 0;
    for (int64_t s = 0; s < 7; ++s) {
        cr_assert(!batch.sequences[s].rejected);
        const rpo_sequence *chosen = &rpo_dataset_record(c.f.dataset, s)->chosen;
        labels += chosen->length - chosen->prompt_length;
        sum += (double)c.policy[s];
    }
    rpo_likelihood_sum(&sums, &batch, c.policy);
    const rpo_figures figures = rpo_likelihood_figures(&sums);
    cr_expect_eq(figures.loss, -sum / (double)labels);
    cr_expect_eq(figures.logps_chosen, sum / 7);
    cr_expect(isnan(figures.rewards_margins) && isnan(figures.logps_rejected));
    rpo_global_batch_free(&batch);
    close_case(&c);
}
