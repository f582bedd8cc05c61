/* test_contrast_arguments.c - what the similarity, weight and loss functions refuse, and in which words. */
#include "tests/logprob_testing.h"

#include "kernels/op_table.h"

/* A valid call of the loss; each test spoils one thing. */
typedef struct call {
    float logps[8], embeddings[8], loss, grads[4];
    rpo_contrast_inputs inputs;
    rpo_contrast_outputs outputs;
    rpo_loss_options options;
    _Alignas(64) unsigned char workspace[1 << 16];
} call;

static call *call_new(void) {
    call *c = aligned_alloc(64, sizeof *c);
    cr_assert_not_null(c);
    memset(c, 0, sizeof *c);
    for (int i = 0; i < 8; ++i)
        c->logps[i] = c->embeddings[i] = (float)i;
    c->inputs = (rpo_contrast_inputs){.struct_size = sizeof c->inputs,
                                      .policy_chosen_logps = c->logps,
                                      .policy_rejected_logps = c->logps + 2,
                                      .reference_chosen_logps = c->logps + 4,
                                      .reference_rejected_logps = c->logps + 6,
                                      .chosen_embeddings = c->embeddings,
                                      .rejected_embeddings = c->embeddings,
                                      .m = 2,
                                      .n = 2,
                                      .dim = 4};
    c->outputs = (rpo_contrast_outputs){.struct_size = sizeof c->outputs, .loss = &c->loss};
    c->options = (rpo_loss_options)RPO_LOSS_OPTIONS_INIT;
    return c;
}

/* The status of the call; `words` must stand in the message. */
static void expect(rpo_status expected, const call *c, const char *words) {
    rpo_context *context = test_context(RPO_DEVICE_CPU, 1);
    const rpo_status status = rpo_contrast_loss(context, &c->outputs, &c->inputs, &c->options,
                                                (void *)c->workspace, sizeof c->workspace);
    cr_assert_eq(status, expected, "%s instead of %s: %s", rpo_status_name(status), rpo_status_name(expected),
                 rpo_last_error());
    if (words != NULL)
        cr_assert_not_null(strstr(rpo_last_error(), words), "\"%s\" does not say \"%s\"", rpo_last_error(),
                           words);
    rpo_context_free(context);
}

#define REFUSED(spoil, status, words)                                                                        \
    do {                                                                                                     \
        call *c = call_new();                                                                                \
        spoil;                                                                                               \
        expect(status, c, words);                                                                            \
        free(c);                                                                                             \
    } while (0)

Test(contrast_arguments, a_valid_call_passes) {
    call *c = call_new();
    expect(RPO_OK, c, NULL);
    free(c);
}

Test(contrast_arguments, options) {
    const rpo_status bad = RPO_ERROR_INVALID_ARGUMENT;
    REFUSED(c->options.struct_size = 3, bad, "options.struct_size");
    REFUSED(c->options.kind = (rpo_loss_kind)99, bad, "options.kind: is 99");
    REFUSED(c->options.kind = (rpo_loss_kind)-1, bad, "options.kind");
    REFUSED(c->options.beta = 0.0f, bad, "options.beta: is 0; must be finite and > 0");
    REFUSED(c->options.beta = -1.0f, bad, "options.beta");
    REFUSED(c->options.beta = NAN, bad, "options.beta");
    REFUSED(c->options.beta = INFINITY, bad, "options.beta");
    REFUSED(c->options.tau = 0.0f, bad, "options.tau");
    REFUSED(c->options.tau = NAN, bad, "options.tau");
    REFUSED(c->options.weight_scale = (rpo_weight_scale)2, bad, "options.weight_scale");
    REFUSED((c->options.kind = RPO_LOSS_RPO_DIAGONAL, c->options.diagonal_weight = 1.5f), bad,
            "diagonal_weight");
    REFUSED((c->options.kind = RPO_LOSS_RPO_DIAGONAL, c->options.diagonal_weight = NAN), bad,
            "diagonal_weight");
    REFUSED((c->options.kind = RPO_LOSS_CDPO, c->options.epsilon = 0.6f), bad, "options.epsilon");
    REFUSED((c->options.kind = RPO_LOSS_CDPO, c->options.epsilon = -0.1f), bad, "options.epsilon");
}

