/* loop.h - the steps of a run: train, evaluate, save, until the schedule ends or a signal asks to stop. */
#ifndef RPO_HOST_RUN_LOOP_H
#define RPO_HOST_RUN_LOOP_H

#include "host/checkpoint/checkpoint.h"
#include "host/metrics/metrics.h"
#include "host/run/inputs.h"
#include "host/run/watch.h"
#include "host/train/optimizer.h"
#include "host/train/schedule.h"

/* Non-finite steps in a row after which a run stops. */
enum { RPO_MAX_SKIPPED_STEPS = 5 };

typedef struct rpo_loop {
    const rpo_inputs *inputs;
    rpo_objective train, eval; /* eval.dataset NULL: nothing is held out */
    rpo_optimizer *optimizer;
    rpo_schedule schedule;
    rpo_trainer_state *state; /* where the run stands; advanced by every step */
    rpo_metrics *metrics;
    rpo_watch watch; /* begun by rpo_loop_run */
    int lock;        /* rank 0's, on the run folder: asked before every save whether it still holds */
    bool starts_at_reference; /* the policy begins as its own reference: the first loss is known */
} rpo_loop;

/*
 * Runs from state->step to the schedule's end and leaves a checkpoint there. INTERRUPTED after a signal, once
 * the state is on disk (before the first step there is nothing to save); NONFINITE when the run diverged.
 */
rpo_status rpo_loop_run(rpo_loop *loop);

#endif
