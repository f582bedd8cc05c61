/* schedule.c - steps, epochs and the learning rate. */
#include "host/train/schedule.h"

#include <math.h>

rpo_schedule rpo_schedule_make(int64_t records, int64_t records_a_step, double epochs, int64_t max_steps) {
    rpo_schedule schedule = {.records = records, .records_a_step = records_a_step};
    schedule.steps_an_epoch = records / records_a_step + (records % records_a_step != 0);
    const double whole = floor(epochs);
    schedule.steps = max_steps > 0 ? max_steps
                                   : (int64_t)whole * schedule.steps_an_epoch +
                                         (int64_t)ceil((epochs - whole) * (double)schedule.steps_an_epoch);
    return schedule;
}

rpo_schedule_place rpo_schedule_at(const rpo_schedule *schedule, int64_t step) {
    rpo_schedule_place place = {.epoch = step / schedule->steps_an_epoch};
    place.position = step % schedule->steps_an_epoch * schedule->records_a_step;
    const int64_t left = schedule->records - place.position;
    place.count = left < schedule->records_a_step ? left : schedule->records_a_step;
    return place;
}

double rpo_schedule_epochs(const rpo_schedule *schedule, int64_t step) {
    const rpo_schedule_place next = rpo_schedule_at(schedule, step);
    return (double)next.epoch + (double)next.position / (double)schedule->records;
}

double rpo_schedule_learning_rate(double learning_rate, int64_t warmup_steps, int64_t step) {
    if (step + 1 >= warmup_steps)
        return learning_rate;
    return learning_rate * ((double)(step + 1) / (double)warmup_steps);
}
