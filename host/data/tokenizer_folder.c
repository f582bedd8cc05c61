/* tokenizer_folder.c - was the model of a folder trained with the ids that it would be fed? */
#include <fnmatch.h>
#include <string.h>

#include "host/data/tokenizer_internal.h"

enum { FILE_LIMIT = 64 << 20 }; /* the largest tokenizer.json of well-known models has some 35 MB */

#define BYTES_HINT "model.tokenizer = bytes feeds bytes anyway"

/* Names by which folders of other tokenizers are known: transformers', sentencepiece's, tiktoken's. */
static const char *const tokenizer_files[] = {
    "tokenizer*",
    "tokenization*",
    "vocab*",
    "merges*",
    "spiece.model",
    "sentencepiece*",
    "*.tiktoken",
    "*.spm",
    "*.bpe",
    "*.bpe.model",
    "bpe.*",
    "spm.model",
    "tekken.json",
    "dict.txt",
    "emoji.json",
    "added_tokens.json",
    "special_tokens_map.json",
};

/* What transformers writes beside a tokenizer.json; the ids follow from that file. */
static const char *const companions[] = {RPO_TOKENIZER_FILE, RPO_TOKENIZER_CONFIG_FILE, "added_tokens.json",
                                         "special_tokens_map.json"};

static bool is_tokenizer_file(const char *name) {
    for (size_t i = 0; i < sizeof tokenizer_files / sizeof tokenizer_files[0]; ++i)
        if (fnmatch(tokenizer_files[i], name, 0) == 0)
            return true;
    return false;
}

static bool is_companion(const char *name) {
    for (size_t i = 0; i < sizeof companions / sizeof companions[0]; ++i)
        if (strcmp(companions[i], name) == 0)
            return true;
    return false;
}

