/* run_config.c - arguments of the commands that run a model. */
#include "host/cli/run_config.h"

#include <string.h>

typedef struct run_arguments {
    const char *path;
    const char **overrides; /* [argc] at most */
    size_t num_overrides;
} run_arguments;

static rpo_status read_arguments(run_arguments *read, bool *resume, int argc, char **argv,
                                 const char *command) {
    for (int i = 0; i < argc; ++i) {
        if (strcmp(argv[i], "--set") == 0) {
            if (i + 1 == argc)
                return rpo_error_set(RPO_ERROR_INVALID_INPUT,
                                     "--set: is the last argument; must be followed by section.key=VALUE");
            read->overrides[read->num_overrides++] = argv[++i];
        } else if (resume != NULL && strcmp(argv[i], "--resume") == 0) {
            *resume = true;
        } else if (argv[i][0] == '-' || read->path != NULL) {
            return rpo_error_set(
                RPO_ERROR_INVALID_INPUT,
                "%s: is not an argument of rpo %s; allowed are CONFIG.json%s --set section.key=VALUE",
                argv[i], command, resume != NULL ? " --resume" : "");
        } else {
            read->path = argv[i];
        }
    }
    if (read->path == NULL)
        return rpo_error_set(RPO_ERROR_INVALID_INPUT,
                             "rpo %s: names no configuration; must be rpo %s CONFIG.json", command, command);
    return RPO_OK;
}

rpo_status rpo_run_config_load(rpo_config **config, bool *resume, int argc, char **argv,
                               const char *command) {
    *config = NULL;
    run_arguments read = {.overrides = rpo_alloc_array((size_t)argc + 1, sizeof *read.overrides)};
    if (read.overrides == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    rpo_status status = read_arguments(&read, resume, argc, argv, command);
    if (status == RPO_OK)
        status = rpo_config_load(config, read.path, read.overrides, read.num_overrides);
    rpo_free(read.overrides);
    return status;
}
