/* schedule.h - simt's schedules for tests written in C. */
#ifndef RPO_SIMT_SCHEDULE_H
#define RPO_SIMT_SCHEDULE_H

#ifdef __cplusplus
extern "C" {
#endif

/* How many schedules there are; they are numbered from 0. */
int rpo_simt_schedules(void);

/* Kernels launched from now on run under this schedule. */
void rpo_simt_set_schedule(int schedule);

const char *rpo_simt_schedule_name(int schedule);

#ifdef __cplusplus
}
#endif
#endif
