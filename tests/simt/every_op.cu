/*
 * every_op.cu - every op of the CUDA backend on small shapes: both versions of the contrast loss, every dtype, the tile
 * loops more than once. Built for simt and for a GPU; plain main, because Criterion does not run under ThreadSanitizer.
 * The exit status is 1 for an op that fails, else that of the tool that watches.
 *
 *     every_op                     runs each op once: for ThreadSanitizer (simt) and compute-sanitizer (GPU)
 *     every_op --leave-unfilled    the same; outputs and workspaces are not NaN beforehand but as allocated, so that a tool
 *                                  sees what is read before it was written
 *     every_op --capture           each op in a CUDA graph: on a stream of the caller's that is being captured, an op
 *                                  records its work and does nothing else (no waiting, no allocation, nothing on the
 *                                  default stream), and the graph, launched twice, leaves the bits that the op left
 */
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <vector>

#include <cuda_runtime.h>

#include "rpo/rpo.h"

namespace {

const rpo_dtype dtypes[] = {RPO_FLOAT32, RPO_BFLOAT16, RPO_FLOAT16};
int failures = 0;
bool leave_unfilled = false;

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
        if (!leave_unfilled)
            insist(cudaMemset(block, 0xff, bytes), "cudaMemset");
        return block;
    }
    template <typename T> T *copy(const std::vector<T> &values) {
        T *block = static_cast<T *>(room(values.size() * sizeof(T)));
        insist(cudaMemcpy(block, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice),
               "cudaMemcpy");
        return block;
    }
    /* Numbers of some 0.5 to 2 in any dtype. */
    void *numbers(int64_t count, rpo_dtype dtype) {
        std::vector<uint16_t> halves;
        std::vector<float> floats;
        for (int64_t i = 0; i < count; ++i) {
            const float value = 0.5f + static_cast<float>(i * 7919 % 1009) / 1009.0f;
            uint32_t bits;
            memcpy(&bits, &value, sizeof bits);
            const int64_t half = 0x3800 + i * 40503 % 0x0700; /* float16 0.5 to 1.9 */
            halves.push_back(static_cast<uint16_t>(dtype == RPO_FLOAT16 ? half : bits >> 16));
            floats.push_back(value);
        }
        return dtype == RPO_FLOAT32 ? static_cast<void *>(copy(floats)) : copy(halves);
    }

  private:
    std::vector<void *> blocks_;
};

/* What an op leaves: finite float32, or anything. An array that it adds to starts at 0, all others at NaN. */
enum class Holds { kFloats, kSums, kAnything };

struct Output {
    void *data;
    size_t bytes;
    Holds holds;
};

struct Bench {
    rpo_context *context;
    cudaStream_t stream;
    bool capture;
};

using Op = std::function<rpo_status()>;
using Bytes = std::vector<std::vector<unsigned char>>;

