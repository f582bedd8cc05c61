/* memory.c - how large each segment is, and who gets which. */
#include "host/model/memory.h"

#include "host/model/model_internal.h"

typedef enum segment {
    SEGMENT_WEIGHTS,
    SEGMENT_GRADIENTS,
    SEGMENT_MOMENTS,
    SEGMENT_TAPE,
    SEGMENT_HEAD_CACHE,
    SEGMENT_SCRATCH,
    SEGMENT_WORKSPACE,
    SEGMENT_ROPE,
    SEGMENT_BATCH,
    SEGMENT_FIGURES,
    SEGMENTS
} segment;

static size_t largest(size_t a, size_t b) {
    return a > b ? a : b;
}

static rpo_status head_workspace(const rpo_model *model, const rpo_memory_request *request, bool backward,
                                 size_t *bytes) {
    const rpo_device_batch most = {.num_rows = request->batch_rows,
                                   .num_segments = request->batch_segments,
                                   .num_labels = request->batch_rows};
    const rpo_linear_logprob_shape shape = rpo_model_head_shape(model, &most, 0);
    return rpo_linear_logprob_workspace_size(model->context, bytes, &shape, backward);
}

/* The hungriest op of a forward or backward of the largest batch. */
static rpo_status workspace_bytes(const rpo_model *model, const rpo_memory_request *request, size_t *bytes) {
    const rpo_attention_shape attention = rpo_model_attention_shape(model, request->batch_rows);
    const rpo_norm_shape norm = rpo_model_norm_shape(model, request->batch_rows);
    const rpo_segments segments = {
        .num_segments = request->batch_segments,
        .num_tiles = request->batch_rows / RPO_ATTENTION_TILE_ROWS + request->batch_segments,
        .max_length = request->longest,
        .max_context = request->longest,
    };
    size_t head = 0;
    *bytes =
        largest(request->workspace_bytes,
                model->ops->attention_workspace_size(model->context, &segments, &attention, request->train));
    RPO_TRY(head_workspace(model, request, false, &head));
    *bytes = largest(*bytes, head);
    if (!request->train)
        return RPO_OK;
    RPO_TRY(head_workspace(model, request, true, &head));
    *bytes = largest(*bytes, head);
    *bytes = largest(*bytes, model->ops->rmsnorm_backward_workspace_size(model->context, &norm));
    *bytes =
        largest(*bytes, model->ops->attention_workspace_size(model->context, &segments, &attention, false));
    return RPO_OK;
}

static rpo_status size_segments(const rpo_model *model, const rpo_memory_request *request,
                                rpo_segment_request segments[SEGMENTS]) {
    const size_t trainable = (size_t)model->tensors.trainable * sizeof(float);
    const bool train = request->train;
    rpo_scratch scratch;
    size_t workspace = 0;
    RPO_TRY(workspace_bytes(model, request, &workspace));
    segments[SEGMENT_WEIGHTS] =
        (rpo_segment_request){"weights", (size_t)model->tensors.weights * sizeof(float), NULL};
    segments[SEGMENT_GRADIENTS] = (rpo_segment_request){"gradients", train ? trainable : 0, NULL};
    segments[SEGMENT_MOMENTS] = (rpo_segment_request){
        "moments", train ? (size_t)request->moments * rpo_bump_align(trainable) : 0, "train.optimizer"};
    segments[SEGMENT_TAPE] =
        (rpo_segment_request){"tape", train ? request->tape_bytes : 0, "train.micro_batch_tokens"};
    segments[SEGMENT_HEAD_CACHE] = (rpo_segment_request){"head cache", train ? request->head_cache_bytes : 0,
                                                         "train.micro_batch_tokens"};
    segments[SEGMENT_SCRATCH] =
        (rpo_segment_request){"scratch", rpo_scratch_lay_out(&scratch, model, NULL, request->batch_rows),
                              "train.micro_batch_tokens"};
    segments[SEGMENT_WORKSPACE] = (rpo_segment_request){"workspace", workspace, "train.micro_batch_tokens"};
    segments[SEGMENT_ROPE] = (rpo_segment_request){
        "rope", (size_t)(request->longest * model->config.head_dim) * sizeof(float), "data.max_length"};
    segments[SEGMENT_BATCH] = (rpo_segment_request){"batch", request->batch_bytes, "train.batch_size"};
    segments[SEGMENT_FIGURES] = (rpo_segment_request){"figures", request->figure_bytes, "train.batch_size"};
    return RPO_OK;
}

