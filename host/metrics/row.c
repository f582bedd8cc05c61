/* row.c - one row of metrics.jsonl. The key names are a contract; people's scripts read them. */
#include <math.h>

#include "core/json.h"
#include "host/metrics/metrics.h"

rpo_metrics_row rpo_metrics_row_empty(void) {
    return (rpo_metrics_row){
        .loss = NAN,
        .rewards_chosen = NAN,
        .rewards_rejected = NAN,
        .rewards_accuracies = NAN,
        .rewards_margins = NAN,
        .logps_chosen = NAN,
        .logps_rejected = NAN,
        .grad_norm = NAN,
        .learning_rate = NAN,
        .seconds = NAN,
        .tokens_per_second = NAN,
    };
}

static rpo_status append_figure(rpo_text *text, const char *prefix, const char *key, double value) {
    if (!isfinite(value))
        return RPO_OK;
    RPO_TRY(rpo_text_printf(text, ", \"%s%s\": ", prefix, key));
    return rpo_json_append_number(text, value);
}

static rpo_status append_count(rpo_text *text, const char *prefix, const char *key, int64_t value) {
    return rpo_text_printf(text, ", \"%s%s\": %lld", prefix, key, (long long)value);
}

rpo_status rpo_metrics_row_to_json(const rpo_metrics_row *row, rpo_text *text) {
    const char *prefix = row->is_eval ? "eval_" : "";
    RPO_TRY(rpo_text_printf(text, "{\"step\": %lld", (long long)row->step));
    RPO_TRY(append_figure(text, "", "epoch", row->epoch));
    RPO_TRY(append_figure(text, prefix, "loss", row->loss));
    RPO_TRY(append_figure(text, prefix, "rewards/chosen", row->rewards_chosen));
    RPO_TRY(append_figure(text, prefix, "rewards/rejected", row->rewards_rejected));
    RPO_TRY(append_figure(text, prefix, "rewards/accuracies", row->rewards_accuracies));
    RPO_TRY(append_figure(text, prefix, "rewards/margins", row->rewards_margins));
    RPO_TRY(append_figure(text, prefix, "logps/chosen", row->logps_chosen));
    RPO_TRY(append_figure(text, prefix, "logps/rejected", row->logps_rejected));
    RPO_TRY(append_figure(text, prefix, "grad_norm", row->grad_norm));
    RPO_TRY(append_figure(text, prefix, "learning_rate", row->learning_rate));
    RPO_TRY(append_count(text, prefix, "tokens", row->tokens));
    RPO_TRY(append_figure(text, prefix, "seconds", row->seconds));
    RPO_TRY(append_figure(text, prefix, "tokens_per_second", row->tokens_per_second));
    if (row->empty_blocks > 0)
        RPO_TRY(append_count(text, prefix, "empty_blocks", row->empty_blocks));
    return rpo_text_append(text, "}", 1);
}
