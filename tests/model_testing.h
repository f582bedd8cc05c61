/*
 * model_testing.h - what the model's tests share: seeded numbers, tiny models with a memory of their own and batches for
 * them, comparisons in which NaN never passes.
 */
#ifndef RPO_TESTS_MODEL_TESTING_H
#define RPO_TESTS_MODEL_TESTING_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "core/bump.h"
#include "host/formats/safetensors.h"
#include "host/model/model.h"

#define MUST(call) cr_assert_eq((call), RPO_OK, "%s: %s", #call, rpo_last_error())

static inline rpo_context *model_test_context(int num_threads) {
    rpo_context_options options = RPO_CONTEXT_OPTIONS_INIT;
    options.num_threads = num_threads;
    rpo_context *context = NULL;
    MUST(rpo_context_create(&context, &options));
    return context;
}

static inline float *test_floats(size_t count) {
    float *values = rpo_calloc_array(count, sizeof *values);
    cr_assert_not_null(values);
    return values;
}

/* Normal numbers times `scale`, a function of (seed, index) alone. */
static inline float *test_normals(size_t count, uint64_t seed, double scale) {
    float *values = test_floats(count);
    for (size_t i = 0; i < count; ++i)
        values[i] = (float)(scale * rpo_random_normal(seed, 77, i));
    return values;
}

/* Largest |a - b| over max(1, largest |b|); NaN anywhere gives infinity. */
static inline double relative_error(const float *a, const float *b, size_t count) {
    double largest = 1.0;
    double error = 0.0;
    for (size_t i = 0; i < count; ++i) {
        const double difference = fabs((double)a[i] - (double)b[i]);
        if (!isfinite(difference))
            return INFINITY;
        error = difference > error ? difference : error;
        largest = fabs((double)b[i]) > largest ? fabs((double)b[i]) : largest;
    }
    return error / largest;
}

static inline rpo_model_config tiny_config(bool tied) {
    rpo_model_config config = rpo_model_config_default();
    config.vocab_size = 31;
    config.hidden_size = 16;
    config.intermediate_size = 28;
    config.num_hidden_layers = 2;
    config.num_attention_heads = 4;
    config.num_key_value_heads = 2;
    config.head_dim = 4;
    config.max_position_embeddings = 128;
    config.initializer_range = 0.3;
    config.tie_word_embeddings = tied;
    return config;
}

/* ---- a model to work with ---- */

enum { TEST_ROWS = 4096, TEST_SEGMENTS = 256, TEST_BYTES = 1 << 20 };

/*
 * A model, its memory and a tape for one batch of at most TEST_ROWS rows. Whatever its functions take and give are
 * arrays of the host, and every one of them waits. One batch at a time: what is recorded stays recorded until the next
 * batch is scored or recorded.
 */
typedef struct test_model {
    rpo_context *context; /* the caller's */
    rpo_model *model;
    rpo_memory *memory;
    rpo_tape tape;
} test_model;

/* Room for training with any optimizer, for TEST_BYTES of plan and as much of figures. */
static inline rpo_memory_request test_memory_request(const rpo_model *model) {
    return (rpo_memory_request){
        .batch_rows = TEST_ROWS,
        .batch_segments = TEST_SEGMENTS,
        .longest = rpo_model_get_config(model)->max_position_embeddings,
        .train = true,
        .moments = RPO_MAX_MOMENTS,
        .tape_bytes = rpo_tape_bytes(model, TEST_ROWS),
        .head_cache_bytes = TEST_BYTES,
        .batch_bytes = TEST_BYTES,
        .figure_bytes = TEST_BYTES,
        .workspace_bytes = TEST_BYTES,
    };
}

/* Weights all 0. */
static inline test_model test_model_new(rpo_context *context, const rpo_model_config *config) {
    test_model made = {.context = context};
    MUST(rpo_model_new(&made.model, context, config));
    const rpo_memory_request request = test_memory_request(made.model);
    MUST(rpo_memory_create(&made.memory, made.model, &request));
    return made;
}

static inline test_model test_model_create(rpo_context *context, const rpo_model_config *config,
                                           uint64_t seed) {
    const test_model made = test_model_new(context, config);
    MUST(rpo_model_initialise(made.model, seed));
    return made;
}

