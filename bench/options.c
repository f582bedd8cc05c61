/* options.c - the command line of rpo-bench. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench.h"
#include "core/options.h"

enum { MAX_THREADS = 4096, DTYPE_NOT_GIVEN = -1 };
static const int64_t max_size = INT64_C(1) << 30;

/* The command line as it is given. */
typedef struct bench_arguments {
    const char *op, *shape, *backend;
    int dtype; /* rpo_dtype, or DTYPE_NOT_GIVEN */
    int64_t threads, repeats;
    bool json, check_only;
} bench_arguments;

static const char *const dtypes[] = {
    [RPO_FLOAT32] = "float32", [RPO_BFLOAT16] = "bfloat16", [RPO_FLOAT16] = "float16", NULL};

static const rpo_option options_table[] = {
    {.name = "OP",
     .type = RPO_OPTION_TEXT,
     .offset = offsetof(bench_arguments, op),
     .required = true,
     .meaning = "one of the ops below, or all"},
    {.name = "--shape",
     .value = "NAME=NUMBER,...",
     .type = RPO_OPTION_TEXT,
     .offset = offsetof(bench_arguments, shape),
     .meaning = "sizes, by their names below; without it cuda times each op at the shapes of Llama-2-7B and "
                "Llama-3-8B (bfloat16 mostly)"},
    {.name = "--dtype",
     .type = RPO_OPTION_CHOICE,
     .offset = offsetof(bench_arguments, dtype),
     .choices = dtypes,
     .meaning = "of inputs and outputs (default float32)"},
    {.name = "--backend",
     .value = "NAME",
     .type = RPO_OPTION_TEXT,
     .offset = offsetof(bench_arguments, backend),
     .meaning = "cpu (default), cuda where it is built; rpo info lists them"},
    {.name = "--threads",
     .value = "N",
     .type = RPO_OPTION_COUNT,
     .offset = offsetof(bench_arguments, threads),
     .low = 1,
     .high = MAX_THREADS,
     .meaning = "host threads (default: all)"},
    {.name = "--repeats",
     .value = "N",
     .type = RPO_OPTION_COUNT,
     .offset = offsetof(bench_arguments, repeats),
     .low = 1,
     .high = BENCH_MAX_REPEATS,
     .meaning = "timed runs of each op (default: cpu 5, cuda 20)"},
    {.name = "--json",
     .type = RPO_OPTION_FLAG,
     .offset = offsetof(bench_arguments, json),
     .meaning = "one object a row; times in seconds, memory in bytes"},
    {.name = "--check-only",
     .type = RPO_OPTION_FLAG,
     .offset = offsetof(bench_arguments, check_only),
     .meaning = "runs each op once and prints its error alone, for use under debugging tools"},
};

static const char details[] =
    "It measures what the device can do (matmul rate of the dtype, copy bandwidth); each row shows its\n"
    "share of that, its error against float64 and its workspace. Each op is run until it is warm and then\n"
    "--repeats times, each after the caches were overwritten; the median, fastest and slowest are shown.\n"
    "Runs under 0.1 ms are timed many at a time.\n"
    "\n"
    "OP                              sizes (default on the cpu)\n"
    "  contrast-loss                 m (1024), n (1024), dim (384): rpo-unpaired, loss and gradient\n"
    "  logprob-gather                rows (1024), vocab (32000), sequences (8)\n"
    "  logprob-gather-backward       the same, from the forward's log-sum-exp\n"
    "  linear-logprob                rows (2048), hidden (512), vocab (32000), sequences (8),\n"
    "                                valid_percent (100), chunk_kib (the backend's default)\n"
    "  linear-logprob-backward       the same: gradients of hidden states and head, log-probs on the way\n"
    "  linear-logprob-backward-frozen  the same without the head's gradient\n"
    "  training-step                 layers (4), hidden (256), intermediate (688), heads (4),\n"
    "                                kv_heads (4), vocab (32000), rows (2048), sequences (8),\n"
    "                                valid_percent (100), shared (1: a pair's responses share the rows of\n"
    "                                their prompt; 0: whole): upload, forward, DPO loss, backward,\n"
    "                                gradient norm, RMSprop, download; cpu only\n"
    "  all                           every one that the backend has\n"
    "\n"
    "Exit codes: 0 done, 1 a row is not correct, 2 the command line is at fault, 3 anything else.\n";

