/*
 * test_llama_golden.c - logits, sequence log-probs and every gradient against transformers' LlamaForCausalLM
 * (tools/make-llama-goldens.py), and the folder's round trip: saved, loaded, sharded, all bit for bit.
 */
#include "tests/model_testing.h"

static const double tolerance = 1e-4;

static const char *const cases[] = {"llama-tied-mha", "llama-untied-gqa-4-2", "llama-tied-gqa-4-1",
                                    "llama-untied-head-dim"};
enum { CASES = sizeof cases / sizeof cases[0] };

typedef struct golden {
    char folder[512];
    rpo_context *context;
    test_model m;
    rpo_safetensors *expect;
    rpo_batch batch;
    float *coefficients;
} golden;

static float *expected(const golden *g, const char *name, int64_t *count) {
    const rpo_tensor_info *info = rpo_safetensors_find(g->expect, name);
    cr_assert_not_null(info, "%s: lacks %s", g->folder, name);
    float *values = test_floats((size_t)info->count);
    MUST(rpo_safetensors_read_float(g->expect, info, values));
    *count = info->count;
    return values;
}

static golden open_golden(const char *name, int num_threads) {
    golden g = {.context = model_test_context(num_threads)};
    char path[600];
    int64_t num_tokens = 0;
    int64_t num_sequences = 0;
    int64_t unused = 0;
    snprintf(g.folder, sizeof g.folder, "%s/golden/%s", RPO_TEST_SOURCE_DIR, name);
    snprintf(path, sizeof path, "%s/expect.safetensors", g.folder);
    g.m = test_model_load(g.context, g.folder);
    MUST(rpo_safetensors_open(&g.expect, path));
    float *tokens = expected(&g, "tokens", &num_tokens);
    float *starts = expected(&g, "cu_seqlens", &unused);
    float *label_starts = expected(&g, "label_starts", &num_sequences);
    g.coefficients = expected(&g, "coefficients", &unused);
    cr_assert_eq(unused, num_sequences);
    for (int64_t s = 0; s < num_sequences; ++s) {
        int32_t ids[512];
        const int64_t first = (int64_t)starts[s];
        const int64_t length = (int64_t)starts[s + 1] - first;
        for (int64_t t = 0; t < length; ++t)
            ids[t] = (int32_t)tokens[first + t];
        MUST(rpo_batch_add(&g.batch, ids, length, (int64_t)label_starts[s]));
    }
    cr_assert_eq(g.batch.num_rows, num_tokens);
    rpo_free(label_starts);
    rpo_free(starts);
    rpo_free(tokens);
    return g;
}

static void close_golden(golden *g) {
    rpo_free(g->coefficients);
    rpo_batch_free(&g->batch);
    rpo_safetensors_close(g->expect);
    test_model_free(&g->m);
    rpo_context_free(g->context);
}

static void compare(const golden *g, const char *name, const float *values, int64_t count) {
    int64_t expected_count = 0;
    float *wanted = expected(g, name, &expected_count);
    cr_assert_eq(count, expected_count, "%s: %s has %lld values, expected %lld", g->folder, name,
                 (long long)count, (long long)expected_count);
    const double error = relative_error(values, wanted, (size_t)count);
    cr_expect(error <= tolerance, "%s: %s: relative error %g", g->folder, name, error);
    rpo_free(wanted);
}

static void compare_gradients(const golden *g) {
    const rpo_tensor_table *tensors = rpo_model_tensors(g->m.model);
    float *gradients = test_gradients(&g->m);
    for (size_t p = 0; p < tensors->count; ++p) {
        char name[128];
        snprintf(name, sizeof name, "grad.%s", tensors->items[p].name);
        compare(g, name, gradients + tensors->items[p].slot, tensors->items[p].count);
    }
    cr_expect_eq(rpo_safetensors_count(g->expect), tensors->count + 6,
                 "%s: holds gradients that the model has no place for", g->folder);
    rpo_free(gradients);
}

/* The head runs in the forward, or on the way of the backward: the same log-probs and gradients either way. */
static void check_backward(golden *g, bool head_first, float *logps) {
    const int64_t segments = g->batch.num_segments;
    test_fill_gradients(&g->m, 0xff);
    MUST(test_record(&g->m, &g->batch, head_first ? logps : NULL));
    if (head_first)
        compare(g, "sequence_logps", logps, segments);
    memset(logps, 0xff, (size_t)segments * sizeof *logps);
    MUST(test_backward(&g->m, g->coefficients, false, logps));
    compare(g, "sequence_logps", logps, segments);
    compare_gradients(g);
}

