/* evaluate.c - forwards over a whole dataset: held-out figures and the reference pass. */
#include "host/train/evaluate.h"

#include <stdio.h>

#include "core/signals.h"

typedef struct progress {
    rpo_metrics *metrics;
    const char *phase;
    double start;
} progress;

static rpo_status show_progress(void *user, int64_t done, int64_t total, int64_t tokens) {
    const progress *shown = user;
    const double seconds = rpo_now() - shown->start;
    char rate[RPO_FIGURE_SIZE], detail[64];
    snprintf(detail, sizeof detail, "%s tokens/s",
             rpo_figure_count(rate, (int64_t)((double)tokens / (seconds > 1e-6 ? seconds : 1e-6))));
    rpo_metrics_progress(shown->metrics, shown->phase, done, total, detail);
    return rpo_signals_check();
}

/* Figures of a scope whose log-probs are there. */
static rpo_status fill_figures(rpo_figures *figures, const rpo_objective *objective,
                               const rpo_global_batch *scope, const float *policy, const float *reference) {
    if (rpo_objective_is_sft(objective)) {
        rpo_likelihood_figures(figures, scope, policy);
        return RPO_OK;
    }
    return rpo_contrast_blocks(figures, NULL, objective->context, scope, policy, reference,
                               objective->embeddings, &objective->contrast);
}

/* Sequences stand in the order of their records, so a part's log-probs are a run of the whole's. */
static rpo_status evaluate_part(rpo_evaluation_part *part, const rpo_objective *objective,
                                const rpo_objective_memory *whole) {
    part->figures = rpo_figures_empty();
    if (part->count == 0)
        return RPO_OK;
    rpo_global_batch scope = {0};
    const rpo_global_batch_options options = {.micro_batch_tokens = objective->micro_batch_tokens,
                                              .chosen_only = rpo_objective_is_sft(objective)};
    int64_t *records = rpo_alloc_array((size_t)part->count, sizeof *records);
    rpo_status status = records == NULL ? RPO_ERROR_OUT_OF_MEMORY : RPO_OK;
    for (int64_t i = 0; status == RPO_OK && i < part->count; ++i)
        records[i] = part->first + i;
    if (status == RPO_OK)
        status = rpo_global_batch_build(&scope, objective->comm, objective->dataset, records, part->count,
                                        &options);
    int64_t start = 0;
    while (start < whole->scope.num_sequences && whole->scope.sequences[start].row < part->first)
        ++start;
    if (status == RPO_OK)
        status = fill_figures(&part->figures, objective, &scope, whole->policy + start,
                              whole->reference == NULL ? NULL : whole->reference + start);
    rpo_global_batch_free(&scope);
    rpo_free(records);
    return status;
}

rpo_status rpo_evaluate_parts(rpo_figures *figures, int64_t *tokens, rpo_evaluation_part *parts,
                              size_t num_parts, const rpo_objective *objective, rpo_metrics *metrics) {
    rpo_objective_memory memory = {0};
    progress shown = {metrics, "evaluate", rpo_now()};
    rpo_status status = rpo_objective_prepare(objective, &memory, NULL, rpo_dataset_size(objective->dataset));
    if (status != RPO_OK)
        goto cleanup;
    *tokens = memory.scope.num_tokens;
    status = rpo_global_batch_forward(&memory.scope, objective->model, &memory.batch, memory.policy,
                                      show_progress, &shown);
    status = rpo_global_batch_gather(&memory.scope, objective->comm, memory.policy, status);
    if (status == RPO_OK)
        status = fill_figures(figures, objective, &memory.scope, memory.policy, memory.reference);
    for (size_t i = 0; i < num_parts && status == RPO_OK; ++i)
        status = evaluate_part(&parts[i], objective, &memory);

cleanup:
    rpo_metrics_progress_end(metrics);
    rpo_objective_memory_free(&memory);
    return status;
}

rpo_status rpo_evaluate(rpo_figures *figures, int64_t *tokens, const rpo_objective *objective,
                        rpo_metrics *metrics) {
    return rpo_evaluate_parts(figures, tokens, NULL, 0, objective, metrics);
}

rpo_status rpo_score_dataset(rpo_scores *scores, rpo_comm *comm, rpo_model *model, const rpo_dataset *dataset,
                             int64_t micro_batch_tokens, rpo_metrics *metrics, const char *phase) {
    rpo_global_batch scope = {0};
    rpo_batch batch = {0};
    float *logps = NULL;
    const rpo_global_batch_options options = {.micro_batch_tokens = micro_batch_tokens};
    progress shown = {metrics, phase, rpo_now()};
    rpo_status status =
        rpo_global_batch_build(&scope, comm, dataset, NULL, rpo_dataset_size(dataset), &options);
    if (status != RPO_OK)
        goto cleanup;
    logps = rpo_alloc_array((size_t)scope.num_sequences, sizeof *logps);
    if (logps == NULL) {
        status = RPO_ERROR_OUT_OF_MEMORY;
        goto cleanup;
    }
    status = rpo_global_batch_forward(&scope, model, &batch, logps, show_progress, &shown);
    status = rpo_global_batch_gather(&scope, comm, logps, status);
    if (status != RPO_OK)
        goto cleanup;
    for (int64_t s = 0; s < scope.num_sequences; ++s) {
        float *side = scope.sequences[s].rejected ? scores->rejected : scores->chosen;
        side[scope.sequences[s].row] = logps[s];
    }

cleanup:
    rpo_metrics_progress_end(metrics);
    rpo_free(logps);
    rpo_batch_free(&batch);
    rpo_global_batch_free(&scope);
    return status;
}
