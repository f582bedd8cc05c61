/*
 * truncate.h - how long prompt and response stay.
 *
 * A record over max_length first has its prompt cut to max_prompt_length. Where that does not suffice, its
 * responses are cut to what the kept prompt leaves of max_length. The longer response of a pair decides
 * whether the prompt is cut, so that both sides keep the same one. BOS belongs to the prompt and is never
 * cut; EOS belongs to the response, and a response that is cut loses it.
 *
 * This is the DPO code's rule but for one point: that code cuts responses to max_length - max_prompt_length
 * however short the prompt is, and so drops labels that would fit. The published RPO code leaves responses
 * what the prompt does not take, as here, but decides for each side alone, so that the two sides of a pair
 * may see different prompts, and puts EOS behind a response that it cut.
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
