/* step.c - the two-phase step. */
#include "host/train/step.h"

#include <math.h>

/* Phase 4 of one micro-batch. `logps` receives the log-probs that come out on the way; or NULL. */
static rpo_status run_backward(const rpo_objective *objective, rpo_objective_memory *memory, int64_t k,
                               float *logps) {
    const int64_t first = memory->scope.ends[k];
    RPO_TRY(rpo_global_batch_pack(&memory->scope, k, &memory->batch));
    RPO_TRY(rpo_model_forward(objective->model, &memory->batch, true, NULL, NULL));
    return rpo_model_backward(objective->model, &memory->batch, memory->gradients + first,
                              logps == NULL ? NULL : logps + first);
}

static rpo_status run_all_backward(const rpo_objective *objective, rpo_objective_memory *memory,
                                   float *logps) {
    for (int64_t k = 0; k < memory->scope.num_micro_batches; ++k)
        RPO_TRY(run_backward(objective, memory, k, logps));
    return RPO_OK;
}

/* Token mean over the global batch: every sequence's g is the same and known before any forward. */
static rpo_status likelihood_step(rpo_figures *figures, const rpo_objective *objective,
                                  rpo_objective_memory *memory) {
    const rpo_global_batch *scope = &memory->scope;
    const double labels = (double)scope->num_labels;
    for (int64_t s = 0; s < scope->num_sequences; ++s)
        memory->gradients[s] = (float)(-1.0 / labels);
    const rpo_status status = run_all_backward(objective, memory, memory->policy);
    RPO_TRY(rpo_global_batch_gather(scope, objective->comm, memory->policy, status));
    rpo_likelihood_figures(figures, scope, memory->policy);
    return RPO_OK;
}

static rpo_status first_forward(const rpo_objective *objective, rpo_objective_memory *memory,
                                bool keep_activations) {
    if (!keep_activations)
        return rpo_global_batch_forward(&memory->scope, objective->model, &memory->batch, memory->policy,
                                        NULL, NULL);
    RPO_TRY(rpo_global_batch_pack(&memory->scope, 0, &memory->batch));
    return rpo_model_forward(objective->model, &memory->batch, true, memory->policy + memory->scope.first,
                             NULL);
}

static rpo_status contrast_step(rpo_figures *figures, const rpo_objective *objective,
                                rpo_objective_memory *memory) {
    const rpo_global_batch *scope = &memory->scope;
    const bool fits_one = scope->num_micro_batches == 1;
    RPO_TRY(rpo_global_batch_gather(scope, objective->comm, memory->policy,
                                    first_forward(objective, memory, fits_one)));
    RPO_TRY(rpo_contrast_blocks(figures, memory->gradients, objective->context, scope, memory->policy,
                                memory->reference, objective->embeddings, &objective->contrast));
    if (!isfinite(figures->loss) || figures->empty_blocks == figures->blocks)
        return RPO_OK; /* the same on every rank: all of them computed this loss */
    const rpo_status status = fits_one ? rpo_model_backward(objective->model, &memory->batch,
                                                            memory->gradients + scope->first, NULL)
                                       : run_all_backward(objective, memory, NULL);
    return rpo_comm_agree(objective->comm, status);
}

rpo_status rpo_step_gradients(rpo_figures *figures, const rpo_objective *objective,
                              rpo_objective_memory *memory, const int64_t *records, int64_t num_rows) {
    float *gradients = NULL;
    int64_t count = 0;
    RPO_TRY(rpo_objective_prepare(objective, memory, records, num_rows));
    RPO_TRY(rpo_model_zero_gradients(objective->model));
    if (rpo_objective_is_sft(objective))
        RPO_TRY(likelihood_step(figures, objective, memory));
    else
        RPO_TRY(contrast_step(figures, objective, memory));
    RPO_TRY(rpo_model_gradients(objective->model, &gradients, &count));
    return objective->comm->ops->all_reduce_sum_float(objective->comm, gradients, count);
}
