/* evaluation.c - held-out figures of a model, of each file and together; no training, nothing written. */
#include <math.h>
#include <string.h>

#include "core/json.h"
#include "core/signals.h"
#include "host/run/inputs.h"
#include "host/run/report.h"
#include "host/run/run.h"
#include "host/train/evaluate.h"
#include "host/train/reference.h"

enum { CONFIG_LIMIT = 16 << 20 };

typedef struct evaluation {
    const rpo_config *config; /* as it was loaded: it says what the reference is */
    rpo_config subject;       /* the same with the model that is evaluated; shares the memory of `config` */
    const char *run_folder;   /* whose final model that is; NULL: config's own model */
    char *final_path;
    rpo_comm *comm;
    rpo_inputs inputs;
    rpo_scores reference;
    rpo_evaluation_part *parts; /* [data.eval.count] of each file */
    rpo_metrics *metrics;
} evaluation;

/* ---- the model that is evaluated ---- */

static rpo_status choose_subject(evaluation *run) {
    run->subject = *run->config;
    if (run->run_folder == NULL)
        return RPO_OK;
    run->final_path = rpo_path_join(run->run_folder, "final");
    if (run->final_path == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    if (!rpo_path_is_folder(run->final_path))
        return rpo_error_set(
            RPO_ERROR_INVALID_INPUT,
            "%s: is missing, so the run has not ended; finish it with rpo train --resume, or evaluate a "
            "checkpoint with rpo eval CONFIG.json --set model.path=%s/checkpoints/step-N",
            run->final_path, run->run_folder);
    run->subject.model.path = run->final_path;
    run->subject.model.has_init = false;
    return RPO_OK;
}

/* ---- the reference ---- */

/* What the run's records say about its reference; *hash "" where they say nothing, or where it was overridden. */
static rpo_status read_own_reference(const evaluation *run, char hash[33]) {
    rpo_json *json = NULL;
    char *path = rpo_path_join(run->run_folder, "config.json");
    hash[0] = '\0';
    if (path == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    rpo_status status = rpo_json_read_file(&json, path, CONFIG_LIMIT);
    rpo_free(path);
    RPO_TRY(status);
    const cJSON *root = rpo_json_root(json);
    const cJSON *records = cJSON_GetObjectItemCaseSensitive(root, RPO_CONFIG_RECORD);
    const cJSON *last =
        cJSON_IsArray(records) ? cJSON_GetArrayItem(records, cJSON_GetArraySize(records) - 1) : NULL;
    const char *recorded = cJSON_GetStringValue(
        cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(last, "hashes"), "reference"));
    const char *began_with = cJSON_GetStringValue(
        cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(root, "reference"), "path"));
    const char *now = run->config->reference.path;
    const bool same = now == NULL ? began_with == NULL : began_with != NULL && strcmp(now, began_with) == 0;
    if (same && recorded != NULL && strlen(recorded) == 32)
        memcpy(hash, recorded, 33);
    rpo_json_free(json);
    return RPO_OK;
}

/* Key of the model that the reference is, and how a person calls it. */
typedef struct reference_name {
    const char *key, *text;
} reference_name;

static reference_name name_reference(const evaluation *run) {
    const rpo_config *config = run->config;
    if (config->reference.path != NULL)
        return (reference_name){"reference.path", config->reference.path};
    if (run->run_folder == NULL)
        return (reference_name){NULL, "the model itself"};
    if (config->model.path != NULL)
        return (reference_name){"model.path", config->model.path};
    return (reference_name){"model.init", "the fresh model that the run began with"};
}

/* No model: the one that is evaluated is its own reference. */
static rpo_status load_reference(const evaluation *run, rpo_frozen_model *frozen) {
    const reference_name name = name_reference(run);
    *frozen = (rpo_frozen_model){0};
    if (name.key == NULL)
        return RPO_OK;
    if (strcmp(name.key, "model.init") == 0)
        return rpo_inputs_create_frozen(&run->inputs, frozen);
    return rpo_inputs_load_frozen(&run->inputs, frozen, name.key, name.text);
}

static rpo_status check_own_reference(const evaluation *run, const char *hash) {
    char own[33];
    if (run->run_folder == NULL)
        return RPO_OK;
    RPO_TRY(read_own_reference(run, own));
    if (own[0] == '\0' || strcmp(own, hash) == 0)
        return RPO_OK;
    return rpo_config_fault(
        run->config, name_reference(run).key,
        "its weights are not those the run in %s had as its reference; put them back, or name another "
        "reference with --set reference.path=FOLDER",
        run->run_folder);
}

