/* row.c - one row of metrics.jsonl: the figures of the table, then what the step cost. The key names are a contract. */
#include <math.h>

#include "core/json.h"
#include "host/metrics/metrics.h"

rpo_metrics_row rpo_metrics_row_empty(void) {
    return (rpo_metrics_row){
        .figures = rpo_figures_empty(),
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

rpo_status rpo_metrics_figures_to_json(const rpo_figures *figures, bool is_eval, rpo_text *text) {
    size_t count = 0;
    const rpo_figure *table = rpo_figure_table(&count);
    const char *prefix = is_eval ? "eval_" : "";
    for (size_t i = 0; i < count; ++i)
        RPO_TRY(append_figure(text, prefix, table[i].key, rpo_figure_value(figures, &table[i])));
    return RPO_OK;
}

rpo_status rpo_metrics_row_to_json(const rpo_metrics_row *row, rpo_text *text) {
    const char *prefix = row->is_eval ? "eval_" : "";
    RPO_TRY(rpo_text_printf(text, "{\"step\": %lld", (long long)row->step));
    RPO_TRY(append_figure(text, "", "epoch", row->epoch));
    RPO_TRY(rpo_metrics_figures_to_json(&row->figures, row->is_eval, text));
    RPO_TRY(append_figure(text, prefix, "grad_norm", row->grad_norm));
    RPO_TRY(append_figure(text, prefix, "learning_rate", row->learning_rate));
    RPO_TRY(append_count(text, prefix, "tokens", row->tokens));
    RPO_TRY(append_figure(text, prefix, "seconds", row->seconds));
    RPO_TRY(append_figure(text, prefix, "tokens_per_second", row->tokens_per_second));
    if (row->figures.empty_blocks > 0)
        RPO_TRY(append_count(text, prefix, "empty_blocks", row->figures.empty_blocks));
    if (row->time != 0) {
        char time[RPO_UTC_SIZE];
        RPO_TRY(rpo_text_printf(text, ", \"time\": \"%s\"", rpo_utc_text(time, row->time)));
    }
    return rpo_text_append(text, "}", 1);
}
