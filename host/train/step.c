/* step.c - the step's phases, enqueued one after another. */
#include "host/train/step.h"

#include <math.h>

rpo_status rpo_step_open(rpo_step *step, const rpo_objective *objective, rpo_optimizer *optimizer) {
    *step = (rpo_step){.objective = objective, .optimizer = optimizer};
    RPO_TRY(rpo_desk_open(&step->desk, objective));
    if (objective->comm->size == 1)
        return RPO_OK;
    step->exchange =
        rpo_alloc_array((size_t)rpo_model_tensors(objective->model)->trainable, sizeof *step->exchange);
    if (step->exchange != NULL)
        return RPO_OK;
    rpo_step_close(step);
    return rpo_error_prefix(RPO_ERROR_OUT_OF_MEMORY, "gradients on their way between ranks: ");
}

void rpo_step_close(rpo_step *step) {
    rpo_free(step->exchange);
    rpo_desk_close(&step->desk);
    *step = (rpo_step){0};
}

rpo_status rpo_step_begin(rpo_step *step, int64_t updates) {
    rpo_staging *figures = rpo_model_memory(step->objective->model)->figures;
    rpo_text table = {0};
    void *control = NULL;
    rpo_staging_reset(figures);
    if (rpo_staging_put(figures, NULL, 1, sizeof(rpo_step_control), &control) == NULL)
        return rpo_error_set(RPO_ERROR_INTERNAL, "figures: have no room for the control block");
    if (step->desk.trace.enabled)
        RPO_TRY(rpo_memory_append_table(rpo_model_memory(step->objective->model), &table));
    rpo_trace_say(&step->desk.trace, table.data);
    rpo_text_free(&table);
    return rpo_optimizer_begin(step->objective->model, control, updates);
}

/* ---- forward and backward ---- */

/* What is added up while a step is enqueued. */
typedef struct passage {
    rpo_step *step;
    rpo_memory *memory;
    rpo_bump tape;   /* what is left of the tape segment */
    bool accumulate; /* some micro-batch has left its gradients */
} passage;

/* A tape for micro-batch k in the memory that is left. The head's cache is one tape's at a time: that of the micro-batch
 * whose backward comes next. */
static rpo_tape *begin_tape(passage *at, int64_t k, bool with_cache) {
    rpo_tape *tape = &at->step->desk.tapes[k];
    rpo_tape_lay_out(tape, at->step->objective->model, &at->tape,
                     at->step->desk.plan.micro_batches[k].batch.num_rows);
    tape->head_cache = with_cache ? at->memory->head_cache : NULL;
    tape->head_cache_bytes = with_cache ? at->memory->head_cache_bytes : 0;
    return tape;
}

static rpo_status record(passage *at, int64_t k, bool with_logps, bool with_cache) {
    const rpo_desk *desk = &at->step->desk;
    const rpo_micro_batch *micro = &desk->plan.micro_batches[k];
    return rpo_model_record(at->step->objective->model, begin_tape(at, k, with_cache), &micro->batch,
                            with_logps ? desk->segment_logps + micro->first_segment : NULL);
}

static rpo_status backward(passage *at, int64_t k, const float *gradients, float *logps) {
    const bool accumulate = at->accumulate;
    at->accumulate = true;
    return rpo_model_backward(at->step->objective->model, &at->step->desk.tapes[k], gradients, accumulate,
                              logps);
}

/* The scalars of a micro-batch, from contrast order to its segments, and back through the model with them. */
static rpo_status seeded_backward(passage *at, int64_t k) {
    const rpo_desk *desk = &at->step->desk;
    const rpo_micro_batch *micro = &desk->plan.micro_batches[k];
    rpo_context *context = rpo_model_context(at->step->objective->model);
    float *seeds = desk->segment_gradients + micro->first_segment;
    RPO_TRY(context->backend->model.take(context, seeds, desk->contrast.gradients, micro->gradient_index,
                                         micro->batch.num_segments));
    return backward(at, k, seeds, NULL);
}

/* The first of the group's micro-batches whose tape fits beside those of all that follow. */
static int64_t first_kept(const passage *at, const rpo_contrast_group *group) {
    const rpo_plan *plan = &at->step->desk.plan;
    size_t left = at->memory->tape_bytes;
    int64_t k = group->first_batch + group->num_batches;
    for (; k > group->first_batch; --k) {
        const size_t bytes =
            rpo_tape_bytes(at->step->objective->model, plan->micro_batches[k - 1].batch.num_rows);
        if (bytes > left)
            break;
        left -= bytes;
    }
    return k;
}

