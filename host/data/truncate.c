/* truncate.c - the lengths that truncation leaves. */
#include "host/data/truncate.h"

rpo_status rpo_truncate_check(const rpo_data_options *options) {
    if (options->max_length < 2)
        return rpo_error_set(RPO_ERROR_INVALID_INPUT, "data.max_length: is %d; must be 2 or more",
                             options->max_length);
    if (options->max_prompt_length < 1 || options->max_prompt_length >= options->max_length)
        return rpo_error_set(RPO_ERROR_INVALID_INPUT,
                             "data.max_prompt_length: is %d; must be from 1 to data.max_length - 1 = %d",
                             options->max_prompt_length, options->max_length - 1);
    return RPO_OK;
}

static bool fits(size_t prompt, size_t response, size_t max_length) {
    return prompt < max_length && response <= max_length - prompt;
}

rpo_kept_lengths rpo_truncate_plan(size_t prompt, size_t longest_response, const rpo_data_options *options) {
    const size_t max_length = (size_t)options->max_length, max_prompt = (size_t)options->max_prompt_length;
    if (!fits(prompt, longest_response, max_length) && prompt > max_prompt)
        prompt = max_prompt;
    return (rpo_kept_lengths){.prompt = (int32_t)prompt, .max_response = (int32_t)(max_length - prompt)};
}
