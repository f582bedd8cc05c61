/*
 * contrast_cases.h - the table of loss cases and what every backend must show on each of them. A backend's
 * test is one call: contrast_cases_run(context). Data and expectations live in host memory; a device other
 * than the CPU is given copies (tests/device_memory.h).
 */
#ifndef RPO_TESTS_OPS_CONTRAST_CASES_H
#define RPO_TESTS_OPS_CONTRAST_CASES_H

#include "tests/device_buffer.h"
#include "tests/logprob_testing.h"
#include "tests/ops/reference_loss.h"

typedef struct contrast_case {
    const char *name;
    rpo_loss_kind kind;
    int64_t m, n, dim;
    float beta, tau;
    float spread; /* log-ratios are uniform in +-spread */
    float diagonal_weight, epsilon;
    rpo_weight_scale scale;
    int zero_every;         /* every so many embeddings are zero vectors; 0 = none */
    float embedding_scale;  /* 0 = 1 */
    bool without_reference; /* NULL reference: policy_* are the log-ratios */
} contrast_case;

#define PAIRED   RPO_LOSS_RPO_PAIRED
#define UNPAIRED RPO_LOSS_RPO_UNPAIRED
#define UNIFORM  RPO_LOSS_RPO_UNIFORM
#define DIAGONAL RPO_LOSS_RPO_DIAGONAL
#define NONE     RPO_WEIGHT_SCALE_NONE
#define BLOCK    RPO_WEIGHT_SCALE_BLOCK

