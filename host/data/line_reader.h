/*
 * line_reader.h - the lines of a plain or gzip file, one at a time, none longer than a limit.
 *
 * A UTF-8 byte-order mark at the start of the file and a carriage return before a line feed are dropped.
 */
#ifndef RPO_HOST_DATA_LINE_READER_H
#define RPO_HOST_DATA_LINE_READER_H

#include "core/core.h"

/* Longest line of a data file. A longer one is a fault, found before more than this is held in memory. */
#define RPO_DATA_MAX_LINE ((size_t)64 << 20)

/* A line that goes on for so many times the limit (/dev/zero, a gzip bomb) is a fault of the file: no reader
 * passes over it. */
enum { RPO_LINE_MAX_DROPPED = 16 };

typedef struct rpo_line_reader rpo_line_reader;

typedef enum rpo_line_kind {
    RPO_LINE_TEXT,     /* text[0..length) */
    RPO_LINE_TOO_LONG, /* over the limit: no text; the next call goes on behind it */
    RPO_LINE_END       /* no more lines */
} rpo_line_kind;

typedef struct rpo_line {
    rpo_line_kind kind;
    const char *text; /* the reader's, until the next call; not NUL-terminated */
    size_t length;
    int64_t number; /* from 1 */
} rpo_line;

rpo_status rpo_line_reader_open(rpo_line_reader **reader, const char *path, size_t max_line);
void rpo_line_reader_close(rpo_line_reader *reader);

/* Faults of the file itself (truncated gzip, read errors, a line without end) are prefixed "FILE:LINE: ". */
rpo_status rpo_line_reader_next(rpo_line_reader *reader, rpo_line *line);

#endif
