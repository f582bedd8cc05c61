/* dataset_internal.h - what load.c fills and dataset.c hands out. */
#ifndef RPO_HOST_DATA_DATASET_INTERNAL_H
#define RPO_HOST_DATA_DATASET_INTERNAL_H

#include "host/data/dataset.h"

/*
 * All tokens lie in one array and all prompts in one text, in record order: chosen before rejected, each
 * prompt with its NUL. Both grow while loading, so the records' pointers are set once, at the end.
 */
struct rpo_dataset {
    rpo_record *records;
    size_t count, capacity;
    int32_t *tokens;
    size_t num_tokens, token_capacity;
    rpo_text prompts;
    rpo_data_format *formats; /* [num_files] RPO_DATA_AUTO where a file holds no record */
    size_t num_files;
    bool format_known, paired;
    rpo_data_report report;
    char hash[33];
};

/* Sets the records' pointers and the hash, once everything is loaded. */
rpo_status rpo_dataset_seal(rpo_dataset *dataset, const rpo_tokenizer *tokenizer);

#endif
