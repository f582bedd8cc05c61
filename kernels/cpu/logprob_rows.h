/*
 * logprob_rows.h - what the two log-prob ops share: labels and sequences of packed rows.
 */
#ifndef RPO_KERNELS_CPU_LOGPROB_ROWS_H
#define RPO_KERNELS_CPU_LOGPROB_ROWS_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/cpu/cpu.h"

/* Which rows belong to which sequence and what they predict; borrowed pointers. */
typedef struct rpo_cpu_rows {
    const int32_t *labels;
    const int32_t *cu_seqlens;
    int64_t num_rows, num_sequences, vocab_size;
    rpo_reduction reduction;
} rpo_cpu_rows;

/* INVALID_ARGUMENT naming the first label outside the vocabulary, or the first fault of cu_seqlens. */
rpo_status rpo_cpu_rows_check(const rpo_cpu_rows *rows);

/* scales[t] = the gradient of row t's log-prob: its sequence's, over the valid rows for an average; 0 where
 * ignored. */
void rpo_cpu_rows_scales(float *scales, const rpo_cpu_rows *rows, const float *grad_sequence_logps);

/* Sums (or averages) row_logps over each sequence's valid rows, in double and in row order. */
void rpo_cpu_rows_reduce(float *sequence_logps, const rpo_cpu_rows *rows, const double *row_logps);

#endif
