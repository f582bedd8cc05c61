/*
 * test_step.c - a step on the real model: the same loss and gradients whatever the micro-batches, shared prompts, kept
 * tapes and the number of ranks; gradients that are those of the loss; one wait; and nothing done where it would harm.
 */
#include <pthread.h>

#include "kernels/instrument.h"
#include "tests/step_fixture.h"

/* Tokens of the first `pairs` rows of the order with both sides: a budget that makes micro-batches of about
 * so many. */
static int64_t budget_of_pairs(const fixture *f, int64_t pairs) {
    int64_t most = 0;
    for (int64_t first = 0; first < f->rows; first += pairs) {
        int64_t tokens = 0;
        for (int64_t i = first; i < first + pairs && i < f->rows; ++i) {
            const rpo_record *record = rpo_dataset_record(f->dataset, f->order[i]);
            tokens += record->chosen.length + record->rejected.length;
        }
        most = tokens > most ? tokens : most;
    }
    return most;
}

static run_options options_of(rpo_loss_kind kind, int64_t block_rows, int64_t budget) {
    return (run_options){.kind = kind,
                         .block_rows = block_rows,
                         .micro_batch_tokens = budget,
                         .tape_budget = 1 << 20,
                         .head_cache = 1 << 18};
}

static void run_with(step_run *run, const fixture *f, rpo_comm *comm, const run_options *options) {
    open_run(run, f, comm, options, 1);
    run_step(run);
}

static const rpo_prefix_sharing sharings[2] = {RPO_PREFIX_SHARING_AUTO, RPO_PREFIX_SHARING_OFF};

Test(step, does_not_depend_on_the_micro_batches) {
    fixture f;
    open_fixture(&f, NULL);
    rpo_comm *comm = NULL;
    must(rpo_comm_open(&comm));
    for (int kind = 0; kind < RPO_LOSS_KIND_COUNT; ++kind) {
        step_run whole;
        run_options options = options_of((rpo_loss_kind)kind, NUM_PAIRS, budget_of_pairs(&f, NUM_PAIRS));
        options.sharing = RPO_PREFIX_SHARING_OFF;
        run_with(&whole, &f, comm, &options);
        cr_assert_eq(whole.step.desk.plan.num_micro_batches, 1);
        for (int s = 0; s < 2; ++s) {
            int64_t most = 1;
            options.sharing = sharings[s];
            for (int64_t pairs = 4; pairs >= 1; pairs /= 2) {
                char what[96];
                step_run run;
                snprintf(what, sizeof what, "micro-batches of %lld pairs, sharing %d", (long long)pairs, s);
                options.micro_batch_tokens = budget_of_pairs(&f, pairs) * (s == 0 ? 2 : 3) / 3;
                run_with(&run, &f, comm, &options);
                cr_assert_gt(run.step.desk.plan.num_micro_batches, most, "%s", what);
                most = run.step.desk.plan.num_micro_batches;
                expect_same(&run, &whole, what);
                close_run(&run);
            }
            step_run single;
            options.micro_batch_tokens = 1; /* every sequence alone */
            run_with(&single, &f, comm, &options);
            cr_assert_eq(single.step.desk.plan.num_micro_batches,
                         kind == RPO_LOSS_SFT ? NUM_PAIRS : 2 * NUM_PAIRS);
            expect_same(&single, &whole, "single sequences");
            close_run(&single);
        }
        close_run(&whole);
    }
    rpo_comm_close(comm);
    close_fixture(&f);
}

Test(step, shared_prompts_and_kept_tapes_change_nothing) {
    fixture f;
    open_fixture(&f, NULL);
    rpo_comm *comm = NULL;
    must(rpo_comm_open(&comm));
    for (int kind = 0; kind < RPO_LOSS_KIND_COUNT; ++kind) {
        step_run plain, run;
        run_options options = options_of((rpo_loss_kind)kind, 4, budget_of_pairs(&f, 1));
        options.sharing = RPO_PREFIX_SHARING_OFF;
        options.tape_budget = options.head_cache = 0; /* one tape, no logits kept */
        run_with(&plain, &f, comm, &options);
        options.sharing = RPO_PREFIX_SHARING_AUTO;
        for (int keep = 0; keep < 3; ++keep) {
            char what[64];
            snprintf(what, sizeof what, "way %d of keeping", keep);
            options.tape_budget = keep == 0 ? 0 : keep == 1 ? 300000 : 1 << 24; /* one, some, all */
            options.head_cache = keep == 1 ? 4096 : 1 << 20;
            run_with(&run, &f, comm, &options);
            expect_same(&run, &plain, what);
            cr_expect(run.step.desk.plan.num_rows < plain.step.desk.plan.num_rows || kind == RPO_LOSS_SFT);
            close_run(&run);
        }
        close_run(&plain);
    }
    rpo_comm_close(comm);
    close_fixture(&f);
}

