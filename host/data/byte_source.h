/*
 * byte_source.h - the bytes of a file, unpacked when its content (not its name) says gzip.
 *
 * zlib's own gzread passes over garbage behind a gzip stream in silence; this reader does not. Messages carry
 * no path: the caller knows how far it came and puts "FILE:LINE: " in front.
 */
#ifndef RPO_HOST_DATA_BYTE_SOURCE_H
#define RPO_HOST_DATA_BYTE_SOURCE_H

#include "core/core.h"

typedef struct rpo_byte_source rpo_byte_source;

/* Regular files only: a pipe may never end. INVALID_INPUT for a path that cannot be opened for reading, with the
 * path in the message. */
rpo_status rpo_byte_source_open(rpo_byte_source **source, const char *path);
void rpo_byte_source_close(rpo_byte_source *source);

/*
 * Fills out[0..size) as far as there is data; *got = 0 means the end, reached cleanly.
 * Errors: INVALID_INPUT (a gzip stream that is damaged, cut short or followed by something else), IO, INTERRUPTED
 * (a signal asked to stop).
 */
rpo_status rpo_byte_source_read(rpo_byte_source *source, char *out, size_t size, size_t *got);

#endif
