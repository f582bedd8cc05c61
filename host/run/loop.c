/* loop.c - the run's steps. */
#include "host/run/loop.h"

#include <math.h>
#include <stdio.h>

#include "core/signals.h"
#include "host/run/folder.h"
#include "host/run/report.h"
#include "host/train/evaluate.h"
#include "host/train/step.h"

/* What the loop alone needs while it runs. */
typedef struct loop_memory {
    rpo_step step;
    rpo_step_result result; /* of the last step */
    int64_t *order;         /* the epoch's permutation of the trainable records, as record numbers */
    int64_t order_epoch;    /* which epoch that is; -1 before the first */
    int64_t saved_step;     /* of the newest checkpoint; -1 = none */
    double seconds;         /* this process spent on steps, and the tokens of those: the rate that is shown */
    int64_t tokens;
} loop_memory;

/* ---- the watch over the figures ---- */

/* Mean labels of a chosen response; 1 where there is none. */
static double chosen_tokens(const rpo_dataset *dataset) {
    int64_t labels = 0, responses = 0;
    for (int64_t i = 0; dataset != NULL && i < rpo_dataset_size(dataset); ++i) {
        const rpo_sequence *chosen = &rpo_dataset_record(dataset, i)->chosen;
        if (chosen->tokens == NULL)
            continue;
        labels += chosen->length - chosen->prompt_length;
        ++responses;
    }
    return responses > 0 ? (double)labels / (double)responses : 1.0;
}

static void begin_watch(rpo_loop *loop) {
    const rpo_watch_options options = {
        .beta = loop->inputs->config->loss.beta,
        .train_tokens = chosen_tokens(loop->train.dataset),
        .eval_tokens = chosen_tokens(loop->eval.dataset),
        .starts_at_reference = loop->starts_at_reference,
    };
    rpo_watch_begin(&loop->watch, &options, loop->metrics);
}

/* Pairs among `records` of a dataset, as far as figures compare them. */
static int64_t count_pairs(const rpo_dataset *dataset, int64_t records) {
    return rpo_dataset_is_paired(dataset) ? records : records / 2;
}

/* ---- evaluation ---- */

static void say_evaluation(const rpo_loop *loop, const rpo_figures *figures) {
    char line[128];
    rpo_metrics_say(loop->metrics, "%-10s %lld/%lld  %s", "evaluate", (long long)loop->state->step,
                    (long long)loop->schedule.steps, rpo_figures_line(line, sizeof line, figures));
}

/* Before its first update a policy that began as its own reference has the reference's log-probs. */
static const rpo_scores *known_policy(const rpo_loop *loop) {
    return loop->starts_at_reference && loop->state->updates == 0 ? loop->eval.reference : NULL;
}

static rpo_status evaluate(rpo_loop *loop) {
    rpo_metrics_row row = rpo_metrics_row_empty();
    const double start = rpo_now();
    RPO_TRY(rpo_evaluate(&row.figures, &row.tokens, &loop->eval, known_policy(loop), loop->metrics));
    row.is_eval = true;
    row.step = loop->state->step;
    row.epoch = rpo_schedule_epochs(&loop->schedule, loop->state->step);
    row.seconds = rpo_now() - start;
    row.tokens_per_second = (double)row.tokens / fmax(row.seconds, 1e-9);
    loop->state->latest = row.figures;
    if (loop->state->step == 0)
        loop->state->before = loop->state->latest;
    say_evaluation(loop, &row.figures);
    rpo_watch_evaluation(&loop->watch, row.step, &loop->state->before, &row.figures,
                         count_pairs(loop->eval.dataset, rpo_dataset_size(loop->eval.dataset)));
    return rpo_metrics_write(loop->metrics, &row);
}

static bool is_last(const rpo_loop *loop) {
    return loop->state->step >= loop->schedule.steps;
}

static bool is_due(int64_t step, int64_t every) {
    return every > 0 && step % every == 0;
}

/* ---- one step ---- */

