/* report.c - rows as an aligned table, or as one JSON object a line. */
#include <math.h>
#include <stdio.h>

#include "bench/bench.h"
#include "core/json.h"

bool bench_row_correct(const bench_row *row) {
    return row->error <= row->tolerance; /* false for NaN */
}

double bench_row_share(const bench_limits *limits, const bench_row *row) {
    return row->limit == BENCH_LIMIT_MATMUL ? row->flops / row->times.median / limits->flops[row->dtype]
                                            : row->bytes / row->times.median / limits->bytes;
}

void bench_report_start(const bench_options *options, const rpo_context *context) {
    if (options->json)
        return;
    char device[256];
    context->backend->describe(device, sizeof device);
    printf("%s (backend %s)\n", device, context->backend->name);
    printf("%-31s %-8s %10s %10s %10s %9s %8s %11s %8s  %s\n", "op", "dtype", "median ms", "min", "max",
           "GFLOP/s", "GB/s", "of limit", "error", "correct");
}

void bench_report_limits(const bench_options *options, const bench_limits *limits, rpo_dtype dtype) {
    if (!options->json)
        printf("limits measured now: matmul %s %.1f GFLOP/s, copy %.1f GB/s (read + write)\n",
               rpo_dtype_name(dtype), limits->flops[dtype] * 1e-9, limits->bytes * 1e-9);
}

static void print_shape(char *text, size_t size, const bench_row *row) {
    size_t used = 0;
    text[0] = '\0';
    for (size_t i = 0; i < row->num_dims && used < size; ++i) {
        if (row->dims[i].value == 0) /* the op's own default */
            continue;
        used += (size_t)snprintf(text + used, size - used, "%s%s=%lld", used > 0 ? " " : "",
                                 row->dims[i].name, (long long)row->dims[i].value);
    }
}

static void print_row(const bench_limits *limits, const bench_row *row) {
    char shape[256], share[32];
    print_shape(shape, sizeof shape, row);
    snprintf(share, sizeof share, "%.0f%% %s", 100.0 * bench_row_share(limits, row),
             row->limit == BENCH_LIMIT_MATMUL ? "matmul" : "copy");
    printf("%-31s %-8s %10.4f %10.4f %10.4f %9.1f %8.1f %11s %8.1e  %s\n", row->op,
           rpo_dtype_name(row->dtype), row->times.median * 1e3, row->times.min * 1e3, row->times.max * 1e3,
           row->flops / row->times.median * 1e-9, row->bytes / row->times.median * 1e-9, share, row->error,
           bench_row_correct(row) ? "yes" : "NO");
    printf("    %s", shape);
    if (row->workspace_bytes > 0)
        printf("; workspace %.2f MB", (double)row->workspace_bytes * 1e-6);
    if (row->tokens > 0.0)
        printf("; %.0f tokens/s", row->tokens / row->times.median);
    printf("\n");
    fflush(stdout);
}

static rpo_status append_field(rpo_text *text, const char *name, double value) {
    RPO_TRY(rpo_text_printf(text, ", \"%s\": ", name));
    return rpo_json_append_number(text, value);
}

static rpo_status append_row(rpo_text *text, const bench_options *options, const rpo_context *context,
                             const bench_limits *limits, const bench_row *row) {
    char device[256];
    context->backend->describe(device, sizeof device);
    RPO_TRY(rpo_text_printf(text, "{\"op\": \"%s\", \"shape\": {", row->op));
    for (size_t i = 0; i < row->num_dims; ++i)
        RPO_TRY(rpo_text_printf(text, "%s\"%s\": %lld", i > 0 ? ", " : "", row->dims[i].name,
                                (long long)row->dims[i].value));
    RPO_TRY(rpo_text_printf(text,
                            "}, \"backend\": \"%s\", \"dtype\": \"%s\", \"threads\": %d, \"repeats\": %d, "
                            "\"batch\": %d, \"device\": ",
                            context->backend->name, rpo_dtype_name(row->dtype), options->num_threads,
                            options->repeats, row->times.batch));
    RPO_TRY(rpo_json_append_string(text, device));
    RPO_TRY(append_field(text, "median_seconds", row->times.median));
    RPO_TRY(append_field(text, "min_seconds", row->times.min));
    RPO_TRY(append_field(text, "max_seconds", row->times.max));
    RPO_TRY(append_field(text, "flops", row->flops));
    RPO_TRY(append_field(text, "bytes", row->bytes));
    RPO_TRY(append_field(text, "limit_flops_per_second", limits->flops[row->dtype]));
    RPO_TRY(append_field(text, "limit_bytes_per_second", limits->bytes));
    RPO_TRY(
        rpo_text_printf(text, ", \"limit\": \"%s\"", row->limit == BENCH_LIMIT_MATMUL ? "matmul" : "copy"));
    RPO_TRY(append_field(text, "limit_share", bench_row_share(limits, row)));
    RPO_TRY(append_field(text, "workspace_bytes", (double)row->workspace_bytes));
    RPO_TRY(append_field(text, "extra_resident_bytes",
                         row->times.extra_bytes >= 0 ? (double)row->times.extra_bytes : NAN));
    if (row->tokens > 0.0)
        RPO_TRY(append_field(text, "tokens_per_second", row->tokens / row->times.median));
    RPO_TRY(rpo_text_printf(text, ", \"checked\": \"%s\"", row->checked));
    RPO_TRY(append_field(text, "error", row->error));
    RPO_TRY(append_field(text, "tolerance", row->tolerance));
    return rpo_text_printf(text, ", \"correct\": %s}\n", bench_row_correct(row) ? "true" : "false");
}

rpo_status bench_report_row(const bench_options *options, const rpo_context *context,
                            const bench_limits *limits, const bench_row *row) {
    if (!options->json) {
        print_row(limits, row);
        return RPO_OK;
    }
    rpo_text text = {0};
    const rpo_status status = append_row(&text, options, context, limits, row);
    if (status == RPO_OK) {
        fwrite(text.data, 1, text.length, stdout);
        fflush(stdout);
    }
    rpo_text_free(&text);
    return status;
}
