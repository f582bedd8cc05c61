/*
 * watch.h - looks at a run's figures as they come and warns, once each, when they tell of a run that goes wrong: chosen responses
 * that lose more of their probability than a healthy run takes from them, and an accuracy below the one the run began with.
 */
#ifndef RPO_HOST_RUN_WATCH_H
#define RPO_HOST_RUN_WATCH_H

#include "host/metrics/metrics.h"

/*
 * Nats per token that chosen responses may lose since the start. Per token, since the sum of a response grows with its length: what
 * is much for ten tokens is little for five hundred. At 1 each token of a chosen response is, in the geometric mean, e = 2.7 times
 * less likely than before training. Contrastive losses do take some: the quickstart 0.1.
 */
#define RPO_WATCH_FALL 1.0

typedef struct rpo_watch_options {
    double beta; /* loss.beta: a reward is beta times a log-ratio. NAN for sft, which has no rewards */
    double train_tokens; /* mean tokens of a chosen response's labels, of the training data */
    double eval_tokens;  /* and of the held-out data */
    bool
        starts_at_reference; /* the policy begins as its own reference: all rewards are 0 then, and half the pairs won is chance */
} rpo_watch_options;

/* Steps taken together: single batches are too noisy to judge by. */
typedef struct rpo_watch_window {
    int64_t steps, rows;
    double chosen, margin, wins,
        logps; /* sums over rows of rewards/chosen, rewards/margins, accuracy, logps/chosen */
} rpo_watch_window;

/* What a run began with, or a window: means over `rows` rows. */
typedef struct rpo_watch_level {
    double rows;
    double fall; /* nats per token that chosen responses have lost against the reference */
    double accuracy, margin;
    bool is_chance; /* the accuracy is not measured but that of a policy that is its own reference */
} rpo_watch_level;

typedef struct rpo_watch {
    rpo_watch_options options;
    rpo_metrics *metrics;
    rpo_watch_window window;
    rpo_watch_level start; /* of training batches */
    bool has_start, warned_of_fall, warned_of_accuracy;
} rpo_watch;

/* `metrics` NULL: nothing is said. */
void rpo_watch_begin(rpo_watch *watch, const rpo_watch_options *options, rpo_metrics *metrics);

/* Figures of a step's batch. `rows`: pairs, or half as many as unpaired records. */
void rpo_watch_step(rpo_watch *watch, int64_t step, const rpo_figures *figures, int64_t rows);

/* Figures of the held-out data at the start and now. */
void rpo_watch_evaluation(rpo_watch *watch, int64_t step, const rpo_figures *start, const rpo_figures *now,
                          int64_t rows);

#endif
