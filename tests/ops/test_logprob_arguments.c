/* test_logprob_arguments.c - what the log-prob ops refuse, with which status and which words. */
#include "tests/logprob_testing.h"

static void expect(rpo_status found, rpo_status wanted, const char *words) {
    cr_assert_eq(found, wanted, "status is %s; expected %s (%s)", rpo_status_name(found),
                 rpo_status_name(wanted), rpo_last_error());
    cr_assert_not_null(strstr(rpo_last_error(), words), "message \"%s\" lacks \"%s\"", rpo_last_error(),
                       words);
}

/* A small valid call of each op; the tests spoil one thing at a time. */
typedef struct valid_call {
    rpo_context *context;
    float logits[3][4], hidden[3][2], head[4][2], grad_hidden[3][2], coef[2], logps[2];
    int32_t labels[3], cu_seqlens[3];
    rpo_logprob_shape shape;
    rpo_linear_logprob_shape linear_shape;
    rpo_linear_logprob_saved saved;
    rpo_linear_logprob_gradients gradients;
    guarded workspace;
} valid_call;

static valid_call valid_call_new(void) {
    valid_call call = {.labels = {1, RPO_IGNORE_LABEL, 3}, .cu_seqlens = {0, 2, 3}, .coef = {1.0f, -1.0f}};
    call.context = test_context(RPO_DEVICE_CPU, 1);
    call.shape = (rpo_logprob_shape){sizeof(rpo_logprob_shape), 3, 4, 2, 0, RPO_FLOAT32, RPO_REDUCTION_SUM};
    call.linear_shape = (rpo_linear_logprob_shape){.struct_size = sizeof(rpo_linear_logprob_shape),
                                                   .rows = 3,
                                                   .hidden_size = 2,
                                                   .vocab_size = 4,
                                                   .num_sequences = 2};
    call.saved = (rpo_linear_logprob_saved)RPO_LINEAR_LOGPROB_SAVED_INIT;
    call.gradients = (rpo_linear_logprob_gradients)RPO_LINEAR_LOGPROB_GRADIENTS_INIT;
    call.workspace = guarded_new(4096);
    return call;
}

static void valid_call_free(valid_call *call) {
    guarded_free(&call->workspace);
    rpo_context_free(call->context);
}

static rpo_logprob_inputs inputs_of(const valid_call *call) {
    return (rpo_logprob_inputs){.struct_size = sizeof(rpo_logprob_inputs),
                                .logits = call->logits,
                                .labels = call->labels,
                                .cu_seqlens = call->cu_seqlens,
                                .grad_sequence_logps = call->coef};
}

static rpo_linear_logprob_inputs linear_inputs_of(const valid_call *call) {
    return (rpo_linear_logprob_inputs){.struct_size = sizeof(rpo_linear_logprob_inputs),
                                       .hidden = call->hidden,
                                       .head = call->head,
                                       .labels = call->labels,
                                       .cu_seqlens = call->cu_seqlens,
                                       .grad_sequence_logps = call->coef};
}

static rpo_status forward(valid_call *call) {
    const rpo_logprob_inputs inputs = inputs_of(call);
    const rpo_logprob_outputs outputs = {.struct_size = sizeof outputs, .sequence_logps = call->logps};
    return rpo_logprob_gather(call->context, &outputs, &inputs, &call->shape, call->workspace.data,
                              call->workspace.bytes);
}

static rpo_status backward(valid_call *call) {
    const rpo_logprob_inputs inputs = inputs_of(call);
    return rpo_logprob_gather_backward(call->context, call->logits, &inputs, &call->shape,
                                       call->workspace.data, call->workspace.bytes);
}

static rpo_status linear(valid_call *call) {
    const rpo_linear_logprob_inputs inputs = linear_inputs_of(call);
    const rpo_linear_logprob_outputs outputs = {.struct_size = sizeof outputs, .sequence_logps = call->logps};
    return rpo_linear_logprob(call->context, &outputs, &call->saved, &inputs, &call->linear_shape,
                              call->workspace.data, call->workspace.bytes);
}

