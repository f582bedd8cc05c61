/* test_reference.c - the reference pass: right values, and a cache that is used, added to, checked and replaced. */
#include <sys/stat.h>
#include <unistd.h>

#include "host/train/reference.h"
#include "tests/step_fixture.h"

enum { RECORDS = NUM_PAIRS };

typedef struct reference_case {
    fixture f;
    char cache[256];
    rpo_comm *comm;
    step_run run;
    rpo_reference reference;
} reference_case;

static void open_case(reference_case *c, uint64_t seed) {
    const run_options options = {
        .kind = RPO_LOSS_DPO, .block_rows = 1, .micro_batch_tokens = 150, .scores_only = true};
    *c = (reference_case){0};
    make_folder(c->f.folder);
    path_in(c->cache, c->f.folder, "cache");
    must(rpo_tokenizer_open(&c->f.tokenizer, NULL, RPO_TOKENIZER_AUTO));
    c->f.dataset = make_pairs(c->f.folder, RECORDS, c->f.tokenizer);
    c->f.rows = RECORDS;
    must(rpo_comm_open(&c->comm));
    open_run(&c->run, &c->f, c->comm, &options, seed);
    c->run.objective.rows_at_once = 3;
    c->reference = (rpo_reference){
        .scoring = c->run.objective, .model_hash = "a model", .cache_folder = c->cache, .seed = 3};
}

static void close_case(reference_case *c) {
    close_run(&c->run);
    rpo_comm_close(c->comm);
    close_fixture(&c->f);
}

static void scores_of(reference_case *c, rpo_scores *scores, const int64_t *records, int64_t count,
                      int64_t expect_cached) {
    rpo_reference_report report = {-1, -1};
    rpo_scores_free(scores);
    must(rpo_reference_scores(scores, &report, &c->reference, records, count));
    cr_expect_eq(report.from_cache, expect_cached, "%lld came from the cache", (long long)report.from_cache);
    cr_expect_eq(report.computed, (records == NULL ? RECORDS : count) - expect_cached);
}

/* Path of the one file in the cache. */
static void cached_file(const reference_case *c, char path[256]) {
    char **names = NULL;
    size_t count = 0;
    must(rpo_list_folder(c->cache, &names, &count));
    cr_assert_eq(count, 1);
    path_in(path, c->cache, names[0]);
    rpo_free_names(names, count);
}

static void expect_equal(const rpo_scores *a, const rpo_scores *b) {
    cr_assert_eq(a->count, b->count);
    const size_t bytes = (size_t)a->count * sizeof(float);
    cr_expect_eq(memcmp(a->chosen, b->chosen, bytes), 0);
    cr_expect_eq(memcmp(a->rejected, b->rejected, bytes), 0);
}

Test(reference, values_are_those_of_single_forwards) {
    reference_case c;
    rpo_scores scores = {0}, alone = {0};
    open_case(&c, 1);
    c.reference.cache_folder = NULL;
    scores_of(&c, &scores, NULL, 0, 0);
    c.reference.scoring.rows_at_once = 1;
    c.reference.scoring.micro_batch_tokens = 1; /* every sequence in a forward of its own, unshared */
    c.reference.scoring.prefix_sharing = RPO_PREFIX_SHARING_OFF;
    scores_of(&c, &alone, NULL, 0, 0);
    for (int64_t i = 0; i < RECORDS; ++i)
        for (int side = 0; side < 2; ++side) {
            const float got = (side == 0 ? scores.chosen : scores.rejected)[i];
            const float logp = (side == 0 ? alone.chosen : alone.rejected)[i];
            cr_expect(fabsf(got - logp) <= 1e-5f * fabsf(logp), "record %lld: %.9g, alone %.9g", (long long)i,
                      (double)got, (double)logp);
            cr_expect(logp < 0);
        }
    rpo_scores_free(&alone);
    rpo_scores_free(&scores);
    close_case(&c);
}

Test(reference, second_time_comes_from_the_cache) {
    reference_case c;
    rpo_scores first = {0}, second = {0};
    open_case(&c, 1);
    scores_of(&c, &first, NULL, 0, 0);
    scores_of(&c, &second, NULL, 0, RECORDS);
    expect_equal(&first, &second);
    rpo_scores_free(&first);
    rpo_scores_free(&second);
    close_case(&c);
}