/* The epoch's order: shuffled positions of the trainable records, then the records at those positions. */
static rpo_status prepare_order(const rpo_loop *loop, loop_memory *memory, int64_t epoch) {
    if (memory->order_epoch == epoch)
        return RPO_OK;
    const rpo_inputs *inputs = loop->inputs;
    if (memory->order == NULL)
        memory->order = rpo_alloc_array((size_t)inputs->num_trainable, sizeof *memory->order);
    if (memory->order == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    rpo_dataset_shuffle(memory->order, inputs->num_trainable, inputs->config->run.seed, epoch);
    for (int64_t i = 0; i < inputs->num_trainable; ++i)
        memory->order[i] = inputs->trainable[memory->order[i]];
    memory->order_epoch = epoch;
    return RPO_OK;
}

/*
 * While the policy is its own reference every log-ratio is 0 and the loss a constant of its kind. The two
 * log-probs were computed in different packings, so they differ by rounding: some 1e-5 of their size at
 * worst, times the loss's slope there, which for every kind is at most 4 beta of its value (and at most the
 * block's size more with weights that are not normalised). A wrong reference, mask or sign is off by far
 * more.
 */
static rpo_status check_first_loss(const rpo_loop *loop, const rpo_step_result *result) {
    const rpo_figures *figures = &result->figures;
    const rpo_contrast_options *contrast = &loop->train.contrast;
    const double expected = rpo_loss_at_start(&contrast->loss);
    if (!loop->starts_at_reference || isnan(expected) || figures->empty_blocks == figures->blocks)
        return RPO_OK;
    const double rounding = 1e-5 * (1 + (double)result->largest_logp);
    const bool block_scale = contrast->loss.weight_scale == RPO_WEIGHT_SCALE_BLOCK;
    const double weight = block_scale ? (double)contrast->block_rows : 1.0;
    const double tolerance = expected * (1e-5 + 4 * (double)contrast->loss.beta * weight * rounding);
    if (fabs(figures->loss - expected) <= tolerance)
        return RPO_OK;
    return rpo_error_set(
        RPO_ERROR_INTERNAL,
        "first step: the loss is %.9g; where policy and reference are the same model %s must give "
        "%.9g (within %.2g)",
        figures->loss, rpo_loss_kind_name(contrast->loss.kind), expected, tolerance);
}

static rpo_status skip_step(rpo_loop *loop, const char *what) {
    rpo_trainer_state *state = loop->state;
    ++state->skipped_steps;
    rpo_metrics_warn(
        loop->metrics,
        "step %lld: the %s is not finite; the step is skipped (%lld in a row, the run stops at %d)",
        (long long)state->step + 1, what, (long long)state->skipped_steps, RPO_MAX_SKIPPED_STEPS);
    if (state->skipped_steps < RPO_MAX_SKIPPED_STEPS)
        return RPO_OK;
    return rpo_error_set(
        RPO_ERROR_NONFINITE,
        "step %lld: loss or gradient was not finite %d times in a row; the run stops. A lower "
        "train.learning_rate or train.max_grad_norm may help",
        (long long)state->step + 1, RPO_MAX_SKIPPED_STEPS);
}

/* What the device decided about the update. */
static rpo_status take_note(rpo_loop *loop, const rpo_step_result *result) {
    rpo_trainer_state *state = loop->state;
    if (result->skip != RPO_SKIP_NOTHING)
        return skip_step(loop, result->skip == RPO_SKIP_LOSS ? "loss" : "gradient");
    state->skipped_steps = 0;
    state->updates = result->updates;
    return RPO_OK;
}

static void show_step(const rpo_loop *loop, const loop_memory *memory, const rpo_metrics_row *row) {
    char rate[RPO_FIGURE_SIZE], line[128], detail[160];
    rpo_figure_count(rate, (int64_t)((double)memory->tokens / fmax(memory->seconds, 1e-9)));
    snprintf(detail, sizeof detail, "%s  %s tokens/s", rpo_figures_line(line, sizeof line, &row->figures),
             rate);
    rpo_metrics_progress(loop->metrics, "train", row->step, loop->schedule.steps, detail);
}

static rpo_status train_step(rpo_loop *loop, loop_memory *memory) {
    rpo_trainer_state *state = loop->state;
    const rpo_config *config = loop->inputs->config;
    const rpo_schedule_place place = rpo_schedule_at(&loop->schedule, state->step);
    const double start = rpo_now();
    rpo_metrics_row row = rpo_metrics_row_empty();
    rpo_step_result *result = &memory->result;

    RPO_TRY(prepare_order(loop, memory, place.epoch));
    row.learning_rate =
        rpo_schedule_learning_rate(config->train.learning_rate, config->train.warmup_steps, state->step);
    RPO_TRY(
        rpo_step_run(&memory->step, result, memory->order + place.position, place.count, row.learning_rate));
    row.figures = result->figures;
    row.grad_norm = result->grad_norm;
    if (state->step == 0 && isfinite(row.figures.loss))
        RPO_TRY(check_first_loss(loop, result));
    RPO_TRY(take_note(loop, result));

    ++state->step;
    const rpo_schedule_place next = rpo_schedule_at(&loop->schedule, state->step);
    state->epoch = next.epoch;
    state->position = next.position;
    row.step = state->step;
    row.epoch = rpo_schedule_epochs(&loop->schedule, state->step);
    row.tokens = result->tokens;
    row.seconds = rpo_now() - start;
    row.tokens_per_second = (double)row.tokens / fmax(row.seconds, 1e-9);
    state->tokens += row.tokens;
    state->seconds += row.seconds;
    memory->tokens += row.tokens;
    memory->seconds += row.seconds;
    if (loop->eval.dataset == NULL) {
        state->latest = row.figures;
        if (state->step == 1)
            state->before = state->latest;
    }
    RPO_TRY(rpo_metrics_write(loop->metrics, &row));
    show_step(loop, memory, &row);
    rpo_watch_step(&loop->watch, row.step, &row.figures, count_pairs(loop->train.dataset, place.count));
    return RPO_OK;
}

/* ---- saving and stopping ---- */

static rpo_status save_checkpoint(rpo_loop *loop) {
    const rpo_config *config = loop->inputs->config;
    const rpo_checkpoint_extras extras = rpo_inputs_extras(loop->inputs);
    const rpo_optimizer_state optimizer = rpo_optimizer_state_of(loop->optimizer, loop->train.model);
    rpo_text warnings = {0};
    RPO_TRY(rpo_run_folder_still_held(config, loop->lock));
    RPO_TRY(rpo_metrics_sync(loop->metrics));
    loop->state->metrics_bytes = rpo_metrics_bytes(loop->metrics);
    const rpo_status status = rpo_checkpoint_save(config->run.dir, loop->train.model, &optimizer, loop->state,
                                                  config->train.keep_checkpoints, &extras, &warnings);
    rpo_metrics_warn_lines(loop->metrics, &warnings);
    rpo_text_free(&warnings);
    return status;
}

static rpo_status save(rpo_loop *loop, loop_memory *memory) {
    if (memory->saved_step == loop->state->step)
        return RPO_OK;
    RPO_TRY(rpo_comm_agree(loop->train.comm, loop->train.comm->rank == 0 ? save_checkpoint(loop) : RPO_OK));
    memory->saved_step = loop->state->step;
    return RPO_OK;
}

/* Did a signal reach any rank? */
static rpo_status check_stop(const rpo_loop *loop) {
    return rpo_comm_agree(loop->train.comm, rpo_signals_check());
}

/* Saves what is there, then reports the stop again: saving may have set another message. */
static rpo_status stop(rpo_loop *loop, loop_memory *memory) {
    rpo_metrics_progress_end(loop->metrics);
    RPO_TRY(save(loop, memory));
    if (rpo_signals_check() == RPO_OK) /* another rank had the signal */
        (void)rpo_error_set(RPO_ERROR_INTERRUPTED, "stopped");
    return rpo_error_set(RPO_ERROR_INTERRUPTED,
                         "%s: %s is saved up to step %lld; --resume continues from there", rpo_last_error(),
                         loop->inputs->config->run.dir, (long long)loop->state->step);
}

static rpo_status evaluate_if_due(rpo_loop *loop) {
    rpo_trainer_state *state = loop->state;
    const bool due =
        state->eval_pending || is_last(loop) || is_due(state->step, loop->inputs->config->train.eval_every);
    if (loop->eval.dataset == NULL || !due)
        return RPO_OK;
    state->eval_pending = true; /* until its row is written */
    RPO_TRY(evaluate(loop));
    state->eval_pending = false;
    return RPO_OK;
}

static rpo_status run_steps(rpo_loop *loop, loop_memory *memory) {
    const rpo_config *config = loop->inputs->config;
    if (loop->state->step == 0 && loop->eval.dataset != NULL)
        RPO_TRY(evaluate(loop));
    if (loop->state->eval_pending) {
        const rpo_status status = evaluate_if_due(loop);
        if (status == RPO_ERROR_INTERRUPTED)
            return stop(loop, memory);
        RPO_TRY(status);
        memory->saved_step = -1; /* the checkpoint that resumed here still has the evaluation pending */
    }
    while (!is_last(loop)) {
        RPO_TRY(train_step(loop, memory));
        rpo_status status = check_stop(loop);
        if (status == RPO_OK || is_last(loop))
            status = evaluate_if_due(loop);
        else if (loop->eval.dataset != NULL)
            loop->state->eval_pending = is_due(loop->state->step, config->train.eval_every);
        if (status == RPO_ERROR_INTERRUPTED)
            return stop(loop, memory);
        RPO_TRY(status);
        if (is_due(loop->state->step, config->train.save_every))
            RPO_TRY(save(loop, memory));
    }
    rpo_metrics_progress_end(loop->metrics);
    return save(loop, memory);
}

static rpo_status open_step(const rpo_loop *loop, rpo_step *step) {
    RPO_TRY(rpo_step_open(step, &loop->train, loop->optimizer));
    return rpo_step_begin(step, loop->state->updates);
}

rpo_status rpo_loop_run(rpo_loop *loop) {
    loop_memory memory = {.order_epoch = -1, .saved_step = loop->state->step > 0 ? loop->state->step : -1};
    begin_watch(loop);
    rpo_status status = rpo_comm_agree(loop->train.comm, open_step(loop, &memory.step));
    if (status == RPO_OK)
        status = run_steps(loop, &memory);
    rpo_metrics_progress_end(loop->metrics);
    rpo_free(memory.order);
    rpo_step_close(&memory.step);
    return status;
}
