/* tokenizer.c - the built-in byte tokenizer. */
#include "host/data/tokenizer.h"

#include <string.h>

enum { NUM_BYTES = 256, BOS_ID = 256, EOS_ID = 257, PAD_ID = 258, VOCAB_SIZE = 259 };

struct rpo_tokenizer {
    const char *name;
};

static rpo_status refuse_tokenizer_file(const char *model_folder) {
    char *path = rpo_path_join(model_folder, "tokenizer.json");
    if (path == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    rpo_status status = RPO_OK;
    if (rpo_path_exists(path))
        status = rpo_error_set(RPO_ERROR_UNSUPPORTED,
                               "%s: tokenizer files are not read by this version; use a folder without one, "
                               "which selects the byte tokenizer",
                               path);
    rpo_free(path);
    return status;
}

rpo_status rpo_tokenizer_open(rpo_tokenizer **tokenizer, const char *model_folder) {
    *tokenizer = NULL;
    if (model_folder != NULL)
        RPO_TRY(refuse_tokenizer_file(model_folder));
    rpo_tokenizer *opened = rpo_calloc_array(1, sizeof *opened);
    if (opened == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    opened->name = "byte";
    *tokenizer = opened;
    return RPO_OK;
}

void rpo_tokenizer_free(rpo_tokenizer *tokenizer) {
    rpo_free(tokenizer);
}

const char *rpo_tokenizer_name(const rpo_tokenizer *tokenizer) {
    return tokenizer->name;
}

int32_t rpo_tokenizer_vocab_size(const rpo_tokenizer *tokenizer) {
    (void)tokenizer;
    return VOCAB_SIZE;
}

int32_t rpo_tokenizer_bos(const rpo_tokenizer *tokenizer) {
    (void)tokenizer;
    return BOS_ID;
}

int32_t rpo_tokenizer_eos(const rpo_tokenizer *tokenizer) {
    (void)tokenizer;
    return EOS_ID;
}

rpo_status rpo_tokenizer_encode(const rpo_tokenizer *tokenizer, const char *text, size_t length,
                                int32_t **ids, size_t *count, size_t *capacity) {
    (void)tokenizer;
    if (length > SIZE_MAX - *count)
        return rpo_error_set(RPO_ERROR_OUT_OF_MEMORY, "tokenizer: %zu bytes of text are too many", length);
    RPO_TRY(rpo_grow_array((void **)ids, capacity, *count + length, sizeof **ids));
    for (size_t i = 0; i < length; ++i)
        (*ids)[*count + i] = (unsigned char)text[i];
    *count += length;
    return RPO_OK;
}

static const char *special_text(int32_t id) {
    switch (id) {
    case BOS_ID:
        return "<bos>";
    case EOS_ID:
        return "<eos>";
    case PAD_ID:
        return "<pad>";
    default:
        return NULL;
    }
}

rpo_status rpo_tokenizer_decode(const rpo_tokenizer *tokenizer, const int32_t *ids, size_t count,
                                rpo_text *text) {
    (void)tokenizer;
    for (size_t i = 0; i < count; ++i) {
        if (ids[i] >= 0 && ids[i] < NUM_BYTES) {
            const char byte = (char)(unsigned char)ids[i];
            RPO_TRY(rpo_text_append(text, &byte, 1));
            continue;
        }
        const char *special = special_text(ids[i]);
        if (special == NULL)
            return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT, "ids[%zu]: is %d; must be from 0 to %d", i,
                                 ids[i], VOCAB_SIZE - 1);
        RPO_TRY(rpo_text_append(text, special, strlen(special)));
    }
    return RPO_OK;
}
