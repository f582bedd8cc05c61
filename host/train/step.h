/* step.h - loss and gradients of one global batch, in the two phases of the design. */
#ifndef RPO_HOST_TRAIN_STEP_H
#define RPO_HOST_TRAIN_STEP_H

#include "host/train/objective.h"

/*
 * Leaves the batch's gradients, summed over ranks, in the model's gradient array.
 *
 *     1  forward of every sequence, micro-batch by micro-batch          (nothing kept)
 *     2  gather of the log-probs over ranks
 *     3  contrast: the loss and one scalar g per sequence
 *     4  each micro-batch again: forward that keeps activations, backward seeded with g
 *
 * Where this rank's share is a single micro-batch, 1 keeps its activations and 4 is the backward alone. sft
 * knows g beforehand and has phase 4 only. With a loss that is not finite, phase 4 is left out and the
 * gradients are zero.
 *
 * figures   out, of the whole batch on every rank
 * records   in, [num_rows] the batch's records in the epoch's order
 * The result depends neither on micro_batch_tokens nor on the number of ranks (rounding aside).
 */
rpo_status rpo_step_gradients(rpo_figures *figures, const rpo_objective *objective,
                              rpo_objective_memory *memory, const int64_t *records, int64_t num_rows);

#endif