static const contrast_case contrast_cases[] = {
    /* kind, m, n, dim, beta, tau, spread, d, epsilon, scale, zero_every, embedding_scale, without_reference
     */
    {"paired 1", PAIRED, 1, 1, 24, 0.1f, 0.5f, 20, 0, 0, NONE, 0, 0, false},
    {"paired 2", PAIRED, 2, 2, 1, 0.1f, 0.5f, 20, 0, 0, NONE, 0, 0, false},
    {"paired 33", PAIRED, 33, 33, 24, 0.1f, 0.5f, 20, 0, 0, NONE, 0, 0, false},
    {"paired 64, zero vectors", PAIRED, 64, 64, 384, 0.5f, 0.75f, 30, 0, 0, NONE, 5, 0, false},
    {"paired 129, all vectors zero", PAIRED, 129, 129, 7, 0.1f, 0.5f, 20, 0, 0, NONE, 1, 0, false},
    {"paired 257, block scale", PAIRED, 257, 257, 40, 0.1f, 0.5f, 20, 0, 0, BLOCK, 0, 0, false},
    {"paired 300, sharp softmax", PAIRED, 300, 300, 24, 0.1f, 0.01f, 20, 0, 0, NONE, 0, 0, true},
    {"unpaired 1 x 7", UNPAIRED, 1, 7, 24, 0.1f, 0.5f, 20, 0, 0, NONE, 0, 0, false},
    {"unpaired 7 x 1", UNPAIRED, 7, 1, 24, 0.1f, 0.5f, 20, 0, 0, NONE, 0, 0, false},
    {"unpaired 33 x 5", UNPAIRED, 33, 5, 3, 0.1f, 0.5f, 20, 0, 0, NONE, 0, 0, false},
    {"unpaired 257 x 129", UNPAIRED, 257, 129, 31, 0.2f, 0.3f, 20, 0, 0, BLOCK, 7, 0, true},
    {"unpaired 1000 x 3", UNPAIRED, 1000, 3, 17, 0.1f, 0.5f, 20, 0, 0, NONE, 0, 0, false},
    {"unpaired 3 x 1000", UNPAIRED, 3, 1000, 17, 0.1f, 0.5f, 20, 0, 0, NONE, 0, 0, false},
    {"unpaired 20 x 9001", UNPAIRED, 20, 9001, 3, 0.1f, 0.5f, 20, 0, 0, BLOCK, 0, 0, false},
    {"unpaired 5000 x 2", UNPAIRED, 5000, 2, 8, 0.1f, 0.5f, 20, 0, 0, NONE, 0, 0, false},
    {"unpaired, margins to 1e4", UNPAIRED, 40, 24, 24, 0.5f, 0.5f, 5e3f, 0, 0, BLOCK, 0, 0, false},
    {"unpaired, beta 1e-6", UNPAIRED, 40, 24, 24, 1e-6f, 0.5f, 20, 0, 0, NONE, 0, 0, false},
    {"unpaired, beta 1e3", UNPAIRED, 40, 24, 24, 1e3f, 0.5f, 20, 0, 0, NONE, 0, 0, false},
    {"unpaired, tau 1e3", UNPAIRED, 40, 24, 24, 0.1f, 1e3f, 20, 0, 0, NONE, 0, 0, false},
    {"unpaired, tau 1e-6", UNPAIRED, 40, 24, 24, 0.1f, 1e-6f, 20, 0, 0, NONE, 0, 0, false},
    {"unpaired, long vectors", UNPAIRED, 33, 18, 40, 0.1f, 0.5f, 20, 0, 0, NONE, 0, 1e15f, false},
    {"unpaired, short vectors", UNPAIRED, 33, 18, 40, 0.1f, 0.5f, 20, 0, 0, NONE, 0, 1e-15f, false},
    {"uniform 1 x 1", UNIFORM, 1, 1, 0, 0.1f, 0, 20, 0, 0, NONE, 0, 0, false},
    {"uniform 33 x 5", UNIFORM, 33, 5, 0, 0.1f, 0, 20, 0, 0, NONE, 0, 0, false},
    {"uniform 256 x 257", UNIFORM, 256, 257, 0, 0.1f, 0, 20, 0, 0, NONE, 0, 0, true},
    {"uniform 5000 x 3", UNIFORM, 5000, 3, 0, 0.1f, 0, 20, 0, 0, NONE, 0, 0, false},
    {"uniform 3 x 1025", UNIFORM, 3, 1025, 0, 0.1f, 0, 20, 0, 0, NONE, 0, 0, false},
    {"uniform, margins to 1e4", UNIFORM, 16, 48, 0, 1, 0, 5e3f, 0, 0, NONE, 0, 0, false},
    {"uniform, beta 1e3", UNIFORM, 16, 48, 0, 1e3f, 0, 20, 0, 0, NONE, 0, 0, false},
    {"uniform, beta 1e-6", UNIFORM, 16, 48, 0, 1e-6f, 0, 20, 0, 0, NONE, 0, 0, false},
    {"diagonal 1", DIAGONAL, 1, 1, 0, 0.1f, 0, 20, 0.8f, 0, NONE, 0, 0, false},
    {"diagonal 2", DIAGONAL, 2, 2, 0, 0.1f, 0, 20, 0.8f, 0, NONE, 0, 0, false},
    {"diagonal 300", DIAGONAL, 300, 300, 0, 0.1f, 0, 20, 0.8f, 0, NONE, 0, 0, false},
    {"diagonal 33, d = 0", DIAGONAL, 33, 33, 0, 0.1f, 0, 20, 0, 0, NONE, 0, 0, false},
    {"diagonal 33, d = 1", DIAGONAL, 33, 33, 0, 0.1f, 0, 20, 1, 0, NONE, 0, 0, false},
    {"diagonal, margins to 1e4", DIAGONAL, 48, 48, 0, 1, 0, 5e3f, 0.8f, 0, NONE, 0, 0, false},
    {"dpo 1", RPO_LOSS_DPO, 1, 1, 0, 0.1f, 0, 20, 0, 0, NONE, 0, 0, false},
    {"dpo 129", RPO_LOSS_DPO, 129, 129, 0, 0.1f, 0, 20, 0, 0, NONE, 0, 0, true},
    {"dpo, margins to 1e4", RPO_LOSS_DPO, 65, 65, 0, 1, 0, 5e3f, 0, 0, NONE, 0, 0, false},
    {"dpo, beta 1e3", RPO_LOSS_DPO, 65, 65, 0, 1e3f, 0, 20, 0, 0, NONE, 0, 0, false},
    {"cdpo 33", RPO_LOSS_CDPO, 33, 33, 0, 0.1f, 0, 20, 0, 0.1f, NONE, 0, 0, false},
    {"cdpo 33, epsilon 0", RPO_LOSS_CDPO, 33, 33, 0, 0.1f, 0, 20, 0, 0, NONE, 0, 0, false},
    {"cdpo, margins to 1e4", RPO_LOSS_CDPO, 33, 33, 0, 1, 0, 5e3f, 0, 0.5f, NONE, 0, 0, false},
    {"ipo 33", RPO_LOSS_IPO, 33, 33, 0, 0.1f, 0, 20, 0, 0, NONE, 0, 0, false},
    {"ipo, beta 1e-6", RPO_LOSS_IPO, 33, 33, 0, 1e-6f, 0, 20, 0, 0, NONE, 0, 0, false},
    {"kto-simple 1 x 1", RPO_LOSS_KTO_SIMPLE, 1, 1, 0, 0.1f, 0, 20, 0, 0, NONE, 0, 0, false},
    {"kto-simple 33 x 5", RPO_LOSS_KTO_SIMPLE, 33, 5, 0, 0.1f, 0, 20, 0, 0, NONE, 0, 0, false},
    {"kto-simple 5 x 70", RPO_LOSS_KTO_SIMPLE, 5, 70, 0, 0.1f, 0, 20, 0, 0, NONE, 0, 0, true},
    {"kto-simple, margins to 1e4", RPO_LOSS_KTO_SIMPLE, 16, 24, 0, 0.01f, 0, 5e3f, 0, 0, NONE, 0, 0, false},
    {"sft 1 x 0", RPO_LOSS_SFT, 1, 0, 0, 0.1f, 0, 20, 0, 0, NONE, 0, 0, false},
    {"sft 33 x 5", RPO_LOSS_SFT, 33, 5, 0, 0.1f, 0, 20, 0, 0, NONE, 0, 0, false},
    {"empty: unpaired 5 x 0", UNPAIRED, 5, 0, 24, 0.1f, 0.5f, 20, 0, 0, NONE, 0, 0, false},
    {"empty: unpaired 0 x 5", UNPAIRED, 0, 5, 24, 0.1f, 0.5f, 20, 0, 0, NONE, 0, 0, false},
    {"empty: uniform 5 x 0", UNIFORM, 5, 0, 0, 0.1f, 0, 20, 0, 0, NONE, 0, 0, false},
    {"empty: paired", PAIRED, 0, 0, 24, 0.1f, 0.5f, 20, 0, 0, NONE, 0, 0, false},
    {"empty: dpo", RPO_LOSS_DPO, 0, 0, 0, 0.1f, 0, 20, 0, 0, NONE, 0, 0, false},
    {"empty: kto-simple 5 x 0", RPO_LOSS_KTO_SIMPLE, 5, 0, 0, 0.1f, 0, 20, 0, 0, NONE, 0, 0, false},
    {"empty: sft 0 x 4", RPO_LOSS_SFT, 0, 4, 0, 0.1f, 0, 20, 0, 0, NONE, 0, 0, false},
};

