/* arena.c - one device allocation, laid out by the bump pointer. */
#include "host/device/arena.h"

#include <string.h>

#include "core/bump.h"
#include "kernels/op_table.h"

struct rpo_arena {
    rpo_context *context;
    void *memory;
    size_t size, count;
    rpo_segment_request requests[RPO_MAX_SEGMENTS];
    void *segments[RPO_MAX_SEGMENTS];
};

/* Where each segment begins (NULL: not wanted), and what all take. */
static size_t lay_out(void **segments, void *memory, const rpo_segment_request *requests, size_t count) {
    rpo_bump from = rpo_bump_from(memory);
    for (size_t i = 0; i < count; ++i) {
        /* counted in pieces of the alignment, whose number fits an int64_t whatever the size */
        const size_t rounded = rpo_bump_align(requests[i].bytes);
        void *segment = rpo_bump_take(&from, (int64_t)(rounded / RPO_BUMP_ALIGNMENT), RPO_BUMP_ALIGNMENT);
        if (rounded == SIZE_MAX)
            from.used = SIZE_MAX;
        if (segments != NULL)
            segments[i] = segment;
    }
    return rpo_bump_size(&from);
}

size_t rpo_segments_size(const rpo_segment_request *requests, size_t count) {
    return lay_out(NULL, NULL, requests, count);
}

static double mib(size_t bytes) {
    return (double)bytes / (1 << 20);
}

rpo_status rpo_segments_append_table(const rpo_segment_request *requests, size_t count, rpo_text *text) {
    int width = (int)strlen("total");
    for (size_t i = 0; i < count; ++i)
        if (requests[i].bytes > 0 && (int)strlen(requests[i].name) > width)
            width = (int)strlen(requests[i].name);
    for (size_t i = 0; i < count; ++i)
        if (requests[i].bytes > 0)
            RPO_TRY(
                rpo_text_printf(text, "%-*s %10.1f MiB\n", width, requests[i].name, mib(requests[i].bytes)));
    return rpo_text_printf(text, "%-*s %10.1f MiB\n", width, "total",
                           mib(rpo_segments_size(requests, count)));
}

/* The largest segment, of those that a key makes smaller or of all; NULL when there is none. */
static const rpo_segment_request *largest(const rpo_segment_request *requests, size_t count, bool with_key) {
    const rpo_segment_request *found = NULL;
    for (size_t i = 0; i < count; ++i)
        if ((requests[i].key != NULL || !with_key) && requests[i].bytes > 0 &&
            (found == NULL || requests[i].bytes > found->bytes))
            found = &requests[i];
    return found;
}

/* What a message says after the shortage: "; tape takes the most, 12.0 MiB; train.micro_batch_tokens makes it smaller". */
static rpo_status append_advice(rpo_text *text, const rpo_segment_request *requests, size_t count) {
    const rpo_segment_request *most = largest(requests, count, false),
                              *with_key = largest(requests, count, true);
    if (most == NULL)
        return RPO_OK;
    RPO_TRY(rpo_text_printf(text, "; %s takes the most, %.1f MiB", most->name, mib(most->bytes)));
    if (with_key == NULL)
        return RPO_OK;
    if (with_key != most)
        RPO_TRY(rpo_text_printf(text, "; %s takes %.1f MiB", with_key->name, mib(with_key->bytes)));
    return rpo_text_printf(text, "; %s makes it smaller", with_key->key);
}

static rpo_status refuse(const rpo_segment_request *requests, size_t count, size_t limit_bytes) {
    rpo_text text = {0};
    const size_t size = rpo_segments_size(requests, count);
    rpo_status status =
        size == SIZE_MAX ? rpo_text_printf(&text, "device memory: more than can be addressed is needed")
        : limit_bytes > 0 && size > limit_bytes
            ? rpo_text_printf(&text, "device memory: %.1f MiB are needed, %.1f MiB are allowed", mib(size),
                              mib(limit_bytes))
            : rpo_text_printf(&text, "device memory: there is no room for the %.1f MiB that are needed",
                              mib(size));
    if (status == RPO_OK)
        status = append_advice(&text, requests, count);
    if (status == RPO_OK)
        status = rpo_error_set(RPO_ERROR_OUT_OF_MEMORY, "%s", text.data);
    rpo_text_free(&text);
    return status;
}

/* In builds that look for faults, what is read before it was written must not pass for a number. */
static rpo_status poison(rpo_arena *arena) {
#if defined(__SANITIZE_ADDRESS__)
    return arena->context->backend->device_ops->fill(arena->context, arena->memory, 0xff, arena->size);
#else
    (void)arena;
    return RPO_OK;
#endif
}

static rpo_status allocate(rpo_arena *arena) {
    const rpo_status status =
        arena->context->backend->device_ops->allocate(arena->context, &arena->memory, arena->size);
    if (status == RPO_ERROR_OUT_OF_MEMORY)
        return refuse(arena->requests, arena->count, 0);
    RPO_TRY(status);
    (void)lay_out(arena->segments, arena->memory, arena->requests, arena->count);
    return poison(arena);
}

rpo_status rpo_arena_create(rpo_arena **arena, rpo_context *context, const rpo_segment_request *requests,
                            size_t count, size_t limit_bytes) {
    *arena = NULL;
    if (count > RPO_MAX_SEGMENTS)
        return rpo_error_set(RPO_ERROR_INTERNAL, "arena: %zu segments; at most %d", count, RPO_MAX_SEGMENTS);
    const size_t size = rpo_segments_size(requests, count);
    if (size == SIZE_MAX || (limit_bytes > 0 && size > limit_bytes))
        return refuse(requests, count, limit_bytes);
    rpo_arena *created = rpo_calloc_array(1, sizeof *created);
    if (created == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    created->context = context;
    created->size = size;
    created->count = count;
    if (count > 0)
        memcpy(created->requests, requests, count * sizeof *requests);
    const rpo_status status = allocate(created);
    if (status != RPO_OK) {
        rpo_arena_free(created);
        return status;
    }
    *arena = created;
    return RPO_OK;
}

void rpo_arena_free(rpo_arena *arena) {
    if (arena == NULL)
        return;
    arena->context->backend->device_ops->release(arena->context, arena->memory);
    rpo_free(arena);
}

void *rpo_arena_segment(const rpo_arena *arena, size_t index, size_t *bytes) {
    if (bytes != NULL)
        *bytes = arena->requests[index].bytes;
    return arena->segments[index];
}

size_t rpo_arena_size(const rpo_arena *arena) {
    return arena->size;
}

rpo_status rpo_arena_append_table(const rpo_arena *arena, rpo_text *text) {
    return rpo_segments_append_table(arena->requests, arena->count, text);
}
