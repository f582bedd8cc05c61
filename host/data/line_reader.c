/*
 * line_reader.c - splits a byte source into lines.
 *
 * Bytes come in blocks; the pieces of a line are gathered in one buffer that is reused and never grows past
 * the limit. Only the next call reads on behind a line that is too long, and it too gives up at some length.
 */
#include "host/data/line_reader.h"

#include <inttypes.h>
#include <string.h>

#include "host/data/byte_source.h"

enum { BLOCK_SIZE = 1 << 16 };

struct rpo_line_reader {
    rpo_byte_source *source;
    char *path;
    size_t max_line;
    int64_t number; /* of the line handed out last */
    bool inside;    /* that line was too long; its rest is still to be dropped */
    char *line;
    size_t length, capacity;
    size_t begin, end; /* unread part of `block` */
    char block[BLOCK_SIZE];
};

rpo_status rpo_line_reader_open(rpo_line_reader **reader, const char *path, size_t max_line) {
    rpo_status status = RPO_OK;
    *reader = NULL;
    rpo_line_reader *opened = rpo_calloc_array(1, sizeof *opened);
    if (opened == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    opened->max_line = max_line;
    opened->path = rpo_strdup(path);
    if (opened->path == NULL) {
        status = RPO_ERROR_OUT_OF_MEMORY;
        goto cleanup;
    }
    status = rpo_byte_source_open(&opened->source, path);

cleanup:
    if (status == RPO_OK)
        *reader = opened;
    else
        rpo_line_reader_close(opened);
    return status;
}

void rpo_line_reader_close(rpo_line_reader *reader) {
    if (reader == NULL)
        return;
    rpo_free(reader->line);
    rpo_byte_source_close(reader->source);
    rpo_free(reader->path);
    rpo_free(reader);
}

static rpo_status next_block(rpo_line_reader *reader) {
    reader->begin = 0;
    reader->end = 0;
    return rpo_error_prefix(rpo_byte_source_read(reader->source, reader->block, BLOCK_SIZE, &reader->end),
                            "%s:%" PRId64 ": ", reader->path, reader->number);
}

static void drop_byte_order_mark(rpo_line_reader *reader, rpo_line *line) {
    static const char mark[3] = {'\xEF', '\xBB', '\xBF'};
    if (reader->number == 1 && line->length >= sizeof mark && memcmp(line->text, mark, sizeof mark) == 0) {
        line->text += sizeof mark;
        line->length -= sizeof mark;
    }
}

/* Drops what is left of a line that was too long, up to RPO_LINE_MAX_DROPPED times the limit. */
static rpo_status drop_rest(rpo_line_reader *reader) {
    for (size_t blocks = 0; reader->inside; ++blocks) {
        if (blocks / RPO_LINE_MAX_DROPPED > reader->max_line / BLOCK_SIZE)
            return rpo_error_set(RPO_ERROR_INVALID_INPUT,
                                 "%s:%" PRId64
                                 ": line: goes on for more than %d times the %zu bytes allowed; is "
                                 "this a text file?",
                                 reader->path, reader->number, RPO_LINE_MAX_DROPPED, reader->max_line);
        if (reader->begin == reader->end) {
            RPO_TRY(next_block(reader));
            if (reader->end == 0)
                break;
        }
        const char *start = reader->block + reader->begin;
        const char *feed = memchr(start, '\n', reader->end - reader->begin);
        reader->begin = feed != NULL ? reader->begin + (size_t)(feed - start) + 1 : reader->end;
        reader->inside = feed == NULL;
    }
    reader->inside = false;
    return RPO_OK;
}

rpo_status rpo_line_reader_next(rpo_line_reader *reader, rpo_line *line) {
    bool ended = false, any = false;
    RPO_TRY(drop_rest(reader));
    reader->length = 0;
    ++reader->number;
    while (!ended) {
        if (reader->begin == reader->end) {
            RPO_TRY(next_block(reader));
            if (reader->end == 0)
                break;
        }
        any = true;
        const char *start = reader->block + reader->begin;
        const size_t available = reader->end - reader->begin;
        const char *feed = memchr(start, '\n', available);
        const size_t piece = feed != NULL ? (size_t)(feed - start) : available;
        if (piece > reader->max_line - reader->length) {
            reader->inside = true;
            *line = (rpo_line){.kind = RPO_LINE_TOO_LONG, .number = reader->number};
            return RPO_OK;
        }
        reader->begin += piece + (feed != NULL ? 1 : 0);
        ended = feed != NULL;
        RPO_TRY(rpo_grow_array((void **)&reader->line, &reader->capacity, reader->length + piece + 1, 1));
        memcpy(reader->line + reader->length, start, piece);
        reader->length += piece;
    }
    *line = (rpo_line){.kind = RPO_LINE_END, .number = reader->number};
    if (!any)
        return RPO_OK;
    line->kind = RPO_LINE_TEXT;
    line->text = reader->line;
    line->length = reader->length;
    if (line->length > 0 && line->text[line->length - 1] == '\r')
        --line->length;
    drop_byte_order_mark(reader, line);
    return RPO_OK;
}