static rpo_status linear_backward(valid_call *call) {
    const rpo_linear_logprob_inputs inputs = linear_inputs_of(call);
    call->gradients.grad_hidden = call->grad_hidden;
    return rpo_linear_logprob_backward(call->context, &call->gradients, &call->saved, &inputs,
                                       &call->linear_shape, call->workspace.data, call->workspace.bytes);
}

typedef rpo_status (*call_function)(valid_call *call);
static const call_function functions[] = {forward, backward, linear, linear_backward};
enum { NUM_FUNCTIONS = sizeof functions / sizeof functions[0] };

Test(logprob_arguments, valid_calls_pass) {
    for (int f = 0; f < NUM_FUNCTIONS; ++f) {
        valid_call call = valid_call_new();
        cr_assert_eq(functions[f](&call), RPO_OK, "%s", rpo_last_error());
        valid_call_free(&call);
    }
}

Test(logprob_arguments, labels_outside_the_vocabulary) {
    static const int32_t bad[] = {4, -1, -99, -101, INT32_MAX, INT32_MIN};
    for (int f = 0; f < NUM_FUNCTIONS; ++f)
        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; ++i) {
            valid_call call = valid_call_new();
            call.labels[2] = bad[i];
            char words[64];
            snprintf(words, sizeof words, "labels[2]: is %d; must be 0 to 3", bad[i]);
            expect(functions[f](&call), RPO_ERROR_INVALID_ARGUMENT, words);
            valid_call_free(&call);
        }
}

Test(logprob_arguments, broken_cu_seqlens) {
    static const struct {
        int32_t values[3];
        const char *words;
    } bad[] = {{{1, 2, 3}, "cu_seqlens[0]"},
               {{0, 3, 2}, "cu_seqlens[2]: is 2 after 3"},
               {{0, 2, 4}, "cu_seqlens[2]: is 4"},
               {{0, -1, 3}, "cu_seqlens[1]: is -1"}};
    for (int f = 0; f < NUM_FUNCTIONS; ++f)
        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; ++i) {
            valid_call call = valid_call_new();
            memcpy(call.cu_seqlens, bad[i].values, sizeof call.cu_seqlens);
            expect(functions[f](&call), RPO_ERROR_INVALID_ARGUMENT, bad[i].words);
            valid_call_free(&call);
        }
}

Test(logprob_arguments, workspace) {
    for (int f = 0; f < NUM_FUNCTIONS; ++f) {
        valid_call call = valid_call_new();
        const guarded whole = call.workspace;
        call.workspace.bytes = 8;
        expect(functions[f](&call), RPO_ERROR_WORKSPACE, "workspace_size: is 8; must be at least");
        call.workspace.bytes = whole.bytes - 4;
        call.workspace.data = (char *)whole.data + 4;
        expect(functions[f](&call), RPO_ERROR_INVALID_ARGUMENT, "64-byte aligned");
        call.workspace.data = NULL;
        expect(functions[f](&call), RPO_ERROR_INVALID_ARGUMENT, "workspace: is NULL");
        call.workspace = whole;
        valid_call_free(&call);
    }
}

