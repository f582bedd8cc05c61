/*
 * contrast_strip.c - one strip of the similarity matrix and the softmax of its rows.
 *
 * The rows of a strip are normalised into a small tile before the product and the columns scaled after it, so
 * that neither side is ever copied whole, and the product of very long or very short vectors neither
 * overflows nor vanishes.
 */
#include <float.h>
#include <math.h>

#include "kernels/cpu/blas.h"
#include "kernels/cpu/contrast.h"
#include "kernels/cpu/vector_math.h"

enum {
    STRIP_ELEMENTS = 1 << 19, /* 2 MiB a thread: a strip and its embeddings stay in cache */
    STRIP_ROWS_MIN = 16,      /* below this the product packs its columns longer than it multiplies */
    STRIP_ROWS_MAX = 128,
    STRIPS_WANTED = 8 /* so that several threads have work at small m */
};

int64_t rpo_cpu_strip_rows(int64_t m, int64_t n, int64_t dim) {
    const int64_t width = n > dim ? n : dim;
    const int64_t share = (m + STRIPS_WANTED - 1) / STRIPS_WANTED;
    int64_t rows = STRIP_ELEMENTS / (width > 0 ? width : 1);
    if (rows > STRIP_ROWS_MAX)
        rows = STRIP_ROWS_MAX;
    if (rows > share)
        rows = share;
    if (rows < STRIP_ROWS_MIN)
        rows = STRIP_ROWS_MIN;
    return rows < m ? rows : m;
}

int64_t rpo_cpu_most_strips(int64_t m) {
    return (m + STRIP_ROWS_MIN - 1) / STRIP_ROWS_MIN;
}

int64_t rpo_cpu_most_strip_elements(int64_t m, int64_t width) {
    const int64_t all = (m < STRIP_ROWS_MAX ? m : STRIP_ROWS_MAX) * width;
    const int64_t least = STRIP_ROWS_MIN * width;
    const int64_t most = least > STRIP_ELEMENTS ? least : STRIP_ELEMENTS;
    return all < most ? all : most;
}

/* In double, where the square of any float32 fits. */
static double inverse_norm(const float *x, int64_t dim) {
    double sum = 0.0;
#pragma omp simd reduction(+ : sum)
    for (int64_t k = 0; k < dim; ++k)
        sum += (double)x[k] * (double)x[k];
    if (!isfinite(sum))
        return NAN;
    const double norm = sqrt(sum);
    return norm < (double)FLT_MIN ? 0.0 : 1.0 / norm;
}

void rpo_cpu_inverse_norms(int num_threads, float *inverse, const float *x, int64_t count, int64_t dim) {
#pragma omp parallel for schedule(static) num_threads(num_threads)
    for (int64_t j = 0; j < count; ++j)
        inverse[j] = (float)inverse_norm(x + j * dim, dim);
}

rpo_status rpo_cpu_similarity_strip(rpo_context *context, float *strip, float *tile, const float *chosen,
                                    const float *rejected, int64_t rows, int64_t n, int64_t dim) {
    for (int64_t r = 0; r < rows; ++r) {
        const float *source = chosen + r * dim;
        float *target = tile + r * dim;
        const double inverse = inverse_norm(source, dim);
#pragma omp simd
        for (int64_t k = 0; k < dim; ++k)
            target[k] = (float)((double)source[k] * inverse);
    }
    return rpo_cpu_gemm(context, strip, n, (rpo_cpu_matrix){tile, dim, false},
                        (rpo_cpu_matrix){rejected, dim, true}, rows, n, dim, 1.0f, 0.0f);
}

/* The division by tau stays one: 1 / tau overflows for the smallest tau and then 0 * inf would be NaN. */
float rpo_cpu_softmax_row(float *row, const float *inverse_norms, int64_t n, float tau, float scale) {
    float largest = -INFINITY;
#pragma omp simd reduction(max : largest)
    for (int64_t j = 0; j < n; ++j) {
        const float cosine = row[j] * inverse_norms[j];
        row[j] = cosine;
        largest = cosine > largest ? cosine : largest;
    }
    double sum = 0.0;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < n; ++j) {
        const float e = rpo_exp_nonpositive((row[j] - largest) / tau);
        row[j] = e;
        sum += (double)e;
    }
    return (float)((double)scale / sum);
}
