/*
 * npy.c - reads a .npy matrix as float32.
 *
 *     "\x93NUMPY"  major  minor  header length (2 bytes in version 1, 4 in version 2, little-endian)
 *     {'descr': '<f4', 'fortran_order': False, 'shape': (rows, columns), }   padded with spaces, ends in "\n"
 *     the values
 *
 * (numpy.lib.format, https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html)
 */
#include "host/formats/npy.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/descriptors.h"
#include "core/signals.h"

enum { MAX_HEADER = 1 << 16, PREFIX_SIZE = 8, CHUNK_VALUES = 1 << 13 };

typedef enum rpo_npy_type { NPY_NONE, NPY_FLOAT16, NPY_FLOAT32, NPY_FLOAT64 } rpo_npy_type;

typedef struct rpo_npy_header {
    rpo_npy_type type;
    bool has_order, has_shape;
    int64_t rows, columns;
} rpo_npy_header;

static size_t value_size(rpo_npy_type type) {
    return type == NPY_FLOAT16 ? 2 : type == NPY_FLOAT32 ? 4 : 8;
}

/* ---- header text: a cursor and small readers that return false where the text is not what they expect ----
 */

static void skip_spaces(const char **cursor) {
    while (**cursor == ' ')
        ++*cursor;
}

static bool take(const char **cursor, const char *token) {
    skip_spaces(cursor);
    const size_t length = strlen(token);
    if (strncmp(*cursor, token, length) != 0)
        return false;
    *cursor += length;
    return true;
}

/* A quoted string without escapes, into out[size). */
static bool take_string(const char **cursor, char *out, size_t size) {
    skip_spaces(cursor);
    const char quote = **cursor;
    if (quote != '\'' && quote != '"')
        return false;
    const char *begin = *cursor + 1;
    const char *end = strchr(begin, quote);
    if (end == NULL || (size_t)(end - begin) >= size)
        return false;
    memcpy(out, begin, (size_t)(end - begin));
    out[end - begin] = '\0';
    *cursor = end + 1;
    return true;
}

static bool take_size(const char **cursor, int64_t *value) {
    skip_spaces(cursor);
    if (**cursor < '0' || **cursor > '9')
        return false;
    for (*value = 0; **cursor >= '0' && **cursor <= '9'; ++*cursor) {
        if (*value > (INT64_MAX - 9) / 10)
            return false;
        *value = *value * 10 + (**cursor - '0');
    }
    return true;
}

static rpo_npy_type find_type(const char *descr) {
    if (strcmp(descr, "<f2") == 0)
        return NPY_FLOAT16;
    if (strcmp(descr, "<f4") == 0)
        return NPY_FLOAT32;
    return strcmp(descr, "<f8") == 0 ? NPY_FLOAT64 : NPY_NONE;
}

static rpo_status header_fault(const char *path, const char *what) {
    return rpo_error_set(RPO_ERROR_INVALID_INPUT, "%s: %s", path, what);
}

static rpo_status read_type(rpo_npy_header *header, const char **cursor, const char *path) {
    char descr[16];
    if (!take_string(cursor, descr, sizeof descr) || header->type != NPY_NONE)
        return header_fault(path, "descr: is not one string; must be '<f2', '<f4' or '<f8'");
    header->type = find_type(descr);
    if (header->type == NPY_NONE)
        return rpo_error_set(RPO_ERROR_INVALID_INPUT,
                             "%s: descr: is '%s'; must be '<f2', '<f4' or '<f8' (little-endian floats)", path,
                             descr);
    return RPO_OK;
}

static rpo_status read_order(rpo_npy_header *header, const char **cursor, const char *path) {
    if (header->has_order || !take(cursor, "False"))
        return header_fault(path, "fortran_order: must be False (rows one after another)");
    header->has_order = true;
    return RPO_OK;
}

static rpo_status read_shape(rpo_npy_header *header, const char **cursor, const char *path) {
    const bool sound = !header->has_shape && take(cursor, "(") && take_size(cursor, &header->rows) &&
                       take(cursor, ",") && take_size(cursor, &header->columns) &&
                       (take(cursor, ",") || true) && take(cursor, ")");
    if (!sound)
        return header_fault(path, "shape: must have two dimensions, (rows, columns)");
    header->has_shape = true;
    return RPO_OK;
}

