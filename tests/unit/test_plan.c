/*
 * test_plan.c - plans of a step: every sequence once, within the budget, prompts shared, blocks whole, bounds that hold;
 * and the rows of each rank.
 */
#include "tests/step_fixture.h"

static run_options options_of(rpo_loss_kind kind, int64_t block_rows, int64_t budget,
                              rpo_prefix_sharing sharing) {
    return (run_options){
        .kind = kind, .block_rows = block_rows, .micro_batch_tokens = budget, .sharing = sharing};
}

/* Rows that sequence s needs of its own, and those of its prompt's segment. */
static int64_t whole_rows(const rpo_global_batch *batch, int64_t s) {
    return batch->sequences[s].tokens->length - 1;
}

static void check_micro_batches(const rpo_plan *plan, const rpo_global_batch *batch, int64_t budget) {
    int64_t segments = 0, rows = 0;
    for (int64_t k = 0; k < plan->num_micro_batches; ++k) {
        const rpo_micro_batch *micro = &plan->micro_batches[k];
        int64_t sequences = 0;
        for (int64_t s = 0; s < batch->num_sequences; ++s)
            sequences += plan->segment_of[s] >= micro->first_segment &&
                         plan->segment_of[s] < micro->first_segment + micro->batch.num_segments;
        cr_expect_eq(micro->first_segment, segments);
        cr_expect(micro->batch.num_rows <= budget || sequences == 1,
                  "%lld rows of %lld sequences, budget %lld", (long long)micro->batch.num_rows,
                  (long long)sequences, (long long)budget);
        cr_expect_gt(sequences, 0);
        segments += micro->batch.num_segments;
        rows += micro->batch.num_rows;
    }
    cr_expect_eq(segments, plan->num_segments);
    cr_expect_eq(rows, plan->num_rows);
}

/* Every sequence has a segment and a place of its own, and the two agree with the groups. */
static void check_places(const rpo_plan *plan, const rpo_global_batch *batch) {
    cr_assert_eq(plan->num_places, batch->num_sequences);
    for (int64_t s = 0; s < batch->num_sequences; ++s) {
        cr_assert_geq(plan->segment_of[s], 0);
        cr_assert_eq(plan->sequence_at[plan->place_of[s]], s);
        for (int64_t t = 0; t < s; ++t)
            cr_assert_neq(plan->segment_of[s], plan->segment_of[t]);
    }
    for (int64_t g = 0; g < plan->num_groups; ++g) {
        const rpo_contrast_group *group = &plan->groups[g];
        for (int64_t i = 0; i < group->m + group->n; ++i) {
            const int64_t s = plan->sequence_at[group->start + i];
            cr_expect_eq(batch->sequences[s].rejected, i >= group->m);
            const int64_t first = plan->micro_batches[group->first_batch].first_segment;
            const rpo_micro_batch *last = &plan->micro_batches[group->first_batch + group->num_batches - 1];
            cr_expect(plan->segment_of[s] >= first &&
                      plan->segment_of[s] < last->first_segment + last->batch.num_segments);
        }
    }
}

Test(plan, covers_every_sequence_within_the_budget) {
    fixture f;
    open_fixture(&f, NULL);
    rpo_comm *comm = NULL;
    must(rpo_comm_open(&comm));
    static const int64_t budgets[] = {1, 60, 100, 333, 1 << 30};
    static const int64_t blocks[] = {1, 3, 8};
    for (size_t b = 0; b < 5; ++b)
        for (size_t r = 0; r < 3; ++r)
            for (int sharing = 0; sharing < 2; ++sharing) {
                step_run run;
                const run_options options =
                    options_of(RPO_LOSS_RPO_PAIRED, blocks[r], budgets[b], (rpo_prefix_sharing)sharing);
                open_run(&run, &f, comm, &options, 1);
                rpo_desk *desk = &run.step.desk;
                must(rpo_desk_lay_out(desk, &run.objective, f.order, 0, f.rows));
                check_micro_batches(&desk->plan, &desk->batch, budgets[b]);
                check_places(&desk->plan, &desk->batch);
                cr_expect_eq(desk->plan.num_blocks, (f.rows + blocks[r] - 1) / blocks[r]);
                close_run(&run);
            }
    rpo_comm_close(comm);
    close_fixture(&f);
}

