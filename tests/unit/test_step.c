/*
 * test_step.c - the two-phase step on the real model: the same loss and gradients whatever the micro-batches
 * and the number of ranks, and gradients that are those of the loss.
 */
#include <math.h>
#include <pthread.h>
#include <string.h>

#include "host/train/evaluate.h"
#include "host/train/step.h"
#include "tests/train_fixture.h"

enum { NUM_PAIRS = 8 };

/* What all ranks of a test share. */
typedef struct fixture {
    char folder[64];
    rpo_tokenizer *tokenizer;
    rpo_dataset *dataset;
    rpo_embeddings embeddings;
    rpo_scores reference;
    int64_t order[64], rows;
} fixture;

static void open_fixture(fixture *f, const char *labels) {
    *f = (fixture){0};
    make_folder(f->folder);
    must(rpo_tokenizer_open(&f->tokenizer, NULL, RPO_TOKENIZER_AUTO));
    f->dataset = labels == NULL ? make_pairs(f->folder, NUM_PAIRS, f->tokenizer)
                                : make_unpaired(f->folder, labels, f->tokenizer);
    f->rows = rpo_dataset_size(f->dataset);
    const rpo_embedding_options embedding = {RPO_EMBEDDING_HASHED, NULL};
    must(rpo_embeddings_compute(&f->embeddings, f->dataset, f->dataset, &embedding, NULL, 1));
    rpo_dataset_shuffle(f->order, f->rows, 5, 0);

    /* The reference is another model, so that every term of the loss has something to say. */
    rpo_context *context = NULL;
    rpo_comm *comm = NULL;
    must(rpo_context_create(&context, NULL));
    must(rpo_comm_open(&comm));
    rpo_model *frozen = make_model(context, 7);
    must(rpo_scores_create(&f->reference, f->rows));
    must(rpo_score_dataset(&f->reference, comm, frozen, f->dataset, 1000, NULL, ""));
    rpo_model_free(frozen);
    rpo_comm_close(comm);
    rpo_context_free(context);
}

static void close_fixture(fixture *f) {
    rpo_scores_free(&f->reference);
    rpo_embeddings_free(&f->embeddings);
    rpo_dataset_free(f->dataset);
    rpo_tokenizer_free(f->tokenizer);
    must(rpo_remove_tree(f->folder));
}

/* One rank's step, with everything of its own. */
typedef struct rank_run {
    const fixture *f;
    rpo_comm *comm;
    rpo_loss_kind kind;
    int64_t block_rows, micro_batch_tokens;
    rpo_context *context;
    rpo_model *model;
    rpo_objective objective;
    rpo_objective_memory memory;
    rpo_figures figures;
    float *gradients; /* the model's */
    int64_t count;
} rank_run;

static void open_run(rank_run *run, const fixture *f, rpo_comm *comm, rpo_loss_kind kind, int64_t block_rows,
                     int64_t budget) {
    const rpo_context_options options = {sizeof options, RPO_DEVICE_CPU, 0, 1, NULL};
    *run = (rank_run){
        .f = f, .comm = comm, .kind = kind, .block_rows = block_rows, .micro_batch_tokens = budget};
    must(rpo_context_create(&run->context, &options));
    run->model = make_model(run->context, 1);
    run->objective = (rpo_objective){
        .comm = comm,
        .context = run->context,
        .model = run->model,
        .dataset = f->dataset,
        .embeddings = rpo_loss_kind_needs_embeddings(kind) ? &f->embeddings : NULL,
        .reference = kind == RPO_LOSS_SFT ? NULL : &f->reference,
        .contrast = {.loss = RPO_LOSS_OPTIONS_INIT, .block_rows = block_rows},
        .micro_batch_tokens = budget,
    };
    run->objective.contrast.loss.kind = kind;
}

static void close_run(rank_run *run) {
    rpo_objective_memory_free(&run->memory);
    rpo_model_free(run->model);
    rpo_context_free(run->context);
}

static void run_step(rank_run *run) {
    must(rpo_step_gradients(&run->figures, &run->objective, &run->memory, run->f->order, run->f->rows));
    must(rpo_model_gradients(run->model, &run->gradients, &run->count));
}

