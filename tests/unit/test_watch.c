/* test_watch.c - runs that go wrong are warned of once, healthy ones never. */
#include <math.h>
#include <string.h>

#include "host/run/watch.h"
#include "tests/train_fixture.h"

typedef struct fixture {
    char folder[64];
    rpo_metrics *metrics;
    rpo_watch watch;
} fixture;

static const rpo_watch_options usual = {
    .beta = 0.1, .train_tokens = 100, .eval_tokens = 50, .starts_at_reference = true};

static void open_fixture(fixture *f, const rpo_watch_options *options) {
    make_folder(f->folder);
    must(rpo_metrics_open(&f->metrics, f->folder, 0));
    rpo_watch_begin(&f->watch, options, f->metrics);
}

/* Closes it and counts the lines of log.txt that hold `text`. */
static int close_and_count(fixture *f, const char *text) {
    char path[256], *log = NULL;
    size_t size = 0;
    int count = 0;
    rpo_metrics_close(f->metrics);
    path_in(path, f->folder, "log.txt");
    must(rpo_read_file(path, 1 << 16, &log, &size));
    for (const char *at = strstr(log, text); at != NULL; at = strstr(at + 1, text))
        ++count;
    rpo_free(log);
    must(rpo_remove_tree(f->folder));
    return count;
}

/* A batch whose chosen responses have lost `fall` nats each, with that margin and share of wins. */
static rpo_figures batch(double fall, double margin, double wins) {
    rpo_figures figures = rpo_figures_empty();
    figures.loss = 0.5;
    figures.rewards_chosen = -0.1 * fall;
    figures.rewards_margins = margin;
    figures.rewards_accuracies = wins;
    figures.logps_chosen = -150 - fall;
    return figures;
}

static void take_steps(fixture *f, int64_t first, int count, const rpo_figures *figures) {
    for (int i = 0; i < count; ++i)
        rpo_watch_step(&f->watch, first + i, figures, 8);
}

Test(watch, a_healthy_run_is_left_alone) {
    fixture f;
    open_fixture(&f, &usual);
    const rpo_figures before = batch(0, 0, 0);
    rpo_watch_evaluation(&f.watch, 0, &before, &before, 100);
    for (int i = 0; i < 1000; ++i) {
        /* Wins begin at 0 (all rewards are rounding), then grow; the chosen responses lose up to 0.9 nats a token. */
        const double share = i / 1000.0;
        const rpo_figures now = batch(90 * share, i == 0 ? -1e-5 : 3 * share, i == 0 ? 0 : 0.5 + 0.4 * share);
        rpo_watch_step(&f.watch, i + 1, &now, 8);
        const rpo_figures held_out = batch(45 * share, 2 * share, i == 0 ? 0 : 0.5 + 0.3 * share);
        rpo_watch_evaluation(&f.watch, i + 1, &before, &held_out, 100);
    }
    cr_expect_eq(close_and_count(&f, "warning"), 0);
}

/* Before anything is learnt all pairs may be lost by rounding alone. */
Test(watch, rounding_is_no_loss) {
    fixture f;
    open_fixture(&f, &usual);
    const rpo_figures nothing = batch(0, -1e-4, 0), start = batch(0, 0, 0);
    take_steps(&f, 1, 100, &nothing);
    rpo_watch_evaluation(&f.watch, 100, &start, &nothing, 10000);
    cr_expect_eq(close_and_count(&f, "warning"), 0);
}

Test(watch, lost_probability_is_warned_of_once) {
    fixture f;
    open_fixture(&f, &usual);
    const rpo_figures lost = batch(101, 3, 0.9); /* of 100 tokens */
    take_steps(&f, 1, 9, &lost);
    rpo_metrics_log(f.metrics, "not yet");
    take_steps(&f, 10, 91, &lost);
    const rpo_figures start = batch(0, 0, 0), held_out = batch(51, 3, 0.9);
    rpo_watch_evaluation(&f.watch, 100, &start, &held_out, 100);
    char path[256], *log = NULL;
    size_t size = 0;
    path_in(path, f.folder, "log.txt");
    must(rpo_read_file(path, 1 << 16, &log, &size));
    cr_expect_eq(
        strncmp(log, "not yet\nwarning: step 10: in training, chosen responses have lost 1.01 nats a token",
                80),
        0, "%s", log);
    rpo_free(log);
    cr_expect_eq(close_and_count(&f, "warning"), 1);
}