static inline void test_model_free(test_model *m) {
    rpo_model_free(m->model);
    rpo_memory_free(m->memory);
    *m = (test_model){0};
}

/* A folder's model as a run loads it: checked, then given memory, then read. *m is empty after a failure. */
static inline rpo_status test_model_try_load(test_model *m, rpo_context *context, const char *folder) {
    rpo_model_config config;
    *m = (test_model){.context = context};
    RPO_TRY(rpo_model_config_load(&config, folder));
    RPO_TRY(rpo_model_new(&m->model, context, &config));
    rpo_status status = rpo_model_check_folder(m->model, folder);
    if (status == RPO_OK) {
        const rpo_memory_request request = test_memory_request(m->model);
        status = rpo_memory_create(&m->memory, m->model, &request);
    }
    if (status == RPO_OK)
        status = rpo_model_read(m->model, folder);
    if (status != RPO_OK)
        test_model_free(m);
    return status;
}

static inline test_model test_model_load(rpo_context *context, const char *folder) {
    test_model m;
    MUST(test_model_try_load(&m, context, folder));
    return m;
}

/* ---- its arrays ---- */

/* A copy of a flat array of the device; rpo_free. */
static inline float *test_read(const test_model *m, const float *device, int64_t count) {
    float *values = test_floats((size_t)count);
    MUST(rpo_device_read(m->context, values, device, 0, count));
    return values;
}

/* [tensors.weights], by offset. */
static inline float *test_weights(const test_model *m) {
    return test_read(m, m->memory->weights, rpo_model_tensors(m->model)->weights);
}

/* [tensors.trainable], by slot. */
static inline float *test_gradients(const test_model *m) {
    return test_read(m, m->memory->gradients, rpo_model_tensors(m->model)->trainable);
}

/* Weights [first, first + count). */
static inline void test_set_weights(const test_model *m, const float *values, int64_t first, int64_t count) {
    MUST(rpo_device_write(m->context, m->memory->weights, values, first, count));
}

static inline void test_fill_gradients(const test_model *m, int byte) {
    const size_t bytes = (size_t)rpo_model_tensors(m->model)->trainable * sizeof(float);
    MUST(m->context->backend->device_ops->fill(m->context, m->memory->gradients, byte, bytes));
}

/* A tensor as a file takes it, from the host. */
static inline rpo_tensor_write test_tensor_write(const rpo_tensor *tensor, const float *values) {
    return (rpo_tensor_write){.name = tensor->name,
                              .num_dims = tensor->shape[1] == 0 ? 1 : 2,
                              .shape = {tensor->shape[0], tensor->shape[1]},
                              .data = values};
}

/* ---- forward and backward ---- */

/* Checks a batch and brings it to the device. */
static inline rpo_status test_stage(const test_model *m, rpo_batch *batch, rpo_device_batch *staged) {
    RPO_TRY(rpo_model_check_batch(m->model, batch));
    rpo_staging_reset(m->memory->plan);
    RPO_TRY(rpo_batch_stage(batch, m->memory->plan, staged));
    return rpo_staging_upload(m->memory->plan);
}

/* A place for an output among the figures, NaN until it is written; *device receives where it lies there. */
static inline const float *test_output(const test_model *m, int64_t count, float **device) {
    void *where = NULL;
    const float *pinned = rpo_staging_put(m->memory->figures, NULL, count, sizeof(float), &where);
    cr_assert(count == 0 || pinned != NULL, "TEST_BYTES are too few for %lld figures", (long long)count);
    *device = where;
    MUST(m->context->backend->device_ops->fill(m->context, where, 0xff, (size_t)count * sizeof(float)));
    return pinned;
}

static inline void test_download(const test_model *m) {
    MUST(rpo_staging_download(m->memory->figures));
    MUST(rpo_context_synchronize(m->context));
}

static inline void test_copy(float *out, const float *pinned, int64_t count) {
    if (out != NULL && count > 0)
        memcpy(out, pinned, (size_t)count * sizeof *out);
}