#undef PAIRED
#undef UNPAIRED
#undef UNIFORM
#undef DIAGONAL
#undef NONE
#undef BLOCK

enum { CONTRAST_CASES = sizeof contrast_cases / sizeof contrast_cases[0] };

/* ---- one case's data ---- */

typedef struct contrast_data {
    rpo_contrast_inputs inputs;
    rpo_loss_options options;
    float *chosen, *rejected, *reference_chosen, *reference_rejected, *chosen_embeddings,
        *rejected_embeddings;
    size_t misaligned; /* bytes that a device's copies of the embeddings lie past a 256-byte boundary */
} contrast_data;

static inline float *contrast_scores(uint64_t *state, int64_t count, const float *around, float spread) {
    float *scores = malloc((size_t)(count + 1) * sizeof *scores);
    for (int64_t i = 0; i < count; ++i)
        scores[i] = (around != NULL ? around[i] : 0.0f) + test_uniform(state, spread);
    return scores;
}

static inline float *contrast_embeddings(uint64_t *state, int64_t count, int64_t dim,
                                         const contrast_case *c) {
    float *rows = malloc((size_t)(count * dim + 1) * sizeof *rows);
    const float scale = c->embedding_scale > 0 ? c->embedding_scale : 1.0f;
    for (int64_t i = 0; i < count; ++i) {
        const bool zero = c->zero_every > 0 && i % c->zero_every == 0;
        for (int64_t k = 0; k < dim; ++k)
            rows[i * dim + k] = zero ? 0.0f : test_uniform(state, scale);
    }
    return rows;
}

