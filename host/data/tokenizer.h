/*
 * tokenizer.h - text to token ids. Built in: bytes 0..255 as ids 0..255, then BOS, EOS, PAD.
 */
#ifndef RPO_HOST_DATA_TOKENIZER_H
#define RPO_HOST_DATA_TOKENIZER_H

#include "core/core.h"

/* model.tokenizer: the folder's own, or bytes whatever the folder says. */
typedef enum rpo_tokenizer_choice { RPO_TOKENIZER_AUTO, RPO_TOKENIZER_BYTES } rpo_tokenizer_choice;

typedef struct rpo_tokenizer rpo_tokenizer;

/* `model_folder` may be NULL. A folder that holds a tokenizer.json is refused (UNSUPPORTED): this version
 * reads none. */
rpo_status rpo_tokenizer_open(rpo_tokenizer **tokenizer, const char *model_folder);
void rpo_tokenizer_free(rpo_tokenizer *tokenizer);

const char *rpo_tokenizer_name(const rpo_tokenizer *tokenizer); /* "byte": part of cache keys */
int32_t rpo_tokenizer_vocab_size(const rpo_tokenizer *tokenizer);
int32_t rpo_tokenizer_bos(const rpo_tokenizer *tokenizer);
int32_t rpo_tokenizer_eos(const rpo_tokenizer *tokenizer);

/* Appends the ids of text[0..length) to *ids (grown with rpo_grow_array). No special tokens are added. */
rpo_status rpo_tokenizer_encode(const rpo_tokenizer *tokenizer, const char *text, size_t length,
                                int32_t **ids, size_t *count, size_t *capacity);

/* Appends the text of ids; special tokens as <bos>, <eos>, <pad>. */
rpo_status rpo_tokenizer_decode(const rpo_tokenizer *tokenizer, const int32_t *ids, size_t count,
                                rpo_text *text);

#endif
