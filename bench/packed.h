/* packed.h - labels and sequence bounds of the log-prob benchmarks. */
#ifndef RPO_BENCH_PACKED_H
#define RPO_BENCH_PACKED_H

#include "bench/bench.h"

typedef struct bench_packed {
    int32_t *labels;     /* [rows] */
    int32_t *cu_seqlens; /* [sequences + 1] */
    float *gradients;    /* [sequences] dL / d sequence_logps */
    float *sequence_logps;
} bench_packed;

/* `sequences` of about equal length; the first rows of each, 100 - valid_percent of 100, are ignored. */
rpo_status bench_packed_new(bench_packed *packed, int64_t rows, int64_t sequences, int64_t vocab_size,
                            int64_t valid_percent);
void bench_packed_free(bench_packed *packed);

/* The sequence a row belongs to. */
int64_t bench_packed_sequence(const bench_packed *packed, int64_t row);

/* log sum exp of a row in double. */
double bench_logsumexp(const double *row, int64_t count);

#endif
