/*
 * contrast_run.h - one call of the contrast loss, for tests on any backend: a case's data and its outputs between
 * guards. Both live in host memory; a device other than the CPU is given copies (tests/device_memory.h).
 */
#ifndef RPO_TESTS_OPS_CONTRAST_RUN_H
#define RPO_TESTS_OPS_CONTRAST_RUN_H

#include "tests/device_buffer.h"

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

enum { CONTRAST_PLACES = 8 };

typedef struct contrast_placed {
    rpo_contrast_inputs inputs;
    void *memory[CONTRAST_PLACES]; /* of the device; all NULL on the CPU, which reads the data themselves */
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
    const size_t bounds = (size_t)(data->inputs.num_blocks + 1) * sizeof(int32_t);
    inputs->chosen_bounds = contrast_upload(&memory[6], data->inputs.chosen_bounds, bounds, 0);
    inputs->rejected_bounds = contrast_upload(&memory[7], data->inputs.rejected_bounds, bounds, 0);
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
    for (int k = 0; k < CONTRAST_PLACES; ++k)
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

#endif
