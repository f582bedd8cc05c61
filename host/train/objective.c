/* objective.c - laying a batch out, scoring it, bringing its figures home. */
#include "host/train/objective.h"

#include <string.h>

rpo_plan_options rpo_objective_plan_options(const rpo_objective *objective) {
    return (rpo_plan_options){
        .micro_batch_tokens = objective->micro_batch_tokens,
        .block_rows = objective->contrast.block_rows,
        .contrasts = rpo_loss_kind_contrasts(objective->contrast.loss.kind) != 0,
        .likelihood = !rpo_objective_contrasts(objective),
        .both_sides = objective->scores_only,
        .share = objective->prefix_sharing == RPO_PREFIX_SHARING_AUTO,
    };
}

int64_t rpo_objective_rows_of_pass(const rpo_objective *objective) {
    const rpo_data_report *report = rpo_dataset_report(objective->dataset);
    const int64_t records = rpo_dataset_size(objective->dataset);
    const int64_t mean = report->tokens / (records > 0 ? records : 1) + 1;
    const int64_t rows = objective->micro_batch_tokens / mean + 1;
    if (!rpo_objective_contrasts(objective))
        return rows;
    const int64_t block = objective->contrast.block_rows;
    return (rows + block - 1) / block * block;
}

/* ---- memory ---- */

static size_t largest(size_t a, size_t b) {
    return a > b ? a : b;
}

static int64_t most(int64_t a, int64_t b) {
    return a > b ? a : b;
}

/* Tapes: one of the largest micro-batch; more where a batch has more and the budget allows. */
static rpo_status request_tapes(rpo_memory_request *request, const rpo_model *model,
                                const rpo_plan_bounds *bounds, size_t tape_budget, size_t head_cache_limit) {
    const size_t one = rpo_tape_bytes(model, bounds->batch_rows),
                 all = rpo_tape_bytes(model, bounds->total_rows);
    const rpo_model_config *config = rpo_model_get_config(model);
    const rpo_linear_logprob_shape shape = {
        .struct_size = sizeof shape,
        .rows = bounds->batch_rows,
        .hidden_size = config->hidden_size,
        .vocab_size = config->vocab_size,
        .num_sequences = bounds->batch_segments,
        .dtype = RPO_FLOAT32,
    };
    size_t cache = 0;
    RPO_TRY(rpo_linear_logprob_cache_size(rpo_model_context(model), &cache, &shape));
    request->head_cache_bytes =
        largest(request->head_cache_bytes, cache < head_cache_limit ? cache : head_cache_limit);
    request->tape_bytes = largest(request->tape_bytes, largest(one, all < tape_budget ? all : tape_budget));
    return RPO_OK;
}

static size_t figure_bytes(const rpo_plan_bounds *bounds) {
    const int64_t arrays[] = {bounds->sequences, bounds->sequences,     bounds->sequences,
                              bounds->sequences, 2 * bounds->sequences, 2 * bounds->sequences,
                              bounds->sequences};
    rpo_bump sizes = rpo_bump_from(NULL);
    (void)rpo_bump_take(&sizes, 1, sizeof(rpo_step_control));
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; ++i)
        (void)rpo_bump_take(&sizes, arrays[i], sizeof(float));
    return rpo_bump_size(&sizes);
}

rpo_status rpo_objective_request(rpo_memory_request *request, const rpo_objective *objective,
                                 const rpo_model *model, bool train, size_t tape_budget,
                                 size_t head_cache_limit) {
    const rpo_plan_options options = rpo_objective_plan_options(objective);
    const int64_t dim = options.likelihood ? 0 : objective->embedding_dim;
    rpo_plan_bounds bounds;
    size_t workspace = 0;
    RPO_TRY(rpo_plan_bound(&bounds, objective->dataset, objective->rows_at_once, &options));
    request->batch_rows = most(request->batch_rows, bounds.batch_rows);
    request->batch_segments = most(request->batch_segments, bounds.batch_segments);
    request->longest = most(request->longest, bounds.longest);
    request->batch_bytes =
        largest(request->batch_bytes,
                bounds.staged_bytes + rpo_bump_align((size_t)(bounds.sequences * (dim + 1)) * sizeof(float)) +
                    (size_t)2 * RPO_BUMP_ALIGNMENT);
    request->figure_bytes = largest(request->figure_bytes, figure_bytes(&bounds));
    if (!options.likelihood)
        RPO_TRY(rpo_contrast_workspace_bound(&workspace, rpo_model_context(model), &objective->contrast,
                                             bounds.sequences, dim));
    request->workspace_bytes = largest(request->workspace_bytes, workspace);
    if (!train)
        return RPO_OK;
    request->train = true;
    return request_tapes(request, model, &bounds, tape_budget, head_cache_limit);
}

/* ---- the desk ---- */

rpo_status rpo_desk_open(rpo_desk *desk, const rpo_objective *objective) {
    const rpo_plan_options options = rpo_objective_plan_options(objective);
    rpo_plan_bounds bounds;
    *desk = (rpo_desk){0};
    RPO_TRY(rpo_plan_bound(&bounds, objective->dataset, objective->rows_at_once, &options));
    desk->tape_capacity = (size_t)bounds.sequences;
    desk->sequence_capacity = (size_t)bounds.sequences;
    desk->tapes = rpo_calloc_array(desk->tape_capacity, sizeof *desk->tapes);
    desk->sequence_logps = rpo_alloc_array(desk->sequence_capacity, sizeof *desk->sequence_logps);
    rpo_status status =
        desk->tapes != NULL && desk->sequence_logps != NULL ? RPO_OK : RPO_ERROR_OUT_OF_MEMORY;
    if (status == RPO_OK)
        status = rpo_plan_reserve(&desk->plan, &bounds);
    if (status != RPO_OK)
        rpo_desk_close(desk);
    rpo_trace_open(&desk->trace, rpo_model_context(objective->model));
    return status;
}

