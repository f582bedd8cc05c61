/*
 * bump.h - the one bump pointer: hands out consecutive pieces of a buffer, or (base NULL) adds up how large that
 * buffer must be. One function walks both ways, so that a size and the pieces it is for cannot disagree:
 *
 *     static size_t lay_out(parts *parts, void *memory, int64_t rows) {
 *         rpo_bump from = rpo_bump_from(memory);
 *         parts->logits = rpo_bump_take(&from, rows, sizeof(float));
 *         ...
 *         return rpo_bump_size(&from);
 *     }
 *
 * Pieces start at multiples of RPO_BUMP_ALIGNMENT from the base: content with any vector access and with cuBLASLt
 * where the base is. A total beyond what a size_t counts stays at SIZE_MAX. C and C++.
 */
#ifndef RPO_CORE_BUMP_H
#define RPO_CORE_BUMP_H

#include <stddef.h>
#include <stdint.h>

enum { RPO_BUMP_ALIGNMENT = 256 };

typedef struct rpo_bump {
    char *base;  /* NULL: sizes are added up, nothing is handed out */
    size_t used; /* bytes; SIZE_MAX once the sum went beyond it */
} rpo_bump;

static inline rpo_bump rpo_bump_from(void *base) {
    rpo_bump bump = {(char *)base, 0};
    return bump;
}

/* `bytes` up to the next multiple of the alignment; SIZE_MAX where that is more than a size_t counts. */
static inline size_t rpo_bump_align(size_t bytes) {
    const size_t mask = (size_t)RPO_BUMP_ALIGNMENT - 1;
    return bytes > SIZE_MAX - mask ? SIZE_MAX : (bytes + mask) & ~mask;
}

/* `count` elements of `size` bytes; NULL where there is no base or nothing to hand out. */
static inline void *rpo_bump_take(rpo_bump *bump, int64_t count, size_t size) {
    if (count <= 0 || size == 0 || bump->used == SIZE_MAX)
        return NULL;
    const size_t bytes = (uint64_t)count > SIZE_MAX / size ? SIZE_MAX : rpo_bump_align((size_t)count * size);
    if (bytes > SIZE_MAX - 1 - bump->used) {
        bump->used = SIZE_MAX;
        return NULL;
    }
    void *piece = bump->base == NULL ? NULL : bump->base + bump->used;
    bump->used += bytes;
    return piece;
}

static inline size_t rpo_bump_size(const rpo_bump *bump) {
    return bump->used;
}

#endif
