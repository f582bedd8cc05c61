/*
 * npy.h - reader of NumPy's .npy files, as far as embeddings need: versions 1 and 2, two dimensions, C order,
 * little-endian float16, float32 or float64. The header is parsed strictly and checked against the file's
 * size before anything is allocated.
 */
#ifndef RPO_HOST_FORMATS_NPY_H
#define RPO_HOST_FORMATS_NPY_H

#include "core/core.h"

typedef struct rpo_matrix {
    float *values; /* [rows][columns], rpo_free */
    int64_t rows, columns;
} rpo_matrix;

/* INVALID_INPUT, "FILE: what is wrong; what is allowed". `expected_rows` -1 = any number. */
rpo_status rpo_npy_read(rpo_matrix *matrix, const char *path, int64_t expected_rows);

#endif
