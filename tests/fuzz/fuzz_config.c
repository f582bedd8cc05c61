/* fuzz_config.c - a run's configuration with an override. What it accepts, written and read again, is the same. */
#include "fuzz.h"
#include "host/config/config.h"

/* The configuration up to the first NUL, which JSON cannot hold; behind it one override. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t *end = memchr(data, '\0', size);
    const size_t length = end != NULL ? (size_t)(end - data) : size;
    rpo_text override = {0}, text = {0}, again_text = {0};
    rpo_config *config = NULL, *again = NULL;
    if (end != NULL)
        FUZZ_CHECK(rpo_text_append(&override, (const char *)end + 1, size - length - 1) == RPO_OK);
    const char *overrides[] = {override.data};
    if (fuzz_accepted(
            rpo_config_load(&config, fuzz_file(data, length), overrides, override.data != NULL ? 1 : 0))) {
        FUZZ_CHECK(rpo_config_to_json(config, NULL, &text) == RPO_OK);
        FUZZ_CHECK(rpo_config_load(&again, fuzz_file(text.data, text.length), NULL, 0) == RPO_OK);
        FUZZ_CHECK(rpo_config_to_json(again, NULL, &again_text) == RPO_OK);
        FUZZ_CHECK(strcmp(text.data, again_text.data) == 0);
    }
    rpo_config_free(again);
    rpo_config_free(config);
    rpo_text_free(&again_text);
    rpo_text_free(&text);
    rpo_text_free(&override);
    return 0;
}
