/* threads.h - how many threads to start where nobody says. For sources compiled with OpenMP. */
#ifndef RPO_CORE_THREADS_H
#define RPO_CORE_THREADS_H

#include <omp.h>

/*
 * OpenMP's default (OMP_NUM_THREADS, or the processors), but no more than four threads a processor and 64 at least:
 * beyond that threads only cost, and the runtime does not survive being asked for 100,000 of them.
 */
static inline int rpo_threads_default(void) {
    const int asked = omp_get_max_threads(),
              most = 4 * omp_get_num_procs() > 64 ? 4 * omp_get_num_procs() : 64;
    return asked < most ? asked : most;
}

#endif
