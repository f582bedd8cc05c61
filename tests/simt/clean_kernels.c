/*
 * clean_kernels.c - runs every op of the CUDA backend on small shapes, for ThreadSanitizer to watch: both
 * versions of the contrast loss, every dtype, the tile loops more than once. Plain main: Criterion does
 * not run under ThreadSanitizer. The exit status is the sanitizer's, or 1 for an op that fails.
 */
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rpo/rpo.h"

static const rpo_dtype dtypes[] = {RPO_FLOAT32, RPO_BFLOAT16, RPO_FLOAT16};

static void require(rpo_status status, const char *what) {
    if (status == RPO_OK)
        return;
    fprintf(stderr, "%s: %s\n", what, rpo_last_error());
    exit(1);
}

static void *allocate(size_t bytes) {
    void *memory = NULL;
    if (posix_memalign(&memory, 256, bytes > 0 ? bytes : 1) != 0)
        exit(1);
    memset(memory, 0xff, bytes);
    return memory;
}

/* Elements of some 0.5 to 2 in any dtype: the leading 16 bits of a number vary. */
static void *elements(int64_t count, rpo_dtype dtype) {
    const size_t size = rpo_dtype_size(dtype);
    unsigned char *memory = allocate((size_t)count * size);
    for (int64_t i = 0; i < count; ++i) {
        const float value = 0.5f + (float)((i * 2654435761u) % 1009) / 1009.0f;
        const uint16_t half = (uint16_t)(0x3800 + (i * 40503u) % 0x0700); /* float16 0.5 to 1.9 */
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        const uint16_t brain = (uint16_t)(bits >> 16);
        const void *source = dtype == RPO_FLOAT32    ? (const void *)&value
                             : dtype == RPO_BFLOAT16 ? (const void *)&brain
                                                     : (const void *)&half;
        memcpy(memory + (size_t)i * size, source, size);
    }
    return memory;
}

static void require_finite(float value, const char *what) {
    if (isfinite(value))
        return;
    fprintf(stderr, "%s: result is %g\n", what, (double)value);
    exit(1);
}

static void run_loss(rpo_context *context, rpo_loss_kind kind, int64_t m, int64_t n, int64_t dim,
                     rpo_dtype dtype) {
    float *chosen = elements(m, RPO_FLOAT32), *rejected = elements(n, RPO_FLOAT32);
    void *e = elements(m * dim, dtype), *f = elements(n * dim, dtype);
    float *out = allocate((size_t)(4 * (m + n) + 2) * sizeof *out);
    const rpo_contrast_inputs inputs = {.struct_size = sizeof inputs,
                                        .policy_chosen_logps = chosen,
                                        .policy_rejected_logps = rejected,
                                        .chosen_embeddings = e,
                                        .rejected_embeddings = f,
                                        .embedding_dtype = dtype,
                                        .m = m,
                                        .n = n,
                                        .dim = dim};
    const rpo_contrast_outputs outputs = {.struct_size = sizeof outputs,
                                          .loss = out,
                                          .accuracy = out + 1,
                                          .row_losses = out + 2,
                                          .grad_chosen_logps = out + 2 + m + n,
                                          .grad_rejected_logps = out + 2 + 2 * m + n,
                                          .chosen_rewards = out + 2 + 2 * (m + n),
                                          .rejected_rewards = out + 2 + 3 * m + 2 * n,
                                          .margins = out + 2 + 3 * (m + n)};
    rpo_loss_options options = RPO_LOSS_OPTIONS_INIT;
    options.kind = kind;
    size_t size = 0;
    require(rpo_contrast_loss_workspace_size(context, &size, &inputs, &options), "workspace");
    void *workspace = allocate(size);
    require(rpo_contrast_loss(context, &outputs, &inputs, &options, workspace, size),
            rpo_loss_kind_name(kind));
    require_finite(*out, rpo_loss_kind_name(kind));
    free(workspace);
    free(out);
    free(f);
    free(e);
    free(rejected);
    free(chosen);
}

static void run_weights(rpo_context *context, int64_t m, int64_t n, int64_t dim, rpo_dtype dtype) {
    void *e = elements(m * dim, dtype), *f = elements(n * dim, dtype);
    float *weights = allocate((size_t)(m * n) * sizeof *weights);
    size_t size = 0;
    require(rpo_prompt_similarity_workspace_size(context, &size, m, n, dim, dtype), "workspace");
    void *workspace = allocate(size);
    require(rpo_contrast_weights(context, weights, e, f, m, n, dim, dtype, 0.5f, RPO_WEIGHT_SCALE_NONE,
                                 workspace, size),
            "weights");
    require_finite(weights[m * n - 1], "weights");
    free(workspace);
    free(weights);
    free(f);
    free(e);
}

/* Two sequences, the second half of each counts. */
static void fill_labels(int32_t *labels, int32_t *cu_seqlens, int64_t rows, int64_t vocab_size) {
    for (int64_t t = 0; t < rows; ++t)
        labels[t] = t % 4 < 2 ? RPO_IGNORE_LABEL : (int32_t)(t * 7 % vocab_size);
    cu_seqlens[0] = 0;
    cu_seqlens[1] = (int32_t)(rows / 3);
    cu_seqlens[2] = (int32_t)rows;
}

