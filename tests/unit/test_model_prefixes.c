/*
 * test_model_prefixes.c - prompts that stand in a batch once: log-probs and gradients are those of the same sequences
 * packed whole.
 */
#include "tests/model_testing.h"

enum { MAX_RESPONSES = 4, MAX_PROMPTS = 6, MAX_SEQUENCES = MAX_PROMPTS * MAX_RESPONSES, MAX_LENGTH = 256 };

/* A prompt and the lengths of its responses. A prompt's last token predicts a response's first, so that it stands with
 * every response: what is shared is a row shorter, and a prompt of one token is not shared at all. */
typedef struct prompt {
    int64_t length;
    int num_responses;
    int64_t responses[MAX_RESPONSES];
    int64_t without_label; /* tokens at a response's start that are no labels */
} prompt;

static const prompt prompts[MAX_PROMPTS] = {
    {1, 2, {4, 9}, 0},         {2, 3, {1, 5, 70}, 0},  {3, 2, {6, 2}, 1},
    {64, 4, {3, 1, 8, 65}, 0}, {65, 3, {64, 2, 5}, 2}, {66, 2, {129, 7}, 0},
};

/* One sequence of a case, and the segment that tells its log-prob. */
typedef struct sequence {
    int32_t tokens[MAX_LENGTH];
    int64_t length, prompt_length, label_start;
    int prompt, response;
} sequence;

static int64_t segment_of[MAX_SEQUENCES];

static int make_sequences(sequence *sequences, int first_prompt, int end_prompt, int64_t vocab) {
    int count = 0;
    for (int p = first_prompt; p < end_prompt; ++p)
        for (int r = 0; r < prompts[p].num_responses; ++r) {
            sequence *made = &sequences[count++];
            *made = (sequence){.length = prompts[p].length + prompts[p].responses[r],
                               .prompt_length = prompts[p].length,
                               .label_start = prompts[p].length + prompts[p].without_label,
                               .prompt = p,
                               .response = r};
            cr_assert(made->length <= MAX_LENGTH && made->label_start <= made->length);
            for (int64_t t = 0; t < made->length; ++t) {
                const uint64_t stream = t < made->prompt_length ? (uint64_t)p : 100 + (uint64_t)(10 * p + r);
                made->tokens[t] = (int32_t)(rpo_random_u64(3, stream, (uint64_t)t) % (uint64_t)vocab);
            }
        }
    return count;
}

static void pack_whole(rpo_batch *batch, const sequence *sequences, int count) {
    for (int s = 0; s < count; ++s)
        MUST(rpo_batch_add(batch, sequences[s].tokens, sequences[s].length, sequences[s].label_start));
}

static void add_segment(rpo_batch *batch, const sequence *from, int64_t first, int64_t end, int64_t prefix) {
    const rpo_segment_rows rows = {.tokens = from->tokens,
                                   .length = from->length,
                                   .label_start = from->label_start,
                                   .first = first,
                                   .end = end,
                                   .prefix = prefix};
    MUST(rpo_batch_add_rows(batch, &rows));
}

/* All prompts first, then the first response of each, then the second: users lie far from their prefix. Or else each
 * prompt with its responses. */
static void pack_shared(rpo_batch *batch, const sequence *sequences, int count, bool prompts_first) {
    int64_t prefix[MAX_PROMPTS];
    for (int p = 0; p < MAX_PROMPTS; ++p)
        prefix[p] = -1;
    for (int round = prompts_first ? -1 : 0; round < (prompts_first ? MAX_RESPONSES : 1); ++round)
        for (int s = 0; s < count; ++s) {
            const sequence *from = &sequences[s];
            const int64_t shared = from->prompt_length - 1;
            if (shared > 0 && prefix[from->prompt] < 0) {
                add_segment(batch, from, 0, shared, -1);
                prefix[from->prompt] = batch->num_segments - 1;
            }
            if (prompts_first && from->response != round)
                continue;
            add_segment(batch, from, shared, from->length - 1, prefix[from->prompt]);
            segment_of[s] = batch->num_segments - 1;
        }
}

/* A scalar a sequence; a prompt's own has no label to act on. */
static float upstream_of(int s) {
    return (float)rpo_random_normal(8, 0, (uint64_t)s);
}

typedef struct outcome {
    float logps[2 * MAX_SEQUENCES]; /* by segment */
    float *gradients;
} outcome;

static outcome run(test_model *m, rpo_batch *batch, const float *upstream, bool head_first) {
    outcome result;
    test_fill_gradients(m, 0xff);
    MUST(test_record(m, batch, head_first ? result.logps : NULL));
    MUST(test_backward(m, upstream, false, head_first ? NULL : result.logps));
    result.gradients = test_gradients(m);
    return result;
}

static outcome run_whole(test_model *m, const sequence *sequences, int count) {
    rpo_batch batch = {0};
    float upstream[MAX_SEQUENCES];
    pack_whole(&batch, sequences, count);
    for (int s = 0; s < count; ++s)
        upstream[s] = upstream_of(s);
    const outcome result = run(m, &batch, upstream, true);
    rpo_batch_free(&batch);
    return result;
}

static outcome run_shared(test_model *m, const sequence *sequences, int count, bool prompts_first,
                          bool head_first) {
    rpo_batch batch = {0};
    float upstream[2 * MAX_SEQUENCES], scored[2 * MAX_SEQUENCES];
    pack_shared(&batch, sequences, count, prompts_first);
    for (int64_t s = 0; s < batch.num_segments; ++s)
        upstream[s] = 1e3f;
    for (int s = 0; s < count; ++s)
        upstream[segment_of[s]] = upstream_of(s);
    const outcome result = run(m, &batch, upstream, head_first);
    MUST(test_score(m, &batch, scored, NULL));
    cr_expect(relative_error(scored, result.logps, (size_t)batch.num_segments) <= 1e-6);
    rpo_batch_free(&batch);
    return result;
}

