/*
 * cli.h - the commands of the rpo program. Each is a spec, from which its parser and its help come, and a function that takes the
 * arguments after the command's name and returns an exit code.
 */
#ifndef RPO_HOST_CLI_CLI_H
#define RPO_HOST_CLI_CLI_H

#include "core/exit_codes.h"
#include "core/options.h"

typedef struct rpo_command {
    rpo_options_spec spec;
    int (*run)(int argc, char **argv);
} rpo_command;

extern const rpo_command rpo_command_train, rpo_command_eval, rpo_command_preview, rpo_command_embed,
    rpo_command_loss, rpo_command_logprob, rpo_command_info;

/* Number of options in a table. */
#define RPO_COUNT(table) (sizeof(table) / sizeof((table)[0]))

/* Prints "rpo: MESSAGE" on stderr for a failed status and returns the exit code it stands for. */
int rpo_cli_report(rpo_status status);

/* `rpo help TOPIC` for what is no command: config, a key, model.init, records. False: there is no such topic. */
bool rpo_help_topic(int *exit_code, const char *topic);

/* Names of the topics that are no keys, NULL at the end. */
extern const char *const rpo_help_topics[];

#endif
