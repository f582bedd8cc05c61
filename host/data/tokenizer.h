/*
 * tokenizer.h - text to token ids. Built in: bytes 0..255 as ids 0..255, then BOS 256, EOS 257, PAD 258.
 *
 * A model is never fed ids it was not trained with: its folder is checked first, unless the user says
 * `model.tokenizer` = `bytes`. What is trained here is written with a tokenizer.json of the same ids, which
 * transformers loads and which makes the folder acceptable again.
 */
#ifndef RPO_HOST_DATA_TOKENIZER_H
#define RPO_HOST_DATA_TOKENIZER_H

#include "core/core.h"

typedef struct rpo_tokenizer rpo_tokenizer;

/* `model.tokenizer`: what the folder speaks for, or bytes whatever it holds. */
typedef enum rpo_tokenizer_choice { RPO_TOKENIZER_AUTO, RPO_TOKENIZER_BYTES } rpo_tokenizer_choice;

/* `model_folder` may be NULL (a fresh model); otherwise it is checked as by rpo_tokenizer_check_folder. */
rpo_status rpo_tokenizer_open(rpo_tokenizer **tokenizer, const char *model_folder,
                              rpo_tokenizer_choice choice);
void rpo_tokenizer_free(rpo_tokenizer *tokenizer);

/*
 * Was the model of this HF folder trained with these ids? RPO_TOKENIZER_BYTES: whatever it was trained with,
 * RPO_OK. Otherwise the folder must hold a tokenizer.json of these very ids (such as rpo_tokenizer_save
 * writes), or no tokenizer file at all and a config.json whose vocab_size is rpo_tokenizer_vocab_size; and
 * bos_token_id and eos_token_id, where config.json has them, must be these. A config.json that is missing is
 * left to the model's loader. Faults: INVALID_INPUT, with the file or the key at fault.
 */
rpo_status rpo_tokenizer_check_folder(const rpo_tokenizer *tokenizer, const char *model_folder);

/* Writes tokenizer.json and tokenizer_config.json into an existing folder, each synced to disk. */
rpo_status rpo_tokenizer_save(const rpo_tokenizer *tokenizer, const char *folder);

const char *rpo_tokenizer_name(const rpo_tokenizer *tokenizer); /* "byte": part of cache keys */
int32_t rpo_tokenizer_vocab_size(const rpo_tokenizer *tokenizer);
int32_t rpo_tokenizer_bos(const rpo_tokenizer *tokenizer);
int32_t rpo_tokenizer_eos(const rpo_tokenizer *tokenizer);
int32_t rpo_tokenizer_pad(const rpo_tokenizer *tokenizer);

/* Appends the ids of text[0..length) to *ids (grown with rpo_grow_array). No special tokens are added. */
rpo_status rpo_tokenizer_encode(const rpo_tokenizer *tokenizer, const char *text, size_t length,
                                int32_t **ids, size_t *count, size_t *capacity);

/* Appends the text of ids; special tokens as <bos>, <eos>, <pad>. */
rpo_status rpo_tokenizer_decode(const rpo_tokenizer *tokenizer, const int32_t *ids, size_t count,
                                rpo_text *text);

#endif