static void hand_out(rpo_memory *memory, const rpo_model *model) {
    const rpo_arena *arena = memory->arena;
    memory->weights = rpo_arena_segment(arena, SEGMENT_WEIGHTS, NULL);
    memory->gradients = rpo_arena_segment(arena, SEGMENT_GRADIENTS, NULL);
    memory->tape = rpo_arena_segment(arena, SEGMENT_TAPE, &memory->tape_bytes);
    memory->head_cache = rpo_arena_segment(arena, SEGMENT_HEAD_CACHE, &memory->head_cache_bytes);
    memory->scratch = rpo_arena_segment(arena, SEGMENT_SCRATCH, NULL);
    memory->workspace = rpo_arena_segment(arena, SEGMENT_WORKSPACE, &memory->workspace_bytes);
    memory->rope = rpo_arena_segment(arena, SEGMENT_ROPE, NULL);
    rpo_bump moments = rpo_bump_from(rpo_arena_segment(arena, SEGMENT_MOMENTS, NULL));
    for (int i = 0; i < memory->request.moments && memory->request.train; ++i)
        memory->moments[i] = rpo_bump_take(&moments, model->tensors.trainable, sizeof(float));
}

/* What has a value before the first step: the padding between tensors, the moments, the rotary table. */
static rpo_status fill_in(const rpo_memory *memory, const rpo_model *model) {
    rpo_context *context = model->context;
    const rpo_device_ops *ops = context->backend->device_ops;
    const size_t trainable = (size_t)model->tensors.trainable * sizeof(float);
    RPO_TRY(ops->fill(context, memory->weights, 0, (size_t)model->tensors.weights * sizeof(float)));
    if (memory->gradients != NULL)
        RPO_TRY(ops->fill(context, memory->gradients, 0, trainable));
    for (int i = 0; i < RPO_MAX_MOMENTS; ++i)
        if (memory->moments[i] != NULL)
            RPO_TRY(ops->fill(context, memory->moments[i], 0, trainable));
    return model->ops->rope_table(context, memory->rope, 0, memory->request.longest, model->config.head_dim,
                                  model->config.rope_theta);
}

static rpo_status open_stagings(rpo_memory *memory, rpo_context *context) {
    size_t bytes = 0;
    void *where = rpo_arena_segment(memory->arena, SEGMENT_BATCH, &bytes);
    RPO_TRY(rpo_staging_create(&memory->plan, context, where, bytes));
    where = rpo_arena_segment(memory->arena, SEGMENT_FIGURES, &bytes);
    return rpo_staging_create(&memory->figures, context, where, bytes);
}

rpo_status rpo_memory_create(rpo_memory **memory, rpo_model *model, const rpo_memory_request *request) {
    rpo_segment_request segments[SEGMENTS];
    *memory = NULL;
    rpo_memory *created = rpo_calloc_array(1, sizeof *created);
    if (created == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    created->request = *request;
    rpo_status status = size_segments(model, request, segments);
    if (status == RPO_OK)
        status = rpo_arena_create(&created->arena, model->context, segments, SEGMENTS, request->limit);
    if (status == RPO_OK) {
        hand_out(created, model);
        status = open_stagings(created, model->context);
    }
    if (status == RPO_OK)
        status = fill_in(created, model);
    if (status != RPO_OK) {
        rpo_memory_free(created);
        return status;
    }
    rpo_model_attach(model, created);
    *memory = created;
    return RPO_OK;
}

void rpo_memory_free(rpo_memory *memory) {
    if (memory == NULL)
        return;
    rpo_staging_free(memory->figures);
    rpo_staging_free(memory->plan);
    rpo_arena_free(memory->arena);
    rpo_free(memory);
}

rpo_status rpo_memory_append_table(const rpo_memory *memory, rpo_text *text) {
    return rpo_arena_append_table(memory->arena, text);
}

rpo_status rpo_device_read(rpo_context *context, float *host, const float *device, int64_t first,
                           int64_t count) {
    return context->backend->device_ops->copy_out(context, host, device + first,
                                                  (size_t)count * sizeof *host);
}

rpo_status rpo_device_write(rpo_context *context, float *device, const float *host, int64_t first,
                            int64_t count) {
    return context->backend->device_ops->copy_in(context, device + first, host, (size_t)count * sizeof *host);
}