static rpo_status forward_group(passage *at, const rpo_contrast_group *group, int64_t kept) {
    const rpo_desk *desk = &at->step->desk;
    const int64_t end = group->first_batch + group->num_batches;
    for (int64_t k = group->first_batch; k < end; ++k) {
        const rpo_micro_batch *micro = &desk->plan.micro_batches[k];
        if (k >= kept)
            RPO_TRY(record(at, k, true, k + 1 == end));
        else
            RPO_TRY(rpo_model_score(at->step->objective->model, &micro->batch,
                                    desk->segment_logps + micro->first_segment, NULL));
    }
    return RPO_OK;
}

/* From the last micro-batch to the first: a kept tape is used while it is fresh, then its memory is free again. */
static rpo_status backward_group(passage *at, const rpo_contrast_group *group, int64_t kept) {
    for (int64_t k = group->first_batch + group->num_batches - 1; k >= group->first_batch; --k) {
        if (k < kept) {
            at->tape = rpo_bump_from(at->memory->tape);
            RPO_TRY(record(at, k, false, false));
        }
        RPO_TRY(seeded_backward(at, k));
    }
    return RPO_OK;
}

static rpo_status run_group(passage *at, int64_t g) {
    rpo_desk *desk = &at->step->desk;
    const rpo_objective *objective = at->step->objective;
    const rpo_contrast_group *group = &desk->plan.groups[g];
    const int64_t kept = first_kept(at, group);
    at->tape = rpo_bump_from(at->memory->tape);
    rpo_trace_phase(&desk->trace, RPO_PHASE_FORWARD);
    const rpo_status status = forward_group(at, group, kept);
    rpo_trace_phase(&desk->trace, RPO_PHASE_CONTRAST);
    RPO_TRY(rpo_desk_gather_group(desk, objective, g, status));
    RPO_TRY(rpo_contrast_group_loss(&desk->contrast, &desk->plan, g, rpo_model_context(objective->model),
                                    &objective->contrast, at->memory->workspace,
                                    at->memory->workspace_bytes));
    rpo_trace_phase(&desk->trace, RPO_PHASE_BACKWARD);
    return backward_group(at, group, kept);
}

/* sft: every scalar is known, so each micro-batch goes forward and back at once; its log-probs come out on the way. */
static rpo_status run_likelihood(passage *at) {
    const rpo_desk *desk = &at->step->desk;
    for (int64_t k = 0; k < desk->plan.num_micro_batches; ++k) {
        const rpo_micro_batch *micro = &desk->plan.micro_batches[k];
        at->tape = rpo_bump_from(at->memory->tape);
        rpo_trace_phase(&at->step->desk.trace, RPO_PHASE_FORWARD);
        RPO_TRY(record(at, k, false, false));
        rpo_trace_phase(&at->step->desk.trace, RPO_PHASE_BACKWARD);
        RPO_TRY(backward(at, k, micro->gradients, desk->segment_logps + micro->first_segment));
    }
    return RPO_OK;
}

/* ---- between ranks, and the update ---- */

static rpo_status reduce_gradients(rpo_step *step) {
    const rpo_objective *objective = step->objective;
    rpo_context *context = rpo_model_context(objective->model);
    float *gradients = rpo_model_memory(objective->model)->gradients;
    const int64_t count = rpo_model_tensors(objective->model)->trainable;
    if (objective->comm->size == 1)
        return RPO_OK;
    RPO_TRY(rpo_device_read(context, step->exchange, gradients, 0, count));
    RPO_TRY(objective->comm->ops->all_reduce_sum_float(objective->comm, step->exchange, count));
    return rpo_device_write(context, gradients, step->exchange, 0, count);
}

/* A rank without a micro-batch of its own still takes part in the sum. */
static rpo_status zero_gradients(const passage *at) {
    const rpo_objective *objective = at->step->objective;
    rpo_context *context = rpo_model_context(objective->model);
    const size_t bytes = (size_t)rpo_model_tensors(objective->model)->trainable * sizeof(float);
    if (at->accumulate)
        return RPO_OK;
    return context->backend->device_ops->fill(context, at->memory->gradients, 0, bytes);
}

