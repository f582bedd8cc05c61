/* evaluate.h - figures of a whole dataset under a model, without gradients. */
#ifndef RPO_HOST_TRAIN_EVALUATE_H
#define RPO_HOST_TRAIN_EVALUATE_H

#include "host/metrics/metrics.h"
#include "host/train/objective.h"

/*
 * Rows in file order, cut into contrast blocks as they come. INTERRUPTED when a signal asks to stop.
 * known    the policy's log-probs where they are known (it is still its own reference): no forward runs; or NULL
 * metrics  shows the progress; may be NULL
 * *tokens  of all sequences
 */
rpo_status rpo_evaluate(rpo_figures *figures, int64_t *tokens, const rpo_objective *objective,
                        const rpo_scores *known, rpo_metrics *metrics);

/* Records [first, first + count) of the dataset, a file's say, with figures of their own. */
typedef struct rpo_evaluation_part {
    int64_t first, count; /* in */
    rpo_figures figures;  /* out: as if these records were all; empty where count is 0 */
} rpo_evaluation_part;

/* The same, and figures of each part besides, out of the same forwards. */
rpo_status rpo_evaluate_parts(rpo_figures *figures, int64_t *tokens, rpo_evaluation_part *parts,
                              size_t num_parts, const rpo_objective *objective, const rpo_scores *known,
                              rpo_metrics *metrics);

/* Called with the records done so far and a batch's log-probs, in the order of `records`, before the next batch. */
typedef rpo_status rpo_scored(void *user, const rpo_global_batch *batch, const float *logps);

/* Log-probs of every sequence of `count` records (NULL: all of the dataset, from 0) under the objective's model. Errors
 * as above. */
rpo_status rpo_score_records(const rpo_objective *objective, const int64_t *records, int64_t count,
                             rpo_scored *scored, void *user, rpo_metrics *metrics, const char *phase);

#endif
