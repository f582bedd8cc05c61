/*
 * capture.cu - every op in a CUDA graph: on a stream of the caller's that is being captured, an op records its work and
 * does nothing else (no waiting, no allocation, nothing on the default stream), and the graph, launched twice, leaves the
 * bits that the op itself left. Built for simt and for a GPU.
 */
#include <cstdio>
#include <cstring>
#include <functional>
#include <vector>

#include <cuda_runtime.h>

#include "rpo/rpo.h"

namespace {

int failures = 0;

void report(const char *name, const char *what) {
    printf("failed: %s: %s; the last message is \"%s\"\n", name, what, rpo_last_error());
    ++failures;
}

bool insist(cudaError_t error, const char *what) {
    if (error == cudaSuccess)
        return true;
    report(what, cudaGetErrorString(error));
    return false;
}

/* Device memory of one case. */
class Memory {
  public:
    ~Memory() {
        for (void *block : blocks_)
            (void)cudaFree(block);
    }
    void *room(size_t bytes) {
        void *block = nullptr;
        insist(cudaMalloc(&block, bytes > 0 ? bytes : 1), "cudaMalloc");
        blocks_.push_back(block);
        return block;
    }
    template <typename T> T *copy(const std::vector<T> &values) {
        T *block = static_cast<T *>(room(values.size() * sizeof(T)));
        insist(cudaMemcpy(block, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice),
               "cudaMemcpy");
        return block;
    }
    /* Numbers of about one: bfloat16 in 16 bits, or float32. */
    void *numbers(int64_t count, rpo_dtype dtype) {
        std::vector<uint16_t> halves;
        std::vector<float> floats;
        for (int64_t i = 0; i < count; ++i) {
            const float value = 0.5f + static_cast<float>(i * 7919 % 1009) / 1009.0f;
            uint32_t bits;
            memcpy(&bits, &value, sizeof bits);
            halves.push_back(static_cast<uint16_t>(bits >> 16));
            floats.push_back(value);
        }
        return dtype == RPO_FLOAT32 ? static_cast<void *>(copy(floats)) : copy(halves);
    }

