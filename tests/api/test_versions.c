/*
 * test_versions.c - structs of callers older and newer than the library: smaller and larger struct_size on every
 * struct of the public interface.
 */
#include "tests/logprob_testing.h"

#include "kernels/api/versioned.h"

/* ---- the mechanism, on a struct that has grown ---- */

typedef struct grown {
    size_t struct_size;
    int64_t first;
    int64_t second; /* since version 2; default 7 */
} grown;

enum { GROWN_FIRST = offsetof(grown, second) };

static grown take(const void *theirs, rpo_status expected) {
    grown ours = {sizeof ours, 3, 7};
    cr_assert_eq(rpo_versioned_take(&ours, sizeof ours, GROWN_FIRST, theirs, "grown"), expected, "%s",
                 rpo_last_error());
    return ours;
}

Test(versions, what_an_older_caller_lacks_has_its_default) {
    const grown older = {GROWN_FIRST, 5, -1}, current = {sizeof current, 5, 9};
    const grown from_older = take(&older, RPO_OK), from_current = take(&current, RPO_OK);
    cr_assert(from_older.first == 5 && from_older.second == 7 && from_older.struct_size == sizeof(grown));
    cr_assert(from_current.first == 5 && from_current.second == 9);
}

Test(versions, what_a_newer_caller_adds_must_be_zero) {
    struct {
        grown known;
        int64_t added[2];
    } newer = {{sizeof newer, 5, 9}, {0, 0}};
    const grown taken = take(&newer, RPO_OK);
    cr_assert(taken.first == 5 && taken.second == 9 && taken.struct_size == sizeof taken);
    newer.added[1] = 1;
    (void)take(&newer, RPO_ERROR_INVALID_ARGUMENT);
    cr_assert_not_null(strstr(rpo_last_error(), "grown: byte 32 of 40 is set"), "%s", rpo_last_error());
}

Test(versions, what_no_version_had_is_refused) {
    const grown none = {0, 5, 9}, half = {GROWN_FIRST - 1, 5, 9};
    (void)take(&none, RPO_ERROR_INVALID_ARGUMENT);
    cr_assert_not_null(strstr(rpo_last_error(), "grown.struct_size: is 0; must be at least 16"), "%s",
                       rpo_last_error());
    (void)take(&half, RPO_ERROR_INVALID_ARGUMENT);
    (void)take(NULL, RPO_ERROR_INVALID_ARGUMENT);
    cr_assert_not_null(strstr(rpo_last_error(), "grown: is NULL"));
}

/* ---- every struct, through the functions that take it ---- */

/* Two sequences of one row each, vocabulary and hidden size of 4; m = n = 2. */
typedef struct valid_calls {
    rpo_context *context;
    float numbers[64], results[64];
    int32_t labels[2], cu_seqlens[3];
    rpo_context_options context_options;
    rpo_loss_options loss_options;
    rpo_contrast_inputs contrast_inputs;
    rpo_contrast_outputs contrast_outputs;
    rpo_similarity_inputs similarity_inputs;
    rpo_logprob_shape logprob_shape;
    rpo_logprob_inputs logprob_inputs;
    rpo_logprob_outputs logprob_outputs;
    rpo_linear_logprob_shape linear_shape;
    rpo_linear_logprob_inputs linear_inputs;
    rpo_linear_logprob_saved linear_saved;
    rpo_linear_logprob_outputs linear_outputs;
    rpo_linear_logprob_gradients linear_gradients;
} valid_calls;

static valid_calls calls;
static _Alignas(64) unsigned char workspace[1 << 16];

