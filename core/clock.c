/* clock.c - time that only moves forward. */
#include <time.h>

#include "core/core.h"

double rpo_now(void) {
    struct timespec now = {0};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}
