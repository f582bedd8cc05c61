/*
 * async_copy.h - twin of cp.async: copies are noted down and carried out when the thread waits for them, by
 * the thread itself and in instrumented code. A kernel that reads too early reads poison or the stage before.
 */
#ifndef RPO_SIMT_ASYNC_COPY_H
#define RPO_SIMT_ASYNC_COPY_H

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/simt/grid.h"

namespace simt {

inline void need_aligned_16(const void *address, const char *what) {
    if (reinterpret_cast<uintptr_t>(address) % 16 != 0)
        fault("%s of an asynchronous copy is not 16-byte aligned", what);
}

inline void queue_copy_16(void *to, const void *from, bool wanted) {
    need_aligned_16(to, "target");
    if (wanted)
        need_aligned_16(from, "source");
    queue_copy({to, wanted ? from : nullptr});
}

/* Carries out all groups but the latest `groups_left`. */
inline void finish_copy_groups(unsigned groups_left) {
    PendingCopy copy;
    while (take_copy(groups_left, &copy))
        if (copy.from != nullptr)
            memcpy(copy.to, copy.from, 16);
        else
            memset(copy.to, 0, 16);
}

} // namespace simt

#endif
