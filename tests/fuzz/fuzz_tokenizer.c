/* fuzz_tokenizer.c - is a folder's tokenizer.json the byte tokenizer's? */
#include "fuzz.h"
#include "host/data/tokenizer.h"

/* The input is tokenizer.json up to the first NUL; behind it tokenizer_config.json, then config.json. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const names[] = {"tokenizer.json", "tokenizer_config.json", "config.json"};
    for (int i = 0; i < 3; ++i) {
        const uint8_t *end = i < 2 ? memchr(data, '\0', size) : NULL;
        const size_t length = end != NULL ? (size_t)(end - data) : size;
        fuzz_write(names[i], data, length);
        data += end != NULL ? length + 1 : length;
        size -= end != NULL ? length + 1 : length;
    }
    rpo_tokenizer *tokenizer = NULL;
    const bool accepted = fuzz_accepted(rpo_tokenizer_open(&tokenizer, fuzz_path(""), RPO_TOKENIZER_AUTO));
    FUZZ_CHECK(accepted == (tokenizer != NULL));
    rpo_tokenizer_free(tokenizer);
    return 0;
}
