/* test_schedule.c - steps, epochs and the learning rate as functions of the step. */
#include <criterion/criterion.h>
#include <math.h>

#include "host/train/schedule.h"

Test(schedule, steps_of_whole_and_partial_epochs) {
    const struct {
        int64_t records, records_a_step;
        double epochs;
        int64_t max_steps, steps_an_epoch, steps;
    } cases[] = {
        {64, 8, 1, 0, 8, 8},    {65, 8, 1, 0, 9, 9},   {7, 8, 1, 0, 1, 1},
        {64, 8, 2.5, 0, 8, 20}, {65, 8, 0.1, 0, 9, 1}, {64, 8, 3, 10, 8, 10},
        {64, 8, 1, 20, 8, 20},  {1, 1, 1e-9, 0, 1, 1}, {1800, 64, 1, 0, 29, 29},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; ++i) {
        const rpo_schedule made =
            rpo_schedule_make(cases[i].records, cases[i].records_a_step, cases[i].epochs, cases[i].max_steps);
        cr_expect_eq(made.steps_an_epoch, cases[i].steps_an_epoch, "case %zu: %lld", i,
                     (long long)made.steps_an_epoch);
        cr_expect_eq(made.steps, cases[i].steps, "case %zu: %lld", i, (long long)made.steps);
    }
}

Test(schedule, every_record_comes_once_an_epoch) {
    const rpo_schedule made = rpo_schedule_make(65, 8, 3, 0);
    int64_t expected_epoch = 0, seen = 0;
    for (int64_t step = 0; step < made.steps; ++step) {
        const rpo_schedule_place place = rpo_schedule_at(&made, step);
        cr_assert_eq(place.epoch, expected_epoch);
        cr_assert_eq(place.position, seen);
        cr_assert(place.count >= 1 && place.count <= 8);
        seen += place.count;
        if (seen == 65) {
            seen = 0;
            ++expected_epoch;
        }
    }
    cr_assert_eq(expected_epoch, 3);
    cr_assert_eq(seen, 0);
    cr_assert_eq(rpo_schedule_epochs(&made, 0), 0.0);
    cr_assert_eq(rpo_schedule_epochs(&made, 9), 1.0);
    cr_assert_eq(rpo_schedule_epochs(&made, 10), 1.0 + 8.0 / 65);
}

Test(schedule, warm_up_is_linear_then_constant) {
    cr_assert_eq(rpo_schedule_learning_rate(2.0, 0, 0), 2.0);
    cr_assert_eq(rpo_schedule_learning_rate(2.0, 1, 0), 2.0);
    for (int64_t step = 0; step < 300; ++step) {
        const double expected = 5e-7 * fmin(1.0, (double)(step + 1) / 150.0);
        const double got = rpo_schedule_learning_rate(5e-7, 150, step);
        cr_assert(fabs(got - expected) <= 1e-15 * expected, "step %lld: %g, expected %g", (long long)step,
                  got, expected);
    }
}
