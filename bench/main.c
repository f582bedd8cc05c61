/*
 * main.c - rpo-bench: times the ops and a training step, each row with its correctness and its share of what
 * the machine was measured to be able to do.
 */
#include <stdio.h>
#include <string.h>

#include "bench/bench.h"

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

static const char usage[] =
    "usage: rpo-bench OP [--shape NAME=NUMBER,...] [--dtype float32] [--backend cpu] [--threads N]\n"
    "                 [--repeats N] [--json]\n"
    "\n"
    "Times one op, or all of them. Before the rows it measures what the machine can do (matmul rate, copy\n"
    "bandwidth); each row shows its share of that, its error against float64 and its workspace. Each op "
    "runs\n"
    "once untimed and then --repeats times (default 5); the median, fastest and slowest are shown.\n"
    "\n"
    "OP                              sizes (default)\n"
    "  contrast-loss                 m (1024), n (1024), dim (384): rpo-unpaired, loss and gradient\n"
    "  logprob-gather                rows (1024), vocab (32000), sequences (8)\n"
    "  logprob-gather-backward       the same, from the forward's log-sum-exp\n"
    "  linear-logprob                rows (2048), hidden (512), vocab (32000), sequences (8), valid_percent "
    "(100),\n"
    "                                chunk_kib (the backend's default)\n"
    "  linear-logprob-backward       the same: gradients of hidden states and head, log-probs on the way\n"
    "  linear-logprob-backward-frozen  the same without the head's gradient\n"
    "  training-step                 layers (4), hidden (256), intermediate (688), heads (4), kv_heads (4),\n"
    "                                vocab (32000), rows (2048), sequences (8), valid_percent (100): "
    "forward, DPO\n"
    "                                loss, backward, gradient norm, RMSprop\n"
    "  all                           every one of them\n"
    "\n"
    "--json prints one object a row; times in seconds, memory in bytes.\n"
    "Exit codes: 0 done, 1 a row is not correct, 2 the command line is at fault, 3 anything else.\n";

static int fault(rpo_status status) {
    fprintf(stderr, "rpo-bench: %s\n", rpo_last_error());
    return status == RPO_ERROR_INVALID_INPUT || status == RPO_ERROR_INVALID_ARGUMENT ||
                   status == RPO_ERROR_UNSUPPORTED
               ? 2
               : 3;
}

static rpo_status run_entry(const bench_entry *entry, const bench_options *options,
                            const bench_limits *limits, rpo_context *context, bool *all_correct) {
    bench_row row = {.op = entry->name};
    bench_run run = {.options = options, .context = context, .row = &row};
    const rpo_status status = entry->function(&run);
    if (status != RPO_OK)
        return rpo_error_prefix(status, "%s: ", entry->name);
    *all_correct = *all_correct && bench_row_correct(&row);
    return bench_report_row(options, limits, &row);
}

static rpo_status run_all(const bench_options *options, rpo_context *context, bool *all_correct) {
    bench_limits limits = {0};
    RPO_TRY(bench_limits_measure(&limits, context));
    bench_report_start(options, &limits);
    for (int i = 0; i < NUM_ENTRIES; ++i)
        if (strcmp(options->op, "all") == 0 || strcmp(options->op, entries[i].name) == 0)
            RPO_TRY(run_entry(&entries[i], options, &limits, context, all_correct));
    return RPO_OK;
}

static rpo_status check_op(const char *op) {
    const char *names[NUM_ENTRIES + 1] = {"all"};
    for (int i = 0; i < NUM_ENTRIES; ++i)
        names[i + 1] = entries[i].name;
    if (op == NULL)
        return rpo_error_set(RPO_ERROR_INVALID_INPUT, "no op given; rpo-bench --help lists them");
    for (int i = 0; i <= NUM_ENTRIES; ++i)
        if (strcmp(op, names[i]) == 0)
            return RPO_OK;
    const char *nearest = rpo_nearest_word(op, names, NUM_ENTRIES + 1);
    return rpo_error_set(RPO_ERROR_INVALID_INPUT, "%s: unknown op; %s%s", op,
                         nearest != NULL ? "the nearest is " : "rpo-bench --help lists them",
                         nearest != NULL ? nearest : "");
}

int main(int argc, char **argv) {
    bench_options options;
    rpo_context *context = NULL;
    bool all_correct = true;
    rpo_status status = bench_options_read(&options, argc - 1, argv + 1);
    if (status == RPO_OK && options.help) {
        fputs(usage, stdout);
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
        status = run_all(&options, context, &all_correct);
    }

cleanup:
    rpo_context_free(context);
    const int code = status != RPO_OK ? fault(status) : all_correct ? 0 : 1;
    rpo_free(options.shape_text);
    return code;
}