  private:
    std::vector<void *> blocks_;
};

/* What an op leaves. An array that it adds to starts at 0, all others at NaN. */
struct Output {
    void *data;
    size_t bytes;
    bool added_to;
};

struct Bench {
    rpo_context *context;
    cudaStream_t stream;
};

using Op = std::function<rpo_status()>;
using Bytes = std::vector<std::vector<unsigned char>>;

void clear(const std::vector<Output> &outputs) {
    for (const Output &output : outputs)
        insist(cudaMemset(output.data, output.added_to ? 0 : 0xff, output.bytes), "cudaMemset");
    insist(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
}

Bytes read(const std::vector<Output> &outputs) {
    Bytes all;
    insist(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
    for (const Output &output : outputs) {
        all.emplace_back(output.bytes);
        insist(cudaMemcpy(all.back().data(), output.data, output.bytes, cudaMemcpyDeviceToHost),
               "cudaMemcpy");
    }
    return all;
}

void check_graph(const Bench &bench, const char *name, cudaGraph_t graph, const std::vector<Output> &outputs,
                 const Bytes &expected) {
    cudaGraphExec_t executable = nullptr;
    if (!insist(cudaGraphInstantiate(&executable, graph, 0), name))
        return;
    for (int launch = 0; launch < 2; ++launch) {
        clear(outputs);
        insist(cudaGraphLaunch(executable, bench.stream), name);
        if (read(outputs) != expected)
            report(name, launch == 0 ? "the graph leaves other bits"
                                     : "launched again, the graph leaves other bits");
    }
    insist(cudaGraphExecDestroy(executable), name);
}

void check(const Bench &bench, const char *name, const Op &op, const std::vector<Output> &outputs) {
    clear(outputs);
    const Bytes untouched = read(outputs);
    if (op() != RPO_OK)
        return report(name, "the op fails");
    const Bytes expected = read(outputs);
    if (expected == untouched)
        report(name, "the op leaves nothing");

    clear(outputs);
    cudaGraph_t graph = nullptr;
    if (!insist(cudaStreamBeginCapture(bench.stream, cudaStreamCaptureModeGlobal), name))
        return;
    const rpo_status status = op();
    const cudaError_t end = cudaStreamEndCapture(bench.stream, &graph);
    if (status != RPO_OK || end != cudaSuccess)
        return report(name, "the op cannot be captured");
    if (read(outputs) != untouched)
        report(name, "captured, the op works outside of the graph");
    check_graph(bench, name, graph, outputs, expected);
    insist(cudaGraphDestroy(graph), name);
}

void check_loss(const Bench &bench, rpo_loss_kind kind, int64_t m, int64_t n, rpo_dtype dtype) {
    const int64_t dim = 24;
    Memory memory;
    float *out = static_cast<float *>(memory.room(static_cast<size_t>(4 * (m + n) + 2) * sizeof(float)));
    rpo_contrast_inputs inputs = {};
    inputs.struct_size = sizeof inputs;
    inputs.policy_chosen_logps = static_cast<float *>(memory.numbers(m, RPO_FLOAT32));
    inputs.policy_rejected_logps = static_cast<float *>(memory.numbers(n, RPO_FLOAT32));
    inputs.chosen_embeddings = memory.numbers(m * dim, dtype);
    inputs.rejected_embeddings = memory.numbers(n * dim, dtype);
    inputs.embedding_dtype = dtype;
    inputs.m = m, inputs.n = n, inputs.dim = dim;
    rpo_contrast_outputs outputs = {};
    outputs.struct_size = sizeof outputs;
    outputs.loss = out;
    outputs.accuracy = out + 1;
    outputs.row_losses = out + 2;
    outputs.grad_chosen_logps = out + 2 + m + n;
    outputs.grad_rejected_logps = out + 2 + 2 * m + n;
    rpo_loss_options options = RPO_LOSS_OPTIONS_INIT;
    options.kind = kind;
    size_t size = 0;
    if (rpo_contrast_loss_workspace_size(bench.context, &size, &inputs, &options) != RPO_OK)
        return report(rpo_loss_kind_name(kind), "no workspace size");
    void *workspace = memory.room(size);
    check(bench, rpo_loss_kind_name(kind),
          [&] { return rpo_contrast_loss(bench.context, &outputs, &inputs, &options, workspace, size); },
          {{out, static_cast<size_t>(2 + 2 * (m + n)) * sizeof(float), false}});
}

void check_matrices(const Bench &bench, rpo_dtype dtype) {
    const int64_t m = 33, n = 70, dim = 40;
    Memory memory;
    const void *chosen = memory.numbers(m * dim, dtype), *rejected = memory.numbers(n * dim, dtype);
    float *out = static_cast<float *>(memory.room(static_cast<size_t>(m * n) * sizeof(float)));
    size_t size = 0;
    if (rpo_prompt_similarity_workspace_size(bench.context, &size, m, n, dim, dtype) != RPO_OK)
        return report("similarity", "no workspace size");
    void *workspace = memory.room(size);
    const std::vector<Output> outputs = {{out, static_cast<size_t>(m * n) * sizeof(float), false}};
    check(
        bench, "prompt similarity",
        [&] {
            return rpo_prompt_similarity(bench.context, out, chosen, rejected, m, n, dim, dtype, workspace,
                                         size);
        },
        outputs);
    check(
        bench, "contrast weights",
        [&] {
            return rpo_contrast_weights(bench.context, out, chosen, rejected, m, n, dim, dtype, 0.5f,
                                        RPO_WEIGHT_SCALE_NONE, workspace, size);
        },
        outputs);
}

/* Three sequences, every third row ignored. */
struct Packing {
    int32_t *labels, *cu_seqlens;
    float *gradients;
};

Packing packing(Memory *memory, int64_t rows, int64_t vocab_size) {
    std::vector<int32_t> labels;
    for (int64_t t = 0; t < rows; ++t)
        labels.push_back(t % 3 == 0 ? RPO_IGNORE_LABEL : static_cast<int32_t>(t * 31 % vocab_size));
    const int32_t count = static_cast<int32_t>(rows);
    return {memory->copy(labels), memory->copy(std::vector<int32_t>{0, count / 4, count / 2, count}),
            static_cast<float *>(memory->numbers(3, RPO_FLOAT32))};
}

void check_gather(const Bench &bench, int64_t rows, int64_t vocab_size, rpo_dtype dtype) {
    Memory memory;
    const Packing packed = packing(&memory, rows, vocab_size);
    rpo_logprob_shape shape = {};
    shape.struct_size = sizeof shape;
    shape.rows = rows, shape.vocab_size = vocab_size, shape.num_sequences = 3, shape.dtype = dtype;
    const size_t logits_bytes = static_cast<size_t>(rows * vocab_size) * rpo_dtype_size(dtype);
    const size_t rows_bytes = static_cast<size_t>(rows) * sizeof(float);
    void *logits = memory.numbers(rows * vocab_size, dtype), *gradient = memory.room(logits_bytes);
    float *logps = static_cast<float *>(memory.room(3 * sizeof(float)));
    float *lse = static_cast<float *>(memory.room(rows_bytes));
    size_t size = 0;
    if (rpo_logprob_gather_workspace_size(bench.context, &size, &shape) != RPO_OK)
        return report("gather", "no workspace size");
    void *workspace = memory.room(size);
    check(bench, "log-prob gather, forward and backward",
          [&] {
              const rpo_status status =
                  rpo_logprob_gather(bench.context, logps, nullptr, lse, logits, packed.labels,
                                     packed.cu_seqlens, &shape, workspace, size);
              return status != RPO_OK
                         ? status
                         : rpo_logprob_gather_backward(bench.context, gradient, logits, lse, packed.labels,
                                                       packed.cu_seqlens, packed.gradients, &shape, workspace,
                                                       size);
          },
          {{logps, 3 * sizeof(float), false}, {lse, rows_bytes, false}, {gradient, logits_bytes, false}});
}

/* A forward, then the backward; with `cached`, half of the rows find their exponentials in the cache. */
void check_linear(const Bench &bench, rpo_dtype dtype, size_t chunk_bytes, bool cached, bool frozen) {
    const int64_t rows = 40, hidden_size = 16, vocab_size = 411;
    Memory memory;
    const Packing packed = packing(&memory, rows, vocab_size);
    rpo_linear_logprob_shape shape = {};
    shape.struct_size = sizeof shape;
    shape.rows = rows, shape.hidden_size = hidden_size, shape.vocab_size = vocab_size,
    shape.num_sequences = 3;
    shape.dtype = dtype, shape.chunk_bytes = chunk_bytes, shape.frozen_head = frozen;
    size_t sizes[3] = {};
    if (rpo_linear_logprob_cache_size(bench.context, &sizes[2], &shape) != RPO_OK)
        return report("linear", "no cache size");
    if (cached)
        shape.cache = memory.room(sizes[2]), shape.cache_bytes = sizes[2] / 2; /* half of it is recomputed */
    for (int backward = 0; backward < 2; ++backward)
        if (rpo_linear_logprob_workspace_size(bench.context, &sizes[backward], &shape, backward) != RPO_OK)
            return report("linear", "no workspace size");
    void *workspace = memory.room(sizes[0]), *backward_workspace = memory.room(sizes[1]);
    const size_t hidden_bytes = static_cast<size_t>(rows * hidden_size) * rpo_dtype_size(dtype);
    const size_t head_bytes = static_cast<size_t>(vocab_size * hidden_size) * sizeof(float);
    const void *hidden = memory.numbers(rows * hidden_size, dtype);
    const void *head = memory.numbers(vocab_size * hidden_size, dtype);
    void *grad_hidden = memory.room(hidden_bytes);
    float *grad_head = static_cast<float *>(memory.room(head_bytes));
    float *logps = static_cast<float *>(memory.room(3 * sizeof(float)));
    float *again = static_cast<float *>(memory.room(3 * sizeof(float)));
    std::vector<Output> outputs = {{logps, 3 * sizeof(float), false},
                                   {again, 3 * sizeof(float), false},
                                   {grad_hidden, hidden_bytes, false}};
    if (!frozen)
        outputs.push_back({grad_head, head_bytes, true});
    check(
        bench, cached ? "linear log-prob, half cached" : "linear log-prob",
        [&] {
            const rpo_status status =
                rpo_linear_logprob(bench.context, logps, nullptr, hidden, head, packed.labels,
                                   packed.cu_seqlens, &shape, workspace, sizes[0]);
            return status != RPO_OK
                       ? status
                       : rpo_linear_logprob_backward(bench.context, grad_hidden, frozen ? nullptr : grad_head,
                                                     again, hidden, head, packed.labels, packed.cu_seqlens,
                                                     packed.gradients, &shape, backward_workspace, sizes[1]);
        },
        outputs);
}

/* That this test can fail: waiting inside a capture is an error, and the capture gives no graph. */
void check_refusal(const Bench &bench) {
    cudaGraph_t graph = nullptr;
    insist(cudaStreamBeginCapture(bench.stream, cudaStreamCaptureModeGlobal), "waiting");
    const rpo_status status = rpo_context_synchronize(bench.context);
    const cudaError_t end = cudaStreamEndCapture(bench.stream, &graph);
    (void)cudaGetLastError();
    if (status != RPO_ERROR_DEVICE || end == cudaSuccess)
        report("waiting", "goes unnoticed while capturing");
}

void check_all(const Bench &bench) {
    for (int kind = 0; kind < RPO_LOSS_KIND_COUNT; ++kind)
        check_loss(bench, static_cast<rpo_loss_kind>(kind), 9, 9, RPO_FLOAT32);
    check_loss(bench, RPO_LOSS_RPO_UNPAIRED, 5, 600, RPO_FLOAT32); /* tiled */
    check_loss(bench, RPO_LOSS_RPO_UNPAIRED, 5, 600, RPO_BFLOAT16);
    for (const rpo_dtype dtype : {RPO_FLOAT32, RPO_BFLOAT16}) {
        check_matrices(bench, dtype);
        check_gather(bench, 9, 61, dtype);
        check_gather(bench, 5, 4099, dtype);
        check_linear(bench, dtype, 1 << 20, false, false); /* kept */
        check_linear(bench, dtype, 4096, false, false);    /* recomputed */
        check_linear(bench, dtype, 1 << 20, true, false);
        check_linear(bench, dtype, 1 << 20, false, true);
    }
    check_refusal(bench);
}

} // namespace

int main() {
    rpo_context_options options = RPO_CONTEXT_OPTIONS_INIT;
    options.device = RPO_DEVICE_CUDA;
    Bench bench = {};
    if (rpo_context_create(&bench.context, &options) != RPO_OK) {
        puts(rpo_last_error());
        return 1;
    }
    insist(cudaStreamCreateWithFlags(&bench.stream, cudaStreamDefault), "cudaStreamCreate");
    if (rpo_context_set_stream(bench.context, bench.stream) != RPO_OK)
        report("stream", "is refused");
    check_all(bench);
    rpo_context_free(bench.context);
    (void)cudaStreamDestroy(bench.stream);
    if (failures == 0)
        puts("captures: right");
    return failures != 0;
}
