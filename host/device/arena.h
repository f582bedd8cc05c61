/*
 * arena.h - who owns a rank's device memory: one allocation in named segments, made before the first step and given back
 * at the end. Its size follows from a list that is written before anything is allocated, so that it can be printed,
 * compared with what the machine has, and refused with the configuration key to change.
 */
#ifndef RPO_HOST_DEVICE_ARENA_H
#define RPO_HOST_DEVICE_ARENA_H

#include "core/core.h"

enum { RPO_MAX_SEGMENTS = 32 };

typedef struct rpo_segment_request {
    const char *name; /* "weights"; the caller keeps it as long as the arena lives */
    size_t bytes;     /* 0 = an empty segment, whose address is NULL */
    const char *
        key; /* of the configuration, makes the segment smaller: "train.micro_batch_tokens"; NULL = none does */
} rpo_segment_request;

/* Bytes of all segments together, each rounded up to 256; SIZE_MAX where that is more than can be addressed. */
size_t rpo_segments_size(const rpo_segment_request *requests, size_t count);

/* One line a segment, its name and MiB, empty ones left out, and one with the total. */
rpo_status rpo_segments_append_table(const rpo_segment_request *requests, size_t count, rpo_text *text);

typedef struct rpo_arena rpo_arena;

/*
 * Allocates the segments, 256-byte aligned and uninitialised (NaN as float32 in builds with AddressSanitizer), on the
 * context's device. The caller owns *arena and frees it before the context; on failure *arena is NULL.
 * count        at most RPO_MAX_SEGMENTS
 * limit_bytes  0 = none; a larger arena is refused before anything is allocated
 * Errors: OUT_OF_MEMORY, which names the largest segment and the key to change, both at the limit and where the device
 * has no room; DEVICE; INTERNAL (count).
 */
rpo_status rpo_arena_create(rpo_arena **arena, rpo_context *context, const rpo_segment_request *requests,
                            size_t count, size_t limit_bytes);
void rpo_arena_free(rpo_arena *arena); /* NULL accepted */

/* Device address of segment `index` of the request; *bytes, unless NULL, receives what was asked for. */
void *rpo_arena_segment(const rpo_arena *arena, size_t index, size_t *bytes);

/* Bytes of the one allocation. */
size_t rpo_arena_size(const rpo_arena *arena);

/* rpo_segments_append_table of what the arena holds. */
rpo_status rpo_arena_append_table(const rpo_arena *arena, rpo_text *text);

#endif