static rpo_status parse_header(rpo_npy_header *header, const char *text, const char *path) {
    const char *cursor = text;
    if (!take(&cursor, "{"))
        return header_fault(path, "header: is no dictionary");
    while (!take(&cursor, "}")) {
        char key[32];
        if (!take_string(&cursor, key, sizeof key) || !take(&cursor, ":"))
            return header_fault(path, "header: is damaged");
        if (strcmp(key, "descr") == 0)
            RPO_TRY(read_type(header, &cursor, path));
        else if (strcmp(key, "fortran_order") == 0)
            RPO_TRY(read_order(header, &cursor, path));
        else if (strcmp(key, "shape") == 0)
            RPO_TRY(read_shape(header, &cursor, path));
        else
            return rpo_error_set(RPO_ERROR_INVALID_INPUT,
                                 "%s: header: has the key '%s'; must hold descr, fortran_order and shape",
                                 path, key);
        if (!take(&cursor, ",") && *cursor != '}')
            return header_fault(path, "header: is damaged");
    }
    skip_spaces(&cursor);
    if (strcmp(cursor, "\n") != 0)
        return header_fault(path, "header: is damaged; must end in a line feed");
    if (header->type == NPY_NONE || !header->has_order || !header->has_shape)
        return header_fault(path, "header: lacks a key; must hold descr, fortran_order and shape");
    return RPO_OK;
}

/* ---- file ---- */

static rpo_status open_stream(FILE **file, const char *path) {
    int descriptor = -1;
    RPO_TRY(rpo_open_regular(path, &descriptor, NULL));
    *file = fdopen(descriptor, "rb");
    if (*file != NULL)
        return RPO_OK;
    close(descriptor);
    return rpo_error_set(RPO_ERROR_OUT_OF_MEMORY, "%s: no memory for a stream", path);
}

/* Exactly `size` bytes; `what` says what a file lacks that ends before. */
static rpo_status read_exactly(FILE *file, void *data, size_t size, const char *path, const char *what) {
    if (fread(data, 1, size, file) == size)
        return RPO_OK;
    if (ferror(file) != 0)
        return rpo_error_set(RPO_ERROR_IO, "%s: cannot be read: %s", path, strerror(errno));
    return header_fault(path, what);
}

/* Reads the header's text, NUL-terminated, into text[MAX_HEADER + 1]; the file is then at the first value. */
static rpo_status read_header_text(FILE *file, char *text, const char *path) {
    unsigned char prefix[PREFIX_SIZE + 4];
    static const char no_npy[] = "is no .npy file; must begin with \"\\x93NUMPY\"";
    RPO_TRY(read_exactly(file, prefix, PREFIX_SIZE, path, no_npy));
    if (memcmp(prefix, "\x93NUMPY", 6) != 0)
        return header_fault(path, no_npy);
    const int major = prefix[6];
    if (major != 1 && major != 2)
        return rpo_error_set(RPO_ERROR_INVALID_INPUT, "%s: has .npy version %d; must be 1 or 2", path, major);
    const size_t digits = major == 1 ? 2 : 4;
    RPO_TRY(read_exactly(file, prefix + PREFIX_SIZE, digits, path, "header: is cut short"));
    size_t length = 0;
    for (size_t i = 0; i < digits; ++i)
        length |= (size_t)prefix[PREFIX_SIZE + i] << (8 * i);
    if (length > MAX_HEADER)
        return rpo_error_set(RPO_ERROR_INVALID_INPUT, "%s: header: has %zu bytes; at most %d are allowed",
                             path, length, MAX_HEADER);
    RPO_TRY(read_exactly(file, text, length, path, "header: is cut short"));
    text[length] = '\0';
    if (strlen(text) != length)
        return header_fault(path, "header: holds a NUL byte");
    return RPO_OK;
}