/* Tensor by tensor: |a - b| <= 1e-5 |b|. */
static void expect_same_gradients(const test_model *m, const float *a, const float *b, const char *what) {
    const rpo_tensor_table *tensors = rpo_model_tensors(m->model);
    for (size_t p = 0; p < tensors->count; ++p) {
        const rpo_tensor *tensor = &tensors->items[p];
        double distance = 0.0, length = 0.0;
        for (int64_t i = tensor->slot; i < tensor->slot + tensor->count; ++i) {
            distance += pow((double)a[i] - (double)b[i], 2.0);
            length += pow((double)b[i], 2.0);
        }
        cr_expect(length > 0.0 && sqrt(distance) <= 1e-5 * sqrt(length), "%s: %s: %g of the norm", what,
                  tensor->name, sqrt(distance / length));
    }
}

static rpo_model_config config_of(int64_t kv_heads, bool tied) {
    rpo_model_config config = tiny_config(tied);
    config.num_key_value_heads = kv_heads;
    config.max_position_embeddings = MAX_LENGTH;
    return config;
}

static void check_shared(int first_prompt, int end_prompt, int64_t kv_heads, bool tied) {
    static sequence sequences[MAX_SEQUENCES];
    char what[96];
    rpo_context *context = model_test_context(2);
    const rpo_model_config config = config_of(kv_heads, tied);
    test_model m = test_model_create(context, &config, 11);
    const int count = make_sequences(sequences, first_prompt, end_prompt, config.vocab_size);
    const outcome whole = run_whole(&m, sequences, count);
    for (int way = 0; way < 4; ++way) {
        const outcome shared = run_shared(&m, sequences, count, way % 2 == 0, way / 2 == 0);
        snprintf(what, sizeof what, "prompts %d to %d, %d kv heads, way %d", first_prompt, end_prompt - 1,
                 (int)kv_heads, way);
        for (int s = 0; s < count; ++s)
            cr_expect(relative_error(&shared.logps[segment_of[s]], &whole.logps[s], 1) <= 1e-6,
                      "%s: sequence %d: log-prob is %.9g, whole %.9g", what, s,
                      (double)shared.logps[segment_of[s]], (double)whole.logps[s]);
        expect_same_gradients(&m, shared.gradients, whole.gradients, what);
        rpo_free(shared.gradients);
    }
    rpo_free(whole.gradients);
    test_model_free(&m);
    rpo_context_free(context);
}

Test(model_prefixes, one_prompt_with_several_responses) {
    for (int p = 0; p < MAX_PROMPTS; ++p)
        check_shared(p, p + 1, 2, true);
}

Test(model_prefixes, several_prompts) {
    check_shared(0, MAX_PROMPTS, 2, false);
    check_shared(1, 3, 2, true);
    check_shared(2, 5, 2, true);
}

Test(model_prefixes, every_grouping_of_heads) {
    check_shared(0, MAX_PROMPTS, 1, true);
    check_shared(0, MAX_PROMPTS, 4, true);
}

/* Rows that a prompt takes once. */
Test(model_prefixes, a_shared_prompt_is_computed_once) {
    static sequence sequences[MAX_SEQUENCES];
    rpo_batch whole = {0}, shared = {0};
    const int count = make_sequences(sequences, 3, 4, 31);
    pack_whole(&whole, sequences, count);
    pack_shared(&shared, sequences, count, false);
    cr_expect_eq(whole.num_rows, 4 * 64 + 3 + 1 + 8 + 65);
    cr_expect_eq(shared.num_rows, 63 + 3 + 1 + 8 + 65);
    cr_expect_eq(shared.num_labels, whole.num_labels);
    cr_expect_eq(shared.num_segments, 5);
    cr_expect_eq(shared.max_context, 128);
    rpo_batch_free(&shared);
    rpo_batch_free(&whole);
}

/* Gradients of a prompt's rows are summed over its users in their order: the same bits, however many threads. */
Test(model_prefixes, same_bits_whatever_the_threads) {
    static sequence sequences[MAX_SEQUENCES];
    const rpo_model_config config = config_of(2, true);
    const int count = make_sequences(sequences, 0, MAX_PROMPTS, config.vocab_size);
    outcome results[3];
    size_t bytes = 0;
    for (int k = 0; k < 3; ++k) {
        rpo_context *context = model_test_context(k + 1);
        test_model m = test_model_create(context, &config, 11);
        bytes = (size_t)rpo_model_tensors(m.model)->trainable * sizeof(float);
        test_fill_gradients(&m, 0);
        rpo_batch batch = {0};
        float upstream[2 * MAX_SEQUENCES] = {0};
        pack_shared(&batch, sequences, count, true);
        for (int s = 0; s < count; ++s)
            upstream[segment_of[s]] = upstream_of(s);
        MUST(test_record(&m, &batch, results[k].logps));
        MUST(test_backward(&m, upstream, false, NULL));
        results[k].gradients = test_gradients(&m);
        cr_expect_eq(memcmp(results[k].gradients, results[0].gradients, bytes), 0, "%d threads: gradients",
                     k + 1);
        cr_expect_eq(memcmp(results[k].logps, results[0].logps, (size_t)batch.num_segments * sizeof(float)),
                     0, "%d threads: log-probs", k + 1);
        rpo_batch_free(&batch);
        test_model_free(&m);
        rpo_context_free(context);
    }
    for (int k = 0; k < 3; ++k)
        rpo_free(results[k].gradients);
}
