/* evaluate.c - passes over a dataset: held-out figures and the reference's log-probs. */
#include "host/train/evaluate.h"

#include <stdio.h>

#include "core/signals.h"

typedef struct progress {
    rpo_metrics *metrics;
    const char *phase;
    double start;
    int64_t done, total, tokens;
} progress;

static rpo_status show(progress *shown, const rpo_global_batch *batch) {
    const double seconds = rpo_now() - shown->start;
    char rate[RPO_FIGURE_SIZE], detail[64];
    shown->done += batch->num_rows;
    shown->tokens += batch->num_tokens;
    snprintf(detail, sizeof detail, "%s tokens/s",
             rpo_figure_count(rate, (int64_t)((double)shown->tokens / (seconds > 1e-6 ? seconds : 1e-6))));
    rpo_metrics_progress(shown->metrics, shown->phase, shown->done, shown->total, detail);
    return RPO_OK;
}

/* Did a signal reach any rank? All of them stop at the same batch. */
static rpo_status check_stop(const rpo_objective *objective) {
    return rpo_comm_agree(objective->comm, rpo_signals_check());
}

static float score_of(const rpo_scores *scores, const rpo_global_batch *batch, int64_t s) {
    const rpo_batch_sequence *sequence = &batch->sequences[s];
    return (sequence->rejected ? scores->rejected : scores->chosen)[batch->records[sequence->row]];
}

/* Puts log-probs that are known where forwards would have left them. */
static rpo_status place_known(rpo_desk *desk, const rpo_objective *objective, const rpo_scores *known) {
    float *placed = (float *)(void *)desk->plan.scratch;
    for (int64_t i = 0; i < desk->plan.num_places; ++i)
        placed[i] = score_of(known, &desk->batch, desk->plan.sequence_at[i]);
    return rpo_device_write(rpo_model_context(objective->model), desk->contrast.policy, placed, 0,
                            desk->plan.num_places);
}

/* Losses of the batch that is laid out. */
static rpo_status run_contrast(rpo_desk *desk, const rpo_objective *objective, const rpo_scores *known) {
    const rpo_memory *memory = rpo_model_memory(objective->model);
    rpo_status status = RPO_OK;
    if (known != NULL)
        RPO_TRY(place_known(desk, objective, known));
    else
        status = rpo_desk_score(desk, objective);
    for (int64_t g = 0; g < desk->plan.num_groups; ++g) {
        if (known == NULL)
            RPO_TRY(rpo_desk_gather_group(desk, objective, g, status));
        RPO_TRY(rpo_contrast_group_loss(&desk->contrast, &desk->plan, g, rpo_model_context(objective->model),
                                        &objective->contrast, memory->workspace, memory->workspace_bytes));
    }
    return status;
}

static rpo_status evaluate_contrast(rpo_figure_sums *sums, rpo_desk *desk, const rpo_objective *objective,
                                    const rpo_scores *known) {
    RPO_TRY(rpo_staging_upload(rpo_model_memory(objective->model)->plan));
    RPO_TRY(rpo_comm_agree(objective->comm, run_contrast(desk, objective, known)));
    RPO_TRY(rpo_desk_finish(desk, objective));
    rpo_contrast_sum(sums, &desk->contrast, &desk->plan);
    return RPO_OK;
}

static rpo_status evaluate_likelihood(rpo_figure_sums *sums, rpo_desk *desk, const rpo_objective *objective,
                                      const rpo_scores *known) {
    rpo_status status = RPO_OK;
    if (known == NULL) {
        status = rpo_staging_upload(rpo_model_memory(objective->model)->plan);
        if (status == RPO_OK)
            status = rpo_desk_score(desk, objective);
        if (status == RPO_OK)
            status = rpo_desk_finish(desk, objective);
        RPO_TRY(rpo_desk_collect(desk, objective, status));
    }
    for (int64_t s = 0; known != NULL && s < desk->batch.num_sequences; ++s)
        desk->sequence_logps[s] = score_of(known, &desk->batch, s);
    rpo_likelihood_sum(sums, &desk->batch, desk->sequence_logps);
    return RPO_OK;
}

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* Batch after batch of records [first, first + count). */
static rpo_status evaluate_range(rpo_figures *figures, rpo_desk *desk, const rpo_objective *objective,
                                 int64_t first, int64_t count, const rpo_scores *known, progress *shown) {
    const bool is_sft = rpo_objective_is_sft(objective);
    rpo_figure_sums sums = {0};
    for (int64_t at = 0; at < count; at += objective->rows_at_once) {
        RPO_TRY(
            rpo_desk_lay_out(desk, objective, NULL, first + at, least(objective->rows_at_once, count - at)));
        RPO_TRY(is_sft ? evaluate_likelihood(&sums, desk, objective, known)
                       : evaluate_contrast(&sums, desk, objective, known));
        RPO_TRY(show(shown, &desk->batch));
        RPO_TRY(check_stop(objective));
    }
    *figures = is_sft ? rpo_likelihood_figures(&sums) : rpo_contrast_figures(&sums);
    return RPO_OK;
}

