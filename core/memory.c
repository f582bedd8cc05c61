/* memory.c - allocations whose sizes are checked before they are made. */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "core/core.h"

enum { ALIGNMENT = 64 }; /* a cache line, and the widest vector load */

/* Bytes of `count` elements rounded up to the alignment (never 0); false when they do not fit a size_t. */
static bool rounded_size(size_t *bytes, size_t count, size_t size) {
    if (size != 0 && count > (SIZE_MAX - ALIGNMENT) / size)
        return false;
    const size_t exact = count * size;
    *bytes = exact == 0 ? ALIGNMENT : (exact + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return true;
}

static atomic_uint_fast64_t allocations;

uint64_t rpo_allocations(void) {
    return atomic_load_explicit(&allocations, memory_order_relaxed);
}

void *rpo_alloc_array(size_t count, size_t size) {
    size_t bytes = 0;
    if (!rounded_size(&bytes, count, size)) {
        rpo_error_set(RPO_ERROR_OUT_OF_MEMORY,
                      "memory: %zu elements of %zu bytes are more than can be addressed", count, size);
        return NULL;
    }
    void *memory = aligned_alloc(ALIGNMENT, bytes);
    atomic_fetch_add_explicit(&allocations, 1, memory_order_relaxed);
    if (memory == NULL)
        rpo_error_set(RPO_ERROR_OUT_OF_MEMORY, "memory: no room for %zu bytes", bytes);
    return memory;
}

void *rpo_calloc_array(size_t count, size_t size) {
    void *memory = rpo_alloc_array(count, size);
    if (memory != NULL && count * size > 0)
        memset(memory, 0, count * size);
    return memory;
}

void rpo_free(void *memory) {
    free(memory);
}

char *rpo_strdup(const char *text) {
    const size_t size = strlen(text) + 1;
    char *copy = rpo_alloc_array(size, 1);
    if (copy != NULL)
        memcpy(copy, text, size);
    return copy;
}

rpo_status rpo_grow_array(void **array, size_t *capacity, size_t needed, size_t size) {
    if (needed <= *capacity)
        return RPO_OK;
    size_t grown = *capacity < 16 ? 16 : *capacity;
    while (grown < needed)
        grown = grown > SIZE_MAX / 2 ? needed : grown * 2;
    void *memory = rpo_alloc_array(grown, size);
    if (memory == NULL &&
        grown > needed) { /* doubling asked for too much: exactly what is needed may still fit */
        grown = needed;
        memory = rpo_alloc_array(grown, size);
    }
    if (memory == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    if (*capacity > 0)
        memcpy(memory, *array, *capacity * size);
    rpo_free(*array);
    *array = memory;
    *capacity = grown;
    return RPO_OK;
}
