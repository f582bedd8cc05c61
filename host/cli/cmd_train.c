/* cmd_train.c - `rpo train CONFIG.json`: preference data in, a trained model out. */
#include <string.h>

#include "host/cli/cli.h"
#include "host/cli/config_arguments.h"
#include "host/run/run.h"

typedef struct train_arguments {
    rpo_config_arguments config;
    bool resume;
} train_arguments;

static const rpo_option options[] = {
    RPO_OPTION_CONFIG(train_arguments),
    RPO_OPTION_SET(train_arguments),
    {.name = "--resume",
     .type = RPO_OPTION_FLAG,
     .offset = offsetof(train_arguments, resume),
     .meaning = "continues the run in run.dir from its newest checkpoint"},
};

static int run(int argc, char **argv);

const rpo_command rpo_command_train = {
    .spec = {.program = "rpo",
             .command = "train",
             .summary = "trains a model on preference data",
             .options = options,
             .num_options = RPO_COUNT(options)},
    .run = run,
};

/* A word as a shell takes it: in quotes where it holds more than letters, digits and a few signs. */
static rpo_status append_word(rpo_text *text, const char *word) {
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./:,%@";
    if (word[0] != '\0' && word[strspn(word, plain)] == '\0')
        return rpo_text_printf(text, " %s", word);
    RPO_TRY(rpo_text_append(text, " '", 2));
    for (; *word != '\0'; ++word) {
        if (*word == '\'')
            RPO_TRY(rpo_text_append(text, "'\\''", 4));
        else
            RPO_TRY(rpo_text_append(text, word, 1));
    }
    return rpo_text_append(text, "'", 1);
}

static rpo_status write_command(rpo_text *text, int argc, char **argv) {
    RPO_TRY(rpo_text_printf(text, "rpo train"));
    for (int i = 0; i < argc; ++i)
        RPO_TRY(append_word(text, argv[i]));
    return RPO_OK;
}

static int run(int argc, char **argv) {
    train_arguments arguments = {0};
    rpo_config *config = NULL;
    rpo_comm *comm = NULL;
    rpo_text command = {0};
    rpo_status status = rpo_options_read(&rpo_command_train.spec, &arguments, argc, argv);
    if (status == RPO_OK)
        status = rpo_config_arguments_load(&config, &arguments.config);
    if (status == RPO_OK)
        status = write_command(&command, argc, argv);
    if (status == RPO_OK)
        status = rpo_comm_open(&comm);
    if (status == RPO_OK)
        status = rpo_run_training(config, comm, arguments.resume, command.data);
    rpo_text_free(&command);
    rpo_comm_close(comm);
    rpo_config_free(config);
    rpo_options_free(&rpo_command_train.spec, &arguments);
    return rpo_cli_report(status);
}
