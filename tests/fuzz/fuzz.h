/*
 * fuzz.h - what the fuzz targets share. A target is one function, LLVMFuzzerTestOneInput; clang's libFuzzer calls
 * it with bytes that it makes up, under AddressSanitizer and UndefinedBehaviorSanitizer. Beside what those find, a
 * target aborts where an answer breaks the reader's contract.
 */
#ifndef RPO_TESTS_FUZZ_H
#define RPO_TESTS_FUZZ_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/core.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Prints what does not hold and aborts: libFuzzer keeps the input. */
#define FUZZ_CHECK(condition)                                                                                \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            fprintf(stderr, "%s:%d: %s does not hold; last error: %s\n", __FILE__, __LINE__, #condition,     \
                    rpo_last_error());                                                                       \
            abort();                                                                                         \
        }                                                                                                    \
    } while (0)

/* A reader of the user's files accepts them or puts the fault, in one line, on the user (UNSUPPORTED: or on what
 * this build can do). */
static inline bool fuzz_accepted(rpo_status status) {
    if (status == RPO_OK)
        return true;
    FUZZ_CHECK(status == RPO_ERROR_INVALID_INPUT || status == RPO_ERROR_UNSUPPORTED);
    FUZZ_CHECK(rpo_last_error()[0] != '\0');
    FUZZ_CHECK(strpbrk(rpo_last_error(), "\r\n\t\x1b") == NULL);
    rpo_error_clear();
    return false;
}

/* A regular file, in memory, that holds the input; its path is good until the next call. */
static inline const char *fuzz_file(const void *data, size_t size) {
    static char path[64];
    static int file = -1;
    if (file >= 0)
        close(file);
    file = memfd_create("fuzz", MFD_CLOEXEC);
    FUZZ_CHECK(file >= 0 && write(file, data, size) == (ssize_t)size);
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    return path;
}

/* A folder of this process, made at the first call; FOLDER/NAME, good until the next call. It is left to the
 * caller of the program, who sets TMPDIR. */
static inline const char *fuzz_path(const char *name) {
    static char folder[256] = "", path[512];
    if (folder[0] == '\0') {
        const char *parent = getenv("TMPDIR");
        snprintf(folder, sizeof folder, "%s/rpo-fuzz-XXXXXX", parent != NULL ? parent : "/tmp");
        FUZZ_CHECK(mkdtemp(folder) != NULL);
    }
    snprintf(path, sizeof path, "%s%s%s", folder, name[0] != '\0' ? "/" : "", name);
    return path;
}

static inline void fuzz_write(const char *name, const void *data, size_t size) {
    FILE *file = fopen(fuzz_path(name), "wb");
    FUZZ_CHECK(file != NULL && fwrite(data, 1, size, file) == size && fclose(file) == 0);
}

#endif