/* |a - b| over |b|, as vectors. */
static double relative_distance(const float *a, const float *b, int64_t count) {
    double difference = 0, size = 0;
    for (int64_t i = 0; i < count; ++i) {
        difference += pow((double)a[i] - (double)b[i], 2);
        size += pow((double)b[i], 2);
    }
    return sqrt(difference / size);
}

static void expect_same(const rank_run *got, const rank_run *expected, const char *what) {
    const char *kind = rpo_loss_kind_name(expected->kind);
    const double loss = fabs(got->figures.loss - expected->figures.loss);
    const double gradients = relative_distance(got->gradients, expected->gradients, expected->count);
    cr_expect(loss <= 1e-6 * fmax(1.0, fabs(expected->figures.loss)), "%s, %s: loss %.9g, expected %.9g",
              kind, what, got->figures.loss, expected->figures.loss);
    cr_expect(gradients <= 1e-5, "%s, %s: gradients differ by %.3g of their norm", kind, what, gradients);
}

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

Test(step, does_not_depend_on_the_micro_batches) {
    fixture f;
    open_fixture(&f, NULL);
    rpo_comm *comm = NULL;
    must(rpo_comm_open(&comm));
    for (int kind = 0; kind < RPO_LOSS_KIND_COUNT; ++kind) {
        rank_run whole;
        open_run(&whole, &f, comm, (rpo_loss_kind)kind, NUM_PAIRS, budget_of_pairs(&f, NUM_PAIRS));
        run_step(&whole);
        cr_assert_eq(whole.memory.scope.num_micro_batches, 1); /* the short cut */
        int64_t most = 1;
        for (int64_t pairs = 4; pairs >= 1; pairs /= 2) {
            char what[64];
            rank_run run;
            snprintf(what, sizeof what, "micro-batches of %lld pairs", (long long)pairs);
            open_run(&run, &f, comm, (rpo_loss_kind)kind, NUM_PAIRS, budget_of_pairs(&f, pairs));
            run_step(&run);
            cr_assert_gt(run.memory.scope.num_micro_batches, most, "%s", what);
            most = run.memory.scope.num_micro_batches;
            expect_same(&run, &whole, what);
            close_run(&run);
        }
        rank_run single;
        open_run(&single, &f, comm, (rpo_loss_kind)kind, NUM_PAIRS, 1); /* every sequence alone */
        run_step(&single);
        cr_assert_eq(single.memory.scope.num_micro_batches, kind == RPO_LOSS_SFT ? NUM_PAIRS : 2 * NUM_PAIRS);
        expect_same(&single, &whole, "single sequences");
        close_run(&single);
        close_run(&whole);
    }
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
        rank_run whole, pieces;
        open_run(&whole, &f, comm, kinds[k], 4, 1 << 20);
        open_run(&pieces, &f, comm, kinds[k], 4, 70);
        run_step(&whole);
        run_step(&pieces);
        cr_assert_gt(pieces.memory.scope.num_micro_batches, 4);
        expect_same(&pieces, &whole, "unpaired blocks of 4");
        close_run(&pieces);
        close_run(&whole);
    }
    rpo_comm_close(comm);
    close_fixture(&f);
}

Test(step, repeats_bit_for_bit) {
    fixture f;
    open_fixture(&f, NULL);
    rpo_comm *comm = NULL;
    must(rpo_comm_open(&comm));
    rank_run first, second;
    open_run(&first, &f, comm, RPO_LOSS_RPO_PAIRED, 4, 300);
    open_run(&second, &f, comm, RPO_LOSS_RPO_PAIRED, 4, 300);
    run_step(&first);
    run_step(&second);
    run_step(&second); /* in memory that was used before */
    cr_expect_eq(memcmp(&first.figures, &second.figures, sizeof first.figures), 0);
    cr_expect_eq(memcmp(first.gradients, second.gradients, (size_t)first.count * sizeof(float)), 0);
    close_run(&first);
    close_run(&second);
    rpo_comm_close(comm);
    close_fixture(&f);
}