static void set_up(void) {
    calls = (valid_calls){.labels = {1, 3}, .cu_seqlens = {0, 1, 2}};
    for (int i = 0; i < 64; ++i)
        calls.numbers[i] = 0.25f * (float)(i % 7);
    const float *numbers = calls.numbers;
    float *results = calls.results;
    calls.context = test_context(RPO_DEVICE_CPU, 1);
    calls.context_options = (rpo_context_options)RPO_CONTEXT_OPTIONS_INIT;
    calls.loss_options = (rpo_loss_options)RPO_LOSS_OPTIONS_INIT;
    calls.contrast_inputs = (rpo_contrast_inputs)RPO_CONTRAST_INPUTS_INIT;
    calls.contrast_inputs.policy_chosen_logps = calls.contrast_inputs.policy_rejected_logps = numbers;
    calls.contrast_inputs.chosen_embeddings = calls.contrast_inputs.rejected_embeddings = numbers;
    calls.contrast_inputs.m = calls.contrast_inputs.n = 2;
    calls.contrast_inputs.dim = 4;
    calls.contrast_outputs = (rpo_contrast_outputs)RPO_CONTRAST_OUTPUTS_INIT;
    calls.contrast_outputs.loss = results;
    calls.similarity_inputs =
        (rpo_similarity_inputs){sizeof(rpo_similarity_inputs), numbers, numbers, 2, 2, 4, RPO_FLOAT32};
    calls.logprob_shape =
        (rpo_logprob_shape){sizeof(rpo_logprob_shape), 2, 4, 2, 0, RPO_FLOAT32, RPO_REDUCTION_SUM};
    calls.logprob_inputs = (rpo_logprob_inputs){sizeof(rpo_logprob_inputs), numbers, calls.labels,
                                                calls.cu_seqlens,           NULL,    numbers};
    calls.logprob_outputs = (rpo_logprob_outputs){sizeof(rpo_logprob_outputs), results, NULL, NULL};
    calls.linear_shape = (rpo_linear_logprob_shape)RPO_LINEAR_LOGPROB_SHAPE_INIT;
    calls.linear_shape.rows = calls.linear_shape.num_sequences = 2;
    calls.linear_shape.hidden_size = calls.linear_shape.vocab_size = 4;
    calls.linear_inputs = (rpo_linear_logprob_inputs){
        sizeof(rpo_linear_logprob_inputs), numbers, numbers, calls.labels, calls.cu_seqlens, numbers};
    calls.linear_saved = (rpo_linear_logprob_saved)RPO_LINEAR_LOGPROB_SAVED_INIT;
    calls.linear_outputs = (rpo_linear_logprob_outputs){sizeof(rpo_linear_logprob_outputs), results, NULL};
    calls.linear_gradients = (rpo_linear_logprob_gradients)RPO_LINEAR_LOGPROB_GRADIENTS_INIT;
    calls.linear_gradients.grad_hidden = results;
}

static void tear_down(void) {
    rpo_context_free(calls.context);
}

static rpo_status open_context(const void *options) {
    rpo_context *context = NULL;
    const rpo_status status = rpo_context_create(&context, options);
    rpo_context_free(context);
    return status;
}

static rpo_status contrast(const void *outputs, const void *inputs, const void *options) {
    return rpo_contrast_loss(calls.context, outputs, inputs, options, workspace, sizeof workspace);
}
static rpo_status with_loss_options(const void *options) {
    return contrast(&calls.contrast_outputs, &calls.contrast_inputs, options);
}
static rpo_status with_loss_options_sized(const void *options) {
    size_t bytes = 0;
    return rpo_contrast_loss_workspace_size(calls.context, &bytes, &calls.contrast_inputs, options);
}
static rpo_status at_start(const void *options) {
    return isnan(rpo_loss_at_start(options)) ? RPO_ERROR_INVALID_ARGUMENT : RPO_OK;
}
static rpo_status with_contrast_inputs(const void *inputs) {
    return contrast(&calls.contrast_outputs, inputs, NULL);
}
static rpo_status with_contrast_inputs_sized(const void *inputs) {
    size_t bytes = 0;
    return rpo_contrast_loss_workspace_size(calls.context, &bytes, inputs, NULL);
}
static rpo_status with_contrast_outputs(const void *outputs) {
    return contrast(outputs, &calls.contrast_inputs, NULL);
}

static rpo_status similarity_size(const void *inputs) {
    size_t bytes = 0;
    return rpo_prompt_similarity_workspace_size(calls.context, &bytes, inputs);
}
static rpo_status similarity(const void *inputs) {
    return rpo_prompt_similarity(calls.context, calls.results, inputs, workspace, sizeof workspace);
}
static rpo_status weights(const void *inputs) {
    return rpo_contrast_weights(calls.context, calls.results, inputs, 0.5f, RPO_WEIGHT_SCALE_NONE, workspace,
                                sizeof workspace);
}

