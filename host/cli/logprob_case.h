/*
 * logprob_case.h - one log-prob case: packed logits, labels and the gradient of each sequence.
 */
#ifndef RPO_HOST_CLI_LOGPROB_CASE_H
#define RPO_HOST_CLI_LOGPROB_CASE_H

#include "core/json.h"

typedef struct rpo_logprob_case {
    int64_t rows, vocab_size, num_sequences;
    bool average;
    float *logits;       /* [rows][vocab_size] */
    int32_t *labels;     /* [rows] */
    int32_t *cu_seqlens; /* [num_sequences + 1] */
    float *coef;         /* [num_sequences] */
} rpo_logprob_case;

/* Reads and checks a case of kind "logps"; every fault names file, line and key. rpo_logprob_case_free either
 * way. */
rpo_status rpo_logprob_case_read(rpo_logprob_case *one, const rpo_json *json);
void rpo_logprob_case_free(rpo_logprob_case *one);

#endif
