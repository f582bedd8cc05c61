/* fuzz_model_config.c - HF's config.json and model.init. What is accepted, written and read again, is the same. */
#include "core/json.h"
#include "fuzz.h"
#include "host/model/model.h"

static void check(const rpo_model_config *config) {
    FUZZ_CHECK(config->vocab_size > 0 && config->hidden_size > 0 && config->num_hidden_layers > 0);
    FUZZ_CHECK(config->num_attention_heads % config->num_key_value_heads == 0);
    FUZZ_CHECK(config->head_dim > 0 && config->head_dim % 2 == 0);
    FUZZ_CHECK(config->eos_token_id < config->vocab_size);
    rpo_text text = {0}, again_text = {0};
    rpo_json *json = NULL;
    rpo_model_config again;
    FUZZ_CHECK(rpo_model_config_append_json(config, &text) == RPO_OK);
    FUZZ_CHECK(rpo_json_parse(&json, text.data, text.length, "written", 1) == RPO_OK);
    FUZZ_CHECK(rpo_model_config_read(&again, json, rpo_json_root(json), false) == RPO_OK);
    FUZZ_CHECK(rpo_model_config_append_json(&again, &again_text) == RPO_OK);
    FUZZ_CHECK(strcmp(text.data, again_text.data) == 0);
    rpo_json_free(json);
    rpo_text_free(&again_text);
    rpo_text_free(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    rpo_json *json = NULL;
    rpo_model_config loose, strict;
    if (!fuzz_accepted(rpo_json_parse(&json, (const char *)data, size, "config.json", 1)))
        return 0;
    const bool accepted = fuzz_accepted(rpo_model_config_read(&loose, json, rpo_json_root(json), false));
    if (accepted)
        check(&loose);
    if (fuzz_accepted(rpo_model_config_read(&strict, json, rpo_json_root(json), true)))
        FUZZ_CHECK(accepted);
    rpo_json_free(json);
    return 0;
}