static inline contrast_data contrast_data_new(const contrast_case *c, uint64_t seed) {
    contrast_data data = {.options = RPO_LOSS_OPTIONS_INIT};
    uint64_t state = seed;
    data.options.kind = c->kind;
    data.options.beta = c->beta;
    data.options.tau = c->tau;
    data.options.diagonal_weight = c->diagonal_weight;
    data.options.epsilon = c->epsilon;
    data.options.weight_scale = c->scale;
    if (!c->without_reference) {
        data.reference_chosen = contrast_scores(&state, c->m, NULL, 100.0f);
        data.reference_rejected = contrast_scores(&state, c->n, NULL, 100.0f);
    }
    data.chosen = contrast_scores(&state, c->m, data.reference_chosen, c->spread);
    data.rejected = contrast_scores(&state, c->n, data.reference_rejected, c->spread);
    if (rpo_loss_kind_needs_embeddings(c->kind)) {
        data.chosen_embeddings = contrast_embeddings(&state, c->m, c->dim, c);
        data.rejected_embeddings = c->kind == RPO_LOSS_RPO_PAIRED
                                       ? data.chosen_embeddings
                                       : contrast_embeddings(&state, c->n, c->dim, c);
    }
    data.inputs = (rpo_contrast_inputs){.struct_size = sizeof data.inputs,
                                        .policy_chosen_logps = data.chosen,
                                        .policy_rejected_logps = data.rejected,
                                        .reference_chosen_logps = data.reference_chosen,
                                        .reference_rejected_logps = data.reference_rejected,
                                        .chosen_embeddings = data.chosen_embeddings,
                                        .rejected_embeddings = data.rejected_embeddings,
                                        .embedding_dtype = RPO_FLOAT32,
                                        .m = c->m,
                                        .n = c->n,
                                        .dim = c->dim};
    return data;
}

static inline void contrast_data_free(contrast_data *data) {
    if (data->rejected_embeddings != data->chosen_embeddings)
        free(data->rejected_embeddings);
    free(data->chosen_embeddings);
    free(data->rejected);
    free(data->chosen);
    free(data->reference_rejected);
    free(data->reference_chosen);
    *data = (contrast_data){0};
}

/* Embeddings become values of `dtype`, which the op will be given; expectations are computed from the same
 * values as floats. */
static inline void contrast_data_round(contrast_data *data, rpo_dtype dtype) {
    const size_t chosen = (size_t)(data->inputs.m * data->inputs.dim);
    const size_t rejected = (size_t)(data->inputs.n * data->inputs.dim);
    for (size_t k = 0; data->chosen_embeddings != NULL && k < chosen; ++k)
        data->chosen_embeddings[k] = round_to(dtype, data->chosen_embeddings[k]);
    for (size_t k = 0; data->rejected_embeddings != NULL && k < rejected; ++k)
        data->rejected_embeddings[k] = round_to(dtype, data->rejected_embeddings[k]);
    data->inputs.embedding_dtype = dtype;
}

/* ---- the inputs where the op can read them ---- */

typedef struct contrast_placed {
    rpo_contrast_inputs inputs;
    void *memory[6]; /* of the device; all NULL on the CPU, which reads the data themselves */
} contrast_placed;

static inline void *contrast_upload(void **memory, const void *host, size_t bytes, size_t misaligned) {
    if (host == NULL)
        return NULL;
    *memory = device_memory_table()->allocate(bytes + misaligned);
    cr_assert_not_null(*memory);
    unsigned char *data = (unsigned char *)*memory + misaligned;
    device_memory_table()->upload(data, host, bytes);
    return data;
}