Test(contrast_arguments, options_that_the_kind_does_not_read_may_hold_anything) {
    call *c = call_new();
    c->options.kind = RPO_LOSS_DPO;
    c->options.tau = c->options.diagonal_weight = c->options.epsilon = NAN;
    c->inputs.chosen_embeddings = c->inputs.rejected_embeddings = NULL;
    c->inputs.embedding_dtype = RPO_BFLOAT16;
    c->inputs.dim = 0;
    expect(RPO_OK, c, NULL);
    free(c);
}

Test(contrast_arguments, inputs) {
    const rpo_status bad = RPO_ERROR_INVALID_ARGUMENT;
    REFUSED(c->inputs.struct_size = 0, bad, "inputs.struct_size");
    REFUSED(c->outputs.struct_size = 0, bad, "outputs.struct_size");
    REFUSED(c->outputs.loss = NULL, bad, "outputs.loss: is NULL");
    REFUSED(c->inputs.policy_chosen_logps = NULL, bad, "policy_chosen_logps");
    REFUSED(c->inputs.policy_rejected_logps = NULL, bad, "policy_rejected_logps");
    REFUSED(c->inputs.chosen_embeddings = NULL, bad, "chosen_embeddings");
    REFUSED(c->inputs.rejected_embeddings = NULL, bad, "rejected_embeddings");
    REFUSED(c->inputs.m = -1, bad, "m: is -1");
    REFUSED(c->inputs.n = INT64_MAX, bad, "n: is 9223372036854775807");
    REFUSED(c->inputs.dim = 0, bad, "dim: is 0");
    REFUSED(c->inputs.n = 1, bad, "rpo-paired needs as many as m, 2");
    REFUSED(c->inputs.embedding_dtype = RPO_BFLOAT16, RPO_ERROR_UNSUPPORTED,
            "bfloat16 is not supported by contrast_loss of the cpu backend; allowed: float32");
    REFUSED(c->inputs.embedding_dtype = RPO_FLOAT16, RPO_ERROR_UNSUPPORTED, "float16");
    REFUSED(c->inputs.embedding_dtype = (rpo_dtype)77, bad, "embedding_dtype");
}

Test(contrast_arguments, pointers_and_workspace) {
    rpo_context *context = test_context(RPO_DEVICE_CPU, 1);
    call *c = call_new();
    size_t size = 0;
    const rpo_status bad = RPO_ERROR_INVALID_ARGUMENT;
    cr_assert_eq(rpo_contrast_loss_workspace_size(NULL, &size, &c->inputs, NULL), bad);
    cr_assert_eq(rpo_contrast_loss_workspace_size(context, NULL, &c->inputs, NULL), bad);
    cr_assert_eq(rpo_contrast_loss_workspace_size(context, &size, NULL, NULL), bad);
    cr_assert_eq(rpo_contrast_loss_workspace_size(context, &size, &c->inputs, NULL), RPO_OK);
    cr_assert_eq(rpo_contrast_loss(NULL, &c->outputs, &c->inputs, NULL, c->workspace, size), bad);
    cr_assert_eq(rpo_contrast_loss(context, NULL, &c->inputs, NULL, c->workspace, size), bad);
    cr_assert_eq(rpo_contrast_loss(context, &c->outputs, NULL, NULL, c->workspace, size), bad);
    cr_assert_eq(rpo_contrast_loss(context, &c->outputs, &c->inputs, NULL, NULL, size), bad);
    cr_assert_eq(rpo_contrast_loss(context, &c->outputs, &c->inputs, NULL, c->workspace + 4, size), bad);
    cr_assert_eq(rpo_contrast_loss(context, &c->outputs, &c->inputs, NULL, c->workspace, size - 1),
                 RPO_ERROR_WORKSPACE);
    cr_assert_eq(rpo_contrast_loss(context, &c->outputs, &c->inputs, NULL, c->workspace, size), RPO_OK);
    free(c);
    rpo_context_free(context);
}

