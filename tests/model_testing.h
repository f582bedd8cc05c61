/*
 * model_testing.h - what the model's tests share: seeded numbers, tiny models and batches, comparisons in
 * which NaN never passes.
 */
#ifndef RPO_TESTS_MODEL_TESTING_H
#define RPO_TESTS_MODEL_TESTING_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "host/model/model.h"

#define MUST(call) cr_assert_eq((call), RPO_OK, "%s: %s", #call, rpo_last_error())

static inline rpo_context *model_test_context(int num_threads) {
    rpo_context_options options = RPO_CONTEXT_OPTIONS_INIT;
    options.num_threads = num_threads;
    rpo_context *context = NULL;
    MUST(rpo_context_create(&context, &options));
    return context;
}

static inline float *test_floats(size_t count) {
    float *values = rpo_calloc_array(count, sizeof *values);
    cr_assert_not_null(values);
    return values;
}

/* Normal numbers times `scale`, a function of (seed, index) alone. */
static inline float *test_normals(size_t count, uint64_t seed, double scale) {
    float *values = test_floats(count);
    for (size_t i = 0; i < count; ++i)
        values[i] = (float)(scale * rpo_random_normal(seed, 77, i));
    return values;
}

/* Largest |a - b| over max(1, largest |b|); NaN anywhere gives infinity. */
static inline double relative_error(const float *a, const float *b, size_t count) {
    double largest = 1.0;
    double error = 0.0;
    for (size_t i = 0; i < count; ++i) {
        const double difference = fabs((double)a[i] - (double)b[i]);
        if (!isfinite(difference))
            return INFINITY;
        error = difference > error ? difference : error;
        largest = fabs((double)b[i]) > largest ? fabs((double)b[i]) : largest;
    }
    return error / largest;
}

static inline rpo_model_config tiny_config(bool tied) {
    rpo_model_config config = rpo_model_config_default();
    config.vocab_size = 31;
    config.hidden_size = 16;
    config.intermediate_size = 28;
    config.num_hidden_layers = 2;
    config.num_attention_heads = 4;
    config.num_key_value_heads = 2;
    config.head_dim = 4;
    config.max_position_embeddings = 128;
    config.initializer_range = 0.3;
    config.tie_word_embeddings = tied;
    return config;
}

/* Appends a sequence of random tokens. */
static inline void add_sequence(rpo_batch *batch, int64_t length, int64_t label_start, int64_t vocab,
                                uint64_t seed) {
    int32_t tokens[512];
    cr_assert(length <= 512);
    for (int64_t t = 0; t < length; ++t)
        tokens[t] = (int32_t)(rpo_random_u64(seed, 5, (uint64_t)t) % (uint64_t)vocab);
    MUST(rpo_batch_add(batch, tokens, length, label_start));
}

static inline char *make_test_folder(char path[64]) {
    snprintf(path, 64, "/tmp/rpo-test-model-XXXXXX");
    cr_assert_not_null(mkdtemp(path));
    return path;
}

static inline void expect_error(rpo_status status, rpo_status expected, const char *part) {
    cr_expect_eq(status, expected, "status is %s, message: %s", rpo_status_name(status), rpo_last_error());
    cr_expect_not_null(strstr(rpo_last_error(), part), "message lacks \"%s\": %s", part, rpo_last_error());
    cr_expect_null(strchr(rpo_last_error(), '\n'));
}

#endif