static inline void *contrast_upload_embeddings(void **memory, const float *rows, int64_t count,
                                               const contrast_data *data) {
    const rpo_dtype dtype = data->inputs.embedding_dtype;
    if (dtype == RPO_FLOAT32)
        return contrast_upload(memory, rows, (size_t)count * sizeof(float), data->misaligned);
    uint16_t *bits = malloc((size_t)(count + 1) * sizeof *bits);
    for (int64_t k = 0; k < count; ++k)
        bits[k] = dtype == RPO_BFLOAT16 ? bfloat16_bits(rows[k]) : float16_bits(rows[k]);
    void *placed = contrast_upload(memory, bits, (size_t)count * sizeof *bits, data->misaligned);
    free(bits);
    return placed;
}

static inline contrast_placed contrast_place(const rpo_context *context, const contrast_data *data) {
    contrast_placed placed = {.inputs = data->inputs};
    if (rpo_context_device(context) == RPO_DEVICE_CPU)
        return placed;
    const int64_t m = data->inputs.m, n = data->inputs.n, dim = data->inputs.dim;
    const size_t rows = (size_t)m * sizeof(float), columns = (size_t)n * sizeof(float);
    void **memory = placed.memory;
    rpo_contrast_inputs *inputs = &placed.inputs;
    inputs->policy_chosen_logps = contrast_upload(&memory[0], data->chosen, rows, 0);
    inputs->policy_rejected_logps = contrast_upload(&memory[1], data->rejected, columns, 0);
    inputs->reference_chosen_logps = contrast_upload(&memory[2], data->reference_chosen, rows, 0);
    inputs->reference_rejected_logps = contrast_upload(&memory[3], data->reference_rejected, columns, 0);
    if (data->chosen_embeddings == NULL)
        return placed;
    inputs->chosen_embeddings =
        contrast_upload_embeddings(&memory[4], data->chosen_embeddings, m * dim, data);
    inputs->rejected_embeddings =
        data->rejected_embeddings == data->chosen_embeddings
            ? inputs->chosen_embeddings
            : contrast_upload_embeddings(&memory[5], data->rejected_embeddings, n * dim, data);
    return placed;
}

static inline void contrast_placed_free(contrast_placed *placed) {
    for (int k = 0; k < 6; ++k)
        if (placed->memory[k] != NULL)
            device_memory_table()->release(placed->memory[k]);
    *placed = (contrast_placed){0};
}

/* ---- one run of the op, every output between guards ---- */

enum { CONTRAST_OUTPUTS = 8 };

typedef struct contrast_run {
    guarded loss, row_losses, grad_chosen, grad_rejected, chosen_rewards, rejected_rewards, margins, accuracy;
} contrast_run;

static inline guarded *contrast_run_at(contrast_run *run, int index) {
    guarded *all[CONTRAST_OUTPUTS] = {&run->loss,          &run->row_losses,     &run->grad_chosen,
                                      &run->grad_rejected, &run->chosen_rewards, &run->rejected_rewards,
                                      &run->margins,       &run->accuracy};
    return all[index];
}

/* A guarded buffer on the device: the buffer itself on the CPU, else a copy with the guards. */
static inline unsigned char *guarded_place(const guarded *buffer, const rpo_context *context) {
    if (rpo_context_device(context) == RPO_DEVICE_CPU)
        return buffer->base;
    const size_t room = (buffer->bytes + 63) / 64 * 64 + 2 * GUARD_BYTES;
    unsigned char *base = device_memory_table()->allocate(room);
    cr_assert_not_null(base);
    device_memory_table()->upload(base, buffer->base, room);
    return base;
}

/* Brings the copy back, frees it and checks the guards. */
static inline void guarded_collect(guarded *buffer, unsigned char *base, const char *name) {
    if (base != buffer->base) {
        const size_t room = (buffer->bytes + 63) / 64 * 64 + 2 * GUARD_BYTES;
        device_memory_table()->download(buffer->base, base, room);
        device_memory_table()->release(base);
    }
    guarded_check(buffer, name);
}

