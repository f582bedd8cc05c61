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

rpo_status rpo_evaluate(rpo_figures *figures, int64_t *tokens, const rpo_objective *objective,
                        rpo_metrics *metrics) {
    rpo_objective_memory memory = {0};
    progress shown = {metrics, "evaluate", rpo_now()};
    rpo_status status = rpo_objective_prepare(objective, &memory, NULL, rpo_dataset_size(objective->dataset));
    if (status != RPO_OK)
        goto cleanup;
    *tokens = memory.scope.num_tokens;
    status = rpo_global_batch_forward(&memory.scope, objective->model, &memory.batch, memory.policy,
                                      show_progress, &shown);
    status = rpo_global_batch_gather(&memory.scope, objective->comm, memory.policy, status);
    if (status != RPO_OK)
        goto cleanup;
    if (rpo_objective_is_sft(objective))
        rpo_likelihood_figures(figures, &memory.scope, memory.policy);
    else
        status = rpo_contrast_blocks(figures, NULL, objective->context, &memory.scope, memory.policy,
                                     memory.reference, objective->embeddings, &objective->contrast);

cleanup:
    rpo_metrics_progress_end(metrics);
    rpo_objective_memory_free(&memory);
    return status;
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
