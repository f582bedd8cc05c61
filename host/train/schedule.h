/* schedule.h - which records a step trains on and at what rate: pure functions of the step's number. */
#ifndef RPO_HOST_TRAIN_SCHEDULE_H
#define RPO_HOST_TRAIN_SCHEDULE_H

#include "core/core.h"

typedef struct rpo_schedule {
    int64_t records;        /* that take part in training */
    int64_t records_a_step; /* the last step of an epoch may have fewer */
    int64_t steps_an_epoch;
    int64_t steps; /* of the whole run */
} rpo_schedule;

typedef struct rpo_schedule_place {
    int64_t epoch;    /* pass over the data, from 0 */
    int64_t position; /* first record of the step in the epoch's permutation */
    int64_t count;    /* records of the step */
} rpo_schedule_place;

/* max_steps > 0 is the number of steps, whatever the epochs; 0 leaves it to `epochs`, which may be
 * fractional. */
rpo_schedule rpo_schedule_make(int64_t records, int64_t records_a_step, double epochs, int64_t max_steps);

rpo_schedule_place rpo_schedule_at(const rpo_schedule *schedule, int64_t step);

/* Passes over the data once `step` steps are finished. */
double rpo_schedule_epochs(const rpo_schedule *schedule, int64_t step);

/* Linear warm-up, then constant: learning_rate * min(1, (step + 1) / warmup_steps). The published code divides by
 * warmup_steps + 1 and so reaches the whole rate one step later. */
double rpo_schedule_learning_rate(double learning_rate, int64_t warmup_steps, int64_t step);

#endif