/* Also shows that the workspace asked for suffices exactly and that one byte less is refused. */
static inline contrast_run contrast_run_new(rpo_context *context, const contrast_data *data,
                                            const char *name) {
    const int64_t m = data->inputs.m, n = data->inputs.n;
    const size_t rows = (size_t)(data->options.kind == RPO_LOSS_KTO_SIMPLE ? m + n : m);
    contrast_run run = {
        .loss = guarded_new(sizeof(float)),
        .row_losses = guarded_new(rows * sizeof(float)),
        .grad_chosen = guarded_new((size_t)m * sizeof(float)),
        .grad_rejected = guarded_new((size_t)n * sizeof(float)),
        .chosen_rewards = guarded_new((size_t)m * sizeof(float)),
        .rejected_rewards = guarded_new((size_t)n * sizeof(float)),
        .margins = guarded_new((size_t)(m < n ? m : n) * sizeof(float)),
        .accuracy = guarded_new(sizeof(float)),
    };
    unsigned char *placed[CONTRAST_OUTPUTS];
    float *device[CONTRAST_OUTPUTS];
    for (int k = 0; k < CONTRAST_OUTPUTS; ++k) {
        placed[k] = guarded_place(contrast_run_at(&run, k), context);
        device[k] = (float *)(void *)(placed[k] + GUARD_BYTES);
    }
    const rpo_contrast_outputs outputs = {.struct_size = sizeof outputs,
                                          .loss = device[0],
                                          .row_losses = device[1],
                                          .grad_chosen_logps = device[2],
                                          .grad_rejected_logps = device[3],
                                          .chosen_rewards = device[4],
                                          .rejected_rewards = device[5],
                                          .margins = device[6],
                                          .accuracy = device[7]};
    contrast_placed inputs = contrast_place(context, data);
    size_t size = 0;
    rpo_status status = rpo_contrast_loss_workspace_size(context, &size, &inputs.inputs, &data->options);
    cr_assert_eq(status, RPO_OK, "%s: %s", name, rpo_last_error());
    guarded workspace = guarded_new(size);
    unsigned char *workspace_base = guarded_place(&workspace, context);
    void *memory = size > 0 ? workspace_base + GUARD_BYTES : NULL;
    if (size > 0)
        cr_assert_eq(rpo_contrast_loss(context, &outputs, &inputs.inputs, &data->options, memory, size - 1),
                     RPO_ERROR_WORKSPACE, "%s: a workspace one byte short was accepted", name);
    status = rpo_contrast_loss(context, &outputs, &inputs.inputs, &data->options, memory, size);
    cr_assert_eq(status, RPO_OK, "%s: %s", name, rpo_last_error());
    cr_assert_eq(rpo_context_synchronize(context), RPO_OK);
    guarded_collect(&workspace, workspace_base, name);
    guarded_free(&workspace);
    contrast_placed_free(&inputs);
    for (int k = 0; k < CONTRAST_OUTPUTS; ++k)
        guarded_collect(contrast_run_at(&run, k), placed[k], name);
    return run;
}

static inline void contrast_run_free(contrast_run *run) {
    for (int k = 0; k < CONTRAST_OUTPUTS; ++k)
        guarded_free(contrast_run_at(run, k));
}

static inline void contrast_runs_equal(contrast_run *a, contrast_run *b, const char *name, const char *what) {
    for (int k = 0; k < CONTRAST_OUTPUTS; ++k) {
        const guarded *x = contrast_run_at(a, k), *y = contrast_run_at(b, k);
        cr_assert(same_bits(x->data, y->data, x->bytes), "%s: output %d differs between %s", name, k, what);
    }
}

/* ---- what is expected of it ---- */

/* Log-ratios as the op sees them: differences of float32 inputs; for sft the chosen log-probs themselves. */
static inline double *contrast_ratios(const float *policy, const float *reference, int64_t count,
                                      bool in_float) {
    double *ratios = malloc((size_t)(count + 1) * sizeof *ratios);
    for (int64_t i = 0; i < count; ++i) {
        const float r = reference != NULL ? reference[i] : 0.0f;
        ratios[i] = in_float ? (double)(policy[i] - r) : (double)policy[i] - (double)r;
    }
    return ratios;
}