/* A prompt that many records have stands in a micro-batch once. */
Test(step, prompts_are_shared_across_records) {
    fixture f;
    open_fixture(&f, "110100101110001011"); /* four prompts, but for their number */
    rpo_comm *comm = NULL;
    must(rpo_comm_open(&comm));
    step_run whole, pieces;
    run_options options = options_of(RPO_LOSS_RPO_UNPAIRED, 6, 1 << 20);
    run_with(&whole, &f, comm, &options);
    options.sharing = RPO_PREFIX_SHARING_OFF;
    options.micro_batch_tokens = 70;
    run_with(&pieces, &f, comm, &options);
    expect_same(&pieces, &whole, "unpaired, in pieces");
    close_run(&pieces);
    close_run(&whole);
    rpo_comm_close(comm);
    close_fixture(&f);
}

Test(step, block_contrast_does_not_depend_on_the_micro_batches) {
    fixture f;
    open_fixture(&f, "110100101110001011");
    rpo_comm *comm = NULL;
    must(rpo_comm_open(&comm));
    static const rpo_loss_kind kinds[] = {RPO_LOSS_RPO_UNPAIRED, RPO_LOSS_KTO_SIMPLE};
    for (size_t k = 0; k < 2; ++k) {
        step_run whole, pieces;
        run_options options = options_of(kinds[k], 4, 1 << 20);
        run_with(&whole, &f, comm, &options);
        options.micro_batch_tokens = 70;
        run_with(&pieces, &f, comm, &options);
        cr_assert_gt(pieces.step.desk.plan.num_micro_batches, 4);
        expect_same(&pieces, &whole, "unpaired blocks of 4");
        close_run(&pieces);
        close_run(&whole);
    }
    rpo_comm_close(comm);
    close_fixture(&f);
}

/* Whole blocks that fit go through in one pass; a block that does not takes several micro-batches. */
Test(step, groups_follow_the_blocks) {
    fixture f;
    open_fixture(&f, NULL);
    rpo_comm *comm = NULL;
    must(rpo_comm_open(&comm));
    step_run run;
    run_options options = options_of(RPO_LOSS_RPO_PAIRED, 2, 1 << 20);
    run_with(&run, &f, comm, &options); /* everything at once */
    cr_expect_eq(run.step.desk.plan.num_groups, 1);
    cr_expect_eq(run.step.desk.plan.groups[0].num_blocks, 4);
    close_run(&run);
    options.micro_batch_tokens = budget_of_pairs(&f, 2);
    run_with(&run, &f, comm, &options);
    cr_expect_gt(run.step.desk.plan.num_groups, 1);
    for (int64_t g = 0; g < run.step.desk.plan.num_groups; ++g)
        cr_expect_eq(run.step.desk.plan.groups[g].num_batches, 1, "a block that fits takes one pass");
    close_run(&run);
    options.block_rows = NUM_PAIRS;
    run_with(&run, &f, comm, &options);
    cr_expect_eq(run.step.desk.plan.num_groups, 1);
    cr_expect_gt(run.step.desk.plan.groups[0].num_batches, 1);
    close_run(&run);
    options.kind = RPO_LOSS_DPO; /* rows that are not contrasted need not wait for each other */
    run_with(&run, &f, comm, &options);
    cr_expect_gt(run.step.desk.plan.num_groups, 1);
    close_run(&run);
    rpo_comm_close(comm);
    close_fixture(&f);
}

Test(step, repeats_bit_for_bit) {
    fixture f;
    open_fixture(&f, NULL);
    rpo_comm *comm = NULL;
    must(rpo_comm_open(&comm));
    step_run first, second;
    const run_options options = options_of(RPO_LOSS_RPO_PAIRED, 4, 300);
    run_with(&first, &f, comm, &options);
    run_with(&second, &f, comm, &options);
    run_step(&second); /* in memory that was used before */
    cr_expect_eq(memcmp(&first.result.figures, &second.result.figures, sizeof first.result.figures), 0);
    cr_expect_eq(memcmp(first.gradients, second.gradients, (size_t)first.count * sizeof(float)), 0);
    close_run(&first);
    close_run(&second);
    rpo_comm_close(comm);
    close_fixture(&f);
}