static const rpo_options_spec spec = {
    .program = "rpo-bench",
    .summary = "Times one op, or all of them.",
    .options = options_table,
    .num_options = sizeof options_table / sizeof options_table[0],
    .details = details,
};

rpo_status bench_options_append_help(rpo_text *text) {
    return rpo_options_append_help(&spec, text);
}

static rpo_status read_size(bench_dim *dim, char *part) {
    char *equals = strchr(part, '='), *end = NULL;
    if (equals == NULL || equals == part)
        return rpo_error_set(RPO_ERROR_INVALID_INPUT, "--shape: \"%s\" must be NAME=NUMBER", part);
    *equals = '\0';
    errno = 0;
    const long long value = strtoll(equals + 1, &end, 10);
    if (end == equals + 1 || *end != '\0' || errno != 0 || value < 1 || value > max_size)
        return rpo_error_set(RPO_ERROR_INVALID_INPUT,
                             "--shape: %s: is \"%s\"; must be an integer from 1 to %lld", part, equals + 1,
                             (long long)max_size);
    *dim = (bench_dim){part, value};
    return RPO_OK;
}

/* "rows=2048,vocab=32000" */
static rpo_status read_shape(bench_options *options, const char *text) {
    options->shape_text = rpo_strdup(text);
    if (options->shape_text == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    char *rest = NULL;
    for (char *part = strtok_r(options->shape_text, ",", &rest); part != NULL;
         part = strtok_r(NULL, ",", &rest)) {
        if (options->num_dims == BENCH_MAX_DIMS)
            return rpo_error_set(RPO_ERROR_INVALID_INPUT, "--shape: more than %d sizes", BENCH_MAX_DIMS);
        RPO_TRY(read_size(&options->dims[options->num_dims], part));
        ++options->num_dims;
    }
    return RPO_OK;
}

static rpo_status find_backend(rpo_device *device, const char *name) {
    size_t count = 0;
    const rpo_backend *const *backends = rpo_backends(&count);
    for (size_t i = 0; i < count; ++i)
        if (strcmp(name, backends[i]->name) == 0) {
            *device = backends[i]->device;
            return RPO_OK;
        }
    return rpo_error_set(RPO_ERROR_INVALID_INPUT, "--backend: is %s; rpo info lists those of this build",
                         name);
}

rpo_status bench_options_read(bench_options *options, int argc, char **argv) {
    bench_arguments given = {.dtype = DTYPE_NOT_GIVEN};
    *options = (bench_options){.device = RPO_DEVICE_CPU, .dtype = RPO_FLOAT32};
    for (int i = 0; i < argc; ++i)
        if (strcmp(argv[i], "--help") == 0) {
            options->help = true;
            return RPO_OK;
        }
    RPO_TRY(rpo_options_read(&spec, &given, argc, argv));
    if (given.shape != NULL)
        RPO_TRY(read_shape(options, given.shape));
    if (given.backend != NULL)
        RPO_TRY(find_backend(&options->device, given.backend));
    if (given.dtype != DTYPE_NOT_GIVEN) {
        options->dtype = (rpo_dtype)given.dtype;
        options->dtype_given = true;
    }
    options->op = given.op;
    options->json = given.json;
    options->check_only = given.check_only;
    options->num_threads = (int)given.threads;
    options->repeats = (int)given.repeats;
    if (options->repeats == 0)
        options->repeats = options->device == RPO_DEVICE_CPU ? 5 : 20;
    return RPO_OK;
}
