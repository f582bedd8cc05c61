/*
 * startup.c - threads that wait must not burn the machine, and matrix products must use its vectors.
 *
 * libgomp's own default spins for milliseconds before a thread sleeps: with a busy neighbour on one of the cores a
 * step takes 3 to 16 times as long. Never spinning (OMP_WAIT_POLICY=passive alone) costs small steps on an idle
 * machine a tenth or more. A thousand turns, some microseconds, lose little on either; docs/threads.md has figures.
 * Of LLVM's runtime only the policy is read: its threads do not spin at all then.
 *
 * OpenBLAS picks kernels by the processor's model number. One that is newer than the library gets those of a Pentium 4:
 * Debian 12's 0.3.21 on a Xeon of 2023 makes a training step 3.8 times slower than it need be.
 */
#include "core/startup.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

static const char own_link[] = "/proc/self/exe";

/* Absent with another BLAS. */
#if defined(__GNUC__)
#    pragma weak openblas_get_corename
#endif
extern char *openblas_get_corename(void);

static bool any_is_set(const char *const *names, size_t count) {
    for (size_t i = 0; i < count; ++i)
        if (getenv(names[i]) != NULL)
            return true;
    return false;
}

/* Puts a setting into the environment, where the user has none; true when that changed it. */
static bool set(const char *name, const char *value) {
    return getenv(name) == NULL && setenv(name, value, 0) == 0;
}

static bool settle_waiting(void) {
    static const char *const names[] = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"};
    if (any_is_set(names, sizeof names / sizeof names[0]) || !set("OMP_WAIT_POLICY", "passive"))
        return false;
    set("GOMP_SPINCOUNT", "1000");
    return true;
}

/* OpenBLAS's name for kernels that use the vectors of this machine; NULL: nothing better than any would do. */
static const char *best_core(void) {
#if defined(__x86_64__) && defined(__GNUC__)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
        return "SkylakeX";
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return "Haswell";
#endif
    return NULL;
}

/* Did OpenBLAS take kernels from before AVX? */
static bool core_is_old(void) {
    static const char *const names[] = {"Prescott", "Core2",     "Penryn", "Dunnington", "Nehalem",
                                        "Atom",     "Barcelona", "Athlon", "Opteron",    "Nano"};
    const char *core = openblas_get_corename != NULL ? openblas_get_corename() : NULL;
    for (size_t i = 0; core != NULL && i < sizeof names / sizeof names[0]; ++i)
        if (strcmp(core, names[i]) == 0)
            return true;
    return false;
}

static bool settle_blas(void) {
    const char *best = core_is_old() ? best_core() : NULL;
    return best != NULL && set("OPENBLAS_CORETYPE", best);
}

/* A program that was handed to the loader as its argument has no loader of its own in the kernel's eyes: then the
 * link names the loader, and argv is not what that takes. */
static bool link_names_this_program(void) {
    return getauxval(AT_BASE) != 0;
}

void rpo_startup(char **argv) {
    if (!link_names_this_program())
        return;
    const bool waiting = settle_waiting(), blas = settle_blas();
    if (!waiting && !blas)
        return;
    /* By its path first: the system names a process after the file it was started from. */
    char path[PATH_MAX];
    const ssize_t length = readlink(own_link, path, sizeof path - 1);
    if (length > 0) {
        path[length] = '\0';
        execv(path, argv);
    }
    execv(own_link, argv);
}
