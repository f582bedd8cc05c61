/* presets.c - the shapes of real models that a GPU is timed at; the CPU has one shape an op, its defaults. */
#include "bench/bench.h"

#define LOGITS                                                                                               \
    {                                                                                                        \
        {"rows", 2048}, {"vocab", 128256}, {                                                                 \
            "sequences", 8                                                                                   \
        }                                                                                                    \
    }
#define HEAD(vocab_size, valid)                                                                              \
    {                                                                                                        \
        {"rows", 8192}, {"hidden", 4096}, {"vocab", vocab_size}, {"sequences", 16}, {                        \
            "valid_percent", valid                                                                           \
        }                                                                                                    \
    }

/* Llama-3-8B (vocabulary 128256) and Llama-2-7B (32000); half of the tokens are usually prompt. */
static const bench_preset gpu_presets[] = {
    {"contrast-loss", RPO_FLOAT32, {{"m", 64}, {"n", 64}, {"dim", 384}}},
    {"contrast-loss", RPO_FLOAT32, {{"m", 4096}, {"n", 4096}, {"dim", 384}}},
    {"contrast-loss", RPO_BFLOAT16, {{"m", 4096}, {"n", 4096}, {"dim", 384}}},
    {"logprob-gather", RPO_BFLOAT16, LOGITS},
    {"logprob-gather", RPO_FLOAT32, LOGITS},
    {"logprob-gather-backward", RPO_BFLOAT16, LOGITS},
    {"logprob-gather-backward", RPO_FLOAT32, LOGITS},
    {"linear-logprob", RPO_BFLOAT16, HEAD(128256, 100)},
    {"linear-logprob", RPO_BFLOAT16, HEAD(128256, 50)},
    {"linear-logprob", RPO_BFLOAT16, HEAD(32000, 100)},
    {"linear-logprob-backward", RPO_BFLOAT16, HEAD(128256, 100)},
    {"linear-logprob-backward", RPO_BFLOAT16, HEAD(128256, 50)},
    {"linear-logprob-backward", RPO_BFLOAT16, HEAD(32000, 100)},
    {"linear-logprob-backward", RPO_BFLOAT16, HEAD(32000, 50)},
    {"linear-logprob-backward-frozen", RPO_BFLOAT16, HEAD(128256, 100)},
    {"linear-logprob-backward-frozen", RPO_BFLOAT16, HEAD(128256, 50)},
    {"linear-logprob-backward-frozen", RPO_BFLOAT16, HEAD(32000, 100)},
    {"linear-logprob-backward-frozen", RPO_BFLOAT16, HEAD(32000, 50)},
};

const bench_preset *bench_presets(rpo_device device, size_t *count) {
    *count = device == RPO_DEVICE_CUDA ? sizeof gpu_presets / sizeof gpu_presets[0] : 0;
    return *count > 0 ? gpu_presets : NULL;
}