void rpo_desk_close(rpo_desk *desk) {
    rpo_plan_free(&desk->plan);
    rpo_global_batch_free(&desk->batch);
    rpo_free(desk->sequence_logps);
    rpo_free(desk->tapes);
    *desk = (rpo_desk){0};
}

/* The figures that the step leaves: the control block first, so that it stays where it is from step to step. */
static rpo_status place_figures(rpo_desk *desk, const rpo_objective *objective) {
    rpo_staging *figures = rpo_model_memory(objective->model)->figures;
    void *control = NULL, *logps = NULL, *gradients = NULL;
    rpo_staging_reset(figures);
    desk->found = rpo_staging_put(figures, NULL, 1, sizeof *desk->control, &control);
    desk->control = control;
    RPO_TRY(rpo_contrast_place(&desk->contrast, &desk->plan, figures));
    if (desk->plan.num_segments > 0) {
        desk->segment_logps_host =
            rpo_staging_put(figures, NULL, desk->plan.num_segments, sizeof(float), &logps);
        (void)rpo_staging_put(figures, NULL, desk->plan.num_segments, sizeof(float), &gradients);
        if (gradients == NULL)
            return rpo_error_set(RPO_ERROR_INTERNAL, "figures: are larger than their segment of memory");
    }
    desk->segment_logps = logps;
    desk->segment_gradients = gradients;
    return RPO_OK;
}

rpo_status rpo_desk_lay_out(rpo_desk *desk, const rpo_objective *objective, const int64_t *records,
                            int64_t first_record, int64_t num_rows) {
    const rpo_plan_options options = rpo_objective_plan_options(objective);
    rpo_staging *staging = rpo_model_memory(objective->model)->plan;
    rpo_staging_reset(staging);
    RPO_TRY(rpo_global_batch_build(&desk->batch, objective->comm, objective->dataset, records, first_record,
                                   num_rows, options.likelihood && !options.both_sides));
    RPO_TRY(rpo_plan_build(&desk->plan, objective->model, objective->comm, &desk->batch, &options, staging));
    desk->contrast = (rpo_contrast_arrays){0};
    if (!options.likelihood)
        RPO_TRY(rpo_contrast_stage(&desk->contrast, &desk->plan, &desk->batch, objective->reference,
                                   objective->embeddings, staging));
    return place_figures(desk, objective);
}

rpo_status rpo_desk_score(rpo_desk *desk, const rpo_objective *objective) {
    for (int64_t k = 0; k < desk->plan.num_micro_batches; ++k) {
        const rpo_micro_batch *micro = &desk->plan.micro_batches[k];
        RPO_TRY(rpo_model_score(objective->model, &micro->batch, desk->segment_logps + micro->first_segment,
                                NULL));
    }
    return RPO_OK;
}

/* Every rank's log-probs in sequence order; waits. */
static rpo_status gather_sequences(rpo_desk *desk, const rpo_objective *objective) {
    const rpo_global_batch *batch = &desk->batch;
    for (int64_t s = batch->first; s < batch->last; ++s) {
        const int64_t segment = desk->plan.segment_of[s];
        desk->sequence_logps[s] = segment < 0 ? 0.0f : desk->segment_logps_host[segment];
    }
    return objective->comm->ops->all_gather_v(objective->comm, desk->sequence_logps,
                                              desk->sequence_logps + batch->first, batch->rank_counts,
                                              sizeof *desk->sequence_logps);
}

/* What one rank alone does with an index on the device takes a way through the host with several. */
static rpo_status gather_ranks(rpo_desk *desk, const rpo_objective *objective) {
    rpo_context *context = rpo_model_context(objective->model);
    float *placed = (float *)(void *)desk->plan.scratch;
    RPO_TRY(gather_sequences(desk, objective));
    for (int64_t i = 0; i < desk->plan.num_places; ++i)
        placed[i] = desk->sequence_logps[desk->plan.sequence_at[i]];
    return rpo_device_write(context, desk->contrast.policy, placed, 0, desk->plan.num_places);
}

rpo_status rpo_desk_gather_group(rpo_desk *desk, const rpo_objective *objective, int64_t group,
                                 rpo_status status) {
    const rpo_contrast_group *of = &desk->plan.groups[group];
    rpo_context *context = rpo_model_context(objective->model);
    if (objective->comm->size == 1) {
        RPO_TRY(status);
        return context->backend->model.take(context, desk->contrast.policy + of->start, desk->segment_logps,
                                            of->segment_index, of->m + of->n);
    }
    if (status == RPO_OK)
        status = rpo_desk_finish(desk, objective);
    RPO_TRY(rpo_comm_agree(objective->comm, status));
    return gather_ranks(desk, objective);
}

rpo_status rpo_desk_finish(rpo_desk *desk, const rpo_objective *objective) {
    (void)desk;
    RPO_TRY(rpo_staging_download(rpo_model_memory(objective->model)->figures));
    return rpo_context_synchronize(rpo_model_context(objective->model));
}

rpo_status rpo_desk_collect(rpo_desk *desk, const rpo_objective *objective, rpo_status status) {
    RPO_TRY(rpo_comm_agree(objective->comm, status));
    return gather_sequences(desk, objective);
}
