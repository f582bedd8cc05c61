/* test_truncation.c - kept lengths and kept tokens against the rule of truncate.h spelt out on strings. */
#include "../data_fixture.h"

#include "host/data/truncate.h"

typedef struct plain_text {
    char text[256];
    int length;
} plain_text;

/* `count` letters that differ from place to place. */
static plain_text letters(int count, char first) {
    plain_text made = {.length = count};
    for (int i = 0; i < count; ++i)
        made.text[i] = (char)(first + i % 20);
    made.text[count] = '\0';
    return made;
}

static int smaller(int a, int b) {
    return a < b ? a : b;
}

/* The rule of truncate.h. '{' stands for BOS and '}' for EOS. */
static void model_side(char out[600], int *prompt_length, const plain_text *prompt,
                       const plain_text *response, const plain_text *other, const rpo_data_options *options) {
    char kept_prompt[260], full_response[260];
    int prompt_tokens = prompt->length + 1;
    const int longer = (response->length > other->length ? response->length : other->length) + 1;
    snprintf(kept_prompt, sizeof kept_prompt, "{%s", prompt->text);
    if (prompt_tokens + longer > options->max_length && prompt_tokens > options->max_prompt_length) {
        const int text_tokens = options->max_prompt_length - 1; /* BOS stays */
        if (options->truncation == RPO_TRUNCATE_KEEP_START)
            snprintf(kept_prompt, sizeof kept_prompt, "{%.*s", text_tokens, prompt->text);
        else
            snprintf(kept_prompt, sizeof kept_prompt, "{%s", prompt->text + prompt->length - text_tokens);
        prompt_tokens = options->max_prompt_length;
    }
    snprintf(full_response, sizeof full_response, "%s}", response->text);
    const int kept = smaller(response->length + 1, options->max_length - prompt_tokens);
    *prompt_length = prompt_tokens;
    snprintf(out, 600, "%s%.*s", kept_prompt, kept, full_response);
}

static void assert_side(const data_fixture *fixture, const rpo_sequence *sequence, const char *expected,
                        int prompt_length) {
    cr_assert_eq(sequence->length, (int32_t)strlen(expected));
    cr_assert_eq(sequence->prompt_length, prompt_length);
    for (int32_t i = 0; i < sequence->length; ++i) {
        const int32_t want = expected[i] == '{'   ? rpo_tokenizer_bos(fixture->tokenizer)
                             : expected[i] == '}' ? rpo_tokenizer_eos(fixture->tokenizer)
                                                  : expected[i];
        cr_assert_eq(sequence->tokens[i], want);
    }
}

static void check_one(data_fixture *fixture, int prompt_length, int chosen_length, int rejected_length) {
    const plain_text prompt = letters(prompt_length, 'a'), chosen = letters(chosen_length, 'A'),
                     rejected = letters(rejected_length, 'C');
    char line[1024], expected[2][600];
    int prompt_tokens[2];
    snprintf(line, sizeof line, "{\"prompt\":\"%s\",\"chosen\":\"%s\",\"rejected\":\"%s\"}\n", prompt.text,
             chosen.text, rejected.text);
    rpo_dataset *dataset = fixture_load_text(fixture, line);
    const rpo_record *record = rpo_dataset_record(dataset, 0);
    const rpo_data_report *report = rpo_dataset_report(dataset);
    model_side(expected[0], &prompt_tokens[0], &prompt, &chosen, &rejected, &fixture->options);
    model_side(expected[1], &prompt_tokens[1], &prompt, &rejected, &chosen, &fixture->options);
    assert_side(fixture, &record->chosen, expected[0], prompt_tokens[0]);
    assert_side(fixture, &record->rejected, expected[1], prompt_tokens[1]);

    const bool prompt_cut = prompt_tokens[0] < prompt_length + 1;
    const int chosen_labels = record->chosen.length - record->chosen.prompt_length;
    const int rejected_labels = record->rejected.length - record->rejected.prompt_length;
    const bool chosen_cut = chosen_labels < chosen_length + 1,
               rejected_cut = rejected_labels < rejected_length + 1;
    cr_assert(chosen_labels >= 1 && rejected_labels >= 1);
    cr_assert_leq(record->chosen.length, fixture->options.max_length);
    cr_assert_eq(report->truncated_prompts, prompt_cut);
    cr_assert_eq(report->truncated_responses, chosen_cut + rejected_cut);
    cr_assert_eq(record->chosen.truncated, prompt_cut || chosen_cut);
    cr_assert_eq(record->rejected.truncated, prompt_cut || rejected_cut);
    cr_assert_eq(record->chosen.prompt_cut, prompt_length + 1 - prompt_tokens[0]);
    cr_assert_eq(record->rejected.response_cut, rejected_length + 1 - rejected_labels);
    cr_assert_eq(record->prompt_size, (size_t)prompt_length); /* embeddings see all of it */
    rpo_dataset_free(dataset);
}