/* Loss after a step of `distance` along `direction` from the weights `start`. */
static double loss_along(rank_run *run, const float *start, const double *direction, double distance) {
    int64_t count = 0;
    float *weights = rpo_model_weights(run->model, &count);
    for (int64_t i = 0; i < count; ++i)
        weights[i] = (float)((double)start[i] + distance * direction[i]);
    rpo_figures figures;
    int64_t tokens = 0;
    must(rpo_evaluate(&figures, &tokens, &run->objective, NULL));
    memcpy(weights, start, (size_t)count * sizeof *weights);
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
        rank_run run;
        open_run(&run, &f, comm, (rpo_loss_kind)kind, 4, 200);
        run_step(&run);
        float *start = rpo_alloc_array((size_t)run.count, sizeof *start);
        double *direction = rpo_alloc_array((size_t)run.count, sizeof *direction);
        int64_t count = 0;
        const float *weights = rpo_model_weights(run.model, &count);
        memcpy(start, weights, (size_t)count * sizeof *start);
        /* Along the gradient itself, where the change is largest, tilted by something random. */
        double norm = 0, slope = 0;
        for (int64_t i = 0; i < count; ++i)
            norm += pow((double)run.gradients[i], 2);
        norm = sqrt(norm);
        for (int64_t i = 0; i < count; ++i) {
            const bool used = run.gradients[i] != 0.0f; /* padding between parameters stays 0 */
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
    static const rpo_loss_kind kinds[] = {RPO_LOSS_RPO_PAIRED, RPO_LOSS_KTO_SIMPLE, RPO_LOSS_SFT};
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; ++k)
        for (int size = 2; size <= 3; ++size) {
            rank_run whole, ranks[3];
            open_run(&whole, &f, alone, kinds[k], NUM_PAIRS, 1 << 20);
            run_step(&whole);
            meeting all;
            pthread_t threads[3];
            rpo_comm comms[3];
            pthread_barrier_init(&all.barrier, NULL, (unsigned)size);
            for (int rank = 0; rank < size; ++rank) {
                comms[rank] = (rpo_comm){&thread_ops, rank, size, &all};
                open_run(&ranks[rank], &f, &comms[rank], kinds[k], NUM_PAIRS, 150);
            }
            for (int rank = 0; rank < size; ++rank)
                cr_assert_eq(pthread_create(&threads[rank], NULL, run_rank, &ranks[rank]), 0);
            for (int rank = 0; rank < size; ++rank)
                pthread_join(threads[rank], NULL);
            for (int rank = 0; rank < size; ++rank) {
                char what[64];
                snprintf(what, sizeof what, "rank %d of %d", rank, size);
                expect_same(&ranks[rank], &whole, what);
                cr_expect_eq(memcmp(&ranks[rank].figures, &ranks[0].figures, sizeof(rpo_figures)), 0, "%s",
                             what);
                cr_expect_eq(
                    memcmp(ranks[rank].gradients, ranks[0].gradients, (size_t)whole.count * sizeof(float)), 0,
                    "%s", what);
            }
            for (int rank = 0; rank < size; ++rank)
                close_run(&ranks[rank]);
            pthread_barrier_destroy(&all.barrier);
            close_run(&whole);
        }
    rpo_comm_close(alone);
    close_fixture(&f);
}

Test(step, a_loss_that_is_not_finite_leaves_no_gradient) {
    fixture f;
    open_fixture(&f, NULL);
    rpo_comm *comm = NULL;
    must(rpo_comm_open(&comm));
    for (int64_t budget = 100; budget <= 100000; budget *= 1000) {
        rank_run run;
        open_run(&run, &f, comm, RPO_LOSS_RPO_PAIRED, 4, budget);
        int64_t count = 0;
        float *weights = rpo_model_weights(run.model, &count);
        size_t num_parameters = 0;
        const rpo_parameter *parameters = rpo_model_parameters(run.model, &num_parameters);
        for (size_t p = 0; p < num_parameters; ++p)
            if (parameters[p].shape[1] == 0) /* the norms: every token passes through them */
                weights[parameters[p].offset] = NAN;
        run_step(&run);
        cr_expect(!isfinite(run.figures.loss));
        for (int64_t i = 0; i < run.count; ++i)
            cr_assert_eq(run.gradients[i], 0.0f);
        close_run(&run);
    }
    rpo_comm_close(comm);
    close_fixture(&f);
}
