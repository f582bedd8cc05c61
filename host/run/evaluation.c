/* evaluation.c - held-out figures of a model, no training, nothing written. */
#include <math.h>

#include "core/signals.h"
#include "host/run/inputs.h"
#include "host/run/report.h"
#include "host/run/run.h"
#include "host/train/evaluate.h"
#include "host/train/reference.h"

typedef struct evaluation {
    const rpo_config *config;
    rpo_comm *comm;
    rpo_inputs inputs;
    rpo_scores reference;
    rpo_metrics *metrics;
} evaluation;

/* The frozen model's log-probs of the held-out data; its memory is gone again before the policy runs. */
static rpo_status score_reference(evaluation *run) {
    rpo_model *model = NULL;
    char hash[33];
    bool from_cache = false;
    if (run->config->reference.path != NULL)
        RPO_TRY(rpo_inputs_load_model(&run->inputs, &model, "reference.path", run->config->reference.path));
    rpo_reference reference = {
        .comm = run->comm,
        .model = model != NULL ? model : run->inputs.model,
        .model_hash = hash,
        .micro_batch_tokens = run->inputs.micro_batch_tokens,
        .seed = run->config->run.seed,
        .metrics = run->metrics,
    };
    rpo_status status = rpo_model_hash(reference.model, hash);
    if (status == RPO_OK)
        status = rpo_reference_scores(&run->reference, &from_cache, &reference, run->inputs.eval);
    rpo_model_free(model);
    return status;
}

static rpo_metrics_row row_of(const rpo_figures *figures, int64_t tokens, double seconds) {
    rpo_metrics_row row = rpo_metrics_row_empty();
    row.is_eval = true;
    row.epoch = NAN; /* there is none */
    row.figures = *figures;
    row.tokens = tokens;
    row.seconds = seconds;
    row.tokens_per_second = (double)tokens / fmax(seconds, 1e-9);
    return row;
}

static rpo_status evaluate(evaluation *run, rpo_text *json) {
    const rpo_config *config = run->config;
    if (config->data.eval.count == 0)
        return rpo_config_fault(config, "data.eval", "is empty; rpo eval needs held-out files");
    RPO_TRY(rpo_inputs_open(&run->inputs, config, run->comm, false));
    RPO_TRY(rpo_inputs_embed(&run->inputs, NULL));
    if (run->comm->rank == 0)
        RPO_TRY(rpo_metrics_open(&run->metrics, NULL, 0));
    rpo_report_eval_opening(run->metrics, &run->inputs);
    rpo_objective objective =
        rpo_inputs_objective(&run->inputs, run->inputs.eval, &run->inputs.eval_embeddings);
    if (config->loss.kind != RPO_LOSS_SFT) {
        RPO_TRY(score_reference(run));
        objective.reference = &run->reference;
        rpo_metrics_say(run->metrics, "reference  %s",
                        config->reference.path != NULL ? config->reference.path : "the model itself");
    }
    rpo_figures figures;
    int64_t tokens = 0;
    const double start = rpo_now();
    RPO_TRY(rpo_evaluate(&figures, &tokens, &objective, run->metrics));
    const rpo_metrics_row row = row_of(&figures, tokens, rpo_now() - start);
    rpo_report_figures(run->metrics, &figures);
    return rpo_metrics_row_to_json(&row, json);
}

rpo_status rpo_run_evaluation(const rpo_config *config, rpo_comm *comm, rpo_text *json) {
    evaluation run = {.config = config, .comm = comm};
    rpo_signals signals;
    rpo_signals_catch(&signals);
    const rpo_status status = evaluate(&run, json);
    rpo_signals_release(&signals);
    rpo_metrics_close(run.metrics);
    rpo_scores_free(&run.reference);
    rpo_inputs_close(&run.inputs);
    return status;
}