static inline void contrast_expect(const float *values, const double *plain, const double *expected,
                                   int64_t count, const char *name, const char *what) {
    const double tolerance = reference_tolerance(plain, expected, count);
    const int64_t bad = reference_first_beyond(values, expected, count, tolerance);
    cr_assert(bad < 0, "%s: %s[%lld] is %.9g; must be %.9g within %.3g", name, what, (long long)bad,
              bad < 0 ? 0.0 : (double)values[bad], bad < 0 ? 0.0 : expected[bad], tolerance);
}

/* beta times the ratios, margins and accuracy: computed here from the inputs once more. */
static inline void contrast_expect_rewards(const contrast_run *run, const contrast_data *data,
                                           const char *name) {
    const int64_t m = data->inputs.m, n = data->inputs.n, pairs = m < n ? m : n;
    const double beta = (double)data->options.beta;
    double *a = contrast_ratios(data->chosen, data->reference_chosen, m, false);
    double *b = contrast_ratios(data->rejected, data->reference_rejected, n, false);
    const float *margins = run->margins.data;
    double correct = 0.0;
    for (int64_t i = 0; i < pairs; ++i) {
        const double margin = beta * (a[i] - b[i]);
        correct += margin > 0.0;
        cr_assert(fabs((double)margins[i] - margin) <= 1e-6 * fabs(margin), "%s: margins[%lld]", name,
                  (long long)i);
    }
    const double accuracy = pairs > 0 ? correct / (double)pairs : 0.0;
    cr_assert(fabs((double)*(float *)run->accuracy.data - accuracy) <= 1e-6, "%s: accuracy", name);
    for (int64_t i = 0; i < m; ++i)
        a[i] *= beta;
    for (int64_t j = 0; j < n; ++j)
        b[j] *= beta;
    contrast_expect(run->chosen_rewards.data, a, a, m, name, "chosen_rewards");
    contrast_expect(run->rejected_rewards.data, b, b, n, name, "rejected_rewards");
    free(b);
    free(a);
}

/* The directional derivative of the float64 loss against the op's gradients. */
static inline void contrast_expect_directional(const contrast_run *run, const contrast_data *data,
                                               const double *a, const double *b, const double *weights,
                                               uint64_t seed, const char *name) {
    const int64_t m = data->inputs.m, n = data->inputs.n;
    const float *grad_a = run->grad_chosen.data, *grad_b = run->grad_rejected.data;
    const double step = 1e-5 / (double)data->options.beta;
    double *moved_a = malloc((size_t)(m + 1) * sizeof(double)),
           *moved_b = malloc((size_t)(n + 1) * sizeof(double));
    reference_result result = reference_result_new(m, n);
    double difference = 0.0, slope = 0.0, size = 0.0;
    for (int side = -1; side <= 1; side += 2) {
        uint64_t state = seed;
        slope = size = 0.0;
        for (int64_t i = 0; i < m; ++i) {
            const double u = (double)test_uniform(&state, 1.0f);
            moved_a[i] = a[i] + side * step * u;
            slope += u * (double)grad_a[i];
            size += fabs(u * (double)grad_a[i]);
        }
        for (int64_t j = 0; j < n; ++j) {
            const double v = (double)test_uniform(&state, 1.0f);
            moved_b[j] = b[j] + side * step * v;
            slope += v * (double)grad_b[j];
            size += fabs(v * (double)grad_b[j]);
        }
        reference_double_loss(&result, moved_a, moved_b, weights, m, n, &data->options);
        difference += side * result.loss;
    }
    const double derivative = difference / (2.0 * step);
    const double rounding = 1e-15 * fabs(result.loss) / step;
    cr_assert(fabs(derivative - slope) <= 1e-4 * size + 10.0 * rounding,
              "%s: directional derivative is %.9g, the gradients give %.9g", name, derivative, slope);
    reference_result_free(&result);
    free(moved_b);
    free(moved_a);
}

