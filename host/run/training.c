/* training.c - a whole training: everything is loaded and checked first, and only then is anything written. */
#include <string.h>
#include <unistd.h>

#include "core/signals.h"
#include "host/run/folder.h"
#include "host/run/loop.h"
#include "host/run/report.h"
#include "host/run/run.h"
#include "host/train/reference.h"

typedef struct training {
    const rpo_config *config;
    rpo_comm *comm;
    const char *command; /* the command line */
    rpo_inputs inputs;
    rpo_frozen_model frozen; /* loaded from reference.path; none = the policy's start */
    rpo_scores train_reference, eval_reference;
    rpo_optimizer optimizer;
    rpo_schedule schedule;
    rpo_trainer_state state;
    char *checkpoint;     /* folder the run continues from; NULL = a run from the beginning */
    rpo_text warnings;    /* damaged checkpoints, one a line */
    char *cache_folder;   /* of this run; NULL as the next before they are found */
    char *shared_cache;   /* of all runs: what depends on model and data alone */
    rpo_metrics *metrics; /* rank 0 only, as is the folder's lock */
    int lock;
    bool begun; /* the run folder is this run's: its files are written */
} training;

static bool uses_reference(const training *run) {
    return run->config->loss.kind != RPO_LOSS_SFT;
}

/* ---- before anything is written ---- */

/* Is there room for the run, and nobody else in it? What a kill left is put in order before anybody looks. */
static rpo_status take_folder(training *run, bool resume) {
    if (run->comm->rank != 0)
        return RPO_OK;
    const int64_t parameters = rpo_model_tensors(run->inputs.model)->weights;
    const int moments = rpo_optimizer_num_moments(run->config->train.optimizer);
    const uint64_t bytes = rpo_checkpoint_bytes_needed(parameters, moments, resume ? 1 : 2);
    RPO_TRY(rpo_error_prefix(rpo_folder_writable(run->config->run.dir, bytes), "run.dir: "));
    RPO_TRY(rpo_run_folder_lock(run->config, &run->lock));
    RPO_TRY(rpo_run_folder_check(run->config, resume));
    return rpo_checkpoint_clean(run->config->run.dir);
}

