/* test_reference.c - the reference pass: right values, and a cache that is used, checked and replaced. */
#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/train/reference.h"
#include "tests/train_fixture.h"

typedef struct fixture {
    char folder[64], cache[256], hash[33];
    rpo_context *context;
    rpo_comm *comm;
    rpo_tokenizer *tokenizer;
    rpo_dataset *dataset;
    rpo_model *model;
    rpo_reference reference;
} fixture;

static void open_fixture(fixture *f) {
    *f = (fixture){0};
    make_folder(f->folder);
    path_in(f->cache, f->folder, "cache");
    must(rpo_context_create(&f->context, NULL));
    must(rpo_comm_open(&f->comm));
    must(rpo_tokenizer_open(&f->tokenizer, NULL, RPO_TOKENIZER_AUTO));
    f->dataset = make_pairs(f->folder, 11, f->tokenizer);
    f->model = make_model(f->context, 1);
    must(rpo_model_hash(f->model, f->hash));
    f->reference = (rpo_reference){.comm = f->comm,
                                   .model = f->model,
                                   .model_hash = f->hash,
                                   .cache_folder = f->cache,
                                   .micro_batch_tokens = 150,
                                   .seed = 3};
}

static void close_fixture(fixture *f) {
    rpo_model_free(f->model);
    rpo_dataset_free(f->dataset);
    rpo_tokenizer_free(f->tokenizer);
    rpo_comm_close(f->comm);
    rpo_context_free(f->context);
    must(rpo_remove_tree(f->folder));
}

/* Path of the one file in the cache. */
static void cached_file(const fixture *f, char path[256]) {
    char **names = NULL;
    size_t count = 0;
    must(rpo_list_folder(f->cache, &names, &count));
    cr_assert_eq(count, 1);
    path_in(path, f->cache, names[0]);
    rpo_free_names(names, count);
}

static void expect_equal(const rpo_scores *a, const rpo_scores *b) {
    cr_assert_eq(a->count, b->count);
    const size_t bytes = (size_t)a->count * sizeof(float);
    cr_expect_eq(memcmp(a->chosen, b->chosen, bytes), 0);
    cr_expect_eq(memcmp(a->rejected, b->rejected, bytes), 0);
}

Test(reference, values_are_those_of_single_forwards) {
    fixture f;
    open_fixture(&f);
    rpo_scores scores = {0};
    bool from_cache = true;
    f.reference.cache_folder = NULL;
    must(rpo_reference_scores(&scores, &from_cache, &f.reference, f.dataset));
    cr_expect(!from_cache);
    rpo_batch batch = {0};
    for (int64_t i = 0; i < 11; ++i) {
        const rpo_record *record = rpo_dataset_record(f.dataset, i);
        const rpo_sequence *sides[2] = {&record->chosen, &record->rejected};
        const float got[2] = {scores.chosen[i], scores.rejected[i]};
        for (int side = 0; side < 2; ++side) {
            float logp = 0;
            rpo_batch_clear(&batch);
            must(rpo_batch_add(&batch, sides[side]->tokens, sides[side]->length, sides[side]->prompt_length));
            must(rpo_model_forward(f.model, &batch, false, &logp, NULL));
            cr_expect(fabsf(got[side] - logp) <= 1e-5f * fabsf(logp), "record %lld: %.9g, alone %.9g",
                      (long long)i, (double)got[side], (double)logp);
            cr_expect(logp < 0);
        }
    }
    rpo_batch_free(&batch);
    rpo_scores_free(&scores);
    close_fixture(&f);
}

Test(reference, second_time_comes_from_the_cache) {
    fixture f;
    open_fixture(&f);
    rpo_scores first = {0}, second = {0};
    bool from_cache = true;
    must(rpo_reference_scores(&first, &from_cache, &f.reference, f.dataset));
    cr_expect(!from_cache);
    must(rpo_reference_scores(&second, &from_cache, &f.reference, f.dataset));
    cr_expect(from_cache);
    expect_equal(&first, &second);
    rpo_scores_free(&first);
    rpo_scores_free(&second);
    close_fixture(&f);
}

Test(reference, a_damaged_cache_is_replaced) {
    fixture f;
    open_fixture(&f);
    char path[256];
    for (int way = 0; way < 3; ++way) {
        rpo_scores first = {0}, second = {0};
        bool from_cache = true;
        must(rpo_reference_scores(&first, &from_cache, &f.reference, f.dataset));
        cached_file(&f, path);
        struct stat facts;
        cr_assert_eq(stat(path, &facts), 0);
        if (way == 0) {
            cr_assert_eq(truncate(path, facts.st_size - 1), 0);
        } else if (way == 1) {
            cr_assert_eq(truncate(path, facts.st_size + 1), 0);
        } else {
            FILE *file = fopen(path, "r+b");
            fseek(file, 20, SEEK_SET);
            fputc('x', file);
            fclose(file);
        }
        must(rpo_reference_scores(&second, &from_cache, &f.reference, f.dataset));
        cr_expect(!from_cache, "way %d", way);
        expect_equal(&first, &second);
        rpo_scores_free(&second);
        must(rpo_reference_scores(&second, &from_cache, &f.reference, f.dataset));
        cr_expect(from_cache, "way %d: the new file is whole", way);
        rpo_scores_free(&first);
        rpo_scores_free(&second);
    }
    close_fixture(&f);
}

Test(reference, a_cache_of_another_model_does_not_pass_the_sample) {
    fixture f;
    open_fixture(&f);
    rpo_scores first = {0}, second = {0};
    bool from_cache = true;
    must(rpo_reference_scores(&first, &from_cache, &f.reference, f.dataset));
    /* Other weights under the same name: as if the hash had not noticed. */
    rpo_model *other = make_model(f.context, 2);
    f.reference.model = other;
    must(rpo_reference_scores(&second, &from_cache, &f.reference, f.dataset));
    cr_expect(!from_cache);
    cr_expect_neq(memcmp(first.chosen, second.chosen, (size_t)first.count * sizeof(float)), 0);
    rpo_scores_free(&second);
    must(rpo_reference_scores(&second, &from_cache, &f.reference, f.dataset));
    cr_expect(from_cache);
    rpo_model_free(other);
    rpo_scores_free(&first);
    rpo_scores_free(&second);
    close_fixture(&f);
}

Test(reference, another_hash_is_another_file) {
    fixture f;
    open_fixture(&f);
    rpo_scores scores = {0};
    bool from_cache = true;
    must(rpo_reference_scores(&scores, &from_cache, &f.reference, f.dataset));
    rpo_scores_free(&scores);
    f.reference.model_hash = "another";
    must(rpo_reference_scores(&scores, &from_cache, &f.reference, f.dataset));
    cr_expect(!from_cache);
    rpo_scores_free(&scores);
    close_fixture(&f);
}
