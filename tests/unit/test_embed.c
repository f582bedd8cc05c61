/* test_embed.c - the hashed embedder and the cache. */
#include "../data_fixture.h"

#include <math.h>

#include "host/embed/embed.h"

static const rpo_embedding_options hashed = {.kind = RPO_EMBEDDING_HASHED};

/* Records with these prompts; the responses do not matter here. */
static rpo_dataset *load_prompts(data_fixture *fixture, const char *const *prompts, size_t count) {
    rpo_text text = {0};
    for (size_t i = 0; i < count; ++i)
        cr_assert_eq(
            rpo_text_printf(&text, "{\"prompt\":\"%s\",\"chosen\":\"a\",\"rejected\":\"b\"}\n", prompts[i]),
            RPO_OK);
    rpo_dataset *dataset = fixture_load_text(fixture, text.data);
    rpo_text_free(&text);
    return dataset;
}

static double dot(const rpo_embeddings *embeddings, int64_t a, int64_t b) {
    double sum = 0;
    for (int64_t i = 0; i < embeddings->dim; ++i)
        sum += (double)embeddings->rows[a * embeddings->dim + i] * embeddings->rows[b * embeddings->dim + i];
    return sum;
}

static rpo_embeddings compute(const rpo_dataset *dataset, const char *cache_folder, int threads) {
    rpo_embeddings embeddings;
    cr_assert_eq(rpo_embeddings_compute(&embeddings, dataset, dataset, &hashed, cache_folder, threads),
                 RPO_OK, "%s", rpo_last_error());
    return embeddings;
}

static void assert_same_bits(const rpo_embeddings *a, const rpo_embeddings *b) {
    cr_assert_eq(a->count, b->count);
    cr_assert_eq(a->dim, b->dim);
    cr_assert_eq(memcmp(a->rows, b->rows, (size_t)(a->count * a->dim) * sizeof *a->rows), 0);
}

/* Two prompts for each of five topics. */
static const char *const topics[] = {
    "How do I bake a sourdough bread with a crisp crust?",
    "My sourdough bread has no crisp crust after baking, why?",
    "Which telescope shows the rings of Saturn best?",
    "Can I see Saturn's rings with a small telescope?",
    "Explain how interest on a mortgage is calculated.",
    "How does the bank calculate my mortgage interest?",
    "What should I feed a stray kitten?",
    "A stray kitten came to me; which food may I feed it?",
    "How do I tune the derailleur of my bicycle?",
    "My bicycle's derailleur skips gears, how do I tune it?",
};
enum { NUM_PROMPTS = sizeof topics / sizeof topics[0] };

Test(embed, related_prompts_are_nearer_than_all_others) {
    data_fixture fixture = fixture_open();
    rpo_dataset *dataset = load_prompts(&fixture, topics, NUM_PROMPTS);
    rpo_embeddings embeddings = compute(dataset, NULL, 1);
    cr_assert_eq(embeddings.count, NUM_PROMPTS);
    cr_assert_eq(embeddings.dim, 384);
    for (int i = 0; i < NUM_PROMPTS; ++i) {
        cr_assert(fabs(dot(&embeddings, i, i) - 1) <= 1e-6);
        const double related = dot(&embeddings, i, i ^ 1);
        for (int j = 0; j < NUM_PROMPTS; ++j)
            if (j != i && j != (i ^ 1))
                cr_assert(related >= dot(&embeddings, i, j) + 0.1, "prompt %d: %g, prompt %d: %g", i, related,
                          j, dot(&embeddings, i, j));
    }
    rpo_embeddings_free(&embeddings);
    rpo_dataset_free(dataset);
    fixture_close(&fixture);
}

Test(embed, case_does_not_matter_and_languages_do_not_break_it) {
    static const char *const prompts[] = {
        "Where is Łódź?", "WHERE is Łódź?!", "東京はどこですか", "東京はどこ", "", "?! ...", "x"};
    data_fixture fixture = fixture_open();
    rpo_dataset *dataset = load_prompts(&fixture, prompts, 7);
    rpo_embeddings embeddings = compute(dataset, NULL, 2);
    cr_assert(fabs(dot(&embeddings, 0, 1) - 1) <= 1e-6);
    cr_assert(dot(&embeddings, 2, 3) >= 0.3);
    cr_assert(fabs(dot(&embeddings, 0, 2)) <= 0.2);
    cr_assert_eq(dot(&embeddings, 4, 4), 0); /* no features: the zero vector */
    cr_assert_eq(dot(&embeddings, 5, 5), 0);
    cr_assert(fabs(dot(&embeddings, 6, 6) - 1) <= 1e-6); /* one letter is a word */
    rpo_embeddings_free(&embeddings);
    rpo_dataset_free(dataset);
    fixture_close(&fixture);
}

Test(embed, rare_words_weigh_more_than_common_ones) {
    /* All share a long frame; 0 and 1 share the one rare word. */
    static const char *const prompts[] = {"please tell me all that you know about quasars",
                                          "please tell me all that you know about quasars today",
                                          "please tell me all that you know about soup",
                                          "please tell me all that you know about dogs",
                                          "please tell me all that you know about rivers",
                                          "please tell me all that you know about chess"};
    data_fixture fixture = fixture_open();
    rpo_dataset *alone = load_prompts(&fixture, prompts, 3), *all = load_prompts(&fixture, prompts, 6);
    rpo_embeddings embeddings = compute(all, NULL, 1);
    cr_assert(dot(&embeddings, 0, 1) >= dot(&embeddings, 0, 2) + 0.1);
    rpo_embeddings_free(&embeddings);

    /* The frequencies come from `fit`, so the same data looks different under another one. */
    rpo_embeddings under_all, under_itself = compute(alone, NULL, 1);
    cr_assert_eq(rpo_embeddings_compute(&under_all, alone, all, &hashed, NULL, 1), RPO_OK);
    cr_assert(dot(&under_all, 0, 2) != dot(&under_itself, 0, 2));
    rpo_embeddings_free(&under_itself);
    rpo_embeddings_free(&under_all);
    rpo_dataset_free(all);
    rpo_dataset_free(alone);
    fixture_close(&fixture);
}

