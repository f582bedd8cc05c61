/*
 * train_fixture.h - a temp folder, tiny preference data and a tiny model for the trainer's tests.
 */
#ifndef RPO_TESTS_TRAIN_FIXTURE_H
#define RPO_TESTS_TRAIN_FIXTURE_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "host/comm/comm.h"
#include "host/data/dataset.h"
#include "tests/model_testing.h"

/* Fails the test with the library's message. */
static inline void must(rpo_status status) {
    cr_assert_eq(status, RPO_OK, "%s: %s", rpo_status_name(status), rpo_last_error());
}

static inline void make_folder(char folder[64]) {
    snprintf(folder, 64, "/tmp/rpo-test-XXXXXX");
    cr_assert_not_null(mkdtemp(folder));
}

static inline void path_in(char path[256], const char *folder, const char *name) {
    snprintf(path, 256, "%s/%s", folder, name);
}

/* `count` pairs over three topics, of ragged lengths. */
static inline rpo_dataset *make_pairs(const char *folder, int count, const rpo_tokenizer *tokenizer) {
    static const char *const topics[3] = {"sea", "old stone bridges", "tea"};
    char path[256];
    path_in(path, folder, "pairs.jsonl");
    FILE *file = fopen(path, "w");
    cr_assert_not_null(file);
    for (int i = 0; i < count; ++i)
        fprintf(file,
                "{\"prompt\": \"Tell me of the %s, part %d.\", \"chosen\": \"%.*s It is fine, %d.\", "
                "\"rejected\": "
                "\"No%.*s %d\"}\n",
                topics[i % 3], i, 3 * (i % 5), "Certainly, yes.", i, 2 * (i % 7), "!!!!!!!!!!!!!!", i * 7);
    fclose(file);
    const rpo_data_options options = {.format = RPO_DATA_AUTO, .max_length = 128, .max_prompt_length = 64};
    const char *const paths[1] = {path};
    rpo_dataset *dataset = NULL;
    must(rpo_dataset_load(&dataset, paths, 1, &options, tokenizer));
    return dataset;
}

/* One unpaired record for every character of `labels`: '1' chosen, '0' rejected. */
static inline rpo_dataset *make_unpaired(const char *folder, const char *labels,
                                         const rpo_tokenizer *tokenizer) {
    char path[256];
    path_in(path, folder, "unpaired.jsonl");
    FILE *file = fopen(path, "w");
    cr_assert_not_null(file);
    for (int i = 0; labels[i] != '\0'; ++i)
        fprintf(file, "{\"prompt\": \"Question %d of %c?\", \"completion\": \"Answer %d.\", \"label\": %s}\n",
                i, 'a' + i % 4, i * 31, labels[i] == '1' ? "true" : "false");
    fclose(file);
    const rpo_data_options options = {.format = RPO_DATA_AUTO, .max_length = 128, .max_prompt_length = 64};
    const char *const paths[1] = {path};
    rpo_dataset *dataset = NULL;
    must(rpo_dataset_load(&dataset, paths, 1, &options, tokenizer));
    return dataset;
}

static inline test_model make_model(rpo_context *context, uint64_t seed) {
    rpo_model_config config = rpo_model_config_default();
    config.vocab_size = 259;
    config.hidden_size = 24;
    config.intermediate_size = 40;
    config.num_hidden_layers = 2;
    config.num_attention_heads = 4;
    config.num_key_value_heads = 2;
    config.head_dim = 6;
    config.max_position_embeddings = 256;
    config.initializer_range = 0.08; /* large enough that the log-probs differ visibly */
    return test_model_create(context, &config, seed);
}

#endif
