/* logprob_rows.c - labels and sequences of packed rows: checks, gradient scales, sums. */
#include "kernels/cpu/logprob_rows.h"

rpo_status rpo_cpu_rows_check(const rpo_cpu_rows *rows) {
    const int32_t *cu_seqlens = rows->cu_seqlens;
    if (cu_seqlens[0] != 0)
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT, "cu_seqlens[0]: is %d; must be 0", cu_seqlens[0]);
    for (int64_t s = 0; s < rows->num_sequences; ++s)
        if (cu_seqlens[s + 1] < cu_seqlens[s])
            return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT,
                                 "cu_seqlens[%lld]: is %d after %d; must not decrease", (long long)s + 1,
                                 cu_seqlens[s + 1], cu_seqlens[s]);
    if (cu_seqlens[rows->num_sequences] != rows->num_rows)
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT, "cu_seqlens[%lld]: is %d; must be shape.rows, %lld",
                             (long long)rows->num_sequences, cu_seqlens[rows->num_sequences],
                             (long long)rows->num_rows);
    for (int64_t t = 0; t < rows->num_rows; ++t) {
        const int32_t label = rows->labels[t];
        if (label != RPO_IGNORE_LABEL && (label < 0 || label >= rows->vocab_size))
            return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT,
                                 "labels[%lld]: is %d; must be 0 to %lld (the vocabulary) or %d (ignored)",
                                 (long long)t, label, (long long)(rows->vocab_size - 1), RPO_IGNORE_LABEL);
    }
    return RPO_OK;
}

static int64_t count_valid(const rpo_cpu_rows *rows, int64_t sequence) {
    int64_t count = 0;
    for (int32_t t = rows->cu_seqlens[sequence]; t < rows->cu_seqlens[sequence + 1]; ++t)
        count += rows->labels[t] != RPO_IGNORE_LABEL;
    return count;
}

void rpo_cpu_rows_scales(float *scales, const rpo_cpu_rows *rows, const float *grad_sequence_logps) {
    for (int64_t s = 0; s < rows->num_sequences; ++s) {
        double scale = grad_sequence_logps[s];
        if (rows->reduction == RPO_REDUCTION_AVERAGE)
            scale /= (double)count_valid(rows, s); /* no valid row: never used below */
        for (int32_t t = rows->cu_seqlens[s]; t < rows->cu_seqlens[s + 1]; ++t)
            scales[t] = rows->labels[t] != RPO_IGNORE_LABEL ? (float)scale : 0.0f;
    }
}

void rpo_cpu_rows_reduce(float *sequence_logps, const rpo_cpu_rows *rows, const double *row_logps) {
    for (int64_t s = 0; s < rows->num_sequences; ++s) {
        double sum = 0.0;
        int64_t count = 0;
        for (int32_t t = rows->cu_seqlens[s]; t < rows->cu_seqlens[s + 1]; ++t)
            if (rows->labels[t] != RPO_IGNORE_LABEL) {
                sum += row_logps[t];
                ++count;
            }
        if (rows->reduction == RPO_REDUCTION_AVERAGE && count > 0)
            sum /= (double)count;
        sequence_logps[s] = (float)sum;
    }
}