Test(embed, same_bits_whatever_the_threads) {
    const char *path = RPO_TEST_SHARED_DIR "/data/hh-harmless-train.jsonl.gz";
    if (access(path, R_OK) != 0) {
        cr_skip_test("%s is not there\n", path);
        return;
    }
    data_fixture fixture = fixture_open();
    snprintf(fixture.path, sizeof fixture.path, "%s", path);
    rpo_dataset *dataset = NULL;
    cr_assert_eq(fixture_load(&fixture, &dataset), RPO_OK, "%s", rpo_last_error());
    rpo_embeddings one = compute(dataset, NULL, 1), several = compute(dataset, NULL, 5),
                   any = compute(dataset, NULL, 0);
    assert_same_bits(&one, &several);
    assert_same_bits(&one, &any);
    rpo_embeddings_free(&any);
    rpo_embeddings_free(&several);
    rpo_embeddings_free(&one);
    rpo_dataset_free(dataset);
    fixture_close(&fixture);
}

/* ---- cache ---- */

Test(embed, cache_hit_equals_computed) {
    data_fixture fixture = fixture_open();
    char folder[600];
    snprintf(folder, sizeof folder, "%s/run/cache", fixture.folder);
    rpo_dataset *dataset = load_prompts(&fixture, topics, NUM_PROMPTS);
    rpo_dataset *others = load_prompts(&fixture, topics, NUM_PROMPTS - 1);
    rpo_embeddings first = compute(dataset, folder, 1), second = compute(dataset, folder, 1),
                   other = compute(others, folder, 1), other_fit;
    cr_assert(!first.from_cache && second.from_cache && !other.from_cache);
    cr_assert_str_eq(first.warning, "");
    cr_assert_str_eq(second.warning, "");
    cr_assert_str_eq(first.cache_path, second.cache_path);
    cr_assert_str_neq(first.cache_path, other.cache_path);
    cr_assert(rpo_path_exists(first.cache_path));
    assert_same_bits(&first, &second);
    cr_assert_eq(rpo_embeddings_compute(&other_fit, dataset, others, &hashed, folder, 1), RPO_OK);
    cr_assert(!other_fit.from_cache);
    rpo_embeddings_free(&other_fit);
    rpo_embeddings_free(&other);
    rpo_embeddings_free(&second);
    rpo_embeddings_free(&first);
    rpo_dataset_free(others);
    rpo_dataset_free(dataset);
    fixture_close(&fixture);
}

/* Writes `size` bytes of the cache with one byte changed (at -1: none), and expects a new computation. */
static void check_damage(const rpo_dataset *dataset, const char *folder, const rpo_embeddings *good,
                         const char *content, size_t size, size_t change) {
    char *damaged = malloc(size + 1);
    memcpy(damaged, content, size);
    damaged[size] = 'x';
    if (change < size)
        damaged[change] ^= 0x10;
    cr_assert_eq(rpo_write_file_atomic(good->cache_path, damaged, change > size ? size + 1 : size), RPO_OK);
    free(damaged);
    rpo_embeddings again = compute(dataset, folder, 1);
    cr_assert(!again.from_cache);
    cr_assert_not_null(strstr(again.warning, "computed anew"), "%s", again.warning);
    assert_same_bits(&again, good);
    rpo_embeddings_free(&again);
    again = compute(dataset, folder, 1); /* the damaged file was replaced */
    cr_assert(again.from_cache);
    cr_assert_str_eq(again.warning, "");
    assert_same_bits(&again, good);
    rpo_embeddings_free(&again);
}

Test(embed, damaged_cache_is_computed_anew) {
    data_fixture fixture = fixture_open();
    rpo_dataset *dataset = load_prompts(&fixture, topics, NUM_PROMPTS);
    rpo_embeddings good = compute(dataset, fixture.folder, 1);
    char *content = NULL;
    size_t size = 0;
    cr_assert_eq(rpo_read_file(good.cache_path, 1 << 20, &content, &size), RPO_OK);
    const size_t changes[] = {0, 8, 16, 24, size / 2, size - 33, size - 32, size - 1};
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; ++i)
        check_damage(dataset, fixture.folder, &good, content, size, changes[i]);
    const size_t cuts[] = {0, 1, 24, 56, size / 2, size - 1};
    for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; ++i)
        check_damage(dataset, fixture.folder, &good, content, cuts[i], cuts[i]);
    check_damage(dataset, fixture.folder, &good, content, size, size + 1); /* one byte too many */
    rpo_free(content);
    rpo_embeddings_free(&good);
    rpo_dataset_free(dataset);
    fixture_close(&fixture);
}

Test(embed, a_cache_that_cannot_be_written_is_a_warning) {
    data_fixture fixture = fixture_open();
    rpo_dataset *dataset = load_prompts(&fixture, topics, NUM_PROMPTS);
    char folder[700];
    snprintf(folder, sizeof folder, "%s/cache", fixture.path); /* below a file */
    rpo_embeddings embeddings = compute(dataset, folder, 1);
    cr_assert(!embeddings.from_cache);
    cr_assert_not_null(strstr(embeddings.warning, "cannot be cached"));
    cr_assert_str_eq(embeddings.cache_path, "");
    cr_assert_str_eq(rpo_last_error(), "");
    rpo_embeddings_free(&embeddings);
    rpo_dataset_free(dataset);
    fixture_close(&fixture);
}
