/* test_tokenizer_folder.c - which model folders the byte tokenizer may feed, and the files that it writes. */
#include "../data_fixture.h"

#include "core/json.h"

static rpo_status check(const data_fixture *fixture, rpo_tokenizer_choice choice) {
    rpo_tokenizer *tokenizer = NULL;
    const rpo_status status = rpo_tokenizer_open(&tokenizer, fixture->folder, choice);
    cr_assert_eq(tokenizer != NULL, status == RPO_OK);
    rpo_tokenizer_free(tokenizer);
    return status;
}

static void remove_file(const data_fixture *fixture, const char *name) {
    char path[700];
    snprintf(path, sizeof path, "%s/%s", fixture->folder, name);
    cr_assert_eq(unlink(path), 0);
}

static void assert_accepted(const data_fixture *fixture) {
    cr_assert_eq(check(fixture, RPO_TOKENIZER_AUTO), RPO_OK, "%s", rpo_last_error());
}

/* Refused in a line that names `culprit` and the way out, and taken when the user says bytes. */
static void assert_refused(const data_fixture *fixture, const char *culprit) {
    cr_assert_eq(check(fixture, RPO_TOKENIZER_AUTO), RPO_ERROR_INVALID_INPUT, "%s", culprit);
    assert_message_has(culprit);
    assert_message_has("model.tokenizer = bytes feeds bytes anyway");
    cr_assert_eq(check(fixture, RPO_TOKENIZER_BYTES), RPO_OK, "%s", rpo_last_error());
}

Test(tokenizer_folder, any_file_of_another_tokenizer_is_refused) {
    static const char *const names[] = {
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer_config.json",
        "vocab.json",
        "merges.txt",
        "vocab.txt",
        "spiece.model",
        "sentencepiece.bpe.model",
        "qwen.tiktoken",
        "special_tokens_map.json",
        "added_tokens.json",
        "tekken.json",
        "source.spm",
        "tokenization_qwen.py",
        "tokenizer.model.v3",
        "bpe.codes",
    };
    data_fixture fixture = fixture_open();
    assert_accepted(&fixture);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; ++i) {
        fixture_write_text(&fixture, names[i], "{}");
        assert_refused(&fixture, names[i]);
        remove_file(&fixture, names[i]);
    }
    static const char *const others[] = {"model.safetensors", "generation_config.json", "README.md",
                                         "trainer_state.json", "chat_template.jinja"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; ++i)
        fixture_write_text(&fixture, others[i], "{}");
    assert_accepted(&fixture);
    fixture_close(&fixture);
}

typedef struct config_case {
    const char *config, *culprit; /* NULL: accepted */
} config_case;

Test(tokenizer_folder, vocabulary_and_special_ids_must_agree) {
    static const config_case cases[] = {
        {"{\"vocab_size\": 259}", NULL},
        {"{\"vocab_size\": 259, \"bos_token_id\": null, \"eos_token_id\": null}", NULL},
        {"{\"vocab_size\": 259, \"bos_token_id\": 256, \"eos_token_id\": 257}", NULL},
        {"{\"vocab_size\": 259, \"eos_token_id\": [257, 258]}", NULL},
        {"{\n\"vocab_size\": 32000}", "config.json:2: vocab_size: is 32000"},
        {"{\"vocab_size\": 260}", "config.json:1: vocab_size: is 260"},
        {"{\"vocab_size\": 259,\n\n\"bos_token_id\": 1}", "config.json:3: bos_token_id: is 1"},
        {"{\"vocab_size\": 259, \"bos_token_id\": 256,\n\"eos_token_id\": 2}",
         "config.json:2: eos_token_id: is 2"},
        {"{\"vocab_size\": 259, \"eos_token_id\": [258, 257]}", "eos_token_id: is 258"},
    };
    data_fixture fixture = fixture_open();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; ++i) {
        fixture_write_text(&fixture, "config.json", cases[i].config);
        if (cases[i].culprit == NULL)
            assert_accepted(&fixture);
        else
            assert_refused(&fixture, cases[i].culprit);
    }
    fixture_write_text(&fixture, "config.json",
                       "{\"vocab_size\": 41}"); /* no bytes fit: no way out is offered */
    cr_assert_eq(check(&fixture, RPO_TOKENIZER_AUTO), RPO_ERROR_INVALID_INPUT);
    assert_message_has("must be at least that");
    fixture_close(&fixture);
}