static rpo_status run_phases(passage *at) {
    rpo_desk *desk = &at->step->desk;
    rpo_status status = RPO_OK;
    if (rpo_objective_is_sft(at->step->objective))
        status = run_likelihood(at);
    for (int64_t g = 0; g < desk->plan.num_groups && status == RPO_OK; ++g)
        status = run_group(at, g);
    if (status == RPO_OK)
        status = zero_gradients(at);
    RPO_TRY(rpo_comm_agree(at->step->objective->comm, status));
    return reduce_gradients(at->step);
}

static bool learns(const rpo_step *step) {
    return rpo_objective_is_sft(step->objective) || step->desk.plan.num_groups > 0;
}

/* The control block keeps its count of updates from step to step; its other fields are this step's. */
static rpo_status update(rpo_step *step, double learning_rate) {
    rpo_desk *desk = &step->desk;
    rpo_trace_phase(&desk->trace, RPO_PHASE_UPDATE);
    if (step->optimizer == NULL || !learns(step))
        return RPO_OK;
    return rpo_optimizer_update(step->optimizer, step->objective->model, desk->control, desk->contrast.losses,
                                desk->plan.num_groups, learning_rate);
}

static rpo_status lay_out(rpo_step *step, const int64_t *records, int64_t num_rows) {
    rpo_desk *desk = &step->desk;
    rpo_staging *staging = rpo_model_memory(step->objective->model)->plan;
    RPO_TRY(rpo_desk_lay_out(desk, step->objective, records, 0, num_rows));
    if (step->optimizer != NULL)
        RPO_TRY(rpo_optimizer_stage(step->optimizer, step->objective->model, staging));
    rpo_trace_phase(&desk->trace, RPO_PHASE_UPLOAD);
    return rpo_staging_upload(staging);
}

/* ---- home again ---- */

static float largest_magnitude(const float *values, int64_t count) {
    float largest = 0;
    for (int64_t i = 0; i < count; ++i)
        largest = fmaxf(largest, fabsf(values[i]));
    return largest;
}

static rpo_status find_figures(rpo_step *step, rpo_step_result *result) {
    rpo_desk *desk = &step->desk;
    rpo_figure_sums sums = {0};
    if (rpo_objective_is_sft(step->objective)) {
        RPO_TRY(rpo_desk_collect(desk, step->objective, RPO_OK));
        rpo_likelihood_sum(&sums, &desk->batch, desk->sequence_logps);
        result->figures = rpo_likelihood_figures(&sums);
        result->largest_logp = largest_magnitude(desk->sequence_logps, desk->batch.num_sequences);
        return RPO_OK;
    }
    rpo_contrast_sum(&sums, &desk->contrast, &desk->plan);
    result->figures = rpo_contrast_figures(&sums);
    result->largest_logp = largest_magnitude(desk->contrast.host.policy, desk->plan.num_places);
    return RPO_OK;
}

static void find_update(const rpo_step *step, rpo_step_result *result) {
    const rpo_desk *desk = &step->desk;
    if (step->optimizer == NULL)
        return;
    result->updates = desk->found->updates;
    if (!learns(step))
        return;
    result->grad_norm = desk->found->grad_norm;
    result->skip = (rpo_skip_reason)desk->found->skip;
    result->updated = result->skip == RPO_SKIP_NOTHING;
}

rpo_status rpo_step_run(rpo_step *step, rpo_step_result *result, const int64_t *records, int64_t num_rows,
                        double learning_rate) {
    rpo_desk *desk = &step->desk;
    passage at = {.step = step, .memory = rpo_model_memory(step->objective->model)};
    *result = (rpo_step_result){0};
    rpo_trace_begin(&desk->trace);
    RPO_TRY(lay_out(step, records, num_rows));
    RPO_TRY(run_phases(&at));
    RPO_TRY(update(step, learning_rate));
    rpo_trace_phase(&desk->trace, RPO_PHASE_DOWNLOAD);
    RPO_TRY(rpo_desk_finish(desk, step->objective));
    result->tokens = desk->batch.num_tokens;
    result->rows = desk->plan.num_rows;
    RPO_TRY(find_figures(step, result));
    find_update(step, result);
    rpo_trace_end(&desk->trace, result->rows, result->tokens, desk->plan.num_micro_batches);
    return RPO_OK;
}
