/* normalize.c - rows of length 1. */
#include <math.h>

#include "host/embed/embed_internal.h"

bool rpo_embed_normalize(float *row, int64_t dim) {
    double square = 0;
    for (int64_t i = 0; i < dim; ++i)
        square += (double)row[i] * row[i];
    if (!isfinite(square))
        return false;
    if (square > 0) {
        const double scale = 1 / sqrt(square);
        for (int64_t i = 0; i < dim; ++i)
            row[i] = (float)(row[i] * scale);
    }
    return true;
}
