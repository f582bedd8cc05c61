/* fuzz_records.c - data files of every format: lines, JSON, messages, dialogues, tokens and their lengths. */
#include "fuzz.h"
#include "host/data/dataset.h"

static void check_sequence(const rpo_sequence *sequence, const rpo_data_options *options) {
    if (sequence->length == 0)
        return;
    FUZZ_CHECK(sequence->length <= options->max_length);
    FUZZ_CHECK(sequence->prompt_length >= 1 && sequence->prompt_length < sequence->length);
    FUZZ_CHECK(sequence->prompt_cut >= 0 && sequence->response_cut >= 0);
    for (int32_t i = 0; i < sequence->length; ++i)
        FUZZ_CHECK(sequence->tokens[i] >= 0 && sequence->tokens[i] < 259);
}

static void check_dataset(const rpo_dataset *dataset, const rpo_data_options *options) {
    const rpo_data_report *report = rpo_dataset_report(dataset);
    FUZZ_CHECK(rpo_dataset_size(dataset) >= 1 && report->records == rpo_dataset_size(dataset));
    int64_t tokens = 0;
    for (int64_t i = 0; i < rpo_dataset_size(dataset); ++i) {
        const rpo_record *record = rpo_dataset_record(dataset, i);
        FUZZ_CHECK(record->chosen.length > 0 || record->rejected.length > 0);
        FUZZ_CHECK(
            !rpo_dataset_is_paired(dataset) ||
            (record->chosen.length > 0 && record->chosen.prompt_length == record->rejected.prompt_length));
        FUZZ_CHECK(strlen(record->prompt) == record->prompt_size);
        check_sequence(&record->chosen, options);
        check_sequence(&record->rejected, options);
        tokens += record->chosen.length + record->rejected.length;
    }
    FUZZ_CHECK(tokens == report->tokens);
}

/* The first byte chooses the format, what happens to bad records and the end that is cut. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0)
        return 0;
    const rpo_data_options options = {.format = (rpo_data_format)(data[0] & 3),
                                      .max_length = 24,
                                      .max_prompt_length = 9,
                                      .truncation = (rpo_truncation)(data[0] >> 2 & 1),
                                      .on_bad_record = (rpo_bad_record)(data[0] >> 3 & 1)};
    const char *path = fuzz_file(data + 1, size - 1);
    rpo_tokenizer *tokenizer = NULL;
    rpo_dataset *dataset = NULL;
    FUZZ_CHECK(rpo_tokenizer_open(&tokenizer, NULL, RPO_TOKENIZER_AUTO) == RPO_OK);
    if (fuzz_accepted(rpo_dataset_load(&dataset, &path, 1, &options, tokenizer)))
        check_dataset(dataset, &options);
    else
        FUZZ_CHECK(dataset == NULL);
    rpo_dataset_free(dataset);
    rpo_tokenizer_free(tokenizer);
    return 0;
}