/* Loss after a step of `distance` along `direction` from the weights `start`. */
static double loss_along(step_run *run, const float *start, const double *direction, double distance) {
    float *moved = rpo_alloc_array((size_t)run->count, sizeof *moved);
    for (int64_t i = 0; i < run->count; ++i)
        moved[i] = (float)((double)start[i] + distance * direction[i]);
    must(rpo_device_write(run->context, run->memory->weights, moved, 0, run->count));
    rpo_figures figures;
    int64_t tokens = 0;
    must(rpo_evaluate(&figures, &tokens, &run->objective, NULL, NULL));
    must(rpo_device_write(run->context, run->memory->weights, start, 0, run->count));
    rpo_free(moved);
    return figures.loss;
}

Test(step, gradients_are_those_of_the_loss) {
    fixture f;
    open_fixture(&f, NULL);
    rpo_comm *comm = NULL;
    must(rpo_comm_open(&comm));
    for (int64_t i = 0; i < f.rows; ++i)
        f.order[i] = i; /* an evaluation has its blocks in file order */
    for (int kind = 0; kind < RPO_LOSS_KIND_COUNT; ++kind) {
        step_run run;
        const run_options options = options_of((rpo_loss_kind)kind, 4, 200);
        run_with(&run, &f, comm, &options);
        cr_assert_eq(run.count, rpo_model_tensors(run.model)->weights);
        float *start = read_weights(&run);
        double *direction = rpo_alloc_array((size_t)run.count, sizeof *direction);
        /* Along the gradient itself, where the change is largest, tilted by something random. */
        double norm = 0, slope = 0;
        for (int64_t i = 0; i < run.count; ++i)
            norm += pow((double)run.gradients[i], 2);
        norm = sqrt(norm);
        for (int64_t i = 0; i < run.count; ++i) {
            const bool used = run.gradients[i] != 0.0f; /* padding between tensors stays 0 */
            direction[i] =
                (double)run.gradients[i] / norm + (used ? 1e-3 * rpo_random_normal(3, 0, (uint64_t)i) : 0);
            slope += direction[i] * (double)run.gradients[i];
        }
        const double step = 1e-2;
        const double measured =
            (loss_along(&run, start, direction, step) - loss_along(&run, start, direction, -step)) /
            (2 * step);
        cr_expect(fabs(measured - slope) <= 1e-2 * fabs(slope), "%s: slope %.6g, measured %.6g",
                  rpo_loss_kind_name((rpo_loss_kind)kind), slope, measured);
        rpo_free(direction);
        rpo_free(start);
        close_run(&run);
    }
    rpo_comm_close(comm);
    close_fixture(&f);
}

/* ---- several ranks: threads that meet at a barrier, each with a model of its own ---- */

typedef struct meeting {
    pthread_barrier_t barrier;
    const void *parts[8];
    int64_t numbers[8];
} meeting;

static void meet(rpo_comm *comm) {
    meeting *all = comm->state;
    pthread_barrier_wait(&all->barrier);
}

static rpo_status gather(rpo_comm *comm, void *out, const void *in, const int64_t *counts,
                         size_t element_size) {
    meeting *all = comm->state;
    all->parts[comm->rank] = in;
    meet(comm);
    char *place = out;
    for (int rank = 0; rank < comm->size; ++rank) {
        const size_t bytes = (size_t)counts[rank] * element_size;
        if (rank != comm->rank)
            memcpy(place, all->parts[rank], bytes);
        else if (place != in)
            memmove(place, in, bytes);
        place += bytes;
    }
    meet(comm);
    return RPO_OK;
}

static rpo_status sum_float(rpo_comm *comm, float *values, int64_t count) {
    meeting *all = comm->state;
    float *sum = rpo_calloc_array((size_t)count, sizeof *sum);
    all->parts[comm->rank] = values;
    meet(comm);
    for (int rank = 0; rank < comm->size; ++rank)
        for (int64_t i = 0; i < count; ++i)
            sum[i] += ((const float *)all->parts[rank])[i];
    meet(comm);
    memcpy(values, sum, (size_t)count * sizeof *sum);
    rpo_free(sum);
    return RPO_OK;
}

static rpo_status max_int(rpo_comm *comm, int64_t *values, int64_t count) {
    meeting *all = comm->state;
    cr_assert_eq(count, 1);
    all->numbers[comm->rank] = *values;
    meet(comm);
    for (int rank = 0; rank < comm->size; ++rank)
        *values = all->numbers[rank] > *values ? all->numbers[rank] : *values;
    meet(comm);
    return RPO_OK;
}

