/* watch.c - when the figures of a run call for a word. */
#include "host/run/watch.h"

#include <math.h>

/* A window of training batches is judged when it holds this much of both. */
enum { WINDOW_STEPS = 10, WINDOW_ROWS = 64 };

/* Standard errors that an accuracy must lie below its start: one window in 30,000 of a run that stays at chance. */
static const double standard_errors = 4;

/* Of a reward, beside beta: two log-probs of one sequence differ by about 1e-5 of their size when they were packed differently. */
static const double rounding = 1e-4;

/* What a policy that is its own reference begins with: all rewards are 0, and guessing would win half of the pairs. */
static const rpo_watch_level guessing = {.accuracy = 0.5, .is_chance = true};

void rpo_watch_begin(rpo_watch *watch, const rpo_watch_options *options, rpo_metrics *metrics) {
    *watch = (rpo_watch){.options = *options, .metrics = metrics};
    watch->has_start = options->starts_at_reference;
    watch->start = guessing;
}

static void check_fall(rpo_watch *watch, int64_t step, double fall, const char *where) {
    if (watch->warned_of_fall || !(fall > RPO_WATCH_FALL))
        return;
    watch->warned_of_fall = true;
    rpo_metrics_warn(
        watch->metrics,
        "step %lld: %s, chosen responses have lost %.2f nats a token since the start (above %g the run is "
        "diverging): each token is %.3g times less likely on average, the model forgets what it should "
        "prefer. A lower "
        "train.learning_rate, a larger loss.beta or fewer steps may help",
        (long long)step, where, fall, RPO_WATCH_FALL, exp(fall));
}

/* The accuracy's standard error around the start's; one success and one failure more keep it above 0 where all pairs are won. */
static double standard_error(const rpo_watch_level *start, double rows) {
    if (start->is_chance)
        return sqrt(0.25 / rows);
    const double share = (start->accuracy * rows + 1) / (rows + 2);
    return sqrt(2 * share * (1 - share) / rows); /* both accuracies are measured */
}

static void check_accuracy(rpo_watch *watch, int64_t step, const rpo_watch_level *start,
                           const rpo_watch_level *now, double reward_rounding, const char *where) {
    const bool fell = now->accuracy < start->accuracy - standard_errors * standard_error(start, now->rows);
    /* Ties count as lost, so where nothing has been learnt yet the accuracy alone would mislead. */
    const bool worse = now->margin < start->margin - reward_rounding;
    if (watch->warned_of_accuracy || !fell || !worse)
        return;
    watch->warned_of_accuracy = true;
    rpo_metrics_warn(
        watch->metrics,
        "step %lld: %s, the reward accuracy is %.1f %%, below the %.1f %% %s by more than chance explains: "
        "the "
        "model learns to prefer what was rejected. Look for swapped responses (rpo preview); a lower "
        "train.learning_rate may help",
        (long long)step, where, 100 * now->accuracy, 100 * start->accuracy,
        start->is_chance ? "of guessing" : "it began with");
}

static double rounding_of(const rpo_watch *watch, double logps) {
    return rounding * watch->options.beta * (1 + fabs(logps));
}

static void add(rpo_watch_window *window, const rpo_figures *figures, int64_t rows) {
    const double weight = (double)rows;
    ++window->steps;
    window->rows += rows;
    window->chosen += weight * figures->rewards_chosen;
    window->margin += weight * figures->rewards_margins;
    window->wins += weight * figures->rewards_accuracies;
    window->logps += weight * figures->logps_chosen;
}

void rpo_watch_step(rpo_watch *watch, int64_t step, const rpo_figures *figures, int64_t rows) {
    rpo_watch_window *window = &watch->window;
    if (!isfinite(figures->rewards_chosen) || !isfinite(figures->rewards_accuracies) || rows < 1)
        return; /* sft, an empty batch, or a step that was skipped */
    add(window, figures, rows);
    if (window->steps < WINDOW_STEPS || window->rows < WINDOW_ROWS)
        return;
    const double count = (double)window->rows;
    const rpo_watch_level now = {
        .rows = count,
        .fall = -window->chosen / count / watch->options.beta / watch->options.train_tokens,
        .accuracy = window->wins / count,
        .margin = window->margin / count,
    };
    if (!watch->has_start) {
        watch->start = now; /* the first window is close enough to it */
        watch->has_start = true;
    } else {
        check_fall(watch, step, now.fall - watch->start.fall, "in training");
        check_accuracy(watch, step, &watch->start, &now, rounding_of(watch, window->logps / count),
                       "in training");
    }
    *window = (rpo_watch_window){0};
}

void rpo_watch_evaluation(rpo_watch *watch, int64_t step, const rpo_figures *start, const rpo_figures *now,
                          int64_t rows) {
    check_fall(watch, step, (start->logps_chosen - now->logps_chosen) / watch->options.eval_tokens,
               "held out");
    if (!isfinite(now->rewards_accuracies) || !isfinite(start->rewards_accuracies))
        return;
    const rpo_watch_level measured = {.accuracy = start->rewards_accuracies,
                                      .margin = start->rewards_margins};
    const rpo_watch_level level = {
        .rows = (double)rows, .accuracy = now->rewards_accuracies, .margin = now->rewards_margins};
    check_accuracy(watch, step, watch->options.starts_at_reference ? &guessing : &measured, &level,
                   rounding_of(watch, now->logps_chosen), "held out");
}
