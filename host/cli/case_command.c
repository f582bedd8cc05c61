/* case_command.c - arguments, file and answer of the commands that compute one case. */
#include "host/cli/case_command.h"

#include <string.h>

static const size_t max_case_bytes = (size_t)1 << 30;

static const char *const device_names[] = {[RPO_DEVICE_CPU] = "cpu", [RPO_DEVICE_CUDA] = "cuda", NULL};

const rpo_option rpo_case_options[RPO_NUM_CASE_OPTIONS] = {
    {.name = "CASE.json",
     .type = RPO_OPTION_TEXT,
     .offset = offsetof(rpo_case_arguments, path),
     .required = true,
     .meaning = "the case, as below"},
    {.name = "--device",
     .type = RPO_OPTION_CHOICE,
     .offset = offsetof(rpo_case_arguments, device),
     .choices = device_names,
     .meaning = "where it is computed (default cpu)"},
};

rpo_status rpo_case_command_open(rpo_case_command *command, const rpo_options_spec *spec, int argc,
                                 char **argv) {
    *command = (rpo_case_command){0};
    rpo_case_arguments arguments = {.device = RPO_DEVICE_CPU};
    RPO_TRY(rpo_options_read(spec, &arguments, argc, argv));
    rpo_status status = rpo_json_read_file(&command->json, arguments.path, max_case_bytes);
    if (status == RPO_OK && !cJSON_IsObject(rpo_json_root(command->json)))
        status = rpo_json_fault(command->json, rpo_json_root(command->json), "case", "must be an object");
    if (status == RPO_OK) {
        rpo_context_options options = RPO_CONTEXT_OPTIONS_INIT;
        options.device = (rpo_device)arguments.device;
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
