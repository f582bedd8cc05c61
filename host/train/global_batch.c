/* global_batch.c - rows to sequences, sequences to ranks. */
#include "host/train/global_batch.h"

static rpo_status reserve(rpo_global_batch *batch, int64_t num_rows, int ranks) {
    void *records = batch->records, *sequences = batch->sequences, *counts = batch->rank_counts;
    const size_t rows = (size_t)num_rows;
    rpo_status status = rpo_grow_array(&records, &batch->record_capacity, rows, sizeof *batch->records);
    batch->records = records;
    if (status == RPO_OK)
        status = rpo_grow_array(&sequences, &batch->sequence_capacity, 2 * rows, sizeof *batch->sequences);
    batch->sequences = sequences;
    if (status == RPO_OK)
        status = rpo_grow_array(&counts, &batch->rank_capacity, (size_t)ranks, sizeof *batch->rank_counts);
    batch->rank_counts = counts;
    return status;
}

static void add_sequence(rpo_global_batch *batch, const rpo_sequence *tokens, int64_t row, bool rejected) {
    if (tokens->tokens == NULL)
        return;
    batch->sequences[batch->num_sequences++] = (rpo_batch_sequence){tokens, row, rejected};
    batch->num_tokens += tokens->length;
    batch->num_labels += tokens->length - tokens->prompt_length;
}

rpo_status rpo_global_batch_build(rpo_global_batch *batch, const rpo_comm *comm, const rpo_dataset *dataset,
                                  const int64_t *records, int64_t first_record, int64_t num_rows,
                                  bool chosen_only) {
    RPO_TRY(reserve(batch, num_rows, comm->size));
    batch->num_rows = num_rows;
    batch->num_sequences = batch->num_tokens = batch->num_labels = 0;
    int64_t row = 0;
    for (int rank = 0; rank < comm->size; ++rank) {
        const int64_t start = batch->num_sequences;
        /* Quotient and remainder apart: num_rows * rank could overflow. */
        const int64_t end =
            num_rows / comm->size * (rank + 1) + num_rows % comm->size * (rank + 1) / comm->size;
        for (; row < end; ++row) {
            batch->records[row] = records == NULL ? first_record + row : records[row];
            const rpo_record *record = rpo_dataset_record(dataset, batch->records[row]);
            add_sequence(batch, &record->chosen, row, false);
            if (!chosen_only)
                add_sequence(batch, &record->rejected, row, true);
        }
        batch->rank_counts[rank] = batch->num_sequences - start;
        if (rank == comm->rank) {
            batch->first = start;
            batch->last = batch->num_sequences;
        }
    }
    return RPO_OK;
}

void rpo_global_batch_free(rpo_global_batch *batch) {
    rpo_free(batch->rank_counts);
    rpo_free(batch->sequences);
    rpo_free(batch->records);
    *batch = (rpo_global_batch){0};
}

int64_t rpo_global_batch_sequence_of(const rpo_global_batch *batch, int64_t row, int64_t from) {
    while (from < batch->num_sequences && batch->sequences[from].row < row)
        ++from;
    return from;
}