Test(logprob_arguments, shapes) {
    valid_call call = valid_call_new();
    const rpo_logprob_shape shape = call.shape;
    call.shape.vocab_size = 0;
    expect(forward(&call), RPO_ERROR_INVALID_ARGUMENT, "shape.vocab_size");
    call.shape = shape;
    call.shape.rows = -1;
    expect(forward(&call), RPO_ERROR_INVALID_ARGUMENT, "shape.rows");
    call.shape = shape;
    call.shape.num_sequences = -1;
    expect(forward(&call), RPO_ERROR_INVALID_ARGUMENT, "shape.num_sequences");
    call.shape = shape;
    call.shape.row_stride = 3;
    expect(forward(&call), RPO_ERROR_INVALID_ARGUMENT, "shape.row_stride: is 3");
    call.shape.row_stride = INT64_MAX;
    expect(forward(&call), RPO_ERROR_INVALID_ARGUMENT, "cannot be addressed");
    call.shape = shape;
    call.shape.struct_size = 1;
    expect(forward(&call), RPO_ERROR_INVALID_ARGUMENT, "shape.struct_size");
    call.shape = shape;
    call.shape.reduction = (rpo_reduction)7;
    expect(forward(&call), RPO_ERROR_INVALID_ARGUMENT, "shape.reduction");
    call.linear_shape.hidden_size = 0;
    expect(linear(&call), RPO_ERROR_INVALID_ARGUMENT, "shape.hidden_size");
    valid_call_free(&call);
}

Test(logprob_arguments, dtypes_the_cpu_lacks) {
    valid_call call = valid_call_new();
    call.shape.dtype = RPO_BFLOAT16;
    expect(forward(&call), RPO_ERROR_UNSUPPORTED, "bfloat16; allowed: float32");
    call.linear_shape.dtype = RPO_FLOAT16;
    expect(linear(&call), RPO_ERROR_UNSUPPORTED, "float16; allowed: float32");
    call.shape.dtype = (rpo_dtype)9;
    expect(forward(&call), RPO_ERROR_INVALID_ARGUMENT, "shape.dtype");
    valid_call_free(&call);
}

Test(logprob_arguments, null_pointers) {
    valid_call call = valid_call_new();
    void *workspace = call.workspace.data;
    const size_t bytes = call.workspace.bytes;
    const rpo_status bad = RPO_ERROR_INVALID_ARGUMENT;
    const rpo_logprob_outputs out = {.struct_size = sizeof out, .sequence_logps = call.logps};
    const rpo_logprob_outputs no_out = RPO_LOGPROB_OUTPUTS_INIT;
    const rpo_logprob_inputs in = inputs_of(&call);
    rpo_logprob_inputs no_logits = in, no_labels = in, no_bounds = in, no_gradients = in;
    no_logits.logits = NULL;
    no_labels.labels = NULL;
    no_bounds.cu_seqlens = NULL;
    no_gradients.grad_sequence_logps = NULL;
    expect(rpo_logprob_gather(NULL, &out, &in, &call.shape, workspace, bytes), bad, "context: is NULL");
    expect(rpo_logprob_gather(call.context, NULL, &in, &call.shape, workspace, bytes), bad,
           "outputs: is NULL");
    expect(rpo_logprob_gather(call.context, &no_out, &in, &call.shape, workspace, bytes), bad,
           "outputs.sequence_logps");
    expect(rpo_logprob_gather(call.context, &out, NULL, &call.shape, workspace, bytes), bad,
           "inputs: is NULL");
    expect(rpo_logprob_gather(call.context, &out, &no_logits, &call.shape, workspace, bytes), bad,
           "inputs.logits");
    expect(rpo_logprob_gather(call.context, &out, &no_labels, &call.shape, workspace, bytes), bad,
           "inputs.labels");
    expect(rpo_logprob_gather(call.context, &out, &no_bounds, &call.shape, workspace, bytes), bad,
           "inputs.cu_seqlens");
    expect(rpo_logprob_gather(call.context, &out, &in, NULL, workspace, bytes), bad, "shape: is NULL");
    expect(rpo_logprob_gather_backward(call.context, NULL, &in, &call.shape, workspace, bytes), bad,
           "grad_logits");
    expect(
        rpo_logprob_gather_backward(call.context, call.logits, &no_gradients, &call.shape, workspace, bytes),
        bad, "inputs.grad_sequence_logps");
    cr_assert_eq(rpo_logprob_gather(call.context, &out, &no_gradients, &call.shape, workspace, bytes),
                 RPO_OK);
    valid_call_free(&call);
}

