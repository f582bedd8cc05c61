/* clock.c - time that only moves forward. */
#include <time.h>

#include "core/core.h"

double rpo_now(void) {
    struct timespec now = {0};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

int64_t rpo_wall_clock(void) {
    return (int64_t)time(NULL);
}

const char *rpo_utc_text(char text[RPO_UTC_SIZE], int64_t seconds) {
    const time_t moment = (time_t)seconds;
    struct tm parts;
    text[0] = '\0';
    if (gmtime_r(&moment, &parts) != NULL)
        strftime(text, RPO_UTC_SIZE, "%Y-%m-%dT%H:%M:%SZ", &parts);
    return text;
}