/* rpo_model_score; token_logps may be NULL. */
static inline rpo_status test_score(const test_model *m, rpo_batch *batch, float *logps, float *token_logps) {
    rpo_device_batch staged;
    float *device_logps = NULL, *device_tokens = NULL;
    const int64_t rows = token_logps != NULL ? batch->num_rows : 0;
    RPO_TRY(test_stage(m, batch, &staged));
    rpo_staging_reset(m->memory->figures);
    const float *pinned = test_output(m, batch->num_segments, &device_logps);
    const float *pinned_tokens = test_output(m, rows, &device_tokens);
    RPO_TRY(rpo_model_score(m->model, &staged, device_logps, device_tokens));
    test_download(m);
    test_copy(logps, pinned, batch->num_segments);
    test_copy(token_logps, pinned_tokens, rows);
    return RPO_OK;
}

/* rpo_model_record; without `logps` the head is left out. */
static inline rpo_status test_record(test_model *m, rpo_batch *batch, float *logps) {
    rpo_device_batch staged;
    float *device_logps = NULL;
    rpo_bump from = rpo_bump_from(m->memory->tape);
    RPO_TRY(test_stage(m, batch, &staged));
    rpo_tape_lay_out(&m->tape, m->model, &from, batch->num_rows);
    cr_assert(rpo_bump_size(&from) <= m->memory->tape_bytes);
    m->tape.head_cache = m->memory->head_cache;
    m->tape.head_cache_bytes = m->memory->head_cache_bytes;
    rpo_staging_reset(m->memory->figures);
    const float *pinned = test_output(m, logps != NULL ? batch->num_segments : 0, &device_logps);
    RPO_TRY(rpo_model_record(m->model, &m->tape, &staged, device_logps));
    test_download(m);
    test_copy(logps, pinned, batch->num_segments);
    return RPO_OK;
}

/* rpo_model_backward of what was recorded; `upstream` is one scalar a segment, `logps` may be NULL. */
static inline rpo_status test_backward(test_model *m, const float *upstream, bool accumulate, float *logps) {
    const int64_t segments = m->tape.batch.num_segments;
    void *seeds = NULL;
    float *device_logps = NULL;
    rpo_staging_reset(m->memory->figures);
    (void)rpo_staging_put(m->memory->figures, upstream, segments, sizeof *upstream, &seeds);
    MUST(rpo_staging_upload(m->memory->figures));
    const float *pinned = test_output(m, logps != NULL ? segments : 0, &device_logps);
    RPO_TRY(rpo_model_backward(m->model, &m->tape, seeds, accumulate, device_logps));
    test_download(m);
    test_copy(logps, pinned, segments);
    return RPO_OK;
}

/* logits [num_rows][vocab_size] */
static inline rpo_status test_logits(const test_model *m, rpo_batch *batch, float *logits) {
    rpo_device_batch staged;
    float *device = NULL;
    const int64_t count = batch->num_rows * rpo_model_get_config(m->model)->vocab_size;
    RPO_TRY(test_stage(m, batch, &staged));
    rpo_staging_reset(m->memory->figures);
    const float *pinned = test_output(m, count, &device);
    RPO_TRY(rpo_model_logits(m->model, &staged, device));
    test_download(m);
    test_copy(logits, pinned, count);
    return RPO_OK;
}

/* ---- batches ---- */

/* Appends a sequence of random tokens. */
static inline void add_sequence(rpo_batch *batch, int64_t length, int64_t label_start, int64_t vocab,
                                uint64_t seed) {
    int32_t tokens[512];
    cr_assert(length <= 512);
    for (int64_t t = 0; t < length; ++t)
        tokens[t] = (int32_t)(rpo_random_u64(seed, 5, (uint64_t)t) % (uint64_t)vocab);
    MUST(rpo_batch_add(batch, tokens, length, label_start));
}

static inline char *make_test_folder(char path[64]) {
    snprintf(path, 64, "/tmp/rpo-test-model-XXXXXX");
    cr_assert_not_null(mkdtemp(path));
    return path;
}

static inline void expect_error(rpo_status status, rpo_status expected, const char *part) {
    cr_expect_eq(status, expected, "status is %s, message: %s", rpo_status_name(status), rpo_last_error());
    cr_expect_not_null(strstr(rpo_last_error(), part), "message lacks \"%s\": %s", part, rpo_last_error());
    cr_expect_null(strchr(rpo_last_error(), '\n'));
}

#endif
