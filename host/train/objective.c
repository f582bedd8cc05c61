/* objective.c - laying out the rows of a step or an evaluation. */
#include "host/train/objective.h"

rpo_status rpo_scores_create(rpo_scores *scores, int64_t count) {
    scores->chosen = rpo_calloc_array((size_t)count, sizeof(float));
    scores->rejected = rpo_calloc_array((size_t)count, sizeof(float));
    scores->count = count;
    if (scores->chosen != NULL && scores->rejected != NULL)
        return RPO_OK;
    rpo_scores_free(scores);
    return RPO_ERROR_OUT_OF_MEMORY;
}

void rpo_scores_free(rpo_scores *scores) {
    rpo_free(scores->chosen);
    rpo_free(scores->rejected);
    *scores = (rpo_scores){0};
}

void rpo_objective_memory_free(rpo_objective_memory *memory) {
    rpo_global_batch_free(&memory->scope);
    rpo_batch_free(&memory->batch);
    rpo_free(memory->policy);
    rpo_free(memory->reference);
    rpo_free(memory->gradients);
    *memory = (rpo_objective_memory){0};
}

static rpo_status grow(float **array, size_t *capacity, int64_t needed) {
    void *memory = *array;
    const rpo_status status = rpo_grow_array(&memory, capacity, (size_t)needed, sizeof **array);
    *array = memory;
    return status;
}

rpo_status rpo_objective_prepare(const rpo_objective *objective, rpo_objective_memory *memory,
                                 const int64_t *records, int64_t num_rows) {
    const rpo_global_batch_options options = {.micro_batch_tokens = objective->micro_batch_tokens,
                                              .chosen_only = rpo_objective_is_sft(objective)};
    rpo_global_batch *scope = &memory->scope;
    RPO_TRY(rpo_global_batch_build(scope, objective->comm, objective->dataset, records, num_rows, &options));
    RPO_TRY(grow(&memory->policy, &memory->policy_capacity, scope->num_sequences));
    RPO_TRY(grow(&memory->reference, &memory->reference_capacity, scope->num_sequences));
    RPO_TRY(grow(&memory->gradients, &memory->gradient_capacity, scope->num_sequences));
    if (objective->reference == NULL)
        return RPO_OK;
    for (int64_t s = 0; s < scope->num_sequences; ++s) {
        const int64_t record = scope->records[scope->sequences[s].row];
        memory->reference[s] = scope->sequences[s].rejected ? objective->reference->rejected[record]
                                                            : objective->reference->chosen[record];
    }
    return RPO_OK;
}
