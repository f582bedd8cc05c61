/*
 * options.h - the arguments of a program or of one of its commands, said once in a table: name, value, meaning and where the
 * value goes. The parser and the help both come from it.
 *
 * An option is "--name", "--name VALUE" or "--name=VALUE"; what has no dashes in its name stands alone, in the table's order.
 * "-" is a value like any other. Faults are INVALID_INPUT, "COMMAND: ARGUMENT: what is wrong; what is allowed".
 */
#ifndef RPO_CORE_OPTIONS_H
#define RPO_CORE_OPTIONS_H

#include "core/core.h"

typedef enum rpo_option_type {
    RPO_OPTION_FLAG,  /* bool: true where it is given */
    RPO_OPTION_TEXT,  /* const char *, pointing into argv */
    RPO_OPTION_LIST,  /* rpo_option_list: may be given again and again */
    RPO_OPTION_COUNT, /* int64_t from `low` to `high` */
    RPO_OPTION_CHOICE /* int: the place in `choices` */
} rpo_option_type;

typedef struct rpo_option_list {
    const char **items; /* [count], pointing into argv */
    size_t count;
} rpo_option_list;

typedef struct rpo_option {
    const char *name;  /* "--records"; or "CONFIG.json", which stands alone (RPO_OPTION_TEXT) */
    const char *value; /* what help calls its value: "N"; NULL for flags, choices and what stands alone */
    rpo_option_type type;
    size_t offset; /* in the struct that is filled */
    bool required;
    int64_t low, high;          /* of RPO_OPTION_COUNT */
    const char *const *choices; /* of RPO_OPTION_CHOICE, NULL at the end */
    const char *meaning;
} rpo_option;

typedef struct rpo_options_spec {
    const char *program; /* "rpo" */
    const char *command; /* "train"; NULL: the program has no commands */
    const char *summary; /* one line: what it does */
    const rpo_option *options;
    size_t num_options;
    const char *details; /* what help says below the options; may be NULL */
} rpo_options_spec;

/*
 * Reads argv[0 .. argc) into the struct `target` that the offsets refer to; what is not given keeps the value it has there (lists
 * must be empty). Lists belong to the target until rpo_options_free, which is due after a failure as well.
 */
rpo_status rpo_options_read(const rpo_options_spec *spec, void *target, int argc, char **argv);
void rpo_options_free(const rpo_options_spec *spec, void *target);

/* "rpo train CONFIG.json [--set section.key=VALUE ...] [--resume]" */
rpo_status rpo_options_append_usage(const rpo_options_spec *spec, rpo_text *text);

/* Usage, summary, a line or more for every option, the details. */
rpo_status rpo_options_append_help(const rpo_options_spec *spec, rpo_text *text);

#endif