/* The file must hold exactly the values that its header promises. */
static rpo_status check_size(FILE *file, const rpo_npy_header *header, const char *path) {
    const off_t here = ftello(file);
    if (here < 0 || fseeko(file, 0, SEEK_END) != 0)
        return rpo_error_set(RPO_ERROR_IO, "%s: cannot be sized: %s", path, strerror(errno));
    const off_t end = ftello(file);
    if (end < here || fseeko(file, here, SEEK_SET) != 0)
        return rpo_error_set(RPO_ERROR_IO, "%s: cannot be sized: %s", path, strerror(errno));
    const uint64_t held = (uint64_t)(end - here) / value_size(header->type);
    const bool whole = (uint64_t)(end - here) % value_size(header->type) == 0;
    const bool fits = header->columns > 0 && held / (uint64_t)header->columns == (uint64_t)header->rows &&
                      held % (uint64_t)header->columns == 0;
    if (!whole || !fits)
        return rpo_error_set(RPO_ERROR_INVALID_INPUT,
                             "%s: shape: is (%" PRId64 ", %" PRId64 ") over %" PRIu64
                             " values; at least one column, and the file must hold exactly those",
                             path, header->rows, header->columns, held);
    return RPO_OK;
}

static float half_to_float(uint16_t half) {
    const int exponent = half >> 10 & 0x1f;
    const float mantissa = (float)(half & 0x3ff);
    float value;
    if (exponent == 0x1f)
        value = mantissa == 0 ? INFINITY : NAN;
    else if (exponent == 0)
        value = ldexpf(mantissa, -24);
    else
        value = ldexpf(1024 + mantissa, exponent - 25);
    return (half & 0x8000) != 0 ? -value : value;
}

static void convert(float *out, const unsigned char *in, size_t count, rpo_npy_type type) {
    for (size_t i = 0; i < count; ++i) {
        uint16_t half;
        double wide;
        switch (type) {
        case NPY_FLOAT16:
            memcpy(&half, in + 2 * i, sizeof half);
            out[i] = half_to_float(half);
            break;
        case NPY_FLOAT64:
            memcpy(&wide, in + 8 * i, sizeof wide);
            out[i] = (float)wide;
            break;
        case NPY_FLOAT32:
        case NPY_NONE:
            memcpy(&out[i], in + 4 * i, sizeof out[i]);
            break;
        }
    }
}

static rpo_status read_values(FILE *file, float *values, size_t count, rpo_npy_type type, const char *path) {
    unsigned char chunk[CHUNK_VALUES * 8];
    for (size_t done = 0; done < count;) {
        const size_t wanted = count - done < CHUNK_VALUES ? count - done : CHUNK_VALUES;
        RPO_TRY(rpo_signals_check());
        if (fread(chunk, value_size(type), wanted, file) != wanted)
            return rpo_error_set(RPO_ERROR_IO, "%s: cannot be read after %zu values: %s", path, done,
                                 ferror(file) != 0 ? strerror(errno) : "the file was cut short");
        convert(values + done, chunk, wanted, type);
        done += wanted;
    }
    return RPO_OK;
}

rpo_status rpo_npy_read(rpo_matrix *matrix, const char *path, int64_t expected_rows) {
    rpo_status status = RPO_OK;
    rpo_npy_header header = {0};
    FILE *file = NULL;
    *matrix = (rpo_matrix){0};
    char *text = rpo_alloc_array(MAX_HEADER + 1, 1);
    if (text == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    status = open_stream(&file, path);
    if (status == RPO_OK)
        status = read_header_text(file, text, path);
    if (status == RPO_OK)
        status = parse_header(&header, text, path);
    if (status == RPO_OK)
        status = check_size(file, &header, path);
    if (status == RPO_OK && expected_rows >= 0 && header.rows != expected_rows)
        status = rpo_error_set(RPO_ERROR_INVALID_INPUT,
                               "%s: has %" PRId64 " rows; must have one for each of the %" PRId64 " records",
                               path, header.rows, expected_rows);
    if (status != RPO_OK)
        goto cleanup;
    const size_t count = (size_t)header.rows * (size_t)header.columns; /* no more than the file holds */
    matrix->values = rpo_alloc_array(count, sizeof *matrix->values);
    if (matrix->values == NULL) {
        status = RPO_ERROR_OUT_OF_MEMORY;
        goto cleanup;
    }
    matrix->rows = header.rows;
    matrix->columns = header.columns;
    status = read_values(file, matrix->values, count, header.type, path);

cleanup:
    if (status != RPO_OK) {
        rpo_free(matrix->values);
        *matrix = (rpo_matrix){0};
    }
    if (file != NULL)
        fclose(file);
    rpo_free(text);
    return status;
}