/* Reads FOLDER/NAME; *json stays NULL where there is no such file. */
static rpo_status read_json(rpo_json **json, const char *folder, const char *name) {
    *json = NULL;
    char *path = rpo_path_join(folder, name);
    if (path == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    rpo_path_kind kind = RPO_PATH_ABSENT;
    rpo_status status = rpo_path_examine(path, &kind);
    if (status == RPO_OK && kind != RPO_PATH_ABSENT)
        status = rpo_json_read_file(json, path, FILE_LIMIT);
    rpo_free(path);
    return status;
}

/* A fast tokenizer without code of its own does what its tokenizer.json says; any other class may not. */
static rpo_status check_class(const char *folder) {
    static const char *const generic[] = {"PreTrainedTokenizerFast", "TokenizersBackend"};
    rpo_json *json = NULL;
    RPO_TRY(read_json(&json, folder, RPO_TOKENIZER_CONFIG_FILE));
    if (json == NULL)
        return RPO_OK;
    const char *class = NULL;
    rpo_status status = rpo_json_get_string(json, rpo_json_root(json), "tokenizer_class", false, &class);
    if (status == RPO_OK && class != NULL && strcmp(class, generic[0]) != 0 && strcmp(class, generic[1]) != 0)
        status = rpo_json_fault(
            json, cJSON_GetObjectItemCaseSensitive(rpo_json_root(json), "tokenizer_class"), "tokenizer_class",
            "is %s, which is not the byte tokenizer beside it; must be %s; " BYTES_HINT, class, generic[0]);
    rpo_json_free(json);
    return status;
}

/* *is_ours: the folder's tokenizer.json has our ids. A file that is no JSON is a tokenizer that we cannot read. */
static rpo_status recognise(bool *is_ours, const char *folder) {
    rpo_json *json = NULL;
    *is_ours = false;
    const rpo_status status = read_json(&json, folder, RPO_TOKENIZER_FILE);
    if (status == RPO_ERROR_INVALID_INPUT) {
        rpo_error_clear();
        return RPO_OK;
    }
    RPO_TRY(status);
    *is_ours = json != NULL && rpo_byte_tokenizer_matches(rpo_json_root(json));
    rpo_json_free(json);
    return *is_ours ? check_class(folder) : RPO_OK;
}

static rpo_status refuse_other_files(const char *folder, bool is_ours) {
    char **names = NULL;
    size_t count = 0;
    RPO_TRY(rpo_list_folder(folder, &names, &count));
    rpo_status status = RPO_OK;
    for (size_t i = 0; i < count && status == RPO_OK; ++i)
        if (is_tokenizer_file(names[i]) && !(is_ours && is_companion(names[i])))
            status = rpo_error_set(RPO_ERROR_INVALID_INPUT,
                                   "%s/%s: belongs to a tokenizer other than the byte tokenizer, and this "
                                   "version reads none; " BYTES_HINT,
                                   folder, names[i]);
    rpo_free_names(names, count);
    return status;
}

/* The key's id, or the first of its list, as in the model's own reader; absent or null agrees. */
static rpo_status check_id(const rpo_json *json, const char *key, int32_t expected) {
    const cJSON *node = cJSON_GetObjectItemCaseSensitive(rpo_json_root(json), key);
    const cJSON *value = cJSON_IsArray(node) ? node->child : node;
    if (value == NULL || cJSON_IsNull(value) ||
        (cJSON_IsNumber(value) && value->valuedouble == (double)expected))
        return RPO_OK;
    if (!cJSON_IsNumber(value))
        return rpo_json_fault(json, node, key, "is no token id; must be %d, the byte tokenizer's", expected);
    return rpo_json_fault(json, node, key, "is %.17g, but the byte tokenizer has %d; " BYTES_HINT,
                          value->valuedouble, expected);
}

static rpo_status check_vocabulary(const rpo_json *json, bool is_ours) {
    static const char key[] = "vocab_size";
    const cJSON *node = cJSON_GetObjectItemCaseSensitive(rpo_json_root(json), key);
    if (!cJSON_IsNumber(node)) /* the model's reader says what is wrong */
        return RPO_OK;
    if (node->valuedouble < RPO_BYTE_VOCAB)
        return rpo_json_fault(json, node, key,
                              "is %.17g, but the byte tokenizer has %d ids; must be at least that",
                              node->valuedouble, RPO_BYTE_VOCAB);
    if (node->valuedouble > RPO_BYTE_VOCAB && !is_ours)
        return rpo_json_fault(json, node, key,
                              "is %.17g, but the byte tokenizer has %d ids and no " RPO_TOKENIZER_FILE
                              " says that the model was trained with it; " BYTES_HINT,
                              node->valuedouble, RPO_BYTE_VOCAB);
    return RPO_OK;
}

static rpo_status check_config(const char *folder, bool is_ours) {
    rpo_json *json = NULL;
    RPO_TRY(read_json(&json, folder, "config.json"));
    if (json == NULL)
        return RPO_OK;
    rpo_status status = check_vocabulary(json, is_ours);
    if (status == RPO_OK)
        status = check_id(json, "bos_token_id", RPO_BYTE_BOS);
    if (status == RPO_OK)
        status = check_id(json, "eos_token_id", RPO_BYTE_EOS);
    rpo_json_free(json);
    return status;
}

rpo_status rpo_tokenizer_check_folder(const rpo_tokenizer *tokenizer, const char *model_folder) {
    rpo_path_kind kind = RPO_PATH_ABSENT;
    bool is_ours = false;
    if (tokenizer->choice == RPO_TOKENIZER_BYTES)
        return RPO_OK;
    RPO_TRY(rpo_path_examine(model_folder, &kind));
    if (kind != RPO_PATH_FOLDER) /* the model's loader says so */
        return RPO_OK;
    RPO_TRY(recognise(&is_ours, model_folder));
    RPO_TRY(refuse_other_files(model_folder, is_ours));
    return check_config(model_folder, is_ours);
}