static const rpo_comm_ops thread_ops = {.name = "threads",
                                        .all_gather_v = gather,
                                        .all_reduce_sum_float = sum_float,
                                        .all_reduce_max_int = max_int};

static void *run_rank(void *user) {
    run_step(user);
    return NULL;
}

Test(step, does_not_depend_on_the_number_of_ranks) {
    fixture f;
    open_fixture(&f, NULL);
    rpo_comm *alone = NULL;
    must(rpo_comm_open(&alone));
    static const rpo_loss_kind kinds[] = {RPO_LOSS_RPO_PAIRED, RPO_LOSS_DPO, RPO_LOSS_KTO_SIMPLE,
                                          RPO_LOSS_SFT};
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; ++k)
        for (int size = 2; size <= 3; ++size) {
            step_run whole, ranks[3];
            run_options options = options_of(kinds[k], NUM_PAIRS, 1 << 20);
            options.optimizer = true;
            run_with(&whole, &f, alone, &options);
            meeting all;
            pthread_t threads[3];
            rpo_comm comms[3];
            pthread_barrier_init(&all.barrier, NULL, (unsigned)size);
            options.micro_batch_tokens = 150;
            for (int rank = 0; rank < size; ++rank) {
                comms[rank] = (rpo_comm){&thread_ops, rank, size, &all};
                open_run(&ranks[rank], &f, &comms[rank], &options, 1);
            }
            for (int rank = 0; rank < size; ++rank)
                cr_assert_eq(pthread_create(&threads[rank], NULL, run_rank, &ranks[rank]), 0);
            for (int rank = 0; rank < size; ++rank)
                pthread_join(threads[rank], NULL);
            for (int rank = 0; rank < size; ++rank) {
                char what[64];
                snprintf(what, sizeof what, "rank %d of %d", rank, size);
                expect_same(&ranks[rank], &whole, what);
                cr_expect_eq(
                    memcmp(&ranks[rank].result.figures, &ranks[0].result.figures, sizeof(rpo_figures)), 0,
                    "%s", what);
                cr_expect_eq(
                    memcmp(ranks[rank].gradients, ranks[0].gradients, (size_t)whole.count * sizeof(float)), 0,
                    "%s", what);
                float *weights = read_weights(&ranks[rank]), *first = read_weights(&ranks[0]);
                cr_expect_eq(memcmp(weights, first, (size_t)whole.count * sizeof(float)), 0, "%s", what);
                rpo_free(first);
                rpo_free(weights);
            }
            for (int rank = 0; rank < size; ++rank)
                close_run(&ranks[rank]);
            pthread_barrier_destroy(&all.barrier);
            close_run(&whole);
        }
    rpo_comm_close(alone);
    close_fixture(&f);
}

/* ---- what a step must not do ---- */

/* The counts hold where contexts are instrumented: with the trace, as here, and in builds that guard memory. */
Test(step, waits_once_and_allocates_nothing) {
    static const rpo_loss_kind kinds[] = {RPO_LOSS_RPO_PAIRED, RPO_LOSS_DPO, RPO_LOSS_SFT};
    fixture f;
    rpo_comm *comm = NULL;
    setenv("RPO_TRACE_STEP", "1", 1);
    open_fixture(&f, NULL);
    must(rpo_comm_open(&comm));
    for (size_t k = 0; k < 3; ++k)
        for (int64_t budget = 100; budget <= 100000; budget *= 1000) {
            step_run run;
            rpo_counts counts;
            run_options options = options_of(kinds[k], 4, budget);
            options.optimizer = true;
            options.settings = (rpo_optimizer_settings){RPO_OPTIMIZER_ADAMW, 0.1, 1.0};
            open_run(&run, &f, comm, &options, 1);
            run_step(&run);
            for (int again = 0; again < 2; ++again) { /* other batches: other micro-batches */
                rpo_dataset_shuffle(f.order, f.rows, 6 + (uint64_t)again, 0);
                const uint64_t before = rpo_allocations();
                must(rpo_step_run(&run.step, &run.result, f.order, f.rows, 1e-3));
                cr_assert(rpo_context_counts(run.context, &counts));
                cr_expect_eq(rpo_allocations(), before, "the host allocates in a step");
                cr_expect_eq(counts.allocations + counts.releases, 0, "the device allocates in a step");
                cr_expect_eq(counts.waits, 1, "%lld waits", (long long)counts.waits);
                cr_expect_eq(counts.copies_in, 1, "%lld copies in", (long long)counts.copies_in);
                cr_expect_eq(counts.copies_out, 1, "%lld copies out", (long long)counts.copies_out);
                cr_expect_eq(counts.ops[RPO_COUNTED_GRAD_NORM].calls, 1);
                cr_expect_eq(counts.ops[RPO_COUNTED_ADAMW].calls, 1);
                cr_expect(run.result.updated);
            }
            close_run(&run);
        }
    unsetenv("RPO_TRACE_STEP");
    rpo_comm_close(comm);
    close_fixture(&f);
}

