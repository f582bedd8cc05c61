/*
 * clean_kernels.c - runs every op of the CUDA backend on small shapes, for a tool to watch: ThreadSanitizer under simt,
 * compute-sanitizer on a GPU. Both versions of the contrast loss, every dtype, the tile loops more than once. Plain main:
 * Criterion does not run under ThreadSanitizer. The exit status is the tool's, or 1 for an op that fails.
 *
 * --leave-unfilled: outputs and workspaces are as allocated, so that a tool sees what is read before it was written;
 * otherwise they are NaN.
 */
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rpo/rpo.h"
#include "tests/device_memory.h"

static const rpo_dtype dtypes[] = {RPO_FLOAT32, RPO_BFLOAT16, RPO_FLOAT16};
static bool leave_unfilled = false;

static void require(rpo_status status, const char *what) {
    if (status == RPO_OK)
        return;
    fprintf(stderr, "%s: %s\n", what, rpo_last_error());
    exit(1);
}

static void *require_memory(void *memory) {
    if (memory == NULL) {
        fprintf(stderr, "no memory\n");
        exit(1);
    }
    return memory;
}

static void *allocate(size_t bytes) {
    void *memory = require_memory(device_memory_table()->allocate(bytes));
    if (!leave_unfilled)
        device_memory_table()->fill(memory, 0xff, bytes);
    return memory;
}

static void release(void *memory) {
    device_memory_table()->release(memory);
}

static void *upload(const void *host, size_t bytes) {
    void *memory = require_memory(device_memory_table()->allocate(bytes));
    device_memory_table()->upload(memory, host, bytes);
    return memory;
}

/* Elements of some 0.5 to 2 in any dtype: the leading 16 bits of a number vary. */
static void *elements(int64_t count, rpo_dtype dtype) {
    const size_t size = rpo_dtype_size(dtype);
    unsigned char *host = require_memory(malloc((size_t)count * size + 1));
    for (int64_t i = 0; i < count; ++i) {
        const float value = 0.5f + (float)((i * 2654435761u) % 1009) / 1009.0f;
        const uint16_t half = (uint16_t)(0x3800 + (i * 40503u) % 0x0700); /* float16 0.5 to 1.9 */
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        const uint16_t brain = (uint16_t)(bits >> 16);
        const void *source = dtype == RPO_FLOAT32    ? (const void *)&value
                             : dtype == RPO_BFLOAT16 ? (const void *)&brain
                                                     : (const void *)&half;
        memcpy(host + (size_t)i * size, source, size);
    }
    void *memory = upload(host, (size_t)count * size);
    free(host);
    return memory;
}

static void require_finite(const float *device, const char *what) {
    float value = NAN;
    device_memory_table()->download(&value, device, sizeof value);
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
    require_finite(out, rpo_loss_kind_name(kind));
    release(workspace);
    release(out);
    release(f);
    release(e);
    release(rejected);
    release(chosen);
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
    require_finite(weights + m * n - 1, "weights");
    release(workspace);
    release(weights);
    release(f);
    release(e);
}

/* Two sequences, the second half of each counts. */
typedef struct packing {
    int32_t *labels, *cu_seqlens; /* on the device */
} packing;

static packing packing_new(int64_t rows, int64_t vocab_size) {
    int32_t *labels = require_memory(malloc((size_t)rows * sizeof *labels));
    const int32_t cu_seqlens[3] = {0, (int32_t)(rows / 3), (int32_t)rows};
    for (int64_t t = 0; t < rows; ++t)
        labels[t] = t % 4 < 2 ? RPO_IGNORE_LABEL : (int32_t)(t * 7 % vocab_size);
    const packing made = {upload(labels, (size_t)rows * sizeof *labels),
                          upload(cu_seqlens, sizeof cu_seqlens)};
    free(labels);
    return made;
}

static void packing_free(const packing *made) {
    release(made->cu_seqlens);
    release(made->labels);
}

static void run_gather(rpo_context *context, int64_t rows, int64_t vocab_size, rpo_dtype dtype) {
    const rpo_logprob_shape shape = {.struct_size = sizeof shape,
                                     .rows = rows,
                                     .vocab_size = vocab_size,
                                     .num_sequences = 2,
                                     .dtype = dtype};
    const packing packed = packing_new(rows, vocab_size);
    void *logits = elements(rows * vocab_size, dtype);
    float *logps = allocate(2 * sizeof *logps), *token_logps = allocate((size_t)rows * sizeof *token_logps);
    float *logsumexp = allocate((size_t)rows * sizeof *logsumexp), *coef = elements(2, RPO_FLOAT32);
    size_t size = 0;
    require(rpo_logprob_gather_workspace_size(context, &size, &shape), "workspace");
    void *workspace = allocate(size);
    require(rpo_logprob_gather(context, logps, token_logps, logsumexp, logits, packed.labels,
                               packed.cu_seqlens, &shape, workspace, size),
            "gather");
    require(rpo_logprob_gather_backward(context, logits, logits, logsumexp, packed.labels, packed.cu_seqlens,
                                        coef, &shape, workspace, size),
            "gather backward");
    require_finite(logps + 1, "gather");
    release(workspace);
    release(coef);
    release(logsumexp);
    release(token_logps);
    release(logps);
    release(logits);
    packing_free(&packed);
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
    const packing packed = packing_new(rows, vocab_size);
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
                                                       packed.labels, packed.cu_seqlens, coef, &shape,
                                                       workspace, size)
                         : rpo_linear_logprob(context, logps, token_logps, hidden, head, packed.labels,
                                              packed.cu_seqlens, &shape, workspace, size),
                backward ? "linear backward" : "linear");
        require_finite(logps + 1, "linear");
        release(workspace);
    }
    release(coef);
    release(token_logps);
    release(logps);
    release(grad_head);
    release(grad_hidden);
    release(head);
    release(hidden);
    packing_free(&packed);
    release(cache);
}

int main(int argc, char **argv) {
    leave_unfilled = argc > 1 && strcmp(argv[1], "--leave-unfilled") == 0;
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
        run_loss(context, RPO_LOSS_RPO_UNPAIRED, 5, 150, 24, dtypes[d]); /* four columns at a time */
        run_weights(context, 3, 131, 40, dtypes[d]);
        run_gather(context, 9, 61, dtypes[d]);
        run_gather(context, 3, 4099, dtypes[d]);
        run_linear(context, 12, 70, dtypes[d], d != 0);
    }
    rpo_context_free(context);
    puts("every op ran");
    return 0;
}
