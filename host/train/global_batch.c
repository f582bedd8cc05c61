/* global_batch.c - rows to sequences, sequences to ranks and micro-batches. */
#include "host/train/global_batch.h"

static rpo_status reserve(rpo_global_batch *scope, int64_t num_rows, int ranks) {
    void *records = scope->records, *sequences = scope->sequences, *counts = scope->rank_counts,
         *ends = scope->ends;
    const size_t rows = (size_t)num_rows;
    rpo_status status = rpo_grow_array(&records, &scope->record_capacity, rows, sizeof *scope->records);
    scope->records = records;
    if (status == RPO_OK)
        status = rpo_grow_array(&sequences, &scope->sequence_capacity, 2 * rows, sizeof *scope->sequences);
    scope->sequences = sequences;
    if (status == RPO_OK)
        status = rpo_grow_array(&counts, &scope->rank_capacity, (size_t)ranks, sizeof *scope->rank_counts);
    scope->rank_counts = counts;
    if (status == RPO_OK)
        status = rpo_grow_array(&ends, &scope->end_capacity, 2 * rows + 1, sizeof *scope->ends);
    scope->ends = ends;
    return status;
}

static void add_sequence(rpo_global_batch *scope, const rpo_sequence *tokens, int64_t row, bool rejected) {
    if (tokens->tokens == NULL)
        return;
    scope->sequences[scope->num_sequences++] = (rpo_batch_sequence){tokens, row, rejected};
    scope->num_tokens += tokens->length;
    scope->num_labels += tokens->length - tokens->prompt_length;
}

/* Greedy in order: a micro-batch ends where the next sequence would take it over the budget. */
static void plan_micro_batches(rpo_global_batch *scope, int64_t budget) {
    scope->num_micro_batches = 0;
    scope->ends[0] = scope->first;
    int64_t tokens = 0;
    for (int64_t s = scope->first; s < scope->last; ++s) {
        const int64_t length = scope->sequences[s].tokens->length;
        if (tokens > 0 && tokens + length > budget) {
            scope->ends[++scope->num_micro_batches] = s;
            tokens = 0;
        }
        tokens += length;
    }
    if (tokens > 0)
        scope->ends[++scope->num_micro_batches] = scope->last;
}

rpo_status rpo_global_batch_build(rpo_global_batch *scope, const rpo_comm *comm, const rpo_dataset *dataset,
                                  const int64_t *records, int64_t num_rows,
                                  const rpo_global_batch_options *options) {
    RPO_TRY(reserve(scope, num_rows, comm->size));
    scope->num_rows = num_rows;
    scope->num_sequences = scope->num_tokens = scope->num_labels = 0;
    int64_t row = 0;
    for (int rank = 0; rank < comm->size; ++rank) {
        const int64_t start = scope->num_sequences;
        /* Quotient and remainder apart: num_rows * rank could overflow. */
        const int64_t end =
            num_rows / comm->size * (rank + 1) + num_rows % comm->size * (rank + 1) / comm->size;
        for (; row < end; ++row) {
            scope->records[row] = records == NULL ? row : records[row];
            const rpo_record *record = rpo_dataset_record(dataset, scope->records[row]);
            add_sequence(scope, &record->chosen, row, false);
            if (!options->chosen_only)
                add_sequence(scope, &record->rejected, row, true);
        }
        scope->rank_counts[rank] = scope->num_sequences - start;
        if (rank == comm->rank) {
            scope->first = start;
            scope->last = scope->num_sequences;
        }
    }
    plan_micro_batches(scope, options->micro_batch_tokens);
    return RPO_OK;
}

void rpo_global_batch_free(rpo_global_batch *scope) {
    rpo_free(scope->ends);
    rpo_free(scope->rank_counts);
    rpo_free(scope->sequences);
    rpo_free(scope->records);
    *scope = (rpo_global_batch){0};
}

rpo_status rpo_global_batch_pack(const rpo_global_batch *scope, int64_t k, rpo_batch *batch) {
    rpo_batch_clear(batch);
    for (int64_t s = scope->ends[k]; s < scope->ends[k + 1]; ++s) {
        const rpo_sequence *tokens = scope->sequences[s].tokens;
        RPO_TRY(rpo_batch_add(batch, tokens->tokens, tokens->length, tokens->prompt_length));
    }
    return RPO_OK;
}

rpo_status rpo_global_batch_forward(const rpo_global_batch *scope, rpo_model *model, rpo_batch *batch,
                                    float *logps, rpo_global_batch_tick *tick, void *user) {
    int64_t tokens = 0;
    for (int64_t k = 0; k < scope->num_micro_batches; ++k) {
        RPO_TRY(rpo_global_batch_pack(scope, k, batch));
        RPO_TRY(rpo_model_forward(model, batch, false, logps + scope->ends[k], NULL));
        tokens += batch->num_tokens;
        if (tick != NULL)
            RPO_TRY(tick(user, k + 1, scope->num_micro_batches, tokens));
    }
    return RPO_OK;
}

rpo_status rpo_global_batch_gather(const rpo_global_batch *scope, rpo_comm *comm, float *logps,
                                   rpo_status status) {
    RPO_TRY(rpo_comm_agree(comm, status));
    return comm->ops->all_gather_v(comm, logps, logps + scope->first, scope->rank_counts, sizeof *logps);
}
