/*
 * byte_source.c - plain or gzip bytes through one read call.
 *
 * A gzip file is one or more members, each with its own checksum, which inflate verifies. After a member only
 * another member or the end of the file may follow.
 */
#include "host/data/byte_source.h"

#include <string.h>
#include <unistd.h>

#include <zlib.h>

#include "core/descriptors.h"
#include "core/signals.h"

enum { INPUT_SIZE = 1 << 16, GZIP_WINDOW_BITS = 15 + 16 /* + 16: gzip framing */ };

struct rpo_byte_source {
    int file; /* -1 = none */
    bool gzip;
    bool inflating;   /* inside a member */
    bool file_ended;  /* the file gave its last byte */
    bool zlib_opened; /* inflateInit was called */
    z_stream zlib;
    size_t begin, end; /* unread part of `input` */
    unsigned char input[INPUT_SIZE];
};

/* Reads on until `input` holds at least `wanted` unread bytes or the file ends. */
static rpo_status fill(rpo_byte_source *source, size_t wanted) {
    if (source->begin > 0) {
        memmove(source->input, source->input + source->begin, source->end - source->begin);
        source->end -= source->begin;
        source->begin = 0;
    }
    while (source->end < wanted && !source->file_ended) {
        size_t got = 0;
        RPO_TRY(rpo_signals_check());
        RPO_TRY(rpo_read_some(source->file, "file", source->input + source->end,
                              sizeof source->input - source->end, &got));
        source->end += got;
        source->file_ended = got == 0;
    }
    return RPO_OK;
}

static bool starts_member(const rpo_byte_source *source) {
    return source->end - source->begin >= 2 && source->input[source->begin] == 0x1f &&
           source->input[source->begin + 1] == 0x8b;
}

static rpo_status start_gzip(rpo_byte_source *source) {
    if (inflateInit2(&source->zlib, GZIP_WINDOW_BITS) != Z_OK)
        return rpo_error_set(RPO_ERROR_OUT_OF_MEMORY, "gzip: no memory to unpack");
    source->zlib_opened = true;
    source->gzip = true;
    source->inflating = true;
    return RPO_OK;
}

rpo_status rpo_byte_source_open(rpo_byte_source **source, const char *path) {
    *source = NULL;
    rpo_byte_source *opened = rpo_calloc_array(1, sizeof *opened);
    if (opened == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    rpo_status status = rpo_open_regular(path, &opened->file, NULL);
    if (status != RPO_OK)
        goto cleanup;
    status = rpo_error_prefix(fill(opened, 2), "%s: ", path);
    if (status == RPO_OK && starts_member(opened))
        status = start_gzip(opened);

cleanup:
    if (status == RPO_OK)
        *source = opened;
    else
        rpo_byte_source_close(opened);
    return status;
}

void rpo_byte_source_close(rpo_byte_source *source) {
    if (source == NULL)
        return;
    if (source->zlib_opened)
        inflateEnd(&source->zlib);
    if (source->file >= 0)
        close(source->file);
    rpo_free(source);
}

static rpo_status read_plain(rpo_byte_source *source, char *out, size_t size, size_t *got) {
    RPO_TRY(fill(source, 1));
    const size_t available = source->end - source->begin;
    *got = available < size ? available : size;
    memcpy(out, source->input + source->begin, *got);
    source->begin += *got;
    return RPO_OK;
}

/* Between members: the end, the next member, or something that does not belong there. */
static rpo_status next_member(rpo_byte_source *source) {
    RPO_TRY(fill(source, 2));
    if (source->end == source->begin)
        return RPO_OK;
    if (!starts_member(source))
        return rpo_error_set(RPO_ERROR_INVALID_INPUT,
                             "gzip: other data follows the compressed stream; only gzip members may");
    if (inflateReset(&source->zlib) != Z_OK)
        return rpo_error_set(RPO_ERROR_INTERNAL, "gzip: the decoder cannot be reset");
    source->inflating = true;
    return RPO_OK;
}

static rpo_status inflate_some(rpo_byte_source *source) {
    RPO_TRY(fill(source, 1));
    const size_t available = source->end - source->begin;
    source->zlib.next_in = source->input + source->begin;
    source->zlib.avail_in = (uInt)available;
    const int result = inflate(&source->zlib, Z_NO_FLUSH);
    source->begin += available - source->zlib.avail_in;
    switch (result) {
    case Z_STREAM_END:
        source->inflating = false;
        return RPO_OK;
    case Z_MEM_ERROR:
        return rpo_error_set(RPO_ERROR_OUT_OF_MEMORY, "gzip: no memory to unpack");
    case Z_OK:
    case Z_BUF_ERROR: /* no progress was possible: harmless unless the file is at its end */
        if (available == 0)
            return rpo_error_set(RPO_ERROR_INVALID_INPUT,
                                 "gzip: the stream is cut short; the file must be complete");
        return RPO_OK;
    default:
        return rpo_error_set(RPO_ERROR_INVALID_INPUT,
                             "gzip: the stream is damaged (%s); it must unpack whole",
                             source->zlib.msg != NULL ? source->zlib.msg : "unknown fault");
    }
}

rpo_status rpo_byte_source_read(rpo_byte_source *source, char *out, size_t size, size_t *got) {
    *got = 0;
    if (!source->gzip)
        return read_plain(source, out, size, got);
    const uInt room = size < INPUT_SIZE ? (uInt)size : INPUT_SIZE;
    source->zlib.next_out = (unsigned char *)out;
    source->zlib.avail_out = room;
    while (source->zlib.avail_out == room) {
        if (!source->inflating) {
            RPO_TRY(next_member(source));
            if (!source->inflating)
                break;
        }
        RPO_TRY(inflate_some(source));
    }
    *got = room - source->zlib.avail_out;
    return RPO_OK;
}
