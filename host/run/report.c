/* report.c - opening lines and closing table. */
#include "host/run/report.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/threads.h"
#include "kernels/op_table.h"

static void say_model(rpo_metrics *metrics, const rpo_inputs *inputs) {
    const rpo_model_config *model = rpo_model_get_config(inputs->model);
    char parameters[RPO_FIGURE_SIZE], vocabulary[RPO_FIGURE_SIZE];
    const int threads = rpo_context_num_threads(inputs->context);
    rpo_metrics_say(metrics, "model      %s parameters: %lld layers, %lld wide, vocabulary %s, %s",
                    rpo_figure_count(parameters, rpo_tensor_table_elements(rpo_model_tensors(inputs->model))),
                    (long long)model->num_hidden_layers, (long long)model->hidden_size,
                    rpo_figure_count(vocabulary, model->vocab_size),
                    inputs->config->model.path != NULL ? inputs->config->model.path : "freshly initialised");
    rpo_metrics_say(metrics, "device     %s, %d thread%s, %s", inputs->context->backend->name, threads,
                    threads == 1 ? "" : "s", rpo_dtype_name(RPO_FLOAT32));
    if (inputs->config->run.threads == 0 && omp_get_max_threads() > threads)
        rpo_metrics_warn(metrics, "OMP_NUM_THREADS: asks for %d threads; %d are as many as are of use here",
                         omp_get_max_threads(), threads);
}

static void say_faults(rpo_metrics *metrics, const rpo_data_report *report, const char *what) {
    char figure[RPO_FIGURE_SIZE], other[RPO_FIGURE_SIZE];
    if (report->truncated_prompts > 0 || report->truncated_responses > 0)
        rpo_metrics_say(metrics, "           %s: %s prompts and %s responses cut to data.max_length", what,
                        rpo_figure_count(figure, report->truncated_prompts),
                        rpo_figure_count(other, report->truncated_responses));
    if (report->duplicates > 0)
        rpo_metrics_warn(metrics,
                         "%s: %s records whose chosen and rejected responses are equal; they are kept", what,
                         rpo_figure_count(figure, report->duplicates));
    if (report->skipped > 0)
        rpo_metrics_warn(metrics, "%s: %s bad records skipped; the first: %s", what,
                         rpo_figure_count(figure, report->skipped), report->first_skipped);
}

static void say_dataset(rpo_metrics *metrics, const rpo_dataset *dataset, const char *label,
                        const char *what) {
    const rpo_data_report *report = rpo_dataset_report(dataset);
    char records[RPO_FIGURE_SIZE], tokens[RPO_FIGURE_SIZE], labels[RPO_FIGURE_SIZE];
    rpo_metrics_say(metrics, "%-10s %s %s, %s tokens, %s of them responses", label,
                    rpo_figure_count(records, rpo_dataset_size(dataset)),
                    rpo_dataset_is_paired(dataset) ? "pairs" : "unpaired records",
                    rpo_figure_count(tokens, report->tokens), rpo_figure_count(labels, report->label_tokens));
    say_faults(metrics, report, what);
}

static void say_embeddings(rpo_metrics *metrics, const rpo_inputs *inputs) {
    const rpo_embeddings *sets[2] = {&inputs->train_embeddings, &inputs->eval_embeddings};
    for (int i = 0; i < 2; ++i)
        if (sets[i]->rows != NULL && sets[i]->warning[0] != '\0')
            rpo_metrics_warn(metrics, "%s", sets[i]->warning);
}

static void say_loss(rpo_metrics *metrics, const rpo_config *config) {
    const char *name = rpo_loss_kind_name(config->loss.kind);
    if (config->loss.kind == RPO_LOSS_SFT) {
        rpo_metrics_say(metrics, "loss       %s", name);
        return;
    }
    if (config->loss.contrast_block > 0)
        rpo_metrics_say(metrics, "loss       %s, beta %g, contrast blocks of %lld pairs", name,
                        config->loss.beta, (long long)config->loss.contrast_block);
    else
        rpo_metrics_say(metrics, "loss       %s, beta %g, contrast over the whole batch", name,
                        config->loss.beta);
}

void rpo_report_opening(rpo_metrics *metrics, const rpo_inputs *inputs, const rpo_schedule *schedule) {
    const rpo_config *config = inputs->config;
    char steps[RPO_FIGURE_SIZE];
    rpo_metrics_say(metrics, "run        %s", config->run.dir);
    say_model(metrics, inputs);
    say_dataset(metrics, inputs->train, "data", "data.train");
    if (inputs->eval != NULL)
        say_dataset(metrics, inputs->eval, "held out", "data.eval");
    say_embeddings(metrics, inputs);
    say_loss(metrics, config);
    rpo_metrics_say(metrics, "schedule   %s steps of %lld %s, %s, learning rate %g after %lld warm-up steps",
                    rpo_figure_count(steps, schedule->steps), (long long)schedule->records_a_step,
                    rpo_dataset_is_paired(inputs->train) ? "pairs" : "records",
                    rpo_optimizer_kind_name(config->train.optimizer), config->train.learning_rate,
                    (long long)config->train.warmup_steps);
}

