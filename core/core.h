/* core.h - what every room of the orchestrator may use. */
#ifndef RPO_CORE_CORE_H
#define RPO_CORE_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "rpo/rpo.h"

/* ---- memory (memory.c): NULL on failure with the message set, sizes checked for overflow ---- */

void *rpo_alloc_array(size_t count, size_t size);  /* uninitialised, 64-byte aligned */
void *rpo_calloc_array(size_t count, size_t size); /* zeroed, 64-byte aligned */
uint64_t rpo_allocations(void);     /* calls of both so far, by all threads: a step must make none */
void rpo_free(void *memory);        /* for both; NULL accepted */
char *rpo_strdup(const char *text); /* rpo_free */

/* Doubles *array (rpo_alloc_array memory) until it holds `needed` elements. */
rpo_status rpo_grow_array(void **array, size_t *capacity, size_t needed, size_t size);

/* ---- text (text.c): a growable string ---- */

typedef struct rpo_text {
    char *data; /* NUL-terminated once something was added; NULL before */
    size_t length, capacity;
} rpo_text;

rpo_status rpo_text_append(rpo_text *text, const char *data, size_t length);
rpo_status rpo_text_printf(rpo_text *text, const char *format, ...) RPO_PRINTF(2, 3);
void rpo_text_free(rpo_text *text);

/* Appends `words` broken at blanks into lines of at most `width` columns. The first goes on where the text stands, at column
 * `indent`; the others begin there. A longer word has a line of its own. */
rpo_status rpo_text_append_wrapped(rpo_text *text, const char *words, int indent, int width);

/* The candidate closest to `word` by edit distance, or NULL when none is near: "did you mean". */
const char *rpo_nearest_word(const char *word, const char *const *candidates, size_t count);

/* ---- UTF-8 (utf8.c) ---- */

/* True when `data` is well-formed (no surrogates, no overlong forms); *bad receives the first bad offset. */
bool rpo_utf8_valid(const char *data, size_t length, size_t *bad);

/* Bytes of the well-formed sequence at `s` (Unicode table 3-7), or 0; left > 0. */
size_t rpo_utf8_sequence(const unsigned char *s, size_t left);

/*
 * `text` as one line that a terminal shows as it is: control bytes become spaces; C1 controls, direction marks and
 * what cannot be seen become \\uXXXX, bytes that are no UTF-8 \\xXX. Cut where it does not fit `size` bytes. `shown` and
 * `text` do not overlap.
 */
void rpo_show_line(char *shown, size_t size, const char *text);

/* ---- random numbers (random.c): pure functions, no state, the same on every machine ---- */

/* What a number is drawn for keeps its draws apart from all others of the same seed. */
typedef enum rpo_random_purpose {
    RPO_RANDOM_INITIAL_WEIGHTS, /* index: the parameter's place in the model */
    RPO_RANDOM_EPOCH_ORDER,     /* index: the epoch */
    RPO_RANDOM_REFERENCE_SAMPLE
} rpo_random_purpose;

/* The stream of a purpose; index < 2^32 tells several of one purpose apart. */
uint64_t rpo_random_stream(rpo_random_purpose purpose, uint64_t index);

uint64_t rpo_random_u64(uint64_t seed, uint64_t stream, uint64_t counter);
double rpo_random_uniform(uint64_t seed, uint64_t stream, uint64_t counter); /* [0, 1) */
double rpo_random_normal(uint64_t seed, uint64_t stream, uint64_t counter);
void rpo_random_permutation(int64_t *order, int64_t count, uint64_t seed, uint64_t stream);

/* ---- hashing (hash.c): XXH3, 128 bits as 32 hex digits ---- */

typedef struct rpo_hash rpo_hash;
rpo_hash *rpo_hash_new(void);
void rpo_hash_add(rpo_hash *hash, const void *data, size_t size);
void rpo_hash_add_string(rpo_hash *hash,
                         const char *text);         /* with its length, so that parts cannot run together */
void rpo_hash_finish(rpo_hash *hash, char hex[33]); /* and frees it */
/* Of a regular file. `stoppable`: a signal that asks to stop ends the reading (INTERRUPTED). */
rpo_status rpo_hash_file(const char *path, bool stoppable, char hex[33]);
uint64_t rpo_hash_bytes(const void *data, size_t size); /* 64 bits, for tables in memory */

/* ---- files (files.c). Messages name the path. ---- */

typedef enum rpo_path_kind {
    RPO_PATH_ABSENT, /* nothing there, or no way there */
    RPO_PATH_FILE,
    RPO_PATH_FOLDER,
    RPO_PATH_SPECIAL /* a pipe, a device, a socket */
} rpo_path_kind;

/* What lies at `path`, links followed. Where that cannot be told the status says why: nobody may take "could not
 * look" for "is not there". */
rpo_status rpo_path_examine(const char *path, rpo_path_kind *kind);

/* For tests and hints alone: false also where it cannot be told. */
bool rpo_path_exists(const char *path);
bool rpo_path_is_folder(const char *path);

char *rpo_path_join(const char *folder, const char *name); /* rpo_free */
rpo_status rpo_make_folders(const char *path);             /* mkdir -p */
rpo_status rpo_remove_tree(const char *path);              /* absent is fine */

/* Free space, then makes the folder and tries a file in it. INVALID_INPUT where the path is at fault, IO where the
 * disk is (full, broken). A kill may leave a file whose name begins with RPO_PROBE_PREFIX on file systems that know
 * no files without names. */
#define RPO_PROBE_PREFIX ".rpo-probe-"
rpo_status rpo_folder_writable(const char *path, uint64_t bytes_needed);

rpo_status rpo_sync_folder(const char *path);                   /* fsync of a directory */
rpo_status rpo_rename_synced(const char *from, const char *to); /* rename, then fsync of the parent */

/* Reads a whole file (or pipe, until it ends or a signal asks to stop) of at most `limit` bytes; *data is
 * NUL-terminated past its end. rpo_free. */
rpo_status rpo_read_file(const char *path, size_t limit, char **data, size_t *size);

/* Writes to PATH.tmp, fsyncs, renames over PATH, fsyncs the folder: the old content or the new, never half.
 */
rpo_status rpo_write_file_atomic(const char *path, const void *data, size_t size);

/* Names in a folder, sorted, without "." and "..". *names and each name: rpo_free (or rpo_free_names). */
rpo_status rpo_list_folder(const char *path, char ***names, size_t *count);
void rpo_free_names(char **names, size_t count);

/* ---- time (clock.c) ---- */

double rpo_now(void); /* monotonic seconds */

/* Seconds since 1970 by the wall clock, and such a time as "2026-11-24T13:27:50Z" (ISO 8601, UTC). */
int64_t rpo_wall_clock(void);
enum { RPO_UTC_SIZE = 32 };
const char *rpo_utc_text(char text[RPO_UTC_SIZE], int64_t seconds);

#endif