static inline void contrast_expect_all(const contrast_run *run, const contrast_data *data, uint64_t seed,
                                       const char *name) {
    const int64_t m = data->inputs.m, n = data->inputs.n, dim = data->inputs.dim;
    const bool sft = data->options.kind == RPO_LOSS_SFT;
    const float *reference = sft ? NULL : data->reference_chosen;
    double *a = contrast_ratios(data->chosen, reference, m, false);
    double *b = contrast_ratios(data->rejected, data->reference_rejected, n, false);
    double *plain_a = contrast_ratios(data->chosen, reference, m, true);
    double *plain_b = contrast_ratios(data->rejected, data->reference_rejected, n, true);
    double *weights = NULL, *plain_weights = NULL;
    if (rpo_loss_kind_needs_embeddings(data->options.kind)) {
        weights = malloc((size_t)(m * n + 1) * sizeof *weights);
        plain_weights = malloc((size_t)(m * n + 1) * sizeof *plain_weights);
        reference_double_weights(weights, data->chosen_embeddings, data->rejected_embeddings, m, n, dim,
                                 data->options.tau, data->options.weight_scale);
        reference_float_weights(plain_weights, data->chosen_embeddings, data->rejected_embeddings, m, n, dim,
                                data->options.tau, data->options.weight_scale);
    }
    reference_result expected = reference_result_new(m, n), plain = reference_result_new(m, n);
    reference_double_loss(&expected, a, b, weights, m, n, &data->options);
    reference_float_loss(&plain, plain_a, plain_b, plain_weights, m, n, &data->options);

    contrast_expect(run->loss.data, &plain.loss, &expected.loss, 1, name, "loss");
    contrast_expect(run->row_losses.data, plain.row_losses, expected.row_losses,
                    (int64_t)(run->row_losses.bytes / sizeof(float)), name, "row_losses");
    contrast_expect(run->grad_chosen.data, plain.grad_chosen, expected.grad_chosen, m, name,
                    "grad_chosen_logps");
    contrast_expect(run->grad_rejected.data, plain.grad_rejected, expected.grad_rejected, n, name,
                    "grad_rejected_logps");
    contrast_expect_rewards(run, data, name);
    contrast_expect_directional(run, data, a, b, weights, seed, name);

    reference_result_free(&plain);
    reference_result_free(&expected);
    free(plain_weights);
    free(weights);
    free(plain_b);
    free(plain_a);
    free(b);
    free(a);
}

/* The data of case k with embeddings of a dtype. */
static inline contrast_data contrast_case_data(int k, rpo_dtype dtype) {
    contrast_data data = contrast_data_new(&contrast_cases[k], 1000 + (uint64_t)k);
    contrast_data_round(&data, dtype);
    return data;
}

/* One case: values, gradients, guards, workspace, the same bits twice. */
static inline void contrast_case_run(rpo_context *context, int k, rpo_dtype dtype) {
    const char *name = contrast_cases[k].name;
    contrast_data data = contrast_case_data(k, dtype);
    contrast_run run = contrast_run_new(context, &data, name);
    contrast_run again = contrast_run_new(context, &data, name);
    contrast_runs_equal(&run, &again, name, "two runs");
    contrast_expect_all(&run, &data, 1001 + (uint64_t)k, name);
    contrast_run_free(&again);
    contrast_run_free(&run);
    contrast_data_free(&data);
}

static inline void contrast_cases_run(rpo_context *context) {
    for (int k = 0; k < CONTRAST_CASES; ++k)
        contrast_case_run(context, k, RPO_FLOAT32);
}

/* Every case gives the same bits on both contexts (other thread counts of one backend). */
static inline void contrast_cases_compare(rpo_context *one, rpo_context *other, const char *what) {
    for (int k = 0; k < CONTRAST_CASES; ++k) {
        const contrast_case *c = &contrast_cases[k];
        contrast_data data = contrast_data_new(c, 1000 + (uint64_t)k);
        contrast_run a = contrast_run_new(one, &data, c->name), b = contrast_run_new(other, &data, c->name);
        contrast_runs_equal(&a, &b, c->name, what);
        contrast_run_free(&b);
        contrast_run_free(&a);
        contrast_data_free(&data);
    }
}

#endif