/* The frozen model's log-probs of the held-out data; its memory is gone again before the policy runs. */
static rpo_status score_reference(evaluation *run) {
    rpo_frozen_model frozen = {0};
    rpo_reference_report report;
    char hash[33];
    RPO_TRY(load_reference(run, &frozen));
    rpo_model *model = frozen.model != NULL ? frozen.model : run->inputs.model;
    const rpo_reference reference = {
        .scoring = rpo_inputs_scoring(&run->inputs, model, run->inputs.eval),
        .model_hash = hash,
        .seed = run->config->run.seed,
        .metrics = run->metrics,
    };
    rpo_status status = rpo_model_hash(model, hash);
    if (status == RPO_OK)
        status = check_own_reference(run, hash);
    if (status == RPO_OK)
        status = rpo_reference_scores(&run->reference, &report, &reference, NULL, 0);
    rpo_frozen_model_free(&frozen);
    return status;
}

/* ---- figures ---- */

/* Records of a file stand together, in the order of the files. */
static rpo_status divide_by_file(evaluation *run) {
    const size_t files = run->config->data.eval.count;
    run->parts = rpo_calloc_array(files, sizeof *run->parts);
    if (run->parts == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    for (int64_t i = 0; i < rpo_dataset_size(run->inputs.eval); ++i)
        ++run->parts[rpo_dataset_record(run->inputs.eval, i)->file].count;
    for (size_t file = 1; file < files; ++file)
        run->parts[file].first = run->parts[file - 1].first + run->parts[file - 1].count;
    return RPO_OK;
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

/* A file that is named twice is one member: its figures are the same both times. */
static bool named_before(const rpo_string_list *files, size_t file) {
    for (size_t i = 0; i < file; ++i)
        if (strcmp(files->items[i], files->items[file]) == 0)
            return true;
    return false;
}

/* {"step": 0, "eval_loss": ..., "files": {"a.jsonl": {"records": 18, "eval_loss": ...}}} */
static rpo_status write_json(const evaluation *run, const rpo_metrics_row *row, rpo_text *json) {
    const rpo_string_list *files = &run->config->data.eval;
    RPO_TRY(rpo_metrics_row_to_json(row, json));
    json->length -= strlen("}"); /* the row goes on */
    const char *separator = ", \"files\": {";
    for (size_t file = 0; file < files->count; ++file) {
        if (named_before(files, file))
            continue;
        RPO_TRY(rpo_text_printf(json, "%s", separator));
        RPO_TRY(rpo_json_append_string(json, files->items[file]));
        RPO_TRY(rpo_text_printf(json, ": {\"records\": %lld", (long long)run->parts[file].count));
        RPO_TRY(rpo_metrics_figures_to_json(&run->parts[file].figures, true, json));
        RPO_TRY(rpo_text_append(json, "}", 1));
        separator = ", ";
    }
    return rpo_text_append(json, "}}", 2);
}

static rpo_status evaluate(evaluation *run, rpo_text *json) {
    if (run->config->data.eval.count == 0)
        return rpo_config_fault(run->config, "data.eval", "is empty; rpo eval needs held-out files");
    RPO_TRY(choose_subject(run));
    RPO_TRY(rpo_inputs_open(&run->inputs, &run->subject, run->comm, RPO_INPUTS_EVALUATE));
    RPO_TRY(rpo_inputs_embed(&run->inputs, NULL));
    if (run->comm->rank == 0)
        RPO_TRY(rpo_metrics_open(&run->metrics, NULL, 0));
    rpo_report_eval_opening(run->metrics, &run->inputs);
    rpo_objective objective =
        rpo_inputs_objective(&run->inputs, run->inputs.eval, &run->inputs.eval_embeddings);
    if (run->config->loss.kind != RPO_LOSS_SFT) {
        RPO_TRY(score_reference(run));
        objective.reference = &run->reference;
        rpo_metrics_say(run->metrics, "reference  %s", name_reference(run).text);
    }
    rpo_figures figures;
    int64_t tokens = 0;
    const double start = rpo_now();
    const size_t files = run->config->data.eval.count;
    /* A model that is its own reference has been scored already. */
    const rpo_scores *known = name_reference(run).key == NULL ? objective.reference : NULL;
    RPO_TRY(divide_by_file(run));
    RPO_TRY(rpo_evaluate_parts(&figures, &tokens, run->parts, files, &objective, known, run->metrics));
    const rpo_metrics_row row = row_of(&figures, tokens, rpo_now() - start);
    if (files > 1)
        rpo_report_files(run->metrics, &run->config->data.eval, run->parts, &figures);
    rpo_report_figures(run->metrics, &figures);
    return write_json(run, &row, json);
}

rpo_status rpo_run_evaluation(const rpo_config *config, const char *run_folder, rpo_comm *comm,
                              rpo_text *json) {
    evaluation run = {.config = config, .run_folder = run_folder, .comm = comm};
    rpo_signals signals;
    rpo_signals_catch(&signals);
    const rpo_status status = evaluate(&run, json);
    rpo_signals_release(&signals);
    rpo_metrics_close(run.metrics);
    rpo_free(run.parts);
    rpo_scores_free(&run.reference);
    rpo_inputs_close(&run.inputs);
    rpo_free(run.final_path);
    return status;
}
