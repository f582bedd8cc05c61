/* evaluate.c - forwards over a whole dataset: held-out figures and the reference pass. */
#include "host/train/evaluate.h"

#include <stdio.h>

#include "host/train/signals.h"

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

rpo_status rpo_evaluate(rpo_figures *figures, int64_t *tokens, const rpo_task *task, rpo_metrics *metrics) {
    rpo_task_memory memory = {0};
    progress shown = {metrics, "evaluate", rpo_now()};
    rpo_status status = rpo_task_prepare(task, &memory, NULL, rpo_dataset_size(task->dataset));
    if (status != RPO_OK)
        goto cleanup;
    *tokens = memory.scope.num_tokens;
    status =
        rpo_scope_forward(&memory.scope, task->model, &memory.batch, memory.policy, show_progress, &shown);
    status = rpo_scope_gather(&memory.scope, task->comm, memory.policy, status);
    if (status != RPO_OK)
        goto cleanup;
    if (rpo_task_is_sft(task))
        rpo_likelihood_figures(figures, &memory.scope, memory.policy);
    else
        status = rpo_contrast_blocks(figures, NULL, task->context, &memory.scope, memory.policy,
                                     memory.reference, task->embeddings, &task->contrast);

cleanup:
    rpo_metrics_progress_end(metrics);
    rpo_task_memory_free(&memory);
    return status;
}

rpo_status rpo_score_dataset(rpo_scores *scores, rpo_comm *comm, rpo_model *model, const rpo_dataset *dataset,
                             int64_t micro_batch_tokens, rpo_metrics *metrics, const char *phase) {
    rpo_scope scope = {0};
    rpo_batch batch = {0};
    float *logps = NULL;
    const rpo_scope_options options = {.micro_batch_tokens = micro_batch_tokens};
    progress shown = {metrics, phase, rpo_now()};
    rpo_status status = rpo_scope_build(&scope, comm, dataset, NULL, rpo_dataset_size(dataset), &options);
    if (status != RPO_OK)
        goto cleanup;
    logps = rpo_alloc_array((size_t)scope.num_sequences, sizeof *logps);
    if (logps == NULL) {
        status = RPO_ERROR_OUT_OF_MEMORY;
        goto cleanup;
    }
    status = rpo_scope_forward(&scope, model, &batch, logps, show_progress, &shown);
    status = rpo_scope_gather(&scope, comm, logps, status);
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
    rpo_scope_free(&scope);
    return status;
}