void clear(const std::vector<Output> &outputs) {
    for (const Output &output : outputs)
        if (output.holds == Holds::kSums || !leave_unfilled)
            insist(cudaMemset(output.data, output.holds == Holds::kSums ? 0 : 0xff, output.bytes),
                   "cudaMemset");
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

bool is_finite(const std::vector<Output> &outputs, const Bytes &bytes) {
    for (size_t k = 0; k < outputs.size(); ++k)
        for (size_t at = 0; at < bytes[k].size(); at += sizeof(float)) {
            float value;
            memcpy(&value, bytes[k].data() + at, sizeof value);
            if (!std::isfinite(value))
                return false;
        }
    return true;
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
    std::vector<Output> whole; /* what the op has surely written: a tool may object to reading the rest */
    for (const Output &output : outputs)
        if (output.holds != Holds::kAnything)
            whole.push_back(output);
    clear(outputs);
    if (op() != RPO_OK)
        return report(name, "the op fails");
    if (!is_finite(whole, read(whole)))
        report(name, "a result is not finite");
    if (!bench.capture)
        return;
    const Bytes expected = read(outputs);
    clear(outputs);
    const Bytes untouched = read(outputs);
    if (expected == untouched)
        report(name, "the op leaves nothing");
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

void check_loss(const Bench &bench, rpo_loss_kind kind, int64_t m, int64_t n, int64_t dim, rpo_dtype dtype,
                bool in_blocks = false) {
    Memory memory;
    std::vector<Output> arrays;
    const auto floats = [&](int64_t count, Holds holds) {
        const size_t bytes = static_cast<size_t>(count) * sizeof(float);
        arrays.push_back({memory.room(bytes), bytes, holds});
        return static_cast<float *>(arrays.back().data);
    };
    rpo_contrast_inputs inputs = {};
    inputs.struct_size = sizeof inputs;
    inputs.policy_chosen_logps = static_cast<float *>(memory.numbers(m, RPO_FLOAT32));
    inputs.policy_rejected_logps = static_cast<float *>(memory.numbers(n, RPO_FLOAT32));
    inputs.chosen_embeddings = memory.numbers(m * dim, dtype);
    inputs.rejected_embeddings = memory.numbers(n * dim, dtype);
    inputs.embedding_dtype = dtype;
    inputs.m = m, inputs.n = n, inputs.dim = dim;
    if (in_blocks) { /* two, and an empty one between */
        const int32_t rows = static_cast<int32_t>(m), columns = static_cast<int32_t>(n);
        inputs.chosen_bounds = memory.copy(std::vector<int32_t>{0, rows / 2, rows / 2, rows});
        inputs.rejected_bounds = memory.copy(std::vector<int32_t>{0, columns / 2, columns / 2, columns});
        inputs.num_blocks = 3, inputs.max_block_m = m - m / 2, inputs.max_block_n = n - n / 2;
    }
    rpo_contrast_outputs outputs = {};
    outputs.struct_size = sizeof outputs;
    outputs.loss = floats(1, Holds::kFloats);
    outputs.grad_chosen_logps = floats(m, Holds::kFloats);
    outputs.grad_rejected_logps = floats(n, Holds::kFloats);
    outputs.accuracy =
        floats(1, Holds::kAnything); /* from here on it depends on the kind how much is written */
    outputs.row_losses = floats(m + n, Holds::kAnything);
    outputs.chosen_rewards = floats(m, Holds::kAnything);
    outputs.rejected_rewards = floats(n, Holds::kAnything);
    outputs.margins = floats(m + n, Holds::kAnything);
    rpo_loss_options options = RPO_LOSS_OPTIONS_INIT;
    options.kind = kind;
    size_t size = 0;
    if (rpo_contrast_loss_workspace_size(bench.context, &size, &inputs, &options) != RPO_OK)
        return report(rpo_loss_kind_name(kind), "no workspace size");
    void *workspace = memory.room(size);
    check(
        bench, rpo_loss_kind_name(kind),
        [&] { return rpo_contrast_loss(bench.context, &outputs, &inputs, &options, workspace, size); },
        arrays);
}

void check_matrices(const Bench &bench, rpo_dtype dtype) {
    const int64_t m = 33, n = 131, dim = 40;
    Memory memory;
    rpo_similarity_inputs inputs = RPO_SIMILARITY_INPUTS_INIT;
    inputs.chosen_embeddings = memory.numbers(m * dim, dtype);
    inputs.rejected_embeddings = memory.numbers(n * dim, dtype);
    inputs.m = m, inputs.n = n, inputs.dim = dim, inputs.dtype = dtype;
    float *out = static_cast<float *>(memory.room(static_cast<size_t>(m * n) * sizeof(float)));
    size_t size = 0;
    if (rpo_prompt_similarity_workspace_size(bench.context, &size, &inputs) != RPO_OK)
        return report("similarity", "no workspace size");
    void *workspace = memory.room(size);
    const std::vector<Output> outputs = {{out, static_cast<size_t>(m * n) * sizeof(float), Holds::kFloats}};
    check(
        bench, "prompt similarity",
        [&] { return rpo_prompt_similarity(bench.context, out, &inputs, workspace, size); }, outputs);
    check(
        bench, "contrast weights",
        [&] {
            return rpo_contrast_weights(bench.context, out, &inputs, 0.5f, RPO_WEIGHT_SCALE_NONE, workspace,
                                        size);
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
    float *token_logps = static_cast<float *>(memory.room(rows_bytes));
    size_t size = 0;
    if (rpo_logprob_gather_workspace_size(bench.context, &size, &shape) != RPO_OK)
        return report("gather", "no workspace size");
    void *workspace = memory.room(size);
    const rpo_logprob_inputs inputs = {sizeof inputs,     logits, packed.labels,
                                       packed.cu_seqlens, lse,    packed.gradients};
    const rpo_logprob_outputs outputs = {sizeof outputs, logps, token_logps, lse};
    const auto backward = [&](const void *from) {
        rpo_logprob_inputs read = inputs;
        read.logits = from;
        return rpo_logprob_gather_backward(bench.context, gradient, &read, &shape, workspace, size);
    };
    check(bench, "log-prob gather, forward and backward",
          [&] {
              const rpo_status status =
                  rpo_logprob_gather(bench.context, &outputs, &inputs, &shape, workspace, size);
              return status != RPO_OK ? status : backward(logits);
          },
          {{logps, 3 * sizeof(float), Holds::kFloats},
           {token_logps, rows_bytes, Holds::kFloats},
           {lse, rows_bytes, Holds::kFloats},
           {gradient, logits_bytes, Holds::kAnything}});
    check(bench, "log-prob gather, backward in place",
          [&] {
              const cudaError_t error =
                  cudaMemcpyAsync(gradient, logits, logits_bytes, cudaMemcpyDeviceToDevice, bench.stream);
              return error != cudaSuccess ? RPO_ERROR_DEVICE : backward(gradient);
          },
          {{gradient, logits_bytes, Holds::kAnything}});
}

/* A forward, then the backward; with `cached`, half of the rows find their exponentials in the cache. */
void check_linear(const Bench &bench, rpo_dtype dtype, size_t chunk_bytes, bool cached, bool frozen) {
    const int64_t rows = 15, hidden_size = 16, vocab_size = 411;
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
    rpo_linear_logprob_saved saved = RPO_LINEAR_LOGPROB_SAVED_INIT;
    if (cached)
        saved.cache = memory.room(sizes[2]), shape.cache_bytes = sizes[2] / 2; /* half of it is recomputed */
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
    float *token_logps = static_cast<float *>(memory.room(rows * sizeof(float)));
    saved.logsumexp = static_cast<float *>(memory.room(rows * sizeof(float)));
    const rpo_linear_logprob_inputs inputs = {sizeof inputs,     hidden,          head, packed.labels,
                                              packed.cu_seqlens, packed.gradients};
    const rpo_linear_logprob_outputs forward = {sizeof forward, logps, token_logps};
    const rpo_linear_logprob_gradients backward = {sizeof backward, grad_hidden, frozen ? nullptr : grad_head,
                                                   cached, again};
    std::vector<Output> outputs = {{saved.logsumexp, rows * sizeof(float), Holds::kFloats},
                                   {logps, 3 * sizeof(float), Holds::kFloats},
                                   {again, 3 * sizeof(float), Holds::kFloats},
                                   {token_logps, rows * sizeof(float), Holds::kFloats},
                                   {grad_hidden, hidden_bytes, Holds::kAnything}};
    if (!frozen)
        outputs.push_back({grad_head, head_bytes, cached ? Holds::kSums : Holds::kFloats});
    check(
        bench, cached ? "linear log-prob, half cached" : "linear log-prob",
        [&] {
            const rpo_status status =
                rpo_linear_logprob(bench.context, &forward, &saved, &inputs, &shape, workspace, sizes[0]);
            return status != RPO_OK ? status
                                    : rpo_linear_logprob_backward(bench.context, &backward, &saved, &inputs,
                                                                  &shape, backward_workspace, sizes[1]);
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
        for (const bool in_blocks : {false, true})
            check_loss(bench, static_cast<rpo_loss_kind>(kind), 7, 7, 24, dtypes[kind % 3], in_blocks);
    check_loss(bench, RPO_LOSS_RPO_UNIFORM, 3, 600, 8, RPO_FLOAT32);
    check_loss(bench, RPO_LOSS_RPO_UNPAIRED, 140, 530, 72, RPO_BFLOAT16); /* several tiles a block */
    check_loss(bench, RPO_LOSS_RPO_UNPAIRED, 2, 513, 24, RPO_FLOAT32);
    check_loss(bench, RPO_LOSS_RPO_UNPAIRED, 2, 513, 7, RPO_FLOAT16); /* loaded element by element */
    for (const rpo_dtype dtype : dtypes) {
        check_loss(bench, RPO_LOSS_RPO_UNPAIRED, 5, 150, 24, dtype); /* four columns at a time */
        check_matrices(bench, dtype);
        check_gather(bench, 9, 61, dtype);
        check_gather(bench, 3, 4099, dtype);
        check_linear(bench, dtype, 1 << 20, false, false); /* kept */
        check_linear(bench, dtype, 4096, false, false);    /* recomputed */
        check_linear(bench, dtype, 1 << 20, true, false);
        check_linear(bench, dtype, 1 << 20, false, true);
    }
    if (bench.capture)
        check_refusal(bench);
}

} // namespace

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "";
    leave_unfilled = strcmp(mode, "--leave-unfilled") == 0;
    rpo_context_options options = RPO_CONTEXT_OPTIONS_INIT;
    options.device = RPO_DEVICE_CUDA;
    Bench bench = {};
    bench.capture = strcmp(mode, "--capture") == 0;
    if (mode[0] != '\0' && !leave_unfilled && !bench.capture) {
        fprintf(stderr, "every_op: %s: unknown; --leave-unfilled or --capture\n", mode);
        return 2;
    }
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
        puts("every op ran");
    return failures != 0;
}
