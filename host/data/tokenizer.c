/* tokenizer.c - the built-in byte tokenizer. */
#include <string.h>

#include "host/data/tokenizer_internal.h"

rpo_status rpo_tokenizer_open(rpo_tokenizer **tokenizer, const char *model_folder,
                              rpo_tokenizer_choice choice) {
    *tokenizer = NULL;
    rpo_tokenizer *opened = rpo_calloc_array(1, sizeof *opened);
    if (opened == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    *opened = (rpo_tokenizer){.name = "byte", .choice = choice};
    const rpo_status status =
        model_folder != NULL ? rpo_tokenizer_check_folder(opened, model_folder) : RPO_OK;
    if (status != RPO_OK) {
        rpo_tokenizer_free(opened);
        return status;
    }
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
    return RPO_BYTE_VOCAB;
}

int32_t rpo_tokenizer_bos(const rpo_tokenizer *tokenizer) {
    (void)tokenizer;
    return RPO_BYTE_BOS;
}

int32_t rpo_tokenizer_eos(const rpo_tokenizer *tokenizer) {
    (void)tokenizer;
    return RPO_BYTE_EOS;
}

int32_t rpo_tokenizer_pad(const rpo_tokenizer *tokenizer) {
    (void)tokenizer;
    return RPO_BYTE_PAD;
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

const char *rpo_byte_special_text(int32_t id) {
    switch (id) {
    case RPO_BYTE_BOS:
        return "<bos>";
    case RPO_BYTE_EOS:
        return "<eos>";
    case RPO_BYTE_PAD:
        return "<pad>";
    default:
        return NULL;
    }
}

rpo_status rpo_tokenizer_decode(const rpo_tokenizer *tokenizer, const int32_t *ids, size_t count,
                                rpo_text *text) {
    (void)tokenizer;
    for (size_t i = 0; i < count; ++i) {
        if (ids[i] >= 0 && ids[i] < RPO_BYTE_IDS) {
            const char byte = (char)(unsigned char)ids[i];
            RPO_TRY(rpo_text_append(text, &byte, 1));
            continue;
        }
        const char *special = rpo_byte_special_text(ids[i]);
        if (special == NULL)
            return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT, "ids[%zu]: is %d; must be from 0 to %d", i,
                                 ids[i], RPO_BYTE_VOCAB - 1);
        RPO_TRY(rpo_text_append(text, special, strlen(special)));
    }
    return RPO_OK;
}
