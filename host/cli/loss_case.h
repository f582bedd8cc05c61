/*
 * loss_case.h - one loss case: what `rpo loss` reads.
 */
#ifndef RPO_HOST_CLI_LOSS_CASE_H
#define RPO_HOST_CLI_LOSS_CASE_H

#include "core/json.h"

typedef struct rpo_loss_case {
    int64_t m, n, dim;
    float *policy_chosen_logps, *reference_chosen_logps;     /* [m] */
    float *policy_rejected_logps, *reference_rejected_logps; /* [n] */
    float *chosen_embeddings;                                /* [m][dim]; NULL for kinds without */
    float *rejected_embeddings;                              /* [n][dim]; NULL for kinds without */
    rpo_loss_options options;
} rpo_loss_case;

/* Reads and checks a whole case; INVALID_INPUT with file, line and key otherwise. */
rpo_status rpo_loss_case_read(rpo_loss_case *one, const rpo_json *json);
void rpo_loss_case_free(rpo_loss_case *one);

#endif
