/* case_command.c - arguments, file and answer of the commands that compute one case. */
#include "host/cli/case_command.h"

#include <string.h>

static const size_t max_case_bytes = (size_t)1 << 30;

typedef struct case_arguments {
    const char *path;
    rpo_device device;
    bool help;
} case_arguments;

static rpo_status read_device(rpo_device *device, const char *command, const char *name) {
    if (name != NULL && strcmp(name, "cpu") == 0)
        *device = RPO_DEVICE_CPU;
    else if (name != NULL && strcmp(name, "cuda") == 0)
        *device = RPO_DEVICE_CUDA;
    else
        return rpo_error_set(RPO_ERROR_INVALID_INPUT, "%s: --device: is %s; must be cpu or cuda", command,
                             name != NULL ? name : "missing its value");
    return RPO_OK;
}

static rpo_status read_arguments(case_arguments *arguments, const char *command, int argc, char **argv) {
    *arguments = (case_arguments){.device = RPO_DEVICE_CPU};
    for (int i = 0; i < argc; ++i) {
        const char *argument = argv[i];
        if (strcmp(argument, "--help") == 0) {
            arguments->help = true;
            return RPO_OK;
        }
        if (strcmp(argument, "--device") == 0) {
            ++i;
            RPO_TRY(read_device(&arguments->device, command, i < argc ? argv[i] : NULL));
        } else if (strncmp(argument, "--device=", 9) == 0) {
            RPO_TRY(read_device(&arguments->device, command, argument + 9));
        } else if (argument[0] == '-') {
            return rpo_error_set(RPO_ERROR_INVALID_INPUT, "%s: %s: unknown option; allowed: --device, --help",
                                 command, argument);
        } else if (arguments->path != NULL) {
            return rpo_error_set(RPO_ERROR_INVALID_INPUT, "%s: %s: one case file is enough", command,
                                 argument);
        } else {
            arguments->path = argument;
        }
    }
    if (arguments->path == NULL)
        return rpo_error_set(RPO_ERROR_INVALID_INPUT,
                             "%s: no case file given; usage: rpo %s CASE.json [--device cpu|cuda]", command,
                             command);
    return RPO_OK;
}

rpo_status rpo_case_command_open(rpo_case_command *command, const char *name, int argc, char **argv) {
    *command = (rpo_case_command){0};
    case_arguments arguments;
    RPO_TRY(read_arguments(&arguments, name, argc, argv));
    if (arguments.help) {
        command->help = true;
        return RPO_OK;
    }
    rpo_status status = rpo_json_read_file(&command->json, arguments.path, max_case_bytes);
    if (status == RPO_OK && !cJSON_IsObject(rpo_json_root(command->json)))
        status = rpo_json_fault(command->json, rpo_json_root(command->json), "case", "must be an object");
    if (status == RPO_OK) {
        rpo_context_options options = RPO_CONTEXT_OPTIONS_INIT;
        options.device = arguments.device;
        status = rpo_context_create(&command->context, &options);
    }
    if (status != RPO_OK)
        rpo_case_command_close(command);
    return status;
}

void rpo_case_command_close(rpo_case_command *command) {
    rpo_context_free(command->context);
    rpo_json_free(command->json);
    *command = (rpo_case_command){0};
}

static bool is_listed(const char *key, const char *const *keys, size_t count) {
    for (size_t i = 0; i < count; ++i)
        if (strcmp(key, keys[i]) == 0)
            return true;
    return false;
}

rpo_status rpo_case_check_keys(const rpo_json *json, const char *const *keys, size_t count) {
    for (const cJSON *member = rpo_json_root(json)->child; member != NULL; member = member->next) {
        if (strcmp(member->string, "expect") == 0 || is_listed(member->string, keys, count))
            continue;
        const char *nearest = rpo_nearest_word(member->string, keys, count);
        if (nearest != NULL)
            return rpo_json_fault(json, member, member->string, "unknown key; the nearest allowed is %s",
                                  nearest);
        return rpo_json_fault(json, member, member->string, "unknown key");
    }
    return RPO_OK;
}

rpo_status rpo_case_append_floats(rpo_text *text, const char *name, const float *values, int64_t count,
                                  int64_t row_length) {
    RPO_TRY(rpo_json_append_string(text, name));
    RPO_TRY(rpo_text_append(text, ": [", 3));
    for (int64_t i = 0; i < count; ++i) {
        const bool row_begins = row_length > 0 && i % row_length == 0;
        const bool row_ends = row_length > 0 && (i + 1) % row_length == 0;
        if (i > 0)
            RPO_TRY(rpo_text_append(text, ", ", 2));
        if (row_begins)
            RPO_TRY(rpo_text_append(text, "[", 1));
        RPO_TRY(rpo_json_append_number(text, (double)values[i]));
        if (row_ends)
            RPO_TRY(rpo_text_append(text, "]", 1));
    }
    return rpo_text_append(text, "]", 1);
}