Test(contrast_arguments, matrices) {
    rpo_context *context = test_context(RPO_DEVICE_CPU, 1);
    _Alignas(64) static unsigned char workspace[1 << 14];
    float e[8] = {1, 2, 3, 4, 5, 6, 7, 8}, out[4];
    const rpo_status bad = RPO_ERROR_INVALID_ARGUMENT;
    const rpo_similarity_inputs good = {sizeof good, e, e, 2, 2, 4, RPO_FLOAT32};
    rpo_similarity_inputs halves = good, no_rows = good, negative = good, flat = good;
    halves.dtype = RPO_FLOAT16;
    no_rows.chosen_embeddings = NULL;
    negative.m = -2;
    flat.dim = 0;
    size_t size = 0;
    cr_assert_eq(rpo_prompt_similarity_workspace_size(context, NULL, &good), bad);
    cr_assert_eq(rpo_prompt_similarity_workspace_size(context, &size, NULL), bad);
    cr_assert_eq(rpo_prompt_similarity_workspace_size(context, &size, &halves), RPO_ERROR_UNSUPPORTED);
    cr_assert_eq(rpo_prompt_similarity_workspace_size(context, &size, &good), RPO_OK);
    cr_assert_leq(size, sizeof workspace);
    cr_assert_eq(rpo_prompt_similarity(NULL, out, &good, workspace, size), bad);
    cr_assert_eq(rpo_prompt_similarity(context, NULL, &good, workspace, size), bad);
    cr_assert_eq(rpo_prompt_similarity(context, out, NULL, workspace, size), bad);
    cr_assert_eq(rpo_prompt_similarity(context, out, &no_rows, workspace, size), bad);
    cr_assert_eq(rpo_prompt_similarity(context, out, &negative, workspace, size), bad);
    cr_assert_eq(rpo_prompt_similarity(context, out, &flat, workspace, size), bad);
    const rpo_weight_scale scale = RPO_WEIGHT_SCALE_NONE;
    cr_assert_eq(rpo_contrast_weights(context, out, &good, 0.0f, scale, workspace, size), bad);
    cr_assert_eq(rpo_contrast_weights(context, out, &good, 0.5f, (rpo_weight_scale)7, workspace, size), bad);
    cr_assert_eq(rpo_contrast_weights(context, out, &good, 0.5f, scale, workspace, size), RPO_OK);
    rpo_context_free(context);
}

Test(contrast_arguments, kind_names_go_both_ways) {
    for (int k = 0; k < RPO_LOSS_KIND_COUNT; ++k) {
        rpo_loss_kind kind = RPO_LOSS_SFT;
        const char *name = rpo_loss_kind_name((rpo_loss_kind)k);
        cr_assert_not_null(name);
        cr_assert_eq(rpo_loss_kind_from_name(&kind, name), RPO_OK);
        cr_assert_eq((int)kind, k);
    }
    rpo_loss_kind kind = RPO_LOSS_SFT;
    cr_assert_null(rpo_loss_kind_name((rpo_loss_kind)RPO_LOSS_KIND_COUNT));
    cr_assert_eq(rpo_loss_kind_from_name(&kind, "DPO"), RPO_ERROR_INVALID_ARGUMENT);
    cr_assert_not_null(strstr(rpo_last_error(), "rpo-paired"));
    cr_assert_eq(rpo_loss_kind_from_name(&kind, NULL), RPO_ERROR_INVALID_ARGUMENT);
    cr_assert_eq(kind, RPO_LOSS_SFT);
    cr_assert_eq(rpo_loss_kind_needs_embeddings((rpo_loss_kind)-1), 0);
    cr_assert_eq(rpo_loss_kind_needs_pairs((rpo_loss_kind)-1), 0);
}

/* A backend without the op says so instead of calling through NULL. */
Test(contrast_arguments, a_backend_without_the_op) {
    rpo_backend bare = *rpo_backend_find(RPO_DEVICE_CPU);
    bare.name = "bare";
    memset(&bare.preference, 0, sizeof bare.preference);
    rpo_context context = {.backend = &bare, .num_threads = 1};
    call *c = call_new();
    size_t size = 0;
    float out[4];
    cr_assert_eq(rpo_contrast_loss_workspace_size(&context, &size, &c->inputs, NULL), RPO_ERROR_UNSUPPORTED);
    cr_assert_eq(
        rpo_contrast_loss(&context, &c->outputs, &c->inputs, NULL, c->workspace, sizeof c->workspace),
        RPO_ERROR_UNSUPPORTED);
    const rpo_similarity_inputs prompts = {sizeof prompts, c->embeddings, c->embeddings, 2, 2, 4,
                                           RPO_FLOAT32};
    cr_assert_eq(rpo_prompt_similarity_workspace_size(&context, &size, &prompts), RPO_ERROR_UNSUPPORTED);
    cr_assert_eq(rpo_prompt_similarity(&context, out, &prompts, c->workspace, sizeof c->workspace),
                 RPO_ERROR_UNSUPPORTED);
    cr_assert_eq(rpo_contrast_weights(&context, out, &prompts, 0.5f, RPO_WEIGHT_SCALE_NONE, c->workspace,
                                      sizeof c->workspace),
                 RPO_ERROR_UNSUPPORTED);
    free(c);
}
