/* packed.c - labels and sequence bounds of the log-prob benchmarks. */
#include "bench/packed.h"

#include <math.h>

/* The labels, by sequence; counts the valid ones. */
static void draw_labels(bench_packed *packed, int64_t vocab_size, int64_t valid_percent) {
    for (int64_t s = 0; s < packed->sequences; ++s) {
        const int32_t begin = packed->cu_seqlens[s], end = packed->cu_seqlens[s + 1];
        for (int32_t t = begin; t < end; ++t) {
            const bool valid = (int64_t)(end - 1 - t) * 100 < valid_percent * (end - begin);
            const uint64_t token = rpo_random_u64(22, 0, (uint64_t)t) % (uint64_t)vocab_size;
            packed->labels[t] = valid ? (int32_t)token : RPO_IGNORE_LABEL;
            packed->valid_rows += valid;
        }
    }
}

rpo_status bench_packed_new(bench_packed *packed, rpo_context *context, int64_t rows, int64_t sequences,
                            int64_t vocab_size, int64_t valid_percent) {
    *packed = (bench_packed){.rows = rows, .sequences = sequences};
    if (sequences > rows || valid_percent > 100)
        return rpo_error_set(RPO_ERROR_INVALID_INPUT,
                             "--shape: sequences must be at most rows, valid_percent at most 100");
    packed->labels = rpo_alloc_array((size_t)rows, sizeof *packed->labels);
    packed->cu_seqlens = rpo_alloc_array((size_t)sequences + 1, sizeof *packed->cu_seqlens);
    if (packed->labels == NULL || packed->cu_seqlens == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    for (int64_t s = 0; s <= sequences; ++s)
        packed->cu_seqlens[s] = (int32_t)(s * rows / sequences);
    draw_labels(packed, vocab_size, valid_percent);
    RPO_TRY(bench_array_upload(&packed->labels_in, context, packed->labels,
                               (size_t)rows * sizeof *packed->labels));
    RPO_TRY(bench_array_upload(&packed->cu_seqlens_in, context, packed->cu_seqlens,
                               (size_t)(sequences + 1) * sizeof *packed->cu_seqlens));
    RPO_TRY(bench_array_random(&packed->gradients, context, sequences, RPO_FLOAT32, 1.0f, 21));
    RPO_TRY(bench_array_read_all(&packed->gradients, &packed->scales));
    return bench_array_output(&packed->sequence_logps, context, sequences, RPO_FLOAT32);
}

void bench_packed_free(bench_packed *packed) {
    bench_array_free(&packed->sequence_logps);
    bench_array_free(&packed->gradients);
    bench_array_free(&packed->cu_seqlens_in);
    bench_array_free(&packed->labels_in);
    rpo_free(packed->scales);
    rpo_free(packed->cu_seqlens);
    rpo_free(packed->labels);
}

int64_t bench_packed_sequence(const bench_packed *packed, int64_t row) {
    int64_t s = 0;
    while (packed->cu_seqlens[s + 1] <= row)
        ++s;
    return s;
}

double bench_logsumexp(const double *row, int64_t count) {
    double max = row[0], sum = 0.0;
    for (int64_t v = 1; v < count; ++v)
        max = fmax(max, row[v]);
    for (int64_t v = 0; v < count; ++v)
        sum += exp(row[v] - max);
    return max + log(sum);
}