/* A weight of every norm: every token passes through them. */
static void spoil_norms(step_run *run) {
    const rpo_tensor_table *tensors = rpo_model_tensors(run->model);
    const float bad = NAN;
    for (size_t i = 0; i < tensors->count; ++i)
        if (tensors->items[i].role == RPO_TENSOR_NORM)
            must(rpo_device_write(run->context, run->memory->weights, &bad, tensors->items[i].offset, 1));
}

Test(step, a_loss_that_is_not_finite_leaves_weights_and_moments) {
    fixture f;
    open_fixture(&f, NULL);
    rpo_comm *comm = NULL;
    must(rpo_comm_open(&comm));
    static const rpo_loss_kind kinds[] = {RPO_LOSS_RPO_PAIRED, RPO_LOSS_DPO, RPO_LOSS_SFT};
    for (size_t k = 0; k < 3; ++k)
        for (int64_t budget = 100; budget <= 100000; budget *= 1000) {
            step_run run;
            run_options options = options_of(kinds[k], 4, budget);
            options.optimizer = true;
            options.settings = (rpo_optimizer_settings){RPO_OPTIMIZER_ADAMW, 0.1, 1.0};
            open_run(&run, &f, comm, &options, 1);
            run_step(&run); /* a good one, so that there are moments */
            cr_expect(run.result.updated && run.result.updates == 1);
            spoil_norms(&run);
            float *before = read_weights(&run);
            float *moments[2][2];
            for (int m = 0; m < 2; ++m)
                for (int when = 0; when < 2; ++when)
                    moments[m][when] = rpo_alloc_array((size_t)run.count, sizeof(float));
            for (int m = 0; m < 2; ++m)
                must(rpo_device_read(run.context, moments[m][0], run.memory->moments[m], 0, run.count));
            run_step(&run);
            cr_expect(!isfinite(run.result.figures.loss));
            cr_expect_eq(run.result.skip, kinds[k] == RPO_LOSS_SFT ? RPO_SKIP_GRADIENT : RPO_SKIP_LOSS);
            cr_expect(!run.result.updated && run.result.updates == 1);
            float *after = read_weights(&run);
            cr_expect_eq(memcmp(before, after, (size_t)run.count * sizeof(float)), 0);
            for (int m = 0; m < 2; ++m) {
                must(rpo_device_read(run.context, moments[m][1], run.memory->moments[m], 0, run.count));
                cr_expect_eq(memcmp(moments[m][0], moments[m][1], (size_t)run.count * sizeof(float)), 0);
                rpo_free(moments[m][0]);
                rpo_free(moments[m][1]);
            }
            rpo_free(after);
            rpo_free(before);
            close_run(&run);
        }
    rpo_comm_close(comm);
    close_fixture(&f);
}

Test(step, blocks_without_a_class_teach_nothing) {
    fixture f;
    open_fixture(&f, "111111");
    rpo_comm *comm = NULL;
    must(rpo_comm_open(&comm));
    step_run run;
    run_options options = options_of(RPO_LOSS_RPO_UNPAIRED, 2, 1000);
    options.optimizer = true;
    open_run(&run, &f, comm, &options, 1);
    float *before = read_weights(&run);
    run_step(&run);
    cr_expect_eq(run.result.figures.loss, 0.0);
    cr_expect_eq(run.result.figures.empty_blocks, 3);
    cr_expect(!run.result.updated && run.result.skip == RPO_SKIP_NOTHING && run.result.updates == 0);
    float *after = read_weights(&run);
    cr_expect_eq(memcmp(before, after, (size_t)run.count * sizeof(float)), 0);
    for (int64_t i = 0; i < run.count; ++i)
        cr_assert_eq(run.gradients[i], 0.0f);
    rpo_free(after);
    rpo_free(before);
    close_run(&run);
    rpo_comm_close(comm);
    close_fixture(&f);
}
