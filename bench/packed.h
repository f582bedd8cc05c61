/* packed.h - labels and sequence bounds of the log-prob benchmarks, on the host and on the device. */
#ifndef RPO_BENCH_PACKED_H
#define RPO_BENCH_PACKED_H

#include "bench/array.h"

typedef struct bench_packed {
    int64_t rows, sequences, valid_rows;
    int32_t *labels;       /* [rows], on the host */
    int32_t *cu_seqlens;   /* [sequences + 1], on the host */
    double *scales;        /* [sequences], on the host: dL / d sequence_logps */
    bench_array labels_in; /* the same three on the device */
    bench_array cu_seqlens_in;
    bench_array gradients;
    bench_array sequence_logps; /* an output, on the device */
} bench_packed;

/* `sequences` of about equal length; the first rows of each, 100 - valid_percent of 100, are ignored. *packed
 * must be empty; bench_packed_free also after a failure. */
rpo_status bench_packed_new(bench_packed *packed, rpo_context *context, int64_t rows, int64_t sequences,
                            int64_t vocab_size, int64_t valid_percent);
void bench_packed_free(bench_packed *packed);

/* The sequence a row belongs to. */
int64_t bench_packed_sequence(const bench_packed *packed, int64_t row);

/* log sum exp of a row in double. */
double bench_logsumexp(const double *row, int64_t count);

#endif
