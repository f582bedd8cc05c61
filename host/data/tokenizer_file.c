/*
 * tokenizer_file.c - the byte tokenizer as a tokenizer.json of the tokenizers library, and how one is known.
 *
 * It is a BPE model without merges: the ByteLevel pre-tokenizer turns each byte into a printable character
 * (GPT-2's table), the vocabulary turns that back into the byte's value. BOS stands before every text unless
 * add_special_tokens is off, as in training. tokenizer_config.json asks for split_special_tokens: a text that
 * happens to hold "<eos>" is bytes like any other, which only this option gives.
 */
#include <string.h>

#include "host/data/tokenizer_internal.h"

typedef struct byte_character {
    char utf8[3]; /* NUL-terminated */
} byte_character;

/* Printable Latin-1 stands for itself; the other bytes, in order, are U+0100, U+0101, ... */
static void fill_characters(byte_character characters[RPO_BYTE_IDS]) {
    unsigned others = 0;
    for (unsigned byte = 0; byte < RPO_BYTE_IDS; ++byte) {
        const bool printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte != 0xad);
        const unsigned point = printable ? byte : 0x100 + others++;
        char *utf8 = characters[byte].utf8;
        utf8[0] = (char)(point < 0x80 ? point : 0xc0 | point >> 6);
        utf8[1] = (char)(point < 0x80 ? 0 : 0x80 | (point & 0x3f));
        utf8[2] = '\0';
    }
}

/* ---- writing ---- */

static rpo_status append_added_tokens(rpo_text *text) {
    RPO_TRY(rpo_text_printf(text, "  \"added_tokens\": [\n"));
    for (int32_t id = RPO_BYTE_IDS; id < RPO_BYTE_VOCAB; ++id)
        RPO_TRY(rpo_text_printf(text,
                                "    {\"id\": %d, \"content\": \"%s\", \"single_word\": false, "
                                "\"lstrip\": false, \"rstrip\": false, \"normalized\": false, "
                                "\"special\": true}%s\n",
                                id, rpo_byte_special_text(id), id + 1 < RPO_BYTE_VOCAB ? "," : ""));
    return rpo_text_printf(text, "  ],\n");
}

static rpo_status append_post_processor(rpo_text *text) {
    const char *bos = rpo_byte_special_text(RPO_BYTE_BOS);
    return rpo_text_printf(
        text,
        "  \"post_processor\": {\n    \"type\": \"TemplateProcessing\",\n"
        "    \"single\": [{\"SpecialToken\": {\"id\": \"%s\", \"type_id\": 0}}, "
        "{\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}],\n"
        "    \"pair\": [{\"SpecialToken\": {\"id\": \"%s\", \"type_id\": 0}}, "
        "{\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}, {\"Sequence\": {\"id\": \"B\", \"type_id\": 1}}],\n"
        "    \"special_tokens\": {\"%s\": {\"id\": \"%s\", \"ids\": [%d], \"tokens\": [\"%s\"]}}\n  },\n",
        bos, bos, bos, bos, RPO_BYTE_BOS, bos);
}

static rpo_status append_model(rpo_text *text) {
    byte_character characters[RPO_BYTE_IDS];
    fill_characters(characters);
    RPO_TRY(rpo_text_printf(
        text, "  \"model\": {\n    \"type\": \"BPE\",\n    \"dropout\": null,\n    \"unk_token\": null,\n"
              "    \"continuing_subword_prefix\": null,\n    \"end_of_word_suffix\": null,\n"
              "    \"fuse_unk\": false,\n    \"byte_fallback\": false,\n    \"ignore_merges\": false,\n"
              "    \"vocab\": {\n"));
    for (int byte = 0; byte < RPO_BYTE_IDS; ++byte) {
        RPO_TRY(rpo_text_printf(text, "      "));
        RPO_TRY(rpo_json_append_string(text, characters[byte].utf8));
        RPO_TRY(rpo_text_printf(text, ": %d%s\n", byte, byte + 1 < RPO_BYTE_IDS ? "," : ""));
    }
    return rpo_text_printf(text, "    },\n    \"merges\": []\n  }\n");
}

static rpo_status append_tokenizer(rpo_text *text) {
    RPO_TRY(
        rpo_text_printf(text, "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n"));
    RPO_TRY(append_added_tokens(text));
    RPO_TRY(rpo_text_printf(text,
                            "  \"normalizer\": null,\n"
                            "  \"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false, "
                            "\"trim_offsets\": false, \"use_regex\": false},\n"));
    RPO_TRY(append_post_processor(text));
    RPO_TRY(rpo_text_printf(text, "  \"decoder\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false, "
                                  "\"trim_offsets\": false, \"use_regex\": false},\n"));
    RPO_TRY(append_model(text));
    return rpo_text_printf(text, "}\n");
}

