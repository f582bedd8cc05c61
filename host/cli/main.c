/* main.c - the rpo program: finds the command, shows help, makes sure that what was printed arrived. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "host/cli/cli.h"
#include "host/config/config.h"

typedef struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *usage;
    const char *summary; /* one line of `rpo --help` */
    const char *details; /* below it in `rpo help COMMAND`; NULL: the command prints its own help */
} command;

/* clang-format off */
#define CONFIG_ARGUMENTS \
    "  CONFIG.json            the run's configuration; rpo help config lists its keys\n" \
    "  --set section.key=VAL  overrides a key; VAL is JSON, or else a plain string; may be repeated\n"

static const command commands[] = {
    {"train", rpo_cmd_train, "rpo train CONFIG.json [--set section.key=VALUE ...] [--resume]",
     "trains a model on preference data",
     CONFIG_ARGUMENTS
     "  --resume               continues the run in run.dir from its newest checkpoint\n"},
    {"eval", rpo_cmd_eval, "rpo eval CONFIG.json [--set section.key=VALUE ...]",
     "held-out metrics of a model, no training",
     CONFIG_ARGUMENTS},
    {"preview", rpo_cmd_preview, "rpo preview CONFIG.json [--records N] [--set section.key=VALUE ...]",
     "tokens, masks, truncation, embedding neighbours: what training will see",
     CONFIG_ARGUMENTS
     "  --records N            how many records to show (default 3)\n"},
    {"embed", rpo_cmd_embed, "rpo embed CONFIG.json [--set section.key=VALUE ...]",
     "computes and caches prompt embeddings",
     CONFIG_ARGUMENTS},
    {"loss", rpo_cmd_loss, "rpo loss CASE.json [--device cpu|cuda]",
     "one loss case in, JSON out", NULL},
    {"logprob", rpo_cmd_logprob, "rpo logprob CASE.json [--device cpu|cuda]",
     "one log-prob case in, JSON out", NULL},
    {"info", rpo_cmd_info, "rpo info",
     "version, backends, devices, libraries", ""},
};
/* clang-format on */

enum { NUM_COMMANDS = sizeof commands / sizeof commands[0] };

static const char overview_start[] = "rpo trains language models with Relative Preference Optimization\n"
                                     "(Yin et al. 2024, arXiv 2402.10958).\n"
                                     "\n"
                                     "usage: rpo COMMAND ...\n"
                                     "\n";

static const char overview_end[] =
    "\n"
    "rpo help COMMAND says more about one of them, rpo help config lists the keys of a configuration,\n"
    "rpo --version prints the version.\n"
    "Exit codes: 0 done, 2 the input is at fault, 3 the machine (device, disk, memory), 4 another rank "
    "failed,\n"
    "130 or 143 interrupted after a checkpoint.\n";

static void print_overview(void) {
    fputs(overview_start, stdout);
    for (size_t i = 0; i < NUM_COMMANDS; ++i)
        printf("  %-9s %s\n", commands[i].name, commands[i].summary);
    fputs(overview_end, stdout);
}

static const command *find_command(const char *name) {
    for (size_t i = 0; i < NUM_COMMANDS; ++i)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

static int report_unknown(const char *name) {
    const char *names[NUM_COMMANDS];
    for (size_t i = 0; i < NUM_COMMANDS; ++i)
        names[i] = commands[i].name;
    const char *near = rpo_nearest_word(name, names, NUM_COMMANDS);
    if (near != NULL)
        rpo_error_set(RPO_ERROR_INVALID_ARGUMENT, "%s: no such command; did you mean rpo %s?", name, near);
    else
        rpo_error_set(RPO_ERROR_INVALID_ARGUMENT, "%s: no such command; rpo --help lists them", name);
    return rpo_cli_report(RPO_ERROR_INVALID_ARGUMENT);
}

static bool asks_for_help(const char *argument) {
    return strcmp(argument, "--help") == 0 || strcmp(argument, "-h") == 0;
}

static int print_help(const command *shown) {
    if (shown->details == NULL) {
        char help[] = "--help", *arguments[] = {help, NULL};
        return shown->run(1, arguments);
    }
    printf("usage: %s\n\n%s\n", shown->usage, shown->summary);
    if (shown->details[0] != '\0')
        printf("\n%s", shown->details);
    return RPO_EXIT_OK;
}

static int print_config_help(void) {
    rpo_text text = {0};
    const rpo_status status = rpo_config_append_help(&text);
    if (status == RPO_OK)
        printf("Keys of a configuration, a JSON object of sections: {\"loss\": {\"beta\": 0.1}, ...}\n\n%s",
               text.data);
    rpo_text_free(&text);
    return rpo_cli_report(status);
}

static int run_help(int argc, char **argv) {
    if (argc == 0) {
        print_overview();
        return RPO_EXIT_OK;
    }
    if (strcmp(argv[0], "config") == 0)
        return print_config_help();
    const command *shown = find_command(argv[0]);
    return shown != NULL ? print_help(shown) : report_unknown(argv[0]);
}

static int run_command(const command *wanted, int argc, char **argv) {
    for (int i = 0; i < argc; ++i)
        if (asks_for_help(argv[i]))
            return print_help(wanted);
    return wanted->run(argc, argv);
}

static int run(int argc, char **argv) {
    if (argc < 2) {
        print_overview();
        return RPO_EXIT_OK;
    }
    const char *name = argv[1];
    if (asks_for_help(name) || strcmp(name, "help") == 0)
        return run_help(argc - 2, argv + 2);
    if (strcmp(name, "--version") == 0) {
        printf("rpo %s\n", rpo_version());
        return RPO_EXIT_OK;
    }
    const command *wanted = find_command(name);
    return wanted != NULL ? run_command(wanted, argc - 2, argv + 2) : report_unknown(name);
}

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN); /* a closed pipe is then a failed write, reported below like a full disk */
    const int code = run(argc, argv);
    errno = 0;
    const bool failed_before = ferror(stdout) != 0, failed_now = fflush(stdout) != 0;
    if (code != RPO_EXIT_OK || (!failed_before && !failed_now))
        return code;
    return rpo_cli_report(rpo_error_set(RPO_ERROR_IO, "standard output: cannot be written: %s",
                                        errno != 0 ? strerror(errno) : "an earlier write failed"));
}
