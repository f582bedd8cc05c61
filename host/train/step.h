/*
 * step.h - one training step: loss, gradients and update of a global batch.
 *
 *     1  forward        log-probs of every sequence
 *     2  gather         into contrast order, across ranks
 *     3  contrast       the loss and one scalar per sequence
 *     4  backward       seeded with it
 *     5  update         norm, clip factor, skip decision and optimizer, all on the device
 *
 * A group that is a single micro-batch goes through 1 to 4 at once: its forward is recorded. Of a group of several, the
 * last micro-batches whose tapes fit the memory keep them; the others are forwarded again. sft knows its scalars
 * beforehand and has phases 1, 4 and 5. Everything is enqueued; the host waits once, at the end.
 */
#ifndef RPO_HOST_TRAIN_STEP_H
#define RPO_HOST_TRAIN_STEP_H

#include "host/train/objective.h"
#include "host/train/optimizer.h"

typedef struct rpo_step {
    rpo_desk desk;
    const rpo_objective *objective;
    rpo_optimizer *optimizer; /* NULL: gradients only */
    float *exchange;          /* host [trainable]: gradients on their way between ranks; NULL for one */
} rpo_step;

/* What a step leaves for the host. */
typedef struct rpo_step_result {
    rpo_figures figures;
    double grad_norm;
    rpo_skip_reason skip; /* the weights were left as they are */
    bool updated;
    int64_t updates;      /* that changed the weights, over the whole run */
    int64_t tokens, rows; /* of the batch; forwarded by this rank */
    float largest_logp;   /* magnitude, of any sequence */
} rpo_step_result;

/* Room for every step of the objective: no step allocates anything. */
rpo_status rpo_step_open(rpo_step *step, const rpo_objective *objective, rpo_optimizer *optimizer);
void rpo_step_close(rpo_step *step);

/* Before the first step: how many updates the run has made. */
rpo_status rpo_step_begin(rpo_step *step, int64_t updates);

/*
 * Runs a step. Without an optimizer the gradients, summed over ranks, stay in the model's memory.
 * records  [num_rows] the batch's records in the epoch's order
 * The result depends neither on micro_batch_tokens nor on the number of ranks (rounding aside). Where no block has both
 * sides nothing is learned: the gradients are 0 and the weights stay.
 */
rpo_status rpo_step_run(rpo_step *step, rpo_step_result *result, const int64_t *records, int64_t num_rows,
                        double learning_rate);

#endif