rpo_status rpo_evaluate(rpo_figures *figures, int64_t *tokens, const rpo_objective *objective,
                        const rpo_scores *known, rpo_metrics *metrics) {
    const int64_t records = rpo_dataset_size(objective->dataset);
    progress shown = {.metrics = metrics, .phase = "evaluate", .start = rpo_now(), .total = records};
    rpo_desk desk;
    RPO_TRY(rpo_desk_open(&desk, objective));
    const rpo_status status = evaluate_range(figures, &desk, objective, 0, records, known, &shown);
    *tokens = shown.tokens;
    rpo_metrics_progress_end(metrics);
    rpo_desk_close(&desk);
    return status;
}

static rpo_status keep_scores(void *user, const rpo_global_batch *batch, const float *logps) {
    rpo_scores_keep(user, batch, logps);
    return RPO_OK;
}

/* Blocks of a part are not blocks of the whole, but the log-probs are the same: one pass gives them. */
static rpo_status score_all(rpo_scores *scores, const rpo_objective *objective, rpo_metrics *metrics) {
    rpo_objective scoring = *objective;
    scoring.scores_only = true;
    scoring.rows_at_once = rpo_objective_rows_of_pass(&scoring);
    RPO_TRY(rpo_scores_create(scores, rpo_dataset_size(objective->dataset)));
    return rpo_score_records(&scoring, NULL, scores->count, keep_scores, scores, metrics, "evaluate");
}

static rpo_status evaluate_parts(rpo_evaluation_part *parts, size_t num_parts, const rpo_objective *objective,
                                 const rpo_scores *known) {
    progress silent = {0};
    rpo_desk desk;
    RPO_TRY(rpo_desk_open(&desk, objective));
    rpo_status status = RPO_OK;
    for (size_t i = 0; i < num_parts && status == RPO_OK; ++i) {
        parts[i].figures = rpo_figures_empty();
        if (parts[i].count > 0)
            status = evaluate_range(&parts[i].figures, &desk, objective, parts[i].first, parts[i].count,
                                    known, &silent);
    }
    rpo_desk_close(&desk);
    return status;
}

rpo_status rpo_evaluate_parts(rpo_figures *figures, int64_t *tokens, rpo_evaluation_part *parts,
                              size_t num_parts, const rpo_objective *objective, const rpo_scores *known,
                              rpo_metrics *metrics) {
    rpo_scores scores = {0};
    rpo_status status = RPO_OK;
    if (known == NULL) {
        status = score_all(&scores, objective, metrics);
        known = &scores;
    }
    if (status == RPO_OK)
        status = rpo_evaluate(figures, tokens, objective, known, NULL);
    if (status == RPO_OK)
        status = evaluate_parts(parts, num_parts, objective, known);
    rpo_scores_free(&scores);
    return status;
}

static rpo_status score_batch(rpo_desk *desk, const rpo_objective *objective, const int64_t *records,
                              int64_t first, int64_t rows) {
    RPO_TRY(rpo_desk_lay_out(desk, objective, records == NULL ? NULL : records + first, first, rows));
    RPO_TRY(rpo_staging_upload(rpo_model_memory(objective->model)->plan));
    rpo_status status = rpo_desk_score(desk, objective);
    if (status == RPO_OK)
        status = rpo_desk_finish(desk, objective);
    return rpo_desk_collect(desk, objective, status);
}

rpo_status rpo_score_records(const rpo_objective *objective, const int64_t *records, int64_t count,
                             rpo_scored *scored, void *user, rpo_metrics *metrics, const char *phase) {
    const int64_t step = objective->rows_at_once;
    progress shown = {.metrics = metrics, .phase = phase, .start = rpo_now(), .total = count};
    rpo_desk desk;
    RPO_TRY(rpo_desk_open(&desk, objective));
    rpo_status status = RPO_OK;
    for (int64_t first = 0; first < count && status == RPO_OK; first += step) {
        status = score_batch(&desk, objective, records, first, least(step, count - first));
        if (status == RPO_OK)
            status = scored(user, &desk.batch, desk.sequence_logps);
        if (status == RPO_OK)
            status = show(&shown, &desk.batch);
        if (status == RPO_OK)
            status = check_stop(objective);
    }
    rpo_metrics_progress_end(metrics);
    rpo_desk_close(&desk);
    return status;
}