static rpo_status gather(const void *outputs, const void *inputs, const void *shape) {
    return rpo_logprob_gather(calls.context, outputs, inputs, shape, workspace, sizeof workspace);
}
static rpo_status gather_backward(const void *inputs, const void *shape) {
    return rpo_logprob_gather_backward(calls.context, calls.results, inputs, shape, workspace,
                                       sizeof workspace);
}
static rpo_status with_logprob_shape(const void *shape) {
    return gather(&calls.logprob_outputs, &calls.logprob_inputs, shape);
}
static rpo_status with_logprob_shape_backward(const void *shape) {
    return gather_backward(&calls.logprob_inputs, shape);
}
static rpo_status with_logprob_shape_sized(const void *shape) {
    size_t bytes = 0;
    return rpo_logprob_gather_workspace_size(calls.context, &bytes, shape);
}
static rpo_status with_logprob_inputs(const void *inputs) {
    return gather(&calls.logprob_outputs, inputs, &calls.logprob_shape);
}
static rpo_status with_logprob_inputs_backward(const void *inputs) {
    return gather_backward(inputs, &calls.logprob_shape);
}
static rpo_status with_logprob_outputs(const void *outputs) {
    return gather(outputs, &calls.logprob_inputs, &calls.logprob_shape);
}

static rpo_status linear(const void *outputs, const void *saved, const void *inputs, const void *shape) {
    return rpo_linear_logprob(calls.context, outputs, saved, inputs, shape, workspace, sizeof workspace);
}
static rpo_status linear_backward(const void *gradients, const void *saved, const void *inputs,
                                  const void *shape) {
    return rpo_linear_logprob_backward(calls.context, gradients, saved, inputs, shape, workspace,
                                       sizeof workspace);
}
static rpo_status with_linear_shape(const void *shape) {
    return linear(&calls.linear_outputs, NULL, &calls.linear_inputs, shape);
}
static rpo_status with_linear_shape_backward(const void *shape) {
    return linear_backward(&calls.linear_gradients, NULL, &calls.linear_inputs, shape);
}
static rpo_status with_linear_shape_sized(const void *shape) {
    size_t bytes = 0;
    return rpo_linear_logprob_workspace_size(calls.context, &bytes, shape, 1);
}
static rpo_status with_linear_shape_of_a_cache(const void *shape) {
    size_t bytes = 0;
    return rpo_linear_logprob_cache_size(calls.context, &bytes, shape);
}
static rpo_status with_linear_inputs(const void *inputs) {
    return linear(&calls.linear_outputs, NULL, inputs, &calls.linear_shape);
}
static rpo_status with_linear_inputs_backward(const void *inputs) {
    return linear_backward(&calls.linear_gradients, NULL, inputs, &calls.linear_shape);
}
static rpo_status with_linear_saved(const void *saved) {
    return linear(&calls.linear_outputs, saved, &calls.linear_inputs, &calls.linear_shape);
}
static rpo_status with_linear_saved_backward(const void *saved) {
    return linear_backward(&calls.linear_gradients, saved, &calls.linear_inputs, &calls.linear_shape);
}
static rpo_status with_linear_outputs(const void *outputs) {
    return linear(outputs, NULL, &calls.linear_inputs, &calls.linear_shape);
}
static rpo_status with_linear_gradients(const void *gradients) {
    return linear_backward(gradients, NULL, &calls.linear_inputs, &calls.linear_shape);
}

/* One function and the struct that is varied; the others are valid. */
typedef struct probe {
    const char *name; /* of the parameter, as messages call it */
    const void *valid;
    size_t size, first;
    rpo_status (*call)(const void *bytes);
} probe;

#define PROBE(name, member, first, call)                                                                     \
    { name, &calls.member, sizeof calls.member, first, call }

