/* step.c - the two-phase step. */
#include "host/train/step.h"

#include <math.h>

/* Phase 4 of one micro-batch. `logps` receives the log-probs that come out on the way; or NULL. */
static rpo_status run_backward(const rpo_task *task, rpo_task_memory *memory, int64_t k, float *logps) {
    const int64_t first = memory->scope.ends[k];
    RPO_TRY(rpo_scope_pack(&memory->scope, k, &memory->batch));
    RPO_TRY(rpo_model_forward(task->model, &memory->batch, true, NULL, NULL));
    return rpo_model_backward(task->model, &memory->batch, memory->gradients + first,
                              logps == NULL ? NULL : logps + first);
}

static rpo_status run_all_backward(const rpo_task *task, rpo_task_memory *memory, float *logps) {
    for (int64_t k = 0; k < memory->scope.num_micro_batches; ++k)
        RPO_TRY(run_backward(task, memory, k, logps));
    return RPO_OK;
}

/* Token mean over the global batch: every sequence's g is the same and known before any forward. */
static rpo_status likelihood_step(rpo_figures *figures, const rpo_task *task, rpo_task_memory *memory) {
    const rpo_scope *scope = &memory->scope;
    const double labels = (double)scope->num_labels;
    for (int64_t s = 0; s < scope->num_sequences; ++s)
        memory->gradients[s] = (float)(-1.0 / labels);
    const rpo_status status = run_all_backward(task, memory, memory->policy);
    RPO_TRY(rpo_scope_gather(scope, task->comm, memory->policy, status));
    rpo_likelihood_figures(figures, scope, memory->policy);
    return RPO_OK;
}

static rpo_status first_forward(const rpo_task *task, rpo_task_memory *memory, bool keep_activations) {
    if (!keep_activations)
        return rpo_scope_forward(&memory->scope, task->model, &memory->batch, memory->policy, NULL, NULL);
    RPO_TRY(rpo_scope_pack(&memory->scope, 0, &memory->batch));
    return rpo_model_forward(task->model, &memory->batch, true, memory->policy + memory->scope.first, NULL);
}

static rpo_status contrast_step(rpo_figures *figures, const rpo_task *task, rpo_task_memory *memory) {
    const rpo_scope *scope = &memory->scope;
    const bool fits_one = scope->num_micro_batches == 1;
    RPO_TRY(rpo_scope_gather(scope, task->comm, memory->policy, first_forward(task, memory, fits_one)));
    RPO_TRY(rpo_contrast_blocks(figures, memory->gradients, task->context, scope, memory->policy,
                                memory->reference, task->embeddings, &task->contrast));
    if (!isfinite(figures->loss) || figures->empty_blocks == figures->blocks)
        return RPO_OK; /* the same on every rank: all of them computed this loss */
    const rpo_status status =
        fits_one ? rpo_model_backward(task->model, &memory->batch, memory->gradients + scope->first, NULL)
                 : run_all_backward(task, memory, NULL);
    return rpo_comm_agree(task->comm, status);
}

rpo_status rpo_step_gradients(rpo_figures *figures, const rpo_task *task, rpo_task_memory *memory,
                              const int64_t *records, int64_t num_rows) {
    float *gradients = NULL;
    int64_t count = 0;
    RPO_TRY(rpo_task_prepare(task, memory, records, num_rows));
    RPO_TRY(rpo_model_zero_gradients(task->model));
    if (rpo_task_is_sft(task))
        RPO_TRY(likelihood_step(figures, task, memory));
    else
        RPO_TRY(contrast_step(figures, task, memory));
    RPO_TRY(rpo_model_gradients(task->model, &gradients, &count));
    return task->comm->ops->all_reduce_sum_float(task->comm, gradients, count);
}