Test(truncation, agrees_with_the_plain_model) {
    static const int limits[][2] = {{2, 1}, {12, 1}, {12, 5}, {12, 11}, {40, 20}};
    static const int prompts[] = {0, 1, 4, 5, 6, 11, 30}, responses[] = {1, 2, 5, 6, 7, 11, 12, 30};
    data_fixture fixture = fixture_open();
    for (size_t limit = 0; limit < sizeof limits / sizeof limits[0]; ++limit)
        for (int keep = 0; keep < 2; ++keep) {
            fixture.options.max_length = limits[limit][0];
            fixture.options.max_prompt_length = limits[limit][1];
            fixture.options.truncation = keep == 0 ? RPO_TRUNCATE_KEEP_END : RPO_TRUNCATE_KEEP_START;
            for (size_t p = 0; p < sizeof prompts / sizeof prompts[0]; ++p)
                for (size_t c = 0; c < sizeof responses / sizeof responses[0]; ++c)
                    for (size_t r = 0; r < sizeof responses / sizeof responses[0]; r += 3)
                        check_one(&fixture, prompts[p], responses[c], responses[r]);
        }
    fixture_close(&fixture);
}

Test(truncation, limits_that_leave_no_label_are_refused) {
    rpo_data_options options = {.max_length = 10, .max_prompt_length = 9};
    cr_assert_eq(rpo_truncate_check(&options), RPO_OK);
    options.max_prompt_length = 10;
    cr_assert_eq(rpo_truncate_check(&options), RPO_ERROR_INVALID_INPUT);
    assert_message_has("data.max_prompt_length");
    options.max_prompt_length = 0;
    cr_assert_eq(rpo_truncate_check(&options), RPO_ERROR_INVALID_INPUT);
    options = (rpo_data_options){.max_length = 1, .max_prompt_length = 1};
    cr_assert_eq(rpo_truncate_check(&options), RPO_ERROR_INVALID_INPUT);
    assert_message_has("data.max_length");
}

Test(truncation, very_long_texts_do_not_overflow) {
    const rpo_data_options options = {.max_length = 512, .max_prompt_length = 256};
    rpo_kept_lengths kept = rpo_truncate_plan(SIZE_MAX / 2, SIZE_MAX / 2, &options);
    cr_assert_eq(kept.prompt, 256);
    cr_assert_eq(kept.max_response, 256);
    kept = rpo_truncate_plan(1, SIZE_MAX, &options);
    cr_assert_eq(kept.prompt, 1);
    cr_assert_eq(kept.max_response, 511);
}

Test(truncation, a_response_that_fits_beside_its_kept_prompt_is_whole) {
    const rpo_data_options options = {.max_length = 512, .max_prompt_length = 256};
    rpo_kept_lengths kept = rpo_truncate_plan(100, 500, &options); /* a short prompt leaves more than half */
    cr_assert_eq(kept.prompt, 100);
    cr_assert_eq(kept.max_response, 412);
    kept = rpo_truncate_plan(300, 256, &options); /* the cut prompt makes room for all of it */
    cr_assert_eq(kept.prompt, 256);
    cr_assert_eq(kept.max_response, 256);
}