/* Records that no step will visit are not computed; those that are missing later are added. */
Test(reference, only_what_is_asked_for_and_what_is_missing) {
    reference_case c;
    static const int64_t some[3] = {1, 4, 5};
    rpo_scores part = {0}, all = {0}, again = {0};
    open_case(&c, 1);
    scores_of(&c, &part, some, 3, 0);
    scores_of(&c, &part, some, 3, 3);
    scores_of(&c, &all, NULL, 0, 0); /* no batch of three is known whole: they are computed together again */
    scores_of(&c, &again, NULL, 0, RECORDS);
    expect_equal(&all, &again);
    for (int i = 0; i < 3; ++i)
        cr_expect(fabsf(part.chosen[some[i]] - all.chosen[some[i]]) <= 1e-5f * fabsf(all.chosen[some[i]]));
    rpo_scores_free(&again);
    rpo_scores_free(&all);
    rpo_scores_free(&part);
    close_case(&c);
}

/* A pass that was cut after any part goes on to the same bits. */
Test(reference, an_interrupted_pass_goes_on_where_it_was) {
    reference_case c;
    rpo_scores whole = {0}, resumed = {0};
    open_case(&c, 1);
    scores_of(&c, &whole, NULL, 0, 0);
    must(rpo_remove_tree(c.cache));
    static const int64_t first_batch[3] = {0, 1, 2};
    scores_of(&c, &resumed, first_batch, 3, 0); /* as if the pass had ended here */
    scores_of(&c, &resumed, NULL, 0, 3);
    expect_equal(&whole, &resumed);
    rpo_scores_free(&whole);
    rpo_scores_free(&resumed);
    close_case(&c);
}

Test(reference, a_damaged_cache_is_replaced) {
    reference_case c;
    open_case(&c, 1);
    char path[256];
    for (int way = 0; way < 3; ++way) {
        rpo_scores first = {0}, second = {0};
        must(rpo_remove_tree(c.cache));
        scores_of(&c, &first, NULL, 0, 0);
        cached_file(&c, path);
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
        scores_of(&c, &second, NULL, 0, 0);
        expect_equal(&first, &second);
        rpo_scores_free(&second);
        scores_of(&c, &second, NULL, 0, RECORDS); /* the new file is whole */
        rpo_scores_free(&first);
        rpo_scores_free(&second);
    }
    close_case(&c);
}

Test(reference, a_cache_of_another_model_does_not_pass_the_sample) {
    reference_case c;
    rpo_scores first = {0}, second = {0};
    open_case(&c, 1);
    scores_of(&c, &first, NULL, 0, 0);
    must(rpo_model_initialise(c.run.model,
                              2)); /* other weights under the same name, as if the hash had not noticed */
    scores_of(&c, &second, NULL, 0, 0);
    cr_expect_neq(memcmp(first.chosen, second.chosen, (size_t)first.count * sizeof(float)), 0);
    rpo_scores_free(&second);
    scores_of(&c, &second, NULL, 0, RECORDS);
    rpo_scores_free(&first);
    rpo_scores_free(&second);
    close_case(&c);
}

Test(reference, another_hash_is_another_file) {
    reference_case c;
    rpo_scores scores = {0};
    open_case(&c, 1);
    scores_of(&c, &scores, NULL, 0, 0);
    rpo_scores_free(&scores);
    c.reference.model_hash = "another";
    scores_of(&c, &scores, NULL, 0, 0);
    rpo_scores_free(&scores);
    close_case(&c);
}

/* Two runs that work at the same time keep what the other has found. */
Test(reference, runs_add_to_each_others_cache) {
    reference_case c;
    static const int64_t first_batch[3] = {0, 1, 2}, second_batch[3] = {3, 4, 5};
    rpo_scores one = {0}, two = {0}, all = {0};
    open_case(&c, 1);
    scores_of(&c, &one, first_batch, 3, 0);
    scores_of(&c, &two, second_batch, 3, 0);
    scores_of(&c, &all, NULL, 0, 6);
    rpo_scores_free(&all);
    rpo_scores_free(&two);
    rpo_scores_free(&one);
    close_case(&c);
}
