/* test_tokenizer.c - the byte tokenizer. */
#include "../data_fixture.h"

Test(tokenizer, every_byte_comes_back) {
    data_fixture fixture = fixture_open();
    char text[256];
    for (int i = 0; i < 256; ++i)
        text[i] = (char)i;
    int32_t *ids = NULL;
    size_t count = 0, capacity = 0;
    cr_assert_eq(rpo_tokenizer_encode(fixture.tokenizer, text, sizeof text, &ids, &count, &capacity), RPO_OK);
    cr_assert_eq(count, 256);
    for (int i = 0; i < 256; ++i)
        cr_assert_eq(ids[i], i);
    rpo_text back = {0};
    cr_assert_eq(rpo_tokenizer_decode(fixture.tokenizer, ids, count, &back), RPO_OK);
    cr_assert_eq(back.length, 256);
    cr_assert_eq(memcmp(back.data, text, sizeof text), 0);

    /* Encoding appends. */
    cr_assert_eq(rpo_tokenizer_encode(fixture.tokenizer, "hi", 2, &ids, &count, &capacity), RPO_OK);
    cr_assert_eq(count, 258);
    cr_assert_eq(ids[257], 'i');
    rpo_text_free(&back);
    rpo_free(ids);
    fixture_close(&fixture);
}

Test(tokenizer, special_tokens) {
    data_fixture fixture = fixture_open();
    cr_assert_eq(rpo_tokenizer_vocab_size(fixture.tokenizer), 259);
    cr_assert_eq(rpo_tokenizer_bos(fixture.tokenizer), 256);
    cr_assert_eq(rpo_tokenizer_eos(fixture.tokenizer), 257);
    cr_assert_str_eq(rpo_tokenizer_name(fixture.tokenizer), "byte");
    const int32_t ids[] = {256, 'a', 257, 258};
    rpo_text text = {0};
    cr_assert_eq(rpo_tokenizer_decode(fixture.tokenizer, ids, 4, &text), RPO_OK);
    cr_assert_str_eq(text.data, "<bos>a<eos><pad>");
    const int32_t strange[] = {-1, 259};
    for (int i = 0; i < 2; ++i) {
        cr_assert_eq(rpo_tokenizer_decode(fixture.tokenizer, &strange[i], 1, &text),
                     RPO_ERROR_INVALID_ARGUMENT);
        assert_message_has("from 0 to 258");
    }
    rpo_text_free(&text);
    fixture_close(&fixture);
}
