/* eval_run.c - held-out figures of a model, no training, nothing written. */
#include <math.h>

#include "host/train/evaluate.h"
#include "host/train/job.h"
#include "host/train/reference.h"
#include "host/train/report.h"
#include "host/train/signals.h"

typedef struct evaluation {
    const rpo_config *config;
    rpo_comm *comm;
    rpo_job job;
    rpo_scores reference;
    rpo_metrics *metrics;
} evaluation;

/* The frozen model's log-probs of the held-out data; its memory is gone again before the policy runs. */
static rpo_status score_reference(evaluation *run) {
    rpo_model *model = NULL;
    char hash[33];
    bool from_cache = false;
    if (run->config->reference.path != NULL)
        RPO_TRY(rpo_job_load_model(&run->job, &model, "reference.path", run->config->reference.path));
    rpo_reference reference = {
        .comm = run->comm,
        .model = model != NULL ? model : run->job.model,
        .model_hash = hash,
        .micro_batch_tokens = run->job.micro_batch_tokens,
        .seed = run->config->run.seed,
        .metrics = run->metrics,
    };
    rpo_status status = rpo_model_hash(reference.model, hash);
    if (status == RPO_OK)
        status = rpo_reference_scores(&run->reference, &from_cache, &reference, run->job.eval);
    rpo_model_free(model);
    return status;
}

static rpo_metrics_row row_of(const rpo_figures *figures, int64_t tokens, double seconds) {
    rpo_metrics_row row = rpo_metrics_row_empty();
    row.is_eval = true;
    row.epoch = NAN; /* there is none */
    row.loss = figures->loss;
    row.rewards_chosen = figures->rewards_chosen;
    row.rewards_rejected = figures->rewards_rejected;
    row.rewards_accuracies = figures->rewards_accuracies;
    row.rewards_margins = figures->rewards_margins;
    row.logps_chosen = figures->logps_chosen;
    row.logps_rejected = figures->logps_rejected;
    row.empty_blocks = figures->empty_blocks;
    row.tokens = tokens;
    row.seconds = seconds;
    row.tokens_per_second = (double)tokens / fmax(seconds, 1e-9);
    return row;
}

static rpo_status evaluate(evaluation *run, rpo_text *json) {
    const rpo_config *config = run->config;
    if (config->data.eval.count == 0)
        return rpo_config_fault(config, "data.eval", "is empty; rpo eval needs held-out files");
    RPO_TRY(rpo_job_open(&run->job, config, run->comm, false));
    RPO_TRY(rpo_job_embed(&run->job, NULL));
    if (run->comm->rank == 0)
        RPO_TRY(rpo_metrics_open(&run->metrics, NULL, 0));
    rpo_report_eval_opening(run->metrics, &run->job);
    rpo_task task = rpo_job_task(&run->job, run->job.eval, &run->job.eval_embeddings);
    if (config->loss.kind != RPO_LOSS_SFT) {
        RPO_TRY(score_reference(run));
        task.reference = &run->reference;
        rpo_metrics_say(run->metrics, "reference  %s",
                        config->reference.path != NULL ? config->reference.path : "the model itself");
    }
    rpo_figures figures;
    int64_t tokens = 0;
    const double start = rpo_now();
    RPO_TRY(rpo_evaluate(&figures, &tokens, &task, run->metrics));
    const rpo_metrics_row row = row_of(&figures, tokens, rpo_now() - start);
    rpo_report_figures(run->metrics, &figures);
    return rpo_metrics_row_to_json(&row, json);
}

rpo_status rpo_eval_run(const rpo_config *config, rpo_comm *comm, rpo_text *json) {
    evaluation run = {.config = config, .comm = comm};
    rpo_signals signals;
    rpo_signals_catch(&signals);
    const rpo_status status = evaluate(&run, json);
    rpo_signals_release(&signals);
    rpo_metrics_close(run.metrics);
    rpo_scores_free(&run.reference);
    rpo_job_close(&run.job);
    return status;
}
