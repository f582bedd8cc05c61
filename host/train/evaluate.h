/* evaluate.h - figures of a whole dataset under a model, without gradients. */
#ifndef RPO_HOST_TRAIN_EVALUATE_H
#define RPO_HOST_TRAIN_EVALUATE_H

#include "host/train/objective.h"

/* Rows in file order, cut into contrast blocks as they come. INTERRUPTED when a signal asks to stop.
 * `metrics` (may be NULL) shows the progress. *tokens = tokens run. */
rpo_status rpo_evaluate(rpo_figures *figures, int64_t *tokens, const rpo_objective *objective,
                        rpo_metrics *metrics);

/* Records [first, first + count) of the dataset, a file's say, with figures of their own. */
typedef struct rpo_evaluation_part {
    int64_t first, count; /* in */
    rpo_figures figures;  /* out: as if these records were all; empty where count is 0 */
} rpo_evaluation_part;

/* The same, and figures of each part besides, out of the same pass. */
rpo_status rpo_evaluate_parts(rpo_figures *figures, int64_t *tokens, rpo_evaluation_part *parts,
                              size_t num_parts, const rpo_objective *objective, rpo_metrics *metrics);

/* Log-probs of every sequence of a dataset under `model`: the reference pass. Errors as above. */
rpo_status rpo_score_dataset(rpo_scores *scores, rpo_comm *comm, rpo_model *model, const rpo_dataset *dataset,
                             int64_t micro_batch_tokens, rpo_metrics *metrics, const char *phase);

#endif
