/*
 * waiting.c - threads that wait must not burn the machine.
 *
 * libgomp's own default spins for milliseconds before a thread sleeps: with a busy neighbour on one of the cores a
 * step takes 3 to 16 times as long. Never spinning (OMP_WAIT_POLICY=passive alone) costs small steps on an idle
 * machine a tenth or more. A thousand turns, some microseconds, lose little on either; docs/threads.md has figures.
 * Of LLVM's runtime only the policy is read: its threads do not spin at all then.
 */
#include "core/waiting.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <unistd.h>

static const char own_link[] = "/proc/self/exe";

static bool user_has_chosen(void) {
    static const char *const names[] = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; ++i)
        if (getenv(names[i]) != NULL)
            return true;
    return false;
}

/* A program that was handed to the loader as its argument has no loader of its own in the kernel's eyes: then the
 * link names the loader, and argv is not what that takes. */
static bool link_names_this_program(void) {
    return getauxval(AT_BASE) != 0;
}

void rpo_wait_politely(char **argv) {
    if (user_has_chosen() || !link_names_this_program() || setenv("OMP_WAIT_POLICY", "passive", 0) != 0)
        return;
    setenv("GOMP_SPINCOUNT", "1000", 0);
    /* By its path first: the system names a process after the file it was started from. */
    char path[PATH_MAX];
    const ssize_t length = readlink(own_link, path, sizeof path - 1);
    if (length > 0) {
        path[length] = '\0';
        execv(path, argv);
    }
    execv(own_link, argv);
}
