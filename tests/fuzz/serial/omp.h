/*
 * omp.h - OpenMP of one thread: clang's own comes in a package that the fuzz targets do not need. The pragmas are
 * ignored, which leaves serial code.
 */
#ifndef RPO_TESTS_FUZZ_SERIAL_OMP_H
#define RPO_TESTS_FUZZ_SERIAL_OMP_H

static inline int omp_get_max_threads(void) {
    return 1;
}

static inline int omp_get_num_procs(void) {
    return 1;
}

static inline int omp_get_num_threads(void) {
    return 1;
}

static inline int omp_get_thread_num(void) {
    return 0;
}

static inline int omp_in_parallel(void) {
    return 0;
}

static inline void omp_set_num_threads(int threads) {
    (void)threads;
}

#endif
