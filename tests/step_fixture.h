/*
 * step_fixture.h - what the step's tests share: data with a reference of another model, and runs with a model, memory and
 * optimizer of their own.
 */
#ifndef RPO_TESTS_STEP_FIXTURE_H
#define RPO_TESTS_STEP_FIXTURE_H

#include <math.h>
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

/* How a run computes; results must not depend on most of it. */
typedef struct run_options {
    rpo_loss_kind kind;
    int64_t block_rows, micro_batch_tokens;
    rpo_prefix_sharing sharing;
    size_t tape_budget, head_cache;
    bool optimizer, scores_only;
    rpo_optimizer_settings settings;
    rpo_weight_scale scale;
} run_options;

/* One rank's model with everything of its own. */
typedef struct step_run {
    const fixture *f;
    rpo_context *context;
    rpo_model *model;
    rpo_memory *memory;
    rpo_objective objective;
    rpo_optimizer optimizer;
    rpo_step step;
    rpo_step_result result;
    float *gradients; /* host, of the last step */
    int64_t count;
    run_options options;
} step_run;

static inline rpo_model_config step_config(void) {
    rpo_model_config config = rpo_model_config_default();
    config.vocab_size = 259;
    config.hidden_size = 24;
    config.intermediate_size = 40;
    config.num_hidden_layers = 2;
    config.num_attention_heads = 4;
    config.num_key_value_heads = 2;
    config.head_dim = 6;
    config.max_position_embeddings = 256;
    config.initializer_range = 0.08; /* large enough that the log-probs differ visibly */
    return config;
}

static inline void open_run(step_run *run, const fixture *f, rpo_comm *comm, const run_options *options,
                            uint64_t seed) {
    const rpo_context_options single = {sizeof single, RPO_DEVICE_CPU, 0, 1, NULL};
    const rpo_model_config config = step_config();
    rpo_memory_request request = {0};
    *run = (step_run){.f = f, .options = *options};
    must(rpo_context_create(&run->context, &single));
    must(rpo_model_new(&run->model, run->context, &config));
    const bool embeds = rpo_loss_kind_needs_embeddings(options->kind) != 0;
    run->objective = (rpo_objective){
        .comm = comm,
        .model = run->model,
        .dataset = f->dataset,
        .embeddings = embeds ? &f->embeddings : NULL,
        .embedding_dim = embeds ? f->embeddings.dim : 0,
        .reference = options->kind == RPO_LOSS_SFT || options->scores_only ? NULL : &f->reference,
        .contrast = {.loss = RPO_LOSS_OPTIONS_INIT, .block_rows = options->block_rows},
        .micro_batch_tokens = options->micro_batch_tokens,
        .prefix_sharing = options->sharing,
        .rows_at_once = f->rows,
        .scores_only = options->scores_only,
    };
    run->objective.contrast.loss.kind = options->kind;
    run->objective.contrast.loss.weight_scale = options->scale;
    must(rpo_optimizer_open(&run->optimizer, &options->settings, run->model));
    must(rpo_objective_request(&request, &run->objective, run->model, true, options->tape_budget,
                               options->head_cache));
    request.moments = rpo_optimizer_num_moments(options->settings.kind);
    request.batch_bytes += rpo_optimizer_staged_bytes(run->model);
    const size_t norm = rpo_optimizer_workspace_bytes(run->model);
    request.workspace_bytes = norm > request.workspace_bytes ? norm : request.workspace_bytes;
    must(rpo_memory_create(&run->memory, run->model, &request));
    must(rpo_model_initialise(run->model, seed));
    must(rpo_step_open(&run->step, &run->objective, options->optimizer ? &run->optimizer : NULL));
    must(rpo_step_begin(&run->step, 0));
    run->count = rpo_model_tensors(run->model)->trainable;
    run->gradients = rpo_alloc_array((size_t)run->count, sizeof *run->gradients);
    cr_assert_not_null(run->gradients);
}

