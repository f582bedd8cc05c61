/* options.c - the command line of rpo-bench. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench.h"

static rpo_status read_count(const char *name, const char *text, long low, long high, long *value) {
    char *end = NULL;
    errno = 0;
    *value = text != NULL ? strtol(text, &end, 10) : 0;
    if (text == NULL || end == text || *end != '\0' || errno != 0 || *value < low || *value > high)
        return rpo_error_set(RPO_ERROR_INVALID_INPUT, "%s: is %s; must be an integer from %ld to %ld", name,
                             text != NULL ? text : "missing its value", low, high);
    return RPO_OK;
}

/* "rows=2048,vocab=32000" */
static rpo_status read_shape(bench_options *options, const char *text) {
    if (text == NULL)
        return rpo_error_set(RPO_ERROR_INVALID_INPUT, "--shape: is missing its value, such as rows=2048");
    rpo_free(options->shape_text);
    options->num_dims = 0;
    options->shape_text = rpo_strdup(text);
    if (options->shape_text == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    char *rest = NULL;
    for (char *part = strtok_r(options->shape_text, ",", &rest); part != NULL;
         part = strtok_r(NULL, ",", &rest)) {
        char *equals = strchr(part, '=');
        if (equals == NULL || equals == part)
            return rpo_error_set(RPO_ERROR_INVALID_INPUT, "--shape: \"%s\" must be NAME=NUMBER", part);
        if (options->num_dims == BENCH_MAX_DIMS)
            return rpo_error_set(RPO_ERROR_INVALID_INPUT, "--shape: more than %d sizes", BENCH_MAX_DIMS);
        *equals = '\0';
        long value = 0;
        RPO_TRY(read_count(part, equals + 1, 1, 1L << 30, &value));
        options->dims[options->num_dims++] = (bench_dim){part, value};
    }
    return RPO_OK;
}

static rpo_status read_option(bench_options *options, const char *name, const char *value) {
    long number = 0;
    if (strcmp(name, "--shape") == 0)
        return read_shape(options, value);
    if (strcmp(name, "--threads") == 0) {
        RPO_TRY(read_count(name, value, 1, 4096, &number));
        options->num_threads = (int)number;
        return RPO_OK;
    }
    if (strcmp(name, "--repeats") == 0) {
        RPO_TRY(read_count(name, value, 1, BENCH_MAX_REPEATS, &number));
        options->repeats = (int)number;
        return RPO_OK;
    }
    if (strcmp(name, "--backend") == 0) {
        size_t count = 0;
        const rpo_backend *const *backends = rpo_backends(&count);
        for (size_t i = 0; i < count; ++i)
            if (value != NULL && strcmp(value, backends[i]->name) == 0) {
                options->device = backends[i]->device;
                return RPO_OK;
            }
        return rpo_error_set(RPO_ERROR_INVALID_INPUT, "--backend: is %s; rpo info lists those of this build",
                             value != NULL ? value : "missing its value");
    }
    if (strcmp(name, "--dtype") == 0) {
        for (int dtype = RPO_FLOAT32; dtype <= RPO_FLOAT16; ++dtype)
            if (value != NULL && strcmp(value, rpo_dtype_name((rpo_dtype)dtype)) == 0) {
                options->dtype = (rpo_dtype)dtype;
                options->dtype_given = true;
                return RPO_OK;
            }
        return rpo_error_set(RPO_ERROR_INVALID_INPUT, "--dtype: is %s; must be float32, bfloat16 or float16",
                             value != NULL ? value : "missing its value");
    }
    return rpo_error_set(RPO_ERROR_INVALID_INPUT, "%s: unknown option; rpo-bench --help lists them", name);
}

rpo_status bench_options_read(bench_options *options, int argc, char **argv) {
    *options = (bench_options){.device = RPO_DEVICE_CPU, .dtype = RPO_FLOAT32};
    for (int i = 0; i < argc; ++i) {
        if (strcmp(argv[i], "--help") == 0) {
            options->help = true;
            return RPO_OK;
        }
        if (strcmp(argv[i], "--json") == 0) {
            options->json = true;
        } else if (strcmp(argv[i], "--check-only") == 0) {
            options->check_only = true;
        } else if (argv[i][0] == '-') {
            RPO_TRY(read_option(options, argv[i], i + 1 < argc ? argv[i + 1] : NULL));
            ++i;
        } else if (options->op != NULL) {
            return rpo_error_set(RPO_ERROR_INVALID_INPUT, "%s: one op, or all", argv[i]);
        } else {
            options->op = argv[i];
        }
    }
    if (options->repeats == 0)
        options->repeats = options->device == RPO_DEVICE_CPU ? 5 : 20;
    return RPO_OK;
}
