/* main.c - the rpo program: finds the command, shows help, makes sure that what was printed arrived. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/startup.h"
#include "host/cli/cli.h"
#include "host/config/keys.h"

static const rpo_command *const commands[] = {
    &rpo_command_train, &rpo_command_eval,    &rpo_command_preview, &rpo_command_embed,
    &rpo_command_loss,  &rpo_command_logprob, &rpo_command_info,
};

enum { NUM_COMMANDS = sizeof commands / sizeof commands[0], MAX_NAMES = NUM_COMMANDS + 8 };

static const char overview_start[] = "rpo trains language models with Relative Preference Optimization\n"
                                     "(Yin et al. 2024, arXiv 2402.10958).\n"
                                     "\n"
                                     "usage: rpo COMMAND ...\n"
                                     "\n";

static const char overview_end[] =
    "\n"
    "rpo help COMMAND says more about one of them, rpo help config lists the keys of a configuration,\n"
    "rpo help KEY says more about one key, rpo help records shows what data may look like,\n"
    "rpo --version prints the version.\n";

static void print_overview(void) {
    fputs(overview_start, stdout);
    for (size_t i = 0; i < NUM_COMMANDS; ++i)
        printf("  %-9s %s\n", commands[i]->spec.command, commands[i]->spec.summary);
    fputs(overview_end, stdout);
    fputs(rpo_exit_codes_help, stdout);
}

static const rpo_command *find_command(const char *name) {
    for (size_t i = 0; i < NUM_COMMANDS; ++i)
        if (strcmp(commands[i]->spec.command, name) == 0)
            return commands[i];
    return NULL;
}

/* `what`: "command", or "help topic", which commands are as well. */
static int report_unknown(const char *name, const char *what, bool is_topic) {
    const char *names[MAX_NAMES];
    size_t count = 0;
    for (size_t i = 0; i < NUM_COMMANDS; ++i)
        names[count++] = commands[i]->spec.command;
    for (size_t i = 0; is_topic && rpo_help_topics[i] != NULL && count < MAX_NAMES; ++i)
        names[count++] = rpo_help_topics[i];
    const char *near = rpo_nearest_word(name, names, count);
    if (near == NULL && is_topic)
        near = rpo_config_nearest_key(name);
    if (near != NULL)
        rpo_error_set(RPO_ERROR_INVALID_ARGUMENT, "%s: no such %s; did you mean rpo %s%s?", name, what,
                      is_topic ? "help " : "", near);
    else
        rpo_error_set(RPO_ERROR_INVALID_ARGUMENT, "%s: no such %s; rpo --help lists them", name, what);
    return rpo_cli_report(RPO_ERROR_INVALID_ARGUMENT);
}

static bool asks_for_help(const char *argument) {
    return strcmp(argument, "--help") == 0 || strcmp(argument, "-h") == 0;
}

static int print_help(const rpo_command *shown) {
    rpo_text text = {0};
    const rpo_status status = rpo_options_append_help(&shown->spec, &text);
    if (status == RPO_OK)
        fputs(text.data, stdout);
    rpo_text_free(&text);
    return rpo_cli_report(status);
}

static int run_help(int argc, char **argv) {
    if (argc == 0) {
        print_overview();
        return RPO_EXIT_OK;
    }
    const rpo_command *shown = find_command(argv[0]);
    int code = RPO_EXIT_OK;
    if (shown != NULL)
        return print_help(shown);
    return rpo_help_topic(&code, argv[0]) ? code : report_unknown(argv[0], "command or topic", true);
}

static int run_command(const rpo_command *wanted, int argc, char **argv) {
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
    const rpo_command *wanted = find_command(name);
    return wanted != NULL ? run_command(wanted, argc - 2, argv + 2) : report_unknown(name, "command", false);
}

/* A descriptor from 0 to 2 that the caller closed would be given to the first file a run opens, and what is meant for
 * the terminal would be written into it. */
static bool open_standard_descriptors(void) {
    for (int file = STDIN_FILENO; file <= STDERR_FILENO; ++file)
        if (fcntl(file, F_GETFD) < 0 && open("/dev/null", O_RDWR) != file) /* the lowest that is free */
            return false;
    return true;
}

int main(int argc, char **argv) {
    rpo_startup(argv);
    if (!open_standard_descriptors())
        return RPO_EXIT_MACHINE; /* there is nowhere to say why */
    signal(SIGXFSZ, SIG_IGN);    /* a file at its size limit is a failed write, not the end without a word */
    signal(SIGPIPE, SIG_IGN);    /* a closed pipe is then a failed write, reported below like a full disk */
    const int code = run(argc, argv);
    errno = 0;
    const bool failed_before = ferror(stdout) != 0, failed_now = fflush(stdout) != 0;
    if (code != RPO_EXIT_OK || (!failed_before && !failed_now))
        return code;
    return rpo_cli_report(rpo_error_set(RPO_ERROR_IO, "standard output: cannot be written: %s",
                                        errno != 0 ? strerror(errno) : "an earlier write failed"));
}