static inline void close_run(step_run *run) {
    rpo_free(run->gradients);
    rpo_step_close(&run->step);
    rpo_optimizer_close(&run->optimizer);
    rpo_model_free(run->model);
    rpo_memory_free(run->memory);
    rpo_context_free(run->context);
}

static inline void run_step(step_run *run) {
    must(rpo_step_run(&run->step, &run->result, run->f->order, run->f->rows, 1e-3));
    must(rpo_device_read(run->context, run->gradients, run->memory->gradients, 0, run->count));
}

static inline float *read_weights(const step_run *run) {
    const int64_t count = rpo_model_tensors(run->model)->weights;
    float *weights = rpo_alloc_array((size_t)count, sizeof *weights);
    cr_assert_not_null(weights);
    must(rpo_device_read(run->context, weights, run->memory->weights, 0, count));
    return weights;
}

static inline rpo_status keep_scores(void *user, const rpo_global_batch *batch, const float *logps) {
    rpo_scores_keep(user, batch, logps);
    return RPO_OK;
}

/* The reference is another model, so that every term of the loss has something to say. */
static inline void score_reference(fixture *f) {
    rpo_comm *comm = NULL;
    step_run frozen;
    const run_options options = {
        .kind = RPO_LOSS_DPO, .block_rows = 1, .micro_batch_tokens = 1000, .scores_only = true};
    must(rpo_comm_open(&comm));
    open_run(&frozen, f, comm, &options, 7);
    must(rpo_scores_create(&f->reference, f->rows));
    must(rpo_score_records(&frozen.objective, NULL, f->rows, keep_scores, &f->reference, NULL, ""));
    close_run(&frozen);
    rpo_comm_close(comm);
}

/* `labels` NULL: pairs; otherwise unpaired records. */
static inline void open_fixture(fixture *f, const char *labels) {
    *f = (fixture){0};
    make_folder(f->folder);
    must(rpo_tokenizer_open(&f->tokenizer, NULL, RPO_TOKENIZER_AUTO));
    f->dataset = labels == NULL ? make_pairs(f->folder, NUM_PAIRS, f->tokenizer)
                                : make_unpaired(f->folder, labels, f->tokenizer);
    f->rows = rpo_dataset_size(f->dataset);
    const rpo_embedding_options embedding = {RPO_EMBEDDING_HASHED, NULL};
    must(rpo_embeddings_compute(&f->embeddings, f->dataset, f->dataset, &embedding, NULL, 1));
    rpo_dataset_shuffle(f->order, f->rows, 5, 0);
    score_reference(f);
}

static inline void close_fixture(fixture *f) {
    rpo_scores_free(&f->reference);
    rpo_embeddings_free(&f->embeddings);
    rpo_dataset_free(f->dataset);
    rpo_tokenizer_free(f->tokenizer);
    must(rpo_remove_tree(f->folder));
}

/* |a - b| over |b|, as vectors. */
static inline double relative_distance(const float *a, const float *b, int64_t count) {
    double difference = 0, size = 0;
    for (int64_t i = 0; i < count; ++i) {
        difference += pow((double)a[i] - (double)b[i], 2);
        size += pow((double)b[i], 2);
    }
    return sqrt(difference / size);
}

static inline void expect_same(const step_run *got, const step_run *expected, const char *what) {
    const char *kind = rpo_loss_kind_name(expected->options.kind);
    const double wanted = expected->result.figures.loss;
    const double loss = fabs(got->result.figures.loss - wanted);
    const double gradients = relative_distance(got->gradients, expected->gradients, expected->count);
    cr_expect(loss <= 1e-6 * fmax(1.0, fabs(wanted)), "%s, %s: loss %.9g, expected %.9g", kind, what,
              got->result.figures.loss, wanted);
    cr_expect(gradients <= 1e-5, "%s, %s: gradients differ by %.3g of their norm", kind, what, gradients);
}

#endif