/* The held-out responses are compared with themselves: no reference is needed, so sft is watched too. */
Test(watch, held_out_responses_count_by_the_token) {
    const double falls[] = {49.9, 50.1};
    for (int i = 0; i < 2; ++i) {
        fixture f;
        open_fixture(&f, &usual);
        rpo_figures start = rpo_figures_empty(), now = rpo_figures_empty();
        start.logps_chosen = -80;
        now.logps_chosen = -80 - falls[i];
        rpo_watch_evaluation(&f.watch, 7, &start, &now, 100);
        cr_expect_eq(close_and_count(&f, "warning: step 7: held out, chosen responses have lost"), i);
    }
}

Test(watch, an_accuracy_below_guessing_is_warned_of_once) {
    /* A window is 10 steps of 8 rows; four standard errors of guessing are 4 * 0.5 / sqrt(80) = 22.4 %. */
    const double wins[] = {0.28, 0.27};
    for (int i = 0; i < 2; ++i) {
        fixture f;
        open_fixture(&f, &usual);
        const rpo_figures worse = batch(1, -1, wins[i]), start = batch(0, 0, 0);
        take_steps(&f, 1, 100, &worse);
        rpo_watch_evaluation(&f.watch, 100, &start, &worse, 80);
        cr_expect_eq(
            close_and_count(
                &f, "warning: step 10: in training, the reward accuracy is 27.0 %, below the 50.0 % of"),
            i);
    }
}

/* With another reference the run begins anywhere: that level counts, not guessing. */
Test(watch, the_start_is_measured_where_the_reference_is_another_model) {
    rpo_watch_options other = usual;
    other.starts_at_reference = false;
    fixture f;
    open_fixture(&f, &other);
    const rpo_figures level = batch(150, -2, 0.2), better = batch(170, -1, 0.3), start = batch(0, 5, 1);
    take_steps(&f, 1, 20, &level);
    take_steps(&f, 21, 20, &better);
    const rpo_figures nearly = batch(0, 4, 0.9), fallen = batch(0, 4, 0.5);
    rpo_watch_evaluation(&f.watch, 40, &start, &nearly,
                         18); /* of 18 pairs two are lost: no sign of anything */
    rpo_metrics_log(f.metrics, "so far so good");
    rpo_watch_evaluation(&f.watch, 50, &start, &fallen, 18);
    const rpo_figures lost = batch(251, -1, 0.3);
    take_steps(&f, 51, 10, &lost);
    char path[256], *log = NULL;
    size_t size = 0;
    path_in(path, f.folder, "log.txt");
    must(rpo_read_file(path, 1 << 16, &log, &size));
    cr_expect_eq(strncmp(log, "so far so good\n", 15), 0, "%s", log);
    cr_expect_not_null(
        strstr(log, "step 50: held out, the reward accuracy is 50.0 %, below the 100.0 % it began with"));
    cr_expect_not_null(strstr(log, "step 60: in training, chosen responses have lost 1.01 nats a token"));
    rpo_free(log);
    cr_expect_eq(close_and_count(&f, "warning"), 2);
}

/* Steps without figures (sft, empty blocks, skipped steps) are passed over. */
Test(watch, steps_without_rewards_are_no_steps) {
    fixture f;
    open_fixture(&f, &usual);
    const rpo_figures none = rpo_figures_empty(), lost = batch(200, 1, 0.9);
    take_steps(&f, 1, 50, &none);
    take_steps(&f, 51, 9, &lost);
    rpo_metrics_log(f.metrics, "not yet");
    take_steps(&f, 60, 1, &lost);
    cr_expect_eq(close_and_count(&f, "not yet\nwarning: step 60"), 1);
}
