/* tokenizer_internal.h - the byte tokenizer's ids, between encoding, files and the check of folders. */
#ifndef RPO_HOST_DATA_TOKENIZER_INTERNAL_H
#define RPO_HOST_DATA_TOKENIZER_INTERNAL_H

#include "core/json.h"
#include "host/data/tokenizer.h"

enum { RPO_BYTE_IDS = 256, RPO_BYTE_BOS = 256, RPO_BYTE_EOS = 257, RPO_BYTE_PAD = 258, RPO_BYTE_VOCAB = 259 };

#define RPO_TOKENIZER_FILE        "tokenizer.json"
#define RPO_TOKENIZER_CONFIG_FILE "tokenizer_config.json"

struct rpo_tokenizer {
    const char *name;
    rpo_tokenizer_choice choice;
};

/* The text of BOS, EOS or PAD; NULL for any other id. */
const char *rpo_byte_special_text(int32_t id);

/* Does this tokenizer.json give every text the ids of the byte tokenizer, special tokens included? */
bool rpo_byte_tokenizer_matches(const cJSON *root);

#endif
