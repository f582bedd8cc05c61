/*
 * case_command.h - what `rpo loss` and `rpo logprob` share: COMMAND CASE.json [--device cpu|cuda].
 */
#ifndef RPO_HOST_CLI_CASE_COMMAND_H
#define RPO_HOST_CLI_CASE_COMMAND_H

#include "core/json.h"
#include "core/options.h"

typedef struct rpo_case_arguments {
    const char *path;
    int device; /* rpo_device */
} rpo_case_arguments;

/* Options of such a command's spec; they fill rpo_case_arguments. */
enum { RPO_NUM_CASE_OPTIONS = 2 };
extern const rpo_option rpo_case_options[RPO_NUM_CASE_OPTIONS];

typedef struct rpo_case_command {
    rpo_json *json;       /* the case; its root is an object */
    rpo_context *context; /* on the device asked for */
} rpo_case_command;

/* Reads the arguments after the command's name and the case file, and opens the device. On failure nothing stays open. */
rpo_status rpo_case_command_open(rpo_case_command *command, const rpo_options_spec *spec, int argc,
                                 char **argv);
void rpo_case_command_close(rpo_case_command *command);

/* INVALID_INPUT at the first key of the case that is neither in `keys` nor "expect", naming the nearest. */
rpo_status rpo_case_check_keys(const rpo_json *json, const char *const *keys, size_t count);

/* "NAME": [numbers] of an answer; `row_length` > 0 nests them in rows of that many. */
rpo_status rpo_case_append_floats(rpo_text *text, const char *name, const float *values, int64_t count,
                                  int64_t row_length);

#endif
