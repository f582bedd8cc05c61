/*
 * dataset.h - preference records from .jsonl and .jsonl.gz files, tokenized and truncated.
 *
 * A pairs record holds a chosen and a rejected sequence over one prompt; an unpaired record holds one of the
 * two. A sequence is BOS + prompt + response + EOS; its labels are the response tokens and the EOS.
 */
#ifndef RPO_HOST_DATA_DATASET_H
#define RPO_HOST_DATA_DATASET_H

#include "core/core.h"
#include "host/data/tokenizer.h"

typedef enum rpo_data_format {
    RPO_DATA_AUTO,
    RPO_DATA_PAIRS,
    RPO_DATA_HH,
    RPO_DATA_UNPAIRED
} rpo_data_format;
/* "auto", "pairs", "hh", "unpaired"; NULL otherwise. Static storage. */
const char *rpo_data_format_name(rpo_data_format format);

typedef enum rpo_truncation { RPO_TRUNCATE_KEEP_END, RPO_TRUNCATE_KEEP_START } rpo_truncation;
typedef enum rpo_bad_record { RPO_BAD_RECORD_ERROR, RPO_BAD_RECORD_SKIP } rpo_bad_record;

typedef struct rpo_data_options {
    rpo_data_format format;
    int32_t max_length;        /* tokens of a sequence, BOS and EOS counted */
    int32_t max_prompt_length; /* tokens of the prompt, once a sequence is over max_length */
    rpo_truncation truncation; /* which end of an over-long prompt stays */
    rpo_bad_record on_bad_record;
} rpo_data_options;

typedef struct rpo_sequence {
    const int32_t *tokens; /* NULL when the record has no such side */
    int32_t length;        /* BOS + prompt + response + EOS */
    int32_t prompt_length; /* BOS + prompt: tokens before the first label */
    bool truncated;
    int32_t prompt_cut, response_cut; /* tokens that truncation removed */
} rpo_sequence;

typedef struct rpo_record {
    rpo_sequence chosen, rejected;
    const char *prompt; /* UTF-8, untruncated, NUL-terminated; what embeddings see */
    size_t prompt_size;
    int32_t file; /* index into the list of paths */
    int64_t line; /* 1-based */
} rpo_record;

typedef struct rpo_data_report {
    int64_t records, lines_blank, skipped, truncated_prompts, truncated_responses,
        duplicates /* chosen = rejected */, chosen, rejected; /* sequences of each kind */
    int64_t blank_responses; /* nothing but white space: kept (real HH data hold some), counted to be warned
                                about */
    int64_t tokens, label_tokens;
    char first_skipped[512]; /* message of the first skipped record */
} rpo_data_report;

typedef struct rpo_dataset rpo_dataset;

/*
 * Reads all `paths`. Every record of a dataset has one format (pairs and hh count as one: paired); with
 * RPO_DATA_AUTO the first record of each file decides for that file. See record.h for the forms a record may
 * take and truncate.h for what happens to long ones. Faults are INVALID_INPUT, "FILE:LINE: key: what is
 * wrong; what is allowed". RPO_BAD_RECORD_SKIP passes over faults of single records (counted); a damaged
 * file, a mix of paired and unpaired files and a dataset without any record are faults all the same.
 */
rpo_status rpo_dataset_load(rpo_dataset **dataset, const char *const *paths, size_t num_paths,
                            const rpo_data_options *options, const rpo_tokenizer *tokenizer);
void rpo_dataset_free(rpo_dataset *dataset);

int64_t rpo_dataset_size(const rpo_dataset *dataset);
bool rpo_dataset_is_paired(const rpo_dataset *dataset);
const rpo_record *rpo_dataset_record(const rpo_dataset *dataset, int64_t index);
const rpo_data_report *rpo_dataset_report(const rpo_dataset *dataset);
/* Format of the file at that index of the list of paths: what `auto` found, or what was asked for. */
rpo_data_format rpo_dataset_file_format(const rpo_dataset *dataset, size_t file);
/* Hash of every token, prompt and label position in order, and of the tokenizer: the key of every cache. */
const char *rpo_dataset_hash(const rpo_dataset *dataset);

/* order[count]: a permutation that is a pure function of seed and epoch. */
void rpo_dataset_shuffle(int64_t *order, int64_t count, uint64_t seed, int64_t epoch);

#endif