/* One case in full, at one and at two threads. */
static void check_values(const char *name, int num_threads) {
    golden g = open_golden(name, num_threads);
    const int64_t count = g.batch.num_rows * rpo_model_get_config(g.m.model)->vocab_size;
    float *logits = test_floats((size_t)count);
    float *logps = test_floats((size_t)g.batch.num_segments);
    MUST(test_logits(&g.m, &g.batch, logits));
    compare(&g, "logits", logits, count);
    MUST(test_score(&g.m, &g.batch, logps, NULL));
    compare(&g, "sequence_logps", logps, g.batch.num_segments);
    check_backward(&g, true, logps);
    check_backward(&g, false, logps);
    rpo_free(logps);
    rpo_free(logits);
    close_golden(&g);
}

Test(llama_golden, values) {
    for (int c = 0; c < CASES; ++c)
        check_values(cases[c], 2);
}

Test(llama_golden, values_on_one_thread) {
    for (int c = 0; c < CASES; ++c)
        check_values(cases[c], 1);
}

static void expect_same_weights(const test_model *a, const test_model *b, const char *what) {
    char hash_a[33];
    char hash_b[33];
    const int64_t count = rpo_model_tensors(a->model)->weights;
    cr_assert_eq(count, rpo_model_tensors(b->model)->weights);
    float *weights_a = test_weights(a), *weights_b = test_weights(b);
    cr_expect_eq(memcmp(weights_a, weights_b, (size_t)count * sizeof *weights_a), 0, "%s: weights differ",
                 what);
    MUST(rpo_model_hash(a->model, hash_a));
    MUST(rpo_model_hash(b->model, hash_b));
    cr_expect_str_eq(hash_a, hash_b, "%s: hashes differ", what);
    rpo_free(weights_b);
    rpo_free(weights_a);
}

Test(llama_golden, saved_and_loaded_bit_for_bit) {
    for (int c = 0; c < CASES; ++c) {
        char folder[64];
        golden g = open_golden(cases[c], 2);
        make_test_folder(folder);
        MUST(rpo_model_save(g.m.model, folder));
        test_model again = test_model_load(g.context, folder);
        expect_same_weights(&g.m, &again, cases[c]);
        test_model_free(&again);
        rpo_remove_tree(folder);
        close_golden(&g);
    }
}

/* Writes the model as shards of three tensors each, with an index, as transformers does for large models. */
static void write_shards(const test_model *m, const char *folder) {
    enum { PER_SHARD = 3 };
    const rpo_tensor_table *table = rpo_model_tensors(m->model);
    float *weights = test_weights(m);
    rpo_text index = {0};
    char path[256];
    MUST(rpo_text_printf(&index, "{\"metadata\": {\"total_size\": %lld}, \"weight_map\": {",
                         (long long)rpo_tensor_table_elements(table)));
    for (size_t first = 0; first < table->count; first += PER_SHARD) {
        rpo_tensor_write tensors[PER_SHARD];
        size_t held = 0;
        for (; held < PER_SHARD && first + held < table->count; ++held) {
            const rpo_tensor *p = &table->items[first + held];
            tensors[held] = test_tensor_write(p, weights + p->offset);
            MUST(rpo_text_printf(&index, "%s\"%s\": \"model-%zu.safetensors\"", first + held > 0 ? ", " : "",
                                 p->name, first));
        }
        snprintf(path, sizeof path, "%s/model-%zu.safetensors", folder, first);
        MUST(rpo_safetensors_write(path, tensors, held));
    }
    MUST(rpo_text_printf(&index, "}}"));
    snprintf(path, sizeof path, "%s/model.safetensors.index.json", folder);
    MUST(rpo_write_file_atomic(path, index.data, index.length));
    rpo_text_free(&index);
    rpo_free(weights);
}

Test(llama_golden, shards_hold_the_same_model) {
    for (int c = 0; c < CASES; ++c) {
        char folder[64];
        char path[128];
        golden g = open_golden(cases[c], 2);
        make_test_folder(folder);
        MUST(rpo_model_save(g.m.model, folder));
        snprintf(path, sizeof path, "%s/model.safetensors", folder);
        cr_assert_eq(remove(path), 0);
        write_shards(&g.m, folder);
        test_model sharded = test_model_load(g.context, folder);
        expect_same_weights(&g.m, &sharded, cases[c]);
        test_model_free(&sharded);
        rpo_remove_tree(folder);
        close_golden(&g);
    }
}