/* Off: each sequence but its last token. Auto: of every pair the prompt's rows once, where both are together. */
Test(plan, rows_are_those_of_the_design) {
    fixture f;
    open_fixture(&f, NULL);
    rpo_comm *comm = NULL;
    must(rpo_comm_open(&comm));
    for (int sharing = 0; sharing < 2; ++sharing) {
        step_run run;
        const run_options options = options_of(RPO_LOSS_DPO, 1, 1 << 20, (rpo_prefix_sharing)sharing);
        open_run(&run, &f, comm, &options, 1);
        rpo_desk *desk = &run.step.desk;
        must(rpo_desk_lay_out(desk, &run.objective, f.order, 0, f.rows));
        int64_t expected = 0;
        for (int64_t s = 0; s < desk->batch.num_sequences; ++s) {
            expected += whole_rows(&desk->batch, s);
            if (sharing == RPO_PREFIX_SHARING_AUTO && desk->batch.sequences[s].rejected)
                expected -= desk->batch.sequences[s].tokens->prompt_length - 1;
        }
        cr_expect_eq(desk->plan.num_rows, expected);
        close_run(&run);
    }
    rpo_comm_close(comm);
    close_fixture(&f);
}

Test(plan, bounds_hold_for_every_batch) {
    fixture f;
    open_fixture(&f, "1101001011100010110101");
    rpo_comm *comm = NULL;
    must(rpo_comm_open(&comm));
    for (int64_t budget = 1; budget < 4000; budget = budget * 3 + 1)
        for (uint64_t seed = 0; seed < 4; ++seed) {
            step_run run;
            const run_options options =
                options_of(RPO_LOSS_RPO_UNPAIRED, 5, budget, (rpo_prefix_sharing)(seed % 2));
            open_run(&run, &f, comm, &options, 1);
            const rpo_plan_options plan_options = rpo_objective_plan_options(&run.objective);
            rpo_plan_bounds bounds;
            must(rpo_plan_bound(&bounds, f.dataset, f.rows, &plan_options));
            rpo_dataset_shuffle(f.order, f.rows, seed, 0);
            must(rpo_desk_lay_out(&run.step.desk, &run.objective, f.order, 0, f.rows));
            const rpo_plan *plan = &run.step.desk.plan;
            for (int64_t k = 0; k < plan->num_micro_batches; ++k) {
                cr_expect_leq(plan->micro_batches[k].batch.num_rows, bounds.batch_rows);
                cr_expect_leq(plan->micro_batches[k].batch.num_segments, bounds.batch_segments);
            }
            cr_expect_leq(plan->num_rows, bounds.total_rows);
            cr_expect_leq(rpo_staging_used(run.memory->plan), run.memory->request.batch_bytes);
            close_run(&run);
        }
    rpo_comm_close(comm);
    close_fixture(&f);
}

Test(plan, a_token_outside_the_vocabulary_is_named) {
    fixture f;
    open_fixture(&f, NULL);
    rpo_comm *comm = NULL;
    must(rpo_comm_open(&comm));
    step_run run;
    const run_options options = options_of(RPO_LOSS_DPO, 1, 1000, RPO_PREFIX_SHARING_AUTO);
    open_run(&run, &f, comm, &options, 1);
    rpo_batch batch = {0};
    const int32_t tokens[3] = {1, 2, 300};
    must(rpo_batch_add(&batch, tokens, 3, 1));
    cr_expect_eq(rpo_model_check_batch(run.model, &batch), RPO_ERROR_INVALID_INPUT);
    cr_expect_not_null(strstr(rpo_last_error(), "token id 300"));
    rpo_batch_free(&batch);
    close_run(&run);
    rpo_comm_close(comm);
    close_fixture(&f);
}

Test(global_batch, ranks_own_consecutive_rows) {
    fixture f;
    open_fixture(&f, "1101111101000001"); /* ragged: one sequence a row */
    rpo_comm *comm = NULL;
    rpo_global_batch batch = {0};
    must(rpo_comm_open(&comm));
    for (int size = 1; size <= 20; ++size) {
        int64_t next = 0;
        for (int rank = 0; rank < size; ++rank) {
            rpo_comm some = {.ops = comm->ops, .rank = rank, .size = size};
            must(rpo_global_batch_build(&batch, &some, f.dataset, NULL, 0, 16, false));
            cr_assert_eq(batch.first, next, "rank %d of %d", rank, size);
            cr_assert_eq(batch.last - batch.first, batch.rank_counts[rank]);
            cr_assert(batch.rank_counts[rank] >= 16 / size && batch.rank_counts[rank] <= 16 / size + 1);
            next = batch.last;
        }
        cr_assert_eq(next, 16);
    }
    rpo_global_batch_free(&batch);
    rpo_comm_close(comm);
    close_fixture(&f);
}