static rpo_status append_tokenizer_config(rpo_text *text) {
    return rpo_text_printf(text,
                           "{\n  \"tokenizer_class\": \"PreTrainedTokenizerFast\",\n"
                           "  \"bos_token\": \"%s\",\n  \"eos_token\": \"%s\",\n  \"pad_token\": \"%s\",\n"
                           "  \"split_special_tokens\": true,\n"
                           "  \"clean_up_tokenization_spaces\": false\n}\n",
                           rpo_byte_special_text(RPO_BYTE_BOS), rpo_byte_special_text(RPO_BYTE_EOS),
                           rpo_byte_special_text(RPO_BYTE_PAD));
}

typedef rpo_status append_function(rpo_text *text);

static rpo_status write_file(const char *folder, const char *name, append_function *append) {
    rpo_text text = {0};
    char *path = rpo_path_join(folder, name);
    rpo_status status = path == NULL ? RPO_ERROR_OUT_OF_MEMORY : append(&text);
    if (status == RPO_OK)
        status = rpo_write_file_atomic(path, text.data, text.length);
    rpo_text_free(&text);
    rpo_free(path);
    return status;
}

rpo_status rpo_tokenizer_save(const rpo_tokenizer *tokenizer, const char *folder) {
    (void)tokenizer; /* there is one kind so far */
    RPO_TRY(write_file(folder, RPO_TOKENIZER_FILE, append_tokenizer));
    return write_file(folder, RPO_TOKENIZER_CONFIG_FILE, append_tokenizer_config);
}

/* ---- recognising: by what the file does, so that one written again by transformers is known too ---- */

static const cJSON *member(const cJSON *object, const char *key) {
    return cJSON_GetObjectItemCaseSensitive(object, key);
}

static bool is_string(const cJSON *node, const char *expected) {
    return cJSON_IsString(node) && strcmp(node->valuestring, expected) == 0;
}

static bool is_number(const cJSON *node, int32_t expected) {
    return cJSON_IsNumber(node) && node->valuedouble == (double)expected;
}

/* Absent, null, false, "" or an empty list: an option that does nothing. */
static bool is_off(const cJSON *node) {
    return node == NULL || cJSON_IsNull(node) || cJSON_IsFalse(node) || is_string(node, "") ||
           (cJSON_IsArray(node) && node->child == NULL);
}

/* 256 distinct keys of which each is a character of the table with its byte: a bijection. */
static bool vocabulary_matches(const cJSON *vocabulary) {
    byte_character characters[RPO_BYTE_IDS];
    fill_characters(characters);
    if (!cJSON_IsObject(vocabulary))
        return false;
    int count = 0;
    for (const cJSON *entry = vocabulary->child; entry != NULL; entry = entry->next, ++count) {
        const double id = cJSON_IsNumber(entry) ? entry->valuedouble : -1;
        if (!(id >= 0 && id < RPO_BYTE_IDS) || id != (double)(int)id ||
            strcmp(entry->string, characters[(int)id].utf8) != 0)
            return false;
    }
    return count == RPO_BYTE_IDS;
}

static bool model_matches(const cJSON *model) {
    return is_string(member(model, "type"), "BPE") && vocabulary_matches(member(model, "vocab")) &&
           is_off(member(model, "merges")) && is_off(member(model, "dropout")) &&
           is_off(member(model, "continuing_subword_prefix")) && is_off(member(model, "end_of_word_suffix"));
}

static bool added_tokens_match(const cJSON *list) {
    if (!cJSON_IsArray(list))
        return false;
    int32_t id = RPO_BYTE_IDS;
    for (const cJSON *token = list->child; token != NULL; token = token->next, ++id)
        if (id == RPO_BYTE_VOCAB || !is_number(member(token, "id"), id) ||
            !is_string(member(token, "content"), rpo_byte_special_text(id)))
            return false;
    return id == RPO_BYTE_VOCAB;
}

bool rpo_byte_tokenizer_matches(const cJSON *root) {
    const cJSON *pre_tokenizer = member(root, "pre_tokenizer");
    return cJSON_IsObject(root) && is_off(member(root, "normalizer")) &&
           is_string(member(pre_tokenizer, "type"), "ByteLevel") &&
           is_off(member(pre_tokenizer, "add_prefix_space")) && model_matches(member(root, "model")) &&
           added_tokens_match(member(root, "added_tokens"));
}
