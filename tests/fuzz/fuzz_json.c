/* fuzz_json.c - the strict JSON reader. What it accepts, printed and read again, is the same document. */
#include "core/json.h"
#include "fuzz.h"

static void check_lines(const rpo_json *json, const cJSON *node, int64_t last) {
    const int64_t line = rpo_json_line(json, node);
    FUZZ_CHECK(line >= 1 && line <= last);
    for (const cJSON *child = node->child; child != NULL; child = child->next)
        check_lines(json, child, last);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    rpo_json *json = NULL, *again = NULL;
    if (!fuzz_accepted(rpo_json_parse(&json, (const char *)data, size, "input", 1))) {
        FUZZ_CHECK(json == NULL);
        return 0;
    }
    int64_t lines = 1;
    for (size_t i = 0; i < size; ++i)
        lines += data[i] == '\n';
    check_lines(json, rpo_json_root(json), lines);
    char *text = cJSON_PrintUnformatted(rpo_json_root(json));
    FUZZ_CHECK(text != NULL);
    FUZZ_CHECK(rpo_json_parse(&again, text, strlen(text), "printed", 1) == RPO_OK);
    FUZZ_CHECK(cJSON_Compare(rpo_json_root(json), rpo_json_root(again), true));
    rpo_json_free(again);
    cJSON_free(text);
    rpo_json_free(json);
    return 0;
}