Test(logprob_arguments, null_pointers_of_the_linear_op) {
    valid_call call = valid_call_new();
    void *workspace = call.workspace.data;
    const size_t bytes = call.workspace.bytes;
    const rpo_status bad = RPO_ERROR_INVALID_ARGUMENT;
    const rpo_linear_logprob_gradients out = RPO_LINEAR_LOGPROB_GRADIENTS_INIT;
    const rpo_linear_logprob_outputs no_out = RPO_LINEAR_LOGPROB_OUTPUTS_INIT;
    const rpo_linear_logprob_inputs in = linear_inputs_of(&call);
    rpo_linear_logprob_inputs no_head = in;
    no_head.head = NULL;
    expect(rpo_linear_logprob(call.context, &no_out, NULL, &in, &call.linear_shape, workspace, bytes), bad,
           "outputs.sequence_logps");
    expect(
        rpo_linear_logprob_backward(call.context, &out, NULL, &no_head, &call.linear_shape, workspace, bytes),
        bad, "inputs.head");
    expect(rpo_linear_logprob_backward(call.context, NULL, NULL, &in, &call.linear_shape, workspace, bytes),
           bad, "gradients: is NULL");
    expect(rpo_linear_logprob_workspace_size(call.context, NULL, &call.linear_shape, 0), bad, "bytes");
    cr_assert_eq(
        rpo_linear_logprob_backward(call.context, &out, NULL, &in, &call.linear_shape, workspace, bytes),
        RPO_OK);
    call.gradients.accumulate_head = 2;
    expect(linear_backward(&call), bad, "gradients.accumulate_head: is 2; must be 0 or 1");
    valid_call_free(&call);
}

/* What the optional fields of the linear op's shape must hold. */
Test(logprob_arguments, optional_fields_of_the_linear_shape) {
    static float cache[32];
    static const struct {
        int64_t valid_rows;
        int frozen_head;
        size_t misalignment, cache_bytes;
        bool null_cache;
        const char *words;
    } bad[] = {
        {4, 0, 0, 0, true, "shape.valid_rows: is 4; must be 0 (unknown) to shape.rows, 3"},
        {-1, 0, 0, 0, true, "shape.valid_rows: is -1"},
        {1, 0, 0, 0, true, "shape.valid_rows: is 1; the labels have 2"},
        {0, 2, 0, 0, true, "shape.frozen_head: is 2; must be 0 or 1"},
        {0, 0, 0, 8, true, "saved.cache: is NULL; shape.cache_bytes is 8"},
        {0, 0, 4, 8, false, "saved.cache: must be 64-byte aligned"},
    };
    char *aligned = (char *)(((uintptr_t)cache + 63) / 64 * 64);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; ++i)
        for (int backward_too = 0; backward_too < 2; ++backward_too) {
            valid_call call = valid_call_new();
            call.linear_shape.valid_rows = bad[i].valid_rows;
            call.linear_shape.frozen_head = bad[i].frozen_head;
            call.saved.cache = bad[i].null_cache ? NULL : aligned + bad[i].misalignment;
            call.linear_shape.cache_bytes = bad[i].cache_bytes;
            expect(backward_too ? linear_backward(&call) : linear(&call), RPO_ERROR_INVALID_ARGUMENT,
                   bad[i].words);
            valid_call_free(&call);
        }
}

Test(logprob_arguments, frozen_head_has_no_gradient) {
    valid_call call = valid_call_new();
    float grad_head[4][2];
    call.linear_shape.frozen_head = 1;
    call.gradients.grad_head = &grad_head[0][0];
    expect(linear_backward(&call), RPO_ERROR_INVALID_ARGUMENT,
           "gradients.grad_head: is given; shape.frozen_head says it is NULL");
    valid_call_free(&call);
}
