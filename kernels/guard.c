/* guard.c - the registered regions, and how many are inside. */
#include "kernels/guard.h"

#if defined(RPO_GUARDS_MEMORY)

#    include <pthread.h>
#    include <stdlib.h>

#    include <sanitizer/asan_interface.h>

#    include "core/bump.h"

typedef struct region {
    void *memory;
    size_t bytes;
} region;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static region *regions = NULL; /* kept for the life of the process */
static size_t count = 0, capacity = 0;
static int inside = 0;

/* The bytes asked for alone: the first one past them is closed always. */
static void open_region(const region *one) {
    ASAN_UNPOISON_MEMORY_REGION(one->memory, one->bytes);
}

static void close_region(const region *one) {
    ASAN_POISON_MEMORY_REGION(one->memory, rpo_bump_align(one->bytes));
}

static void make_room(void) {
    if (count < capacity)
        return;
    const size_t grown = capacity == 0 ? 16 : 2 * capacity;
    region *memory = realloc(regions, grown * sizeof *memory);
    if (memory == NULL)
        return;
    regions = memory;
    capacity = grown;
}

void rpo_guard_add(void *memory, size_t bytes) {
    pthread_mutex_lock(&lock);
    make_room();
    if (count < capacity) {
        const region one = {memory, bytes};
        regions[count++] = one;
        close_region(&one);
        if (inside > 0)
            open_region(&one);
    }
    pthread_mutex_unlock(&lock);
}

void rpo_guard_remove(void *memory) {
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < count; ++i)
        if (regions[i].memory == memory) {
            ASAN_UNPOISON_MEMORY_REGION(memory, rpo_bump_align(regions[i].bytes));
            regions[i] = regions[--count];
            break;
        }
    pthread_mutex_unlock(&lock);
}

void rpo_guard_open(void) {
    pthread_mutex_lock(&lock);
    if (inside++ == 0)
        for (size_t i = 0; i < count; ++i)
            open_region(&regions[i]);
    pthread_mutex_unlock(&lock);
}

void rpo_guard_close(void) {
    pthread_mutex_lock(&lock);
    if (--inside == 0)
        for (size_t i = 0; i < count; ++i)
            close_region(&regions[i]);
    pthread_mutex_unlock(&lock);
}

#else

typedef int rpo_translation_unit_is_not_empty;

#endif
