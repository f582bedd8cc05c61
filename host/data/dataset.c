/* dataset.c - what a loaded dataset answers: records, report, hash, order. */
#include "host/data/dataset.h"

#include "host/data/dataset_internal.h"

const char *rpo_data_format_name(rpo_data_format format) {
    switch (format) {
    case RPO_DATA_AUTO:
        return "auto";
    case RPO_DATA_PAIRS:
        return "pairs";
    case RPO_DATA_HH:
        return "hh";
    case RPO_DATA_UNPAIRED:
        return "unpaired";
    }
    return NULL;
}

static void hash_sequence(rpo_hash *hash, const rpo_sequence *sequence) {
    const int32_t lengths[2] = {sequence->length, sequence->prompt_length};
    rpo_hash_add(hash, lengths, sizeof lengths);
    if (sequence->length > 0)
        rpo_hash_add(hash, sequence->tokens, (size_t)sequence->length * sizeof *sequence->tokens);
}

rpo_status rpo_dataset_seal(rpo_dataset *dataset, const rpo_tokenizer *tokenizer) {
    rpo_hash *hash = rpo_hash_new();
    if (hash == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    rpo_hash_add_string(hash, rpo_tokenizer_name(tokenizer));
    const int32_t *tokens = dataset->tokens;
    const char *prompt = dataset->prompts.data;
    for (size_t i = 0; i < dataset->count; ++i) {
        rpo_record *record = &dataset->records[i];
        rpo_sequence *sides[2] = {&record->chosen, &record->rejected};
        for (int side = 0; side < 2; ++side) {
            if (sides[side]->length > 0)
                sides[side]->tokens = tokens;
            tokens += sides[side]->length;
            hash_sequence(hash, sides[side]);
        }
        record->prompt = prompt;
        prompt += record->prompt_size + 1;
        rpo_hash_add_string(hash, record->prompt);
    }
    rpo_hash_finish(hash, dataset->hash);
    return RPO_OK;
}

void rpo_dataset_free(rpo_dataset *dataset) {
    if (dataset == NULL)
        return;
    rpo_free(dataset->formats);
    rpo_text_free(&dataset->prompts);
    rpo_free(dataset->tokens);
    rpo_free(dataset->records);
    rpo_free(dataset);
}

int64_t rpo_dataset_size(const rpo_dataset *dataset) {
    return (int64_t)dataset->count;
}

bool rpo_dataset_is_paired(const rpo_dataset *dataset) {
    return dataset->paired;
}

const rpo_record *rpo_dataset_record(const rpo_dataset *dataset, int64_t index) {
    return &dataset->records[index];
}

const rpo_data_report *rpo_dataset_report(const rpo_dataset *dataset) {
    return &dataset->report;
}

rpo_data_format rpo_dataset_file_format(const rpo_dataset *dataset, size_t file) {
    return file < dataset->num_files ? dataset->formats[file] : RPO_DATA_AUTO;
}

const char *rpo_dataset_hash(const rpo_dataset *dataset) {
    return dataset->hash;
}

void rpo_dataset_shuffle(int64_t *order, int64_t count, uint64_t seed, int64_t epoch) {
    rpo_random_permutation(order, count, seed, rpo_random_stream(RPO_RANDOM_EPOCH_ORDER, (uint64_t)epoch));
}
