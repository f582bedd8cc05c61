/*
 * truncate.h - how long prompt and response stay, as in the published preference code.
 *
 * A record over max_length first has its prompt cut to max_prompt_length. Where that does not suffice, its
 * responses are cut to max_length - max_prompt_length, also beside a shorter prompt: longer responses would
 * be a gain, but runs would no longer compare with published ones. The longer response of a pair decides, so
 * that both sides keep the same prompt. BOS belongs to the prompt and is never cut; EOS belongs to the
 * response, and a response that is cut loses it.
 */
#ifndef RPO_HOST_DATA_TRUNCATE_H
#define RPO_HOST_DATA_TRUNCATE_H

#include "host/data/dataset.h"

typedef struct rpo_kept_lengths {
    int32_t prompt;       /* tokens of the prompt that stay, BOS counted; >= 1 */
    int32_t max_response; /* most tokens a response may keep, EOS counted; >= 1 */
} rpo_kept_lengths;

/* Checks that max_length and max_prompt_length leave room for a label. */
rpo_status rpo_truncate_check(const rpo_data_options *options);

/* `prompt` counts BOS (>= 1), `longest_response` EOS (>= 1). */
rpo_kept_lengths rpo_truncate_plan(size_t prompt, size_t longest_response, const rpo_data_options *options);

#endif
