/* test_hh.c - the real HH files: every pair loads, and what loads is what the files say. */
#include "../data_fixture.h"

#include <cjson/cJSON.h>

#define TRAIN_FILE RPO_TEST_SHARED_DIR "/data/hh-harmless-train.jsonl.gz"
#define TEST_FILE  RPO_TEST_SHARED_DIR "/data/hh-harmless-test.jsonl.gz"

/* All of a gzip file, NUL-terminated, by zlib's own reader; free(). */
static char *read_gzip(const char *path) {
    gzFile file = gzopen(path, "rb");
    cr_assert_not_null(file);
    size_t capacity = 1 << 16, length = 0;
    char *text = malloc(capacity + 1);
    for (int got; (got = gzread(file, text + length, (unsigned)(capacity - length))) > 0;) {
        length += (size_t)got;
        if (length == capacity)
            text = realloc(text, (capacity *= 2) + 1);
    }
    gzclose(file);
    text[length] = '\0';
    return text;
}

/* The record's dialogue is its decoded prompt and response, and the cut is the last one both sides share. */
static void check_record(const data_fixture *fixture, const rpo_record *record, const char *chosen,
                         const char *rejected) {
    static const char turn[] = "\n\nAssistant:";
    const size_t size = record->prompt_size, mark = sizeof turn - 1;
    cr_assert_geq(size, mark);
    cr_assert_eq(strncmp(chosen, record->prompt, size), 0);
    cr_assert_eq(strncmp(rejected, record->prompt, size), 0);
    cr_assert_str_eq(record->prompt + size - mark, turn);
    assert_sequence(fixture, &record->chosen, record->prompt, chosen + size);
    assert_sequence(fixture, &record->rejected, record->prompt, rejected + size);
    for (const char *later = strstr(chosen + size, turn); later != NULL; later = strstr(later + 1, turn))
        cr_assert_neq(strncmp(chosen, rejected, (size_t)(later - chosen) + mark), 0,
                      "line %lld shares a later turn", (long long)record->line);
}

static void check_file(const char *path, int64_t expected) {
    if (access(path, R_OK) != 0) {
        cr_skip_test("%s is not there\n", path);
        return;
    }
    data_fixture fixture = fixture_open();
    fixture.options.max_length = 1 << 20; /* nothing is cut */
    fixture.options.max_prompt_length = 1 << 19;
    snprintf(fixture.path, sizeof fixture.path, "%s", path);
    rpo_dataset *dataset = NULL;
    cr_assert_eq(fixture_load(&fixture, &dataset), RPO_OK, "%s", rpo_last_error());
    cr_assert_eq(rpo_dataset_file_format(dataset, 0), RPO_DATA_HH);

    char *text = read_gzip(path), *rest = text, *line;
    int64_t records = 0, duplicates = 0, tokens = 0;
    while ((line = strsep(&rest, "\n")) != NULL && *line != '\0') {
        cJSON *pair = cJSON_Parse(line);
        const char *chosen = cJSON_GetStringValue(cJSON_GetObjectItem(pair, "chosen"));
        const char *rejected = cJSON_GetStringValue(cJSON_GetObjectItem(pair, "rejected"));
        cr_assert_lt(records, rpo_dataset_size(dataset));
        const rpo_record *record = rpo_dataset_record(dataset, records++);
        cr_assert_eq(record->line, records);
        check_record(&fixture, record, chosen, rejected);
        duplicates += strcmp(chosen, rejected) == 0;
        tokens += (int64_t)(strlen(chosen) + strlen(rejected)) + 4; /* BOS and EOS of both */
        cJSON_Delete(pair);
    }
    const rpo_data_report *report = rpo_dataset_report(dataset);
    cr_assert_eq(records, expected);
    cr_assert_eq(rpo_dataset_size(dataset), records);
    cr_assert_eq(report->records, records);
    cr_assert_eq(report->duplicates, duplicates);
    cr_assert_eq(report->tokens, tokens);
    cr_assert_eq(
        report->skipped + report->lines_blank + report->truncated_prompts + report->truncated_responses, 0);
    free(text);
    rpo_dataset_free(dataset);
    fixture_close(&fixture);
}

Test(hh, training_file) {
    check_file(TRAIN_FILE, 1800);
}

Test(hh, held_out_file) {
    check_file(TEST_FILE, 200);
}

Test(hh, usual_limits) {
    if (access(TRAIN_FILE, R_OK) != 0) {
        cr_skip_test("%s is not there\n", TRAIN_FILE);
        return;
    }
    data_fixture fixture = fixture_open();
    snprintf(fixture.path, sizeof fixture.path, "%s", TRAIN_FILE);
    rpo_dataset *dataset = NULL;
    cr_assert_eq(fixture_load(&fixture, &dataset), RPO_OK, "%s", rpo_last_error());
    int64_t prompts = 0, responses = 0, tokens = 0, labels = 0;
    for (int64_t i = 0; i < rpo_dataset_size(dataset); ++i) {
        const rpo_record *record = rpo_dataset_record(dataset, i);
        const rpo_sequence *sides[2] = {&record->chosen, &record->rejected};
        prompts += record->chosen.prompt_cut > 0;
        cr_assert_eq(record->chosen.prompt_length, record->rejected.prompt_length);
        for (int side = 0; side < 2; ++side) {
            const rpo_sequence *sequence = sides[side];
            cr_assert_leq(sequence->length, 512);
            cr_assert_gt(sequence->length, sequence->prompt_length);
            cr_assert_eq(sequence->tokens[0], rpo_tokenizer_bos(fixture.tokenizer));
            const bool whole = sequence->tokens[sequence->length - 1] == rpo_tokenizer_eos(fixture.tokenizer);
            cr_assert_eq(whole, sequence->response_cut == 0);
            responses += sequence->response_cut > 0;
            tokens += sequence->length;
            labels += sequence->length - sequence->prompt_length;
        }
    }
    const rpo_data_report *report = rpo_dataset_report(dataset);
    cr_assert_eq(report->truncated_prompts, prompts);
    cr_assert_eq(report->truncated_responses, responses);
    cr_assert_eq(report->tokens, tokens);
    cr_assert_eq(report->label_tokens, labels);
    cr_assert(prompts > 0 && responses > 0); /* the file has dialogues well over the limits */
    rpo_dataset_free(dataset);
    fixture_close(&fixture);
}
