/*
 * guard.h - in builds with AddressSanitizer the CPU backend's device memory cannot be touched outside of ops and copies:
 * a host that reads or writes through a device pointer dies with a report (use-after-poison) that names its line, on
 * any machine, where on a GPU it would crash or, worse, work by chance. In other builds nothing of this exists.
 *
 * The registered regions belong to the process. While any thread is inside an op or a copy they are open to all threads:
 * a read by another thread at that moment goes unseen.
 */
#ifndef RPO_KERNELS_GUARD_H
#define RPO_KERNELS_GUARD_H

#include <stddef.h>

#if defined(__SANITIZE_ADDRESS__)
#    define RPO_GUARDS_MEMORY 1
#elif defined(__has_feature)
#    if __has_feature(address_sanitizer)
#        define RPO_GUARDS_MEMORY 1
#    endif
#endif

#if defined(RPO_GUARDS_MEMORY)

/* `memory`, `bytes` of it, is device memory from now on; what its allocation has beyond them stays closed for good. Where
 * the list of regions cannot grow, the region is not guarded. */
void rpo_guard_add(void *memory, size_t bytes);
void rpo_guard_remove(void *memory); /* before it is freed; unknown memory is accepted */

/* Around everything that may touch device memory; pairs nest. */
void rpo_guard_open(void);
void rpo_guard_close(void);

#else

static inline void rpo_guard_add(void *memory, size_t bytes) {
    (void)memory;
    (void)bytes;
}
static inline void rpo_guard_remove(void *memory) {
    (void)memory;
}
static inline void rpo_guard_open(void) {}
static inline void rpo_guard_close(void) {}

#endif
#endif