Test(tokenizer_folder, what_is_saved_is_accepted_again) {
    data_fixture fixture = fixture_open();
    cr_assert_eq(rpo_tokenizer_save(fixture.tokenizer, fixture.folder), RPO_OK, "%s", rpo_last_error());
    assert_accepted(&fixture);
    fixture_write_text(&fixture, "special_tokens_map.json", "{}"); /* transformers writes it beside ours */
    /* Padded, or trained from another model's weights with model.tokenizer = bytes. */
    fixture_write_text(&fixture, "config.json", "{\"vocab_size\": 320, \"bos_token_id\": 256}");
    assert_accepted(&fixture);
    fixture_write_text(&fixture, "config.json", "{\"vocab_size\": 320, \"bos_token_id\": 1}");
    assert_refused(&fixture, "bos_token_id");
    remove_file(&fixture, "config.json");

    fixture_write_text(&fixture, "merges.txt", "");
    assert_refused(&fixture, "merges.txt");
    remove_file(&fixture, "merges.txt");
    fixture_write_text(&fixture, "tokenizer_config.json", "{\"tokenizer_class\": \"LlamaTokenizer\"}");
    assert_refused(&fixture, "tokenizer_config.json:1: tokenizer_class: is LlamaTokenizer");
    fixture_write_text(&fixture, "tokenizer_config.json", "{\"tokenizer_class\": \"TokenizersBackend\"}");
    assert_accepted(&fixture);
    fixture_close(&fixture);
}

static char *read_saved(const data_fixture *fixture, const char *name) {
    char path[700], *text = NULL;
    size_t size = 0;
    snprintf(path, sizeof path, "%s/%s", fixture->folder, name);
    cr_assert_eq(rpo_read_file(path, 1 << 20, &text, &size), RPO_OK, "%s", rpo_last_error());
    return text;
}

/* Our file with `from` once replaced by `to` is another tokenizer. */
static void assert_changed_is_refused(data_fixture *fixture, const char *from, const char *to) {
    cr_assert_eq(rpo_tokenizer_save(fixture->tokenizer, fixture->folder), RPO_OK);
    char *text = read_saved(fixture, "tokenizer.json");
    char *at = strstr(text, from);
    cr_assert_not_null(at, "%s", from);
    rpo_text changed = {0};
    cr_assert_eq(rpo_text_append(&changed, text, (size_t)(at - text)), RPO_OK);
    cr_assert_eq(rpo_text_printf(&changed, "%s%s", to, at + strlen(from)), RPO_OK);
    fixture_write(fixture, "tokenizer.json", changed.data, changed.length);
    assert_refused(fixture, "tokenizer.json");
    rpo_text_free(&changed);
    rpo_free(text);
}

Test(tokenizer_folder, a_tokenizer_that_gives_other_ids_is_refused) {
    data_fixture fixture = fixture_open();
    assert_changed_is_refused(&fixture, "\"a\": 97", "\"a\": 98");
    assert_changed_is_refused(&fixture, "\"a\": 97,", "");
    assert_changed_is_refused(&fixture, "\"a\": 97", "\"a\": 97.5");
    assert_changed_is_refused(&fixture, "\"a\": 97", "\"a\": 97, \"ab\": 259");
    assert_changed_is_refused(&fixture, "\"merges\": []", "\"merges\": [[\"a\", \"b\"]]");
    assert_changed_is_refused(&fixture, "\"normalizer\": null", "\"normalizer\": {\"type\": \"NFC\"}");
    assert_changed_is_refused(&fixture, "\"add_prefix_space\": false", "\"add_prefix_space\": true");
    assert_changed_is_refused(&fixture, "\"id\": 257", "\"id\": 300");
    assert_changed_is_refused(&fixture, "\"content\": \"<pad>\"", "\"content\": \"<unk>\"");
    assert_changed_is_refused(&fixture, "\"type\": \"BPE\"", "\"type\": \"WordPiece\"");
    assert_changed_is_refused(&fixture, "\"version\"", "version");
    fixture_close(&fixture);
}

/* tests/golden/tokenizer was loaded by transformers and gave our ids (tools/check-tokenizer.py). */
Test(tokenizer_folder, saved_files_are_the_ones_that_transformers_was_checked_with) {
    static const char *const names[] = {"tokenizer.json", "tokenizer_config.json"};
    data_fixture fixture = fixture_open();
    cr_assert_eq(rpo_tokenizer_save(fixture.tokenizer, fixture.folder), RPO_OK);
    for (int i = 0; i < 2; ++i) {
        char path[700], *golden = NULL;
        size_t size = 0;
        snprintf(path, sizeof path, RPO_TEST_SOURCE_DIR "/golden/tokenizer/%s", names[i]);
        cr_assert_eq(rpo_read_file(path, 1 << 20, &golden, &size), RPO_OK, "%s", rpo_last_error());
        char *saved = read_saved(&fixture, names[i]);
        cr_assert_str_eq(saved, golden);
        rpo_free(saved);
        rpo_free(golden);
    }
    fixture_close(&fixture);
}
