/*
 * main.c - rpo-bench: times the ops and a training step, each row with its correctness and its share of what
 * the machine was measured to be able to do.
 */
#include <stdio.h>
#include <string.h>

#include "bench/bench.h"
#include "core/startup.h"

typedef struct bench_entry {
    const char *name;
    bench_function function;
} bench_entry;

static const bench_entry entries[] = {
    {"contrast-loss", bench_contrast_loss},
    {"logprob-gather", bench_logprob_gather},
    {"logprob-gather-backward", bench_logprob_gather_backward},
    {"linear-logprob", bench_linear_logprob},
    {"linear-logprob-backward", bench_linear_logprob_backward},
    {"linear-logprob-backward-frozen", bench_linear_logprob_backward_frozen},
    {"training-step", bench_training_step},
};
enum { NUM_ENTRIES = sizeof entries / sizeof entries[0] };

static int fault(rpo_status status) {
    fprintf(stderr, "rpo-bench: %s\n", rpo_last_error());
    return status == RPO_ERROR_INVALID_INPUT || status == RPO_ERROR_INVALID_ARGUMENT ||
                   status == RPO_ERROR_UNSUPPORTED
               ? 2
               : 3;
}

/* Everything that the rows of one call share. */
typedef struct session {
    const bench_options *options;
    rpo_context *context;
    bench_limits limits;
    bool all_correct;
} session;

enum { LIMIT_TRIALS = 5 }; /* of a limit that a row was faster than */

static rpo_status run_shape(session *now, const bench_entry *entry, const bench_preset *preset) {
    const bool own = preset != NULL && !now->options->dtype_given;
    bench_row row = {.op = entry->name, .dtype = own ? preset->dtype : now->options->dtype};
    bench_run run = {.options = now->options, .preset = preset, .context = now->context, .row = &row};
    rpo_status status = entry->function(&run);
    if (status != RPO_OK)
        return rpo_error_prefix(status, "%s: ", entry->name);
    now->all_correct = now->all_correct && bench_row_correct(&row);
    if (now->options->check_only) {
        printf("%s %s: error %.1e, %s\n", row.op, rpo_dtype_name(row.dtype), row.error,
               bench_row_correct(&row) ? "correct" : "NOT CORRECT");
        return RPO_OK;
    }
    bool changed = now->limits.flops[row.dtype] == 0.0;
    RPO_TRY(bench_limits_measure(&now->limits, now->context, row.dtype));
    for (int i = 0; i < LIMIT_TRIALS && bench_row_share(&now->limits, &row) > 1.0; ++i, changed = true)
        RPO_TRY(bench_limits_again(&now->limits, now->context, row.dtype, row.limit));
    if (changed)
        bench_report_limits(now->options, &now->limits, row.dtype);
    return bench_report_row(now->options, now->context, &now->limits, &row);
}

/* The op's presets on this device; with sizes given, the first one alone, which fills in the others. */
static rpo_status run_entry(session *now, const bench_entry *entry) {
    size_t count = 0, done = 0;
    const bench_preset *presets = bench_presets(now->options->device, &count);
    for (size_t i = 0; i < count; ++i)
        if (strcmp(presets[i].op, entry->name) == 0 && (done == 0 || now->options->num_dims == 0)) {
            RPO_TRY(run_shape(now, entry, &presets[i]));
            ++done;
        }
    return done > 0 ? RPO_OK : run_shape(now, entry, NULL);
}

static rpo_status run_all(session *now) {
    const bool all = strcmp(now->options->op, "all") == 0;
    const bool has_model = now->context->backend->model.linear != NULL;
    if (!now->options->check_only)
        bench_report_start(now->options, now->context);
    for (int i = 0; i < NUM_ENTRIES; ++i)
        if (all ? has_model || entries[i].function != bench_training_step
                : strcmp(now->options->op, entries[i].name) == 0)
            RPO_TRY(run_entry(now, &entries[i]));
    return RPO_OK;
}

static rpo_status check_op(const char *op) {
    const char *names[NUM_ENTRIES + 1] = {"all"};
    for (int i = 0; i < NUM_ENTRIES; ++i)
        names[i + 1] = entries[i].name;
    for (int i = 0; i <= NUM_ENTRIES; ++i)
        if (strcmp(op, names[i]) == 0)
            return RPO_OK;
    const char *nearest = rpo_nearest_word(op, names, NUM_ENTRIES + 1);
    return rpo_error_set(RPO_ERROR_INVALID_INPUT, "%s: unknown op; %s%s", op,
                         nearest != NULL ? "the nearest is " : "rpo-bench --help lists them",
                         nearest != NULL ? nearest : "");
}

static rpo_status print_help(void) {
    rpo_text text = {0};
    const rpo_status status = bench_options_append_help(&text);
    if (status == RPO_OK)
        fputs(text.data, stdout);
    rpo_text_free(&text);
    return status;
}

int main(int argc, char **argv) {
    rpo_startup(argv);
    bench_options options;
    rpo_context *context = NULL;
    session now = {.options = &options, .all_correct = true};
    rpo_status status = bench_options_read(&options, argc - 1, argv + 1);
    if (status == RPO_OK && options.help) {
        status = print_help();
        goto cleanup;
    }
    if (status == RPO_OK)
        status = check_op(options.op);
    if (status == RPO_OK && options.num_dims > 0 && strcmp(options.op, "all") == 0)
        status = rpo_error_set(RPO_ERROR_INVALID_INPUT, "--shape: needs one op; all have different sizes");
    if (status == RPO_OK) {
        rpo_context_options context_options = RPO_CONTEXT_OPTIONS_INIT;
        context_options.device = options.device;
        context_options.num_threads = options.num_threads;
        status = rpo_context_create(&context, &context_options);
    }
    if (status == RPO_OK) {
        options.num_threads = rpo_context_num_threads(context);
        now.context = context;
        status = run_all(&now);
    }

cleanup:
    rpo_context_free(context);
    const int code = status != RPO_OK ? fault(status) : now.all_correct ? 0 : 1;
    rpo_free(options.shape_text);
    return code;
}