static void run_gather(rpo_context *context, int64_t rows, int64_t vocab_size, rpo_dtype dtype) {
    const rpo_logprob_shape shape = {.struct_size = sizeof shape,
                                     .rows = rows,
                                     .vocab_size = vocab_size,
                                     .num_sequences = 2,
                                     .dtype = dtype};
    int32_t *labels = allocate((size_t)rows * sizeof *labels), *cu_seqlens = allocate(3 * sizeof *cu_seqlens);
    fill_labels(labels, cu_seqlens, rows, vocab_size);
    void *logits = elements(rows * vocab_size, dtype);
    float *logps = allocate(2 * sizeof *logps), *token_logps = allocate((size_t)rows * sizeof *token_logps);
    float *logsumexp = allocate((size_t)rows * sizeof *logsumexp), *coef = elements(2, RPO_FLOAT32);
    size_t size = 0;
    require(rpo_logprob_gather_workspace_size(context, &size, &shape), "workspace");
    void *workspace = allocate(size);
    require(rpo_logprob_gather(context, logps, token_logps, logsumexp, logits, labels, cu_seqlens, &shape,
                               workspace, size),
            "gather");
    require(rpo_logprob_gather_backward(context, logits, logits, logsumexp, labels, cu_seqlens, coef, &shape,
                                        workspace, size),
            "gather backward");
    require_finite(logps[1], "gather");
    free(workspace);
    free(coef);
    free(logsumexp);
    free(token_logps);
    free(logps);
    free(logits);
    free(cu_seqlens);
    free(labels);
}

static void run_linear(rpo_context *context, int64_t rows, int64_t vocab_size, rpo_dtype dtype,
                       bool with_cache) {
    const int64_t hidden_size = 16;
    rpo_linear_logprob_shape shape = {.struct_size = sizeof shape,
                                      .rows = rows,
                                      .hidden_size = hidden_size,
                                      .vocab_size = vocab_size,
                                      .num_sequences = 2,
                                      .dtype = dtype};
    void *cache = NULL;
    if (with_cache) {
        require(rpo_linear_logprob_cache_size(context, &shape.cache_bytes, &shape), "cache");
        cache = shape.cache = allocate(shape.cache_bytes);
    }
    int32_t *labels = allocate((size_t)rows * sizeof *labels), *cu_seqlens = allocate(3 * sizeof *cu_seqlens);
    fill_labels(labels, cu_seqlens, rows, vocab_size);
    void *hidden = elements(rows * hidden_size, dtype), *head = elements(vocab_size * hidden_size, dtype);
    void *grad_hidden = allocate((size_t)(rows * hidden_size) * rpo_dtype_size(dtype));
    float *grad_head = elements(vocab_size * hidden_size, RPO_FLOAT32);
    float *logps = allocate(2 * sizeof *logps), *token_logps = allocate((size_t)rows * sizeof *token_logps);
    float *coef = elements(2, RPO_FLOAT32);
    for (int backward = 0; backward < 2; ++backward) {
        size_t size = 0;
        require(rpo_linear_logprob_workspace_size(context, &size, &shape, backward), "workspace");
        void *workspace = allocate(size);
        require(backward ? rpo_linear_logprob_backward(context, grad_hidden, grad_head, logps, hidden, head,
                                                       labels, cu_seqlens, coef, &shape, workspace, size)
                         : rpo_linear_logprob(context, logps, token_logps, hidden, head, labels, cu_seqlens,
                                              &shape, workspace, size),
                backward ? "linear backward" : "linear");
        require_finite(logps[1], "linear");
        free(workspace);
    }
    free(coef);
    free(token_logps);
    free(logps);
    free(grad_head);
    free(grad_hidden);
    free(head);
    free(hidden);
    free(cu_seqlens);
    free(labels);
    free(cache);
}

int main(void) {
    rpo_context_options options = RPO_CONTEXT_OPTIONS_INIT;
    options.device = RPO_DEVICE_CUDA;
    rpo_context *context = NULL;
    require(rpo_context_create(&context, &options), "context");
    for (int kind = 0; kind < RPO_LOSS_KIND_COUNT; ++kind)
        run_loss(context, (rpo_loss_kind)kind, 7, 7, 24, dtypes[kind % 3]);
    run_loss(context, RPO_LOSS_RPO_UNIFORM, 3, 600, 8, RPO_FLOAT32);
    run_loss(context, RPO_LOSS_RPO_UNPAIRED, 140, 530, 72, RPO_BFLOAT16); /* several tiles a block */
    run_loss(context, RPO_LOSS_RPO_UNPAIRED, 2, 513, 24, RPO_FLOAT32);
    run_loss(context, RPO_LOSS_RPO_UNPAIRED, 2, 513, 7, RPO_FLOAT16); /* loaded element by element */
    for (int d = 0; d < 3; ++d) {
        run_weights(context, 3, 131, 40, dtypes[d]);
        run_gather(context, 9, 61, dtypes[d]);
        run_gather(context, 3, 4099, dtypes[d]);
        run_linear(context, 12, 70, dtypes[d], d != 0);
    }
    rpo_context_free(context);
    puts("every op ran");
    return 0;
}
