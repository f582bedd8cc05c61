/* schedule.cpp - the schedules of grid.h, for C. */
#include "kernels/simt/schedule.h"

#include "kernels/simt/grid.h"

extern "C" int rpo_simt_schedules(void) {
    return static_cast<int>(simt::Schedule::kCount);
}

extern "C" void rpo_simt_set_schedule(int schedule) {
    simt::set_schedule(static_cast<simt::Schedule>(schedule));
}

extern "C" const char *rpo_simt_schedule_name(int schedule) {
    return simt::schedule_name(static_cast<simt::Schedule>(schedule));
}
