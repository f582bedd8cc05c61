/* main.c - the rpo program: finds the command, shows help, makes sure that what was printed arrived. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "host/cli/cli.h"

typedef struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *usage;
    const char *summary; /* one line of `rpo --help` */
    const char *details; /* below it in `rpo help COMMAND` */
} command;

/* clang-format off */
static const command commands[] = {
    {"info", rpo_cmd_info, "rpo info",
     "version, backends, devices, libraries",
     ""},
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
    "rpo help COMMAND says more about one of them; rpo --version prints the version.\n"
    "Exit codes: 0 done, 2 the input is at fault, 3 the machine (device, disk, memory), 4 another rank "
    "failed,\n"
    "130 or 143 interrupted after a checkpoint.\n";

static void print_overview(void) {
    fputs(overview_start, stdout);
    for (size_t i = 0; i < NUM_COMMANDS; ++i)
        printf("  %-9s %s\n", commands[i].name, commands[i].summary);
    fputs(overview_end, stdout);
}

static void print_help(const command *shown) {
    printf("usage: %s\n\n%s\n", shown->usage, shown->summary);
    if (shown->details[0] != '\0')
        printf("\n%s", shown->details);
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

static int run_help(int argc, char **argv) {
    if (argc == 0) {
        print_overview();
        return RPO_EXIT_OK;
    }
    const command *shown = find_command(argv[0]);
    if (shown == NULL)
        return report_unknown(argv[0]);
    print_help(shown);
    return RPO_EXIT_OK;
}

static int run_command(const command *wanted, int argc, char **argv) {
    for (int i = 0; i < argc; ++i)
        if (asks_for_help(argv[i])) {
            print_help(wanted);
            return RPO_EXIT_OK;
        }
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
