/*
 * device_memory.h - memory that a backend's ops work on, for tests that run on any backend. On the CPU and
 * under simt it is ordinary memory; a build for a GPU defines RPO_TEST_DEVICE_MEMORY and provides the table.
 */
#ifndef RPO_TESTS_DEVICE_MEMORY_H
#define RPO_TESTS_DEVICE_MEMORY_H

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

typedef struct device_memory {
    void *(*allocate)(size_t bytes); /* 256-byte aligned; NULL on failure */
    void (*release)(void *memory);
    void (*fill)(void *device, int byte, size_t bytes);
    void (*upload)(void *device, const void *host, size_t bytes);
    void (*download)(void *host, const void *device, size_t bytes); /* waits for the device first */
} device_memory;

#if defined(RPO_TEST_DEVICE_MEMORY)
extern const device_memory rpo_test_device_memory;
static inline const device_memory *device_memory_table(void) {
    return &rpo_test_device_memory;
}
#else
/* Not a byte more than asked for: AddressSanitizer sees the first one past the end. */
static inline void *host_memory_allocate(size_t bytes) {
    void *memory = NULL;
    return posix_memalign(&memory, 256, bytes > 0 ? bytes : 1) == 0 ? memory : NULL;
}
static inline void host_memory_fill(void *memory, int byte, size_t bytes) {
    memset(memory, byte, bytes);
}
static inline void host_memory_copy(void *to, const void *from, size_t bytes) {
    if (bytes > 0)
        memcpy(to, from, bytes);
}
static inline const device_memory *device_memory_table(void) {
    static const device_memory host = {host_memory_allocate, free, host_memory_fill, host_memory_copy,
                                       host_memory_copy};
    return &host;
}
#endif

#endif