static const probe probes[] = {
    PROBE("options", context_options, RPO_CONTEXT_OPTIONS_FIRST, open_context),
    PROBE("options", loss_options, RPO_LOSS_OPTIONS_FIRST, with_loss_options),
    PROBE("options", loss_options, RPO_LOSS_OPTIONS_FIRST, with_loss_options_sized),
    PROBE("options", loss_options, RPO_LOSS_OPTIONS_FIRST, at_start),
    PROBE("inputs", contrast_inputs, RPO_CONTRAST_INPUTS_FIRST, with_contrast_inputs),
    PROBE("inputs", contrast_inputs, RPO_CONTRAST_INPUTS_FIRST, with_contrast_inputs_sized),
    PROBE("outputs", contrast_outputs, RPO_CONTRAST_OUTPUTS_FIRST, with_contrast_outputs),
    PROBE("inputs", similarity_inputs, RPO_SIMILARITY_INPUTS_FIRST, similarity_size),
    PROBE("inputs", similarity_inputs, RPO_SIMILARITY_INPUTS_FIRST, similarity),
    PROBE("inputs", similarity_inputs, RPO_SIMILARITY_INPUTS_FIRST, weights),
    PROBE("shape", logprob_shape, RPO_LOGPROB_SHAPE_FIRST, with_logprob_shape),
    PROBE("shape", logprob_shape, RPO_LOGPROB_SHAPE_FIRST, with_logprob_shape_backward),
    PROBE("shape", logprob_shape, RPO_LOGPROB_SHAPE_FIRST, with_logprob_shape_sized),
    PROBE("inputs", logprob_inputs, RPO_LOGPROB_INPUTS_FIRST, with_logprob_inputs),
    PROBE("inputs", logprob_inputs, RPO_LOGPROB_INPUTS_FIRST, with_logprob_inputs_backward),
    PROBE("outputs", logprob_outputs, RPO_LOGPROB_OUTPUTS_FIRST, with_logprob_outputs),
    PROBE("shape", linear_shape, RPO_LINEAR_LOGPROB_SHAPE_FIRST, with_linear_shape),
    PROBE("shape", linear_shape, RPO_LINEAR_LOGPROB_SHAPE_FIRST, with_linear_shape_backward),
    PROBE("shape", linear_shape, RPO_LINEAR_LOGPROB_SHAPE_FIRST, with_linear_shape_sized),
    PROBE("shape", linear_shape, RPO_LINEAR_LOGPROB_SHAPE_FIRST, with_linear_shape_of_a_cache),
    PROBE("inputs", linear_inputs, RPO_LINEAR_LOGPROB_INPUTS_FIRST, with_linear_inputs),
    PROBE("inputs", linear_inputs, RPO_LINEAR_LOGPROB_INPUTS_FIRST, with_linear_inputs_backward),
    PROBE("saved", linear_saved, RPO_LINEAR_LOGPROB_SAVED_FIRST, with_linear_saved),
    PROBE("saved", linear_saved, RPO_LINEAR_LOGPROB_SAVED_FIRST, with_linear_saved_backward),
    PROBE("outputs", linear_outputs, RPO_LINEAR_LOGPROB_OUTPUTS_FIRST, with_linear_outputs),
    PROBE("gradients", linear_gradients, RPO_LINEAR_LOGPROB_GRADIENTS_FIRST, with_linear_gradients),
};

enum { PROBES = sizeof probes / sizeof probes[0], STRUCT_ROOM = 512 };

/* The valid struct with another size; what lies beyond `meant` bytes of it is `fill`, and so is all up to the room. */
static rpo_status call_with(const probe *one, size_t struct_size, size_t meant, int fill) {
    _Alignas(16) unsigned char bytes[STRUCT_ROOM];
    memset(bytes, fill, sizeof bytes);
    memcpy(bytes, one->valid, meant);
    memcpy(bytes, &struct_size, sizeof struct_size);
    return one->call(bytes);
}

static void expect(const probe *one, int at, rpo_status found, rpo_status expected, const char *which) {
    cr_assert_eq(found, expected, "probe %d (%s): %s gives %s: %s", at, one->name, which,
                 rpo_status_name(found), rpo_last_error());
    if (expected != RPO_OK)
        cr_assert_eq(strncmp(rpo_last_error(), one->name, strlen(one->name)), 0,
                     "probe %d: \"%s\" does not name %s", at, rpo_last_error(), one->name);
}

Test(versions, every_struct_of_every_function, .init = set_up, .fini = tear_down) {
    for (int k = 0; k < PROBES; ++k) {
        const probe *one = &probes[k];
        const size_t size = one->size, first = one->first;
        cr_assert(first <= size && size + 64 <= STRUCT_ROOM);
        expect(one, k, call_with(one, size, size, 0xff), RPO_OK, "its own size");
        expect(one, k, call_with(one, first, first, 0xff), RPO_OK, "the first version's size");
        expect(one, k, call_with(one, size + 1, size, 0), RPO_OK, "a larger size, zero beyond");
        expect(one, k, call_with(one, size + 64, size, 0), RPO_OK, "a much larger size, zero beyond");
        const rpo_status bad = RPO_ERROR_INVALID_ARGUMENT;
        expect(one, k, call_with(one, size + 1, size, 0xff), bad, "a larger size, set beyond");
        expect(one, k, call_with(one, size + 64, size, 1), bad, "a much larger size, set beyond");
        expect(one, k, call_with(one, first - 1, size, 0), bad, "less than any version had");
        expect(one, k, call_with(one, 0, size, 0), bad, "a size of 0");
    }
}