static rpo_status load_parts(training *run, bool resume) {
    const rpo_config *config = run->config;
    RPO_TRY(rpo_comm_agree(run->comm, rpo_inputs_open(&run->inputs, config, run->comm, RPO_INPUTS_TRAIN)));
    RPO_TRY(rpo_comm_agree(run->comm, take_folder(run, resume)));
    run->cache_folder = rpo_path_join(config->run.dir, "cache");
    run->shared_cache = rpo_run_shared_cache(run->cache_folder);
    if (run->cache_folder == NULL || run->shared_cache == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    RPO_TRY(rpo_inputs_embed(&run->inputs, run->cache_folder));
    if (uses_reference(run) && config->reference.path != NULL)
        RPO_TRY(rpo_inputs_load_frozen(&run->inputs, &run->frozen, "reference.path", config->reference.path));
    const rpo_optimizer_settings optimizer = {.kind = config->train.optimizer,
                                              .weight_decay = config->train.weight_decay,
                                              .max_grad_norm = config->train.max_grad_norm};
    RPO_TRY(rpo_optimizer_open(&run->optimizer, &optimizer, run->inputs.model));

    run->schedule = rpo_schedule_make(run->inputs.num_trainable, rpo_inputs_rows_a_step(&run->inputs),
                                      config->train.epochs, config->train.max_steps);
    return RPO_OK;
}

/* The state of a run that begins now; also what a checkpoint's state must agree with. */
static rpo_status begin_state(training *run, rpo_trainer_state *state) {
    *state = (rpo_trainer_state){.seed = run->config->run.seed};
    memcpy(state->data_hash, run->inputs.data_hash, sizeof state->data_hash);
    memcpy(state->start_hash, run->inputs.start_hash, sizeof state->start_hash);
    if (run->frozen.model != NULL)
        RPO_TRY(rpo_model_hash(run->frozen.model, state->reference_hash));
    else if (uses_reference(run))
        memcpy(state->reference_hash, state->start_hash, sizeof state->reference_hash);
    return rpo_run_folder_config_hash(run->config, state->config_hash);
}

static rpo_status check_same_inputs(const training *run, const rpo_trainer_state *now,
                                    const rpo_trainer_state *then) {
    RPO_TRY(rpo_run_folder_check_settings(run->config, then->config_hash));
    if (strcmp(now->data_hash, then->data_hash) != 0)
        return rpo_config_fault(run->config, "data.train",
                                "its records, or those of data.eval, are not those the run in %s began with",
                                run->config->run.dir);
    if (strcmp(now->start_hash, then->start_hash) != 0)
        return rpo_config_fault(run->config, run->config->model.path != NULL ? "model.path" : "model.init",
                                "its weights are not those the run in %s began with", run->config->run.dir);
    if (strcmp(now->reference_hash, then->reference_hash) != 0)
        return rpo_config_fault(run->config, "reference.path",
                                "its weights are not those the run in %s began with", run->config->run.dir);
    return RPO_OK;
}

static rpo_status find_state(training *run, bool resume) {
    rpo_trainer_state begun;
    RPO_TRY(begin_state(run, &begun));
    if (resume) {
        RPO_TRY(
            rpo_checkpoint_find_latest(run->config->run.dir, &run->checkpoint, &run->state, &run->warnings));
        if (run->checkpoint != NULL)
            return check_same_inputs(run, &begun, &run->state);
    }
    run->state = begun;
    return RPO_OK;
}

/* ---- from here on the run folder is written to ---- */

static rpo_status open_folder(training *run, bool resume) {
    if (run->comm->rank != 0)
        return RPO_OK;
    if (resume)
        RPO_TRY(rpo_checkpoint_set_later_aside(run->config->run.dir, run->state.step, &run->warnings));
    RPO_TRY(rpo_metrics_open(&run->metrics, run->config->run.dir, run->state.metrics_bytes));
    rpo_run_record record = rpo_run_record_now(run->command, rpo_context_num_threads(run->inputs.context));
    record.model_hash = run->state.start_hash;
    record.reference_hash = run->state.reference_hash;
    record.data_hash = run->state.data_hash;
    RPO_TRY(rpo_run_folder_write_config(run->config, &record));
    rpo_run_record_log(&record, run->metrics);
    rpo_report_opening(run->metrics, &run->inputs, &run->schedule);
    rpo_metrics_warn_lines(run->metrics, &run->warnings);
    if (run->checkpoint != NULL)
        rpo_metrics_say(run->metrics, "resume     from %s", run->checkpoint);
    else if (resume)
        rpo_metrics_say(run->metrics, "resume     %s holds no checkpoint; starting from the beginning",
                        run->config->run.dir);
    return RPO_OK;
}

/* ---- the reference ---- */

/*
 * The training records that the run will see, step after step: a whole epoch sees all of them, a run of fewer steps only
 * some. Steps are the batches of the reference pass, so that its bits depend neither on the number of steps nor on
 * interruptions.
 */
static rpo_status list_visited(const training *run, int64_t **records, int64_t *count) {
    const rpo_schedule *schedule = &run->schedule;
    const int64_t trainable = run->inputs.num_trainable;
    *count = 0;
    *records = rpo_alloc_array((size_t)trainable, sizeof **records);
    if (*records == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    rpo_dataset_shuffle(*records, trainable, run->config->run.seed, 0);
    for (int64_t i = 0; i < trainable; ++i)
        (*records)[i] = run->inputs.trainable[(*records)[i]];
    for (int64_t step = 0; step < schedule->steps && step < schedule->steps_an_epoch; ++step)
        *count += rpo_schedule_at(schedule, step).count;
    return RPO_OK;
}

static rpo_status score_datasets(training *run, const int64_t *records, int64_t count,
                                 rpo_reference_report *train, rpo_reference_report *eval) {
    rpo_model *model = run->frozen.model != NULL ? run->frozen.model : run->inputs.model;
    rpo_reference reference = {
        .scoring = rpo_inputs_scoring(&run->inputs, model, run->inputs.train),
        .model_hash = run->state.reference_hash,
        .cache_folder = run->shared_cache,
        .seed = run->config->run.seed,
        .metrics = run->metrics,
    };
    RPO_TRY(rpo_reference_scores(&run->train_reference, train, &reference, records, count));
    if (run->inputs.eval == NULL)
        return RPO_OK;
    reference.scoring = rpo_inputs_scoring(&run->inputs, model, run->inputs.eval);
    return rpo_reference_scores(&run->eval_reference, eval, &reference, NULL, 0);
}

static void say_reference(const training *run, int64_t computed, int64_t cached) {
    const char *name = run->frozen.model != NULL ? run->config->reference.path : "the policy as it starts";
    char some[RPO_FIGURE_SIZE], others[RPO_FIGURE_SIZE];
    rpo_figure_count(some, computed);
    rpo_figure_count(others, cached);
    if (computed == 0)
        rpo_metrics_say(run->metrics, "reference  %s, log-probs from the cache (%s records)", name, others);
    else if (cached == 0)
        rpo_metrics_say(run->metrics, "reference  %s, log-probs computed (%s records)", name, some);
    else
        rpo_metrics_say(run->metrics, "reference  %s, log-probs of %s records from the cache, of %s computed",
                        name, others, some);
}

/* Both datasets under the frozen model. The policy still is as it started: no second model is needed for that. */
static rpo_status score_reference(training *run) {
    rpo_reference_report train = {0}, eval = {0};
    int64_t *records = NULL, count = 0;
    if (!uses_reference(run))
        return RPO_OK;
    rpo_status status = list_visited(run, &records, &count);
    if (status == RPO_OK)
        status = score_datasets(run, records, count, &train, &eval);
    rpo_free(records);
    RPO_TRY(status);
    say_reference(run, train.computed + eval.computed, train.from_cache + eval.from_cache);
    rpo_frozen_model_free(&run->frozen);
    return RPO_OK;
}

static rpo_loop make_loop(training *run) {
    rpo_loop loop = {
        .inputs = &run->inputs,
        .train = rpo_inputs_objective(&run->inputs, run->inputs.train, &run->inputs.train_embeddings),
        .optimizer = &run->optimizer,
        .schedule = run->schedule,
        .state = &run->state,
        .metrics = run->metrics,
        .lock = run->lock,
        .starts_at_reference = run->config->reference.path == NULL,
    };
    if (run->inputs.eval != NULL)
        loop.eval = rpo_inputs_objective(&run->inputs, run->inputs.eval, &run->inputs.eval_embeddings);
    if (uses_reference(run)) {
        loop.train.reference = &run->train_reference;
        loop.eval.reference = &run->eval_reference;
    }
    return loop;
}

/* A model that no step changed, or that the last steps could not be computed with, is no result. */
static rpo_status check_trained(const training *run) {
    const rpo_trainer_state *state = &run->state;
    if (state->skipped_steps > 0)
        return rpo_error_set(RPO_ERROR_NONFINITE,
                             "step %lld: the last %lld of %lld steps were skipped, their loss or gradient "
                             "was not finite, %s; %s/final is "
                             "not written",
                             (long long)state->step, (long long)state->skipped_steps, (long long)state->step,
                             state->updates == 0 ? "and none before changed the weights: nothing was trained"
                                                 : "so the weights are not to be trusted",
                             run->config->run.dir);
    if (state->updates == 0)
        return rpo_config_fault(run->config, "loss.contrast_block",
                                "leaves nothing to train on: every block of every step held records of one "
                                "class alone; must be larger, or "
                                "the records better mixed");
    return RPO_OK;
}

static rpo_status finish(training *run) {
    if (run->comm->rank != 0)
        return RPO_OK;
    char *folder = rpo_path_join(run->config->run.dir, "final");
    if (folder == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    const rpo_checkpoint_extras extras = rpo_inputs_extras(&run->inputs);
    rpo_text warnings = {0};
    rpo_status status = rpo_run_folder_still_held(run->config, run->lock);
    if (status == RPO_OK)
        status = rpo_checkpoint_save_final(run->config->run.dir, run->inputs.model, &extras, &warnings);
    rpo_metrics_warn_lines(run->metrics, &warnings);
    rpo_text_free(&warnings);
    if (status == RPO_OK)
        rpo_report_closing(run->metrics, &run->inputs, &run->state, folder);
    rpo_free(folder);
    return status;
}

/* A run that had no time to save has nothing to continue from; say so where the signal is reported. */
static rpo_status explain_early_stop(const training *run, rpo_status status) {
    if (status != RPO_ERROR_INTERRUPTED || run->state.step > 0)
        return status;
    if (!run->begun)
        return rpo_error_set(status, "%s: while loading; %s is as it was", rpo_last_error(),
                             run->config->run.dir);
    return rpo_error_set(
        status, "%s: before the first step of %s, so there is nothing to save; --resume starts it over",
        rpo_last_error(), run->config->run.dir);
}

static rpo_status load_checkpoint(const training *run) {
    const rpo_optimizer_state optimizer = rpo_optimizer_state_of(&run->optimizer, run->inputs.model);
    return rpo_checkpoint_load(run->checkpoint, run->inputs.model, &optimizer);
}

static rpo_status train(training *run, bool resume) {
    RPO_TRY(rpo_run_folder_check(run->config, resume)); /* a quick answer; under the lock it is asked again */
    RPO_TRY(load_parts(run, resume));
    RPO_TRY(
        rpo_comm_agree(run->comm, find_state(run, resume))); /* all have looked before anything is moved */
    RPO_TRY(rpo_comm_agree(run->comm, open_folder(run, resume)));
    run->begun = true;
    RPO_TRY(score_reference(run));
    if (run->checkpoint != NULL)
        RPO_TRY(load_checkpoint(run));
    rpo_loop loop = make_loop(run);
    RPO_TRY(rpo_loop_run(&loop));
    RPO_TRY(check_trained(run));
    return rpo_comm_agree(run->comm, finish(run));
}

rpo_status rpo_run_training(const rpo_config *config, rpo_comm *comm, bool resume, const char *command) {
    training run = {.config = config, .comm = comm, .command = command, .lock = -1};
    rpo_signals signals;
    rpo_signals_catch(&signals);
    const rpo_status status = explain_early_stop(&run, train(&run, resume));
    rpo_signals_release(&signals);

    rpo_metrics_close(run.metrics);
    rpo_text_free(&run.warnings);
    rpo_free(run.checkpoint);
    rpo_free(run.shared_cache);
    rpo_free(run.cache_folder);
    rpo_optimizer_close(&run.optimizer);
    rpo_scores_free(&run.eval_reference);
    rpo_scores_free(&run.train_reference);
    rpo_frozen_model_free(&run.frozen);
    rpo_inputs_close(&run.inputs);
    if (run.lock >= 0)
        close(run.lock);
    return status;
}
