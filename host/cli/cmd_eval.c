/* cmd_eval.c - `rpo eval CONFIG.json|RUN_FOLDER`: held-out figures, tables on stderr and one JSON object on stdout. */
#include <stdio.h>
#include <string.h>

#include "host/cli/cli.h"
#include "host/cli/config_arguments.h"
#include "host/run/run.h"

typedef struct eval_arguments {
    rpo_config_arguments config;
} eval_arguments;

static const rpo_option options[] = {
    {.name = "CONFIG.json|RUN_FOLDER",
     .type = RPO_OPTION_TEXT,
     .offset = offsetof(eval_arguments, config.path),
     .required = true,
     .meaning = "a configuration: its model against reference.path (not given: itself); or the folder of a "
                "run: its final "
                "model against the run's own reference"},
    RPO_OPTION_SET(eval_arguments),
};

static const char details[] =
    "Figures of each file of data.eval and of all together: tables on stderr, one JSON object on stdout\n"
    "with the keys of an evaluation in metrics.jsonl and\n"
    "  \"files\": {PATH: {\"records\": N, \"eval_loss\": ...}, ...}\n"
    "Together, contrast blocks run on from one file into the next, as in the evaluations of a training.\n";

static int run(int argc, char **argv);

const rpo_command rpo_command_eval = {
    .spec = {.program = "rpo",
             .command = "eval",
             .summary = "held-out metrics of a model, no training",
             .options = options,
             .num_options = RPO_COUNT(options),
             .details = details},
    .run = run,
};

/* The run has its model; what is evaluated may change, but not into another model. */
static rpo_status check_overrides(const rpo_option_list *overrides) {
    static const char *const refused[] = {"model.path", "model.init"};
    for (size_t i = 0; i < overrides->count; ++i)
        for (size_t key = 0; key < RPO_COUNT(refused); ++key)
            if (strncmp(overrides->items[i], refused[key], strlen(refused[key])) == 0)
                return rpo_error_set(
                    RPO_ERROR_INVALID_INPUT,
                    "--set %s: %s: a run folder has its model; evaluate another one with rpo eval "
                    "CONFIG.json",
                    overrides->items[i], refused[key]);
    return RPO_OK;
}

/* Loads the configuration that lies in a run's folder. */
static rpo_status load_run(rpo_config **config, const rpo_config_arguments *arguments) {
    RPO_TRY(check_overrides(&arguments->overrides));
    char *path = rpo_path_join(arguments->path, "config.json");
    if (path == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    rpo_status status = RPO_OK;
    if (rpo_path_exists(path))
        status = rpo_config_load(config, path, arguments->overrides.items, arguments->overrides.count);
    else
        status = rpo_error_set(
            RPO_ERROR_INVALID_INPUT,
            "%s: is no run folder, it holds no config.json; must be a configuration or the folder of "
            "a run",
            arguments->path);
    rpo_free(path);
    return status;
}

static int run(int argc, char **argv) {
    eval_arguments arguments = {0};
    rpo_config *config = NULL;
    rpo_comm *comm = NULL;
    rpo_text json = {0};
    const char *run_folder = NULL;
    rpo_status status = rpo_options_read(&rpo_command_eval.spec, &arguments, argc, argv);
    if (status == RPO_OK && rpo_path_is_folder(arguments.config.path)) {
        run_folder = arguments.config.path;
        status = load_run(&config, &arguments.config);
    } else if (status == RPO_OK) {
        status = rpo_config_arguments_load(&config, &arguments.config);
    }
    if (status == RPO_OK)
        status = rpo_comm_open(&comm);
    if (status == RPO_OK)
        status = rpo_run_evaluation(config, run_folder, comm, &json);
    if (status == RPO_OK && comm->rank == 0)
        printf("%s\n", json.data);
    rpo_text_free(&json);
    rpo_comm_close(comm);
    rpo_config_free(config);
    rpo_options_free(&rpo_command_eval.spec, &arguments);
    return rpo_cli_report(status);
}