void rpo_report_eval_opening(rpo_metrics *metrics, const rpo_inputs *inputs) {
    say_model(metrics, inputs);
    say_dataset(metrics, inputs->eval, "held out", "data.eval");
    say_embeddings(metrics, inputs);
    say_loss(metrics, inputs->config);
}

static void say_closing_table(rpo_metrics *metrics, const rpo_figures *before, const rpo_figures *after) {
    size_t count = 0;
    const rpo_figure *table = rpo_figure_table(&count);
    char left[RPO_FIGURE_SIZE], right[RPO_FIGURE_SIZE];
    for (size_t i = 0; i < count; ++i) {
        const double first = rpo_figure_value(before, &table[i]), last = rpo_figure_value(after, &table[i]);
        if (table[i].closing && (isfinite(first) || isfinite(last)))
            rpo_metrics_say(metrics, "  %-24s %12s %12s", table[i].name,
                            rpo_figure_text(left, &table[i], first), rpo_figure_text(right, &table[i], last));
    }
}

void rpo_report_closing(rpo_metrics *metrics, const rpo_inputs *inputs, const rpo_trainer_state *state,
                        const char *model_folder) {
    char steps[RPO_FIGURE_SIZE], tokens[RPO_FIGURE_SIZE], time[RPO_FIGURE_SIZE], rate[RPO_FIGURE_SIZE];
    rpo_metrics_say(metrics, "%s", "");
    rpo_metrics_say(metrics, "  %-24s %12s %12s",
                    inputs->eval != NULL ? "held out" : "training batch (first, last)", "before", "after");
    say_closing_table(metrics, &state->before, &state->latest);
    if (state->latest.rewards_chosen < state->before.rewards_chosen &&
        state->latest.rewards_margins > state->before.rewards_margins)
        rpo_metrics_say(
            metrics,
            "  (chosen responses became less likely, rejected ones even less: usual for losses that compare\n"
            "  the two, since they reward the distance and hold neither in its place)");
    if (state->before.rewards_margins == 0 && state->before.rewards_accuracies == 0)
        rpo_metrics_say(metrics,
                        "  (before training the policy is its own reference: all rewards are 0, none wins)");
    rpo_metrics_say(metrics, "%s", "");
    rpo_metrics_say(metrics, "trained    %s steps, %s tokens in %s: %s tokens/s",
                    rpo_figure_count(steps, state->step), rpo_figure_count(tokens, state->tokens),
                    rpo_figure_time(time, state->seconds),
                    rpo_figure_count(rate, (int64_t)((double)state->tokens / fmax(state->seconds, 1e-9))));
    if (model_folder != NULL)
        rpo_metrics_say(metrics, "model      %s", model_folder);
}

enum { FILE_WIDTH = 30 };

/* One line: a name, of which a long one's end is shown, and a cell for each figure of the closing table that there is. */
static rpo_status append_file_line(rpo_text *line, const char *name, const rpo_figures *figures,
                                   const rpo_figures *together) {
    size_t count = 0;
    const rpo_figure *table = rpo_figure_table(&count);
    const size_t length = strlen(name);
    const bool is_long = length > FILE_WIDTH;
    RPO_TRY(rpo_text_printf(line, "  %s%-*s", is_long ? "..." : "", is_long ? FILE_WIDTH - 3 : FILE_WIDTH,
                            is_long ? name + length - (FILE_WIDTH - 3) : name));
    for (size_t i = 0; i < count; ++i) {
        char text[RPO_FIGURE_SIZE];
        if (!table[i].closing || !isfinite(rpo_figure_value(together, &table[i])))
            continue;
        const int width = (int)strlen(table[i].name) > 10 ? (int)strlen(table[i].name) : 10;
        const char *cell = figures == NULL
                               ? table[i].name
                               : rpo_figure_text(text, &table[i], rpo_figure_value(figures, &table[i]));
        RPO_TRY(rpo_text_printf(line, "  %*s", width, cell));
    }
    return RPO_OK;
}

/* `figures` NULL: the head. A line that memory is lacking for is left out: the figures stand in the result as well. */
static void say_file_line(rpo_metrics *metrics, const char *name, const rpo_figures *figures,
                          const rpo_figures *together) {
    rpo_text line = {0};
    if (append_file_line(&line, name, figures, together) == RPO_OK)
        rpo_metrics_say(metrics, "%s", line.data);
    rpo_text_free(&line);
}

void rpo_report_files(rpo_metrics *metrics, const rpo_string_list *files, const rpo_evaluation_part *parts,
                      const rpo_figures *together) {
    rpo_metrics_say(metrics, "%s", "");
    say_file_line(metrics, "held out", NULL, together);
    for (size_t file = 0; file < files->count; ++file)
        say_file_line(metrics, files->items[file], &parts[file].figures, together);
    say_file_line(metrics, "together", together, together);
}

void rpo_report_figures(rpo_metrics *metrics, const rpo_figures *figures) {
    size_t count = 0;
    const rpo_figure *table = rpo_figure_table(&count);
    char text[RPO_FIGURE_SIZE];
    rpo_metrics_say(metrics, "%s", "");
    for (size_t i = 0; i < count; ++i) {
        const double value = rpo_figure_value(figures, &table[i]);
        if (isfinite(value))
            rpo_metrics_say(metrics, "  %-24s %12s", table[i].name, rpo_figure_text(text, &table[i], value));
    }
}
