/* options.c - from a table of arguments to a parser and its help. */
#include "core/options.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HELP_WIDTH = 100 };

/* INVALID_INPUT: the message, with the command in front of it where the program has several. */
static rpo_status refuse(const rpo_options_spec *spec, const char *format, ...) RPO_PRINTF(2, 3);
static rpo_status refuse(const rpo_options_spec *spec, const char *format, ...) {
    char what[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    return rpo_error_set(RPO_ERROR_INVALID_INPUT, "%s%s%s", spec->command != NULL ? spec->command : "",
                         spec->command != NULL ? ": " : "", what);
}

static bool stands_alone(const rpo_option *option) {
    return option->name[0] != '-';
}

static void *target_of(void *target, const rpo_option *option) {
    return (char *)target + option->offset;
}

/* ---- help ---- */

static rpo_status append_choices(rpo_text *text, const rpo_option *option, const char *separator,
                                 const char *last_separator) {
    for (size_t i = 0; option->choices[i] != NULL; ++i) {
        const char *before = i == 0 ? "" : option->choices[i + 1] == NULL ? last_separator : separator;
        RPO_TRY(rpo_text_printf(text, "%s%s", before, option->choices[i]));
    }
    return RPO_OK;
}

/* "--records N", "--device cpu|cuda", "CONFIG.json" */
static rpo_status append_form(rpo_text *text, const rpo_option *option) {
    RPO_TRY(rpo_text_printf(text, "%s", option->name));
    if (option->value != NULL)
        return rpo_text_printf(text, " %s", option->value);
    if (option->type != RPO_OPTION_CHOICE)
        return RPO_OK;
    RPO_TRY(rpo_text_append(text, " ", 1));
    return append_choices(text, option, "|", "|");
}

rpo_status rpo_options_append_usage(const rpo_options_spec *spec, rpo_text *text) {
    RPO_TRY(rpo_text_printf(text, "%s", spec->program));
    if (spec->command != NULL)
        RPO_TRY(rpo_text_printf(text, " %s", spec->command));
    for (size_t i = 0; i < spec->num_options; ++i) {
        const rpo_option *option = &spec->options[i];
        RPO_TRY(rpo_text_printf(text, option->required ? " " : " ["));
        RPO_TRY(append_form(text, option));
        RPO_TRY(rpo_text_printf(text, "%s%s", option->type == RPO_OPTION_LIST ? " ..." : "",
                                option->required ? "" : "]"));
    }
    return RPO_OK;
}

/* Width of the widest form: where the meanings begin. */
static rpo_status measure_forms(size_t *width, const rpo_options_spec *spec) {
    rpo_text form = {0};
    rpo_status status = RPO_OK;
    *width = 0;
    for (size_t i = 0; i < spec->num_options && status == RPO_OK; ++i) {
        form.length = 0;
        status = append_form(&form, &spec->options[i]);
        *width = form.length > *width ? form.length : *width;
    }
    rpo_text_free(&form);
    return status;
}

static rpo_status append_option_help(rpo_text *text, const rpo_option *option, size_t width) {
    RPO_TRY(rpo_text_append(text, "  ", 2));
    const size_t start = text->length;
    RPO_TRY(append_form(text, option));
    const int padding = (int)(width - (text->length - start));
    RPO_TRY(rpo_text_printf(text, "%*s  ", padding, ""));
    RPO_TRY(rpo_text_append_wrapped(text, option->meaning, (int)width + 4, HELP_WIDTH));
    return rpo_text_append(text, "\n", 1);
}

rpo_status rpo_options_append_help(const rpo_options_spec *spec, rpo_text *text) {
    size_t width = 0;
    rpo_text usage = {0};
    rpo_status status = rpo_options_append_usage(spec, &usage);
    if (status == RPO_OK)
        status = rpo_text_printf(text, "usage: ");
    if (status == RPO_OK)
        status = rpo_text_append_wrapped(text, usage.data, (int)strlen("usage: "), HELP_WIDTH);
    rpo_text_free(&usage);
    RPO_TRY(status);
    RPO_TRY(rpo_text_printf(text, "\n\n%s\n", spec->summary));
    if (spec->num_options > 0)
        RPO_TRY(rpo_text_append(text, "\n", 1));
    RPO_TRY(measure_forms(&width, spec));
    for (size_t i = 0; i < spec->num_options; ++i)
        RPO_TRY(append_option_help(text, &spec->options[i], width));
    return spec->details != NULL ? rpo_text_printf(text, "\n%s", spec->details) : RPO_OK;
}

/* ---- faults ---- */

/* The option's name that an unknown one is nearest to, whatever value stands behind it; NULL: none is near. */
static rpo_status find_nearest(const rpo_options_spec *spec, const char *argument, const char **near) {
    const char **names = rpo_alloc_array(spec->num_options + 1, sizeof *names);
    rpo_text name = {0};
    rpo_status status = names == NULL ? RPO_ERROR_OUT_OF_MEMORY : RPO_OK;
    size_t count = 0;
    *near = NULL;
    if (status == RPO_OK)
        status = rpo_text_append(&name, argument, strcspn(argument, "="));
    for (size_t i = 0; i < spec->num_options && status == RPO_OK; ++i)
        if (!stands_alone(&spec->options[i]))
            names[count++] = spec->options[i].name;
    if (status == RPO_OK)
        *near = rpo_nearest_word(name.data, names, count);
    rpo_text_free(&name);
    rpo_free(names);
    return status;
}

/* "did you mean --resume?", or what there is to choose from. */
static rpo_status refuse_unknown(const rpo_options_spec *spec, const char *argument) {
    const char *near = NULL;
    if (argument[0] == '-')
        RPO_TRY(find_nearest(spec, argument, &near));
    if (near != NULL)
        return refuse(spec, "%s: unknown option; did you mean %s?", argument, near);
    rpo_text usage = {0};
    rpo_status status = rpo_options_append_usage(spec, &usage);
    if (status == RPO_OK)
        status = refuse(spec, "%s: unknown %s; usage: %s", argument,
                        argument[0] == '-' ? "option" : "argument", usage.data);
    rpo_text_free(&usage);
    return status;
}

static rpo_status refuse_missing(const rpo_options_spec *spec, const rpo_option *option) {
    rpo_text usage = {0};
    rpo_status status = rpo_options_append_usage(spec, &usage);
    if (status == RPO_OK)
        status = refuse(spec, "%s: is missing; usage: %s", option->name, usage.data);
    rpo_text_free(&usage);
    return status;
}

/* ---- values ---- */

static rpo_status read_count(const rpo_options_spec *spec, const rpo_option *option, const char *value,
                             int64_t *target) {
    char *end = NULL;
    errno = 0;
    const long long number = strtoll(value, &end, 10);
    if (errno != 0 || end == value || *end != '\0' || number < option->low || number > option->high)
        return refuse(spec, "%s: is \"%s\"; must be a whole number from %lld to %lld", option->name, value,
                      (long long)option->low, (long long)option->high);
    *target = number;
    return RPO_OK;
}

static rpo_status read_choice(const rpo_options_spec *spec, const rpo_option *option, const char *value,
                              int *target) {
    for (int i = 0; option->choices[i] != NULL; ++i)
        if (strcmp(option->choices[i], value) == 0) {
            *target = i;
            return RPO_OK;
        }
    rpo_text allowed = {0};
    rpo_status status = append_choices(&allowed, option, ", ", " or ");
    if (status == RPO_OK)
        status = refuse(spec, "%s: is \"%s\"; must be %s", option->name, value, allowed.data);
    rpo_text_free(&allowed);
    return status;
}

static rpo_status store(const rpo_options_spec *spec, const rpo_option *option, void *target,
                        const char *value, size_t most_items) {
    void *place = target_of(target, option);
    rpo_option_list *list = place;
    switch (option->type) {
    case RPO_OPTION_FLAG:
        *(bool *)place = true;
        return RPO_OK;
    case RPO_OPTION_TEXT:
        *(const char **)place = value;
        return RPO_OK;
    case RPO_OPTION_LIST:
        if (list->items == NULL)
            list->items = rpo_alloc_array(most_items, sizeof *list->items);
        if (list->items == NULL)
            return RPO_ERROR_OUT_OF_MEMORY;
        list->items[list->count++] = value;
        return RPO_OK;
    case RPO_OPTION_COUNT:
        return read_count(spec, option, value, place);
    case RPO_OPTION_CHOICE:
        return read_choice(spec, option, value, place);
    }
    return rpo_error_set(RPO_ERROR_INTERNAL, "%s: has no type", option->name);
}

/* ---- the command line ---- */

/* The option that an argument names, with the value behind its "=" (NULL: none there). */
static const rpo_option *find_option(const rpo_options_spec *spec, const char *argument, const char **value) {
    const size_t length = strcspn(argument, "=");
    *value = argument[length] == '=' ? argument + length + 1 : NULL;
    for (size_t i = 0; i < spec->num_options; ++i) {
        const char *name = spec->options[i].name;
        if (!stands_alone(&spec->options[i]) && strlen(name) == length &&
            strncmp(name, argument, length) == 0)
            return &spec->options[i];
    }
    return NULL;
}

/* The `index`-th of those that stand alone, or NULL. */
static const rpo_option *find_standing_alone(const rpo_options_spec *spec, size_t index) {
    for (size_t i = 0; i < spec->num_options; ++i)
        if (stands_alone(&spec->options[i]) && index-- == 0)
            return &spec->options[i];
    return NULL;
}

/* One option with its value; *used is how many arguments that took. */
static rpo_status read_option(const rpo_options_spec *spec, void *target, int argc, char **argv, int *used) {
    const char *value = NULL;
    const rpo_option *option = find_option(spec, argv[0], &value);
    *used = 1;
    if (option == NULL)
        return refuse_unknown(spec, argv[0]);
    if (option->type == RPO_OPTION_FLAG && value != NULL)
        return refuse(spec, "%s: is given a value; must stand alone", option->name);
    if (option->type != RPO_OPTION_FLAG && value == NULL) {
        if (argc < 2) {
            rpo_text form = {0};
            rpo_status status = append_form(&form, option);
            if (status == RPO_OK)
                status = refuse(spec, "%s: is the last argument; must be %s", option->name, form.data);
            rpo_text_free(&form);
            return status;
        }
        value = argv[1];
        *used = 2;
    }
    return store(spec, option, target, value, (size_t)argc);
}

rpo_status rpo_options_read(const rpo_options_spec *spec, void *target, int argc, char **argv) {
    size_t alone = 0;
    for (int i = 0, used = 0; i < argc; i += used) {
        used = 1;
        if (argv[i][0] == '-' && argv[i][1] != '\0') {
            RPO_TRY(read_option(spec, target, argc - i, argv + i, &used));
            continue;
        }
        const rpo_option *option = find_standing_alone(spec, alone++);
        if (option == NULL)
            return refuse_unknown(spec, argv[i]);
        RPO_TRY(store(spec, option, target, argv[i], 1));
    }
    for (size_t i = 0; i < spec->num_options; ++i)
        if (spec->options[i].required && stands_alone(&spec->options[i]) && alone-- == 0)
            return refuse_missing(spec, &spec->options[i]);
    return RPO_OK;
}

void rpo_options_free(const rpo_options_spec *spec, void *target) {
    for (size_t i = 0; i < spec->num_options; ++i)
        if (spec->options[i].type == RPO_OPTION_LIST) {
            rpo_option_list *list = target_of(target, &spec->options[i]);
            rpo_free(list->items);
            *list = (rpo_option_list){0};
        }
}
