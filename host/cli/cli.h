/*
 * cli.h - the commands of the rpo program. Each takes the arguments after its name and returns an exit code.
 */
#ifndef RPO_HOST_CLI_CLI_H
#define RPO_HOST_CLI_CLI_H

#include "core/core.h"

enum {
    RPO_EXIT_OK = 0,
    RPO_EXIT_INPUT = 2,   /* the user's input is at fault */
    RPO_EXIT_MACHINE = 3, /* device, disk, memory */
    RPO_EXIT_RANK = 4,    /* another rank failed */
    RPO_EXIT_SIGINT = 130,
    RPO_EXIT_SIGTERM = 143
};

/* Prints "rpo: MESSAGE" on stderr for a failed status and returns the exit code it stands for. */
int rpo_cli_report(rpo_status status);

int rpo_cmd_train(int argc, char **argv);
int rpo_cmd_eval(int argc, char **argv);
int rpo_cmd_preview(int argc, char **argv);
int rpo_cmd_embed(int argc, char **argv);
int rpo_cmd_loss(int argc, char **argv);
int rpo_cmd_logprob(int argc, char **argv);
int rpo_cmd_info(int argc, char **argv);

#endif
