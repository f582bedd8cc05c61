/* test_dataset.c - record formats, counts and faults of data files. */
#include "../data_fixture.h"

#define PAIR     "{\"prompt\": \"Why?\", \"chosen\": \" Because.\", \"rejected\": \" No.\"}\n"
#define UNPAIRED "{\"prompt\": \"Why?\", \"completion\": \" Because.\", \"label\": true}\n"
#define HH                                                                                                   \
    "{\"chosen\": \"\\n\\nHuman: Hi\\n\\nAssistant: Yes\", \"rejected\": \"\\n\\nHuman: Hi\\n\\nAssistant: " \
    "No\"}\n"

Test(dataset, pairs) {
    data_fixture fixture = fixture_open();
    rpo_dataset *dataset = fixture_load_text(&fixture, PAIR "\r\n  \t\n" PAIR);
    cr_assert_eq(rpo_dataset_size(dataset), 2);
    cr_assert(rpo_dataset_is_paired(dataset));
    cr_assert_eq(rpo_dataset_file_format(dataset, 0), RPO_DATA_PAIRS);
    for (int64_t i = 0; i < 2; ++i) {
        const rpo_record *record = rpo_dataset_record(dataset, i);
        assert_sequence(&fixture, &record->chosen, "Why?", " Because.");
        assert_sequence(&fixture, &record->rejected, "Why?", " No.");
        cr_assert_str_eq(record->prompt, "Why?");
        cr_assert_eq(record->prompt_size, 4);
        cr_assert_eq(record->line, i == 0 ? 1 : 4);
        cr_assert(!record->chosen.truncated);
    }
    const rpo_data_report *report = rpo_dataset_report(dataset);
    cr_assert_eq(report->records, 2);
    cr_assert_eq(report->lines_blank, 2);
    cr_assert_eq(report->chosen, 2);
    cr_assert_eq(report->rejected, 2);
    cr_assert_eq(report->label_tokens, 2 * (9 + 1 + 4 + 1));
    cr_assert_eq(report->tokens, 2 * (5 + 10 + 5 + 5));
    cr_assert_eq(
        report->duplicates + report->skipped + report->truncated_prompts + report->truncated_responses, 0);
    rpo_dataset_free(dataset);
    fixture_close(&fixture);
}

Test(dataset, byte_order_mark_and_crlf) {
    data_fixture fixture = fixture_open();
    rpo_dataset *dataset = fixture_load_text(
        &fixture, "\xEF\xBB\xBF{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"c\"}\r\n" PAIR);
    cr_assert_eq(rpo_dataset_size(dataset), 2);
    assert_sequence(&fixture, &rpo_dataset_record(dataset, 0)->chosen, "a", "b");
    rpo_dataset_free(dataset);
    fixture_close(&fixture);
}

Test(dataset, unpaired) {
    data_fixture fixture = fixture_open();
    rpo_dataset *dataset = fixture_load_text(
        &fixture, UNPAIRED "{\"prompt\": \"\", \"completion\": \"x\", \"label\": false, \"extra\": [1]}\n");
    cr_assert(!rpo_dataset_is_paired(dataset));
    const rpo_record *wanted = rpo_dataset_record(dataset, 0), *unwanted = rpo_dataset_record(dataset, 1);
    assert_sequence(&fixture, &wanted->chosen, "Why?", " Because.");
    cr_assert_null(wanted->rejected.tokens);
    assert_sequence(&fixture, &unwanted->rejected, "", "x");
    cr_assert_null(unwanted->chosen.tokens);
    cr_assert_str_eq(unwanted->prompt, "");
    cr_assert_eq(rpo_dataset_report(dataset)->chosen, 1);
    cr_assert_eq(rpo_dataset_report(dataset)->rejected, 1);
    rpo_dataset_free(dataset);
    fixture_close(&fixture);
}

Test(dataset, hh_splits_at_the_last_shared_turn) {
    data_fixture fixture = fixture_open();
    rpo_dataset *dataset = fixture_load_text(
        &fixture, HH "{\"chosen\": \"\\n\\nHuman: A\\n\\nAssistant: B\\n\\nHuman: C\\n\\nAssistant: D\","
                     " \"rejected\": \"\\n\\nHuman: A\\n\\nAssistant: B\\n\\nHuman: C\\n\\nAssistant: E\"}\n"
                     "{\"chosen\": \"\\n\\nHuman: A\\n\\nAssistant: B\\n\\nHuman: C\\n\\nAssistant: D\","
                     " \"rejected\": \"\\n\\nHuman: A\\n\\nAssistant: X\"}\n");
    cr_assert_eq(rpo_dataset_file_format(dataset, 0), RPO_DATA_HH);
    const rpo_record *simple = rpo_dataset_record(dataset, 0), *deep = rpo_dataset_record(dataset, 1),
                     *early = rpo_dataset_record(dataset, 2);
    assert_sequence(&fixture, &simple->chosen, "\n\nHuman: Hi\n\nAssistant:", " Yes");
    assert_sequence(&fixture, &deep->rejected,
                    "\n\nHuman: A\n\nAssistant: B\n\nHuman: C\n\nAssistant:", " E");
    assert_sequence(&fixture, &early->chosen, "\n\nHuman: A\n\nAssistant:", " B\n\nHuman: C\n\nAssistant: D");
    assert_sequence(&fixture, &early->rejected, "\n\nHuman: A\n\nAssistant:", " X");
    rpo_dataset_free(dataset);
    fixture_close(&fixture);
}

/* ---- message lists ---- */

#define USER(text)      "{\"role\":\"user\",\"content\":\"" text "\"}"
#define ASSISTANT(text) "{\"role\":\"assistant\",\"content\":\"" text "\"}"
#define SYSTEM(text)    "{\"role\":\"system\",\"content\":\"" text "\"}"

Test(dataset, message_lists) {
    static const struct {
        const char *line, *prompt, *chosen, *rejected;
    } cases[] = {
        {"{\"prompt\":[" USER("Q") "],\"chosen\":[" ASSISTANT("A") "],\"rejected\":[" ASSISTANT("B") "]}",
         "\n\nHuman: Q\n\nAssistant:", " A", " B"},
        {"{\"prompt\":[" SYSTEM("S") "," USER("Q") "],\"chosen\":[" SYSTEM("S") "," USER("Q") "," ASSISTANT(
             "A") "],\"rejected\":[" SYSTEM("S") "," USER("Q") "," ASSISTANT("B") "]}",
         "\n\nSystem: S\n\nHuman: Q\n\nAssistant:", " A", " B"},
        {"{\"prompt\":[" USER("Q") "],\"chosen\":\"A\",\"rejected\":\"B\"}",
         "\n\nHuman: Q\n\nAssistant:", " A", " B"},
        {"{\"prompt\":\"Q\",\"chosen\":[" USER("Q") "," ASSISTANT("A") "],\"rejected\":[" USER(
             "Q") "," ASSISTANT("B") "]}",
         "\n\nHuman: Q\n\nAssistant:", " A", " B"},
        {"{\"prompt\":\"Q\",\"chosen\":[" ASSISTANT("A") "],\"rejected\":[" ASSISTANT("B") "]}", "Q", " A",
         " B"},
        {"{\"chosen\":[" USER("Q") "," ASSISTANT("A") "],\"rejected\":[" USER("Q") "," ASSISTANT("B") "]}",
         "\n\nHuman: Q\n\nAssistant:", " A", " B"},
        {"{\"prompt\":[" USER("Q") "],\"chosen\":[" ASSISTANT("A") "," USER("R") "," ASSISTANT(
             "C") "],\"rejected\":[" ASSISTANT("B") "]}",
         "\n\nHuman: Q\n\nAssistant:", " A\n\nHuman: R\n\nAssistant: C", " B"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; ++i) {
        data_fixture fixture = fixture_open();
        rpo_dataset *dataset = fixture_load_text(&fixture, cases[i].line);
        const rpo_record *record = rpo_dataset_record(dataset, 0);
        assert_sequence(&fixture, &record->chosen, cases[i].prompt, cases[i].chosen);
        assert_sequence(&fixture, &record->rejected, cases[i].prompt, cases[i].rejected);
        rpo_dataset_free(dataset);
        fixture_close(&fixture);
    }
}

Test(dataset, unpaired_message_list) {
    data_fixture fixture = fixture_open();
    rpo_dataset *dataset = fixture_load_text(
        &fixture, "{\"prompt\":[" USER("Q") "],\"completion\":[" ASSISTANT("A") "],\"label\":false}");
    assert_sequence(&fixture, &rpo_dataset_record(dataset, 0)->rejected, "\n\nHuman: Q\n\nAssistant:", " A");
    rpo_dataset_free(dataset);
    fixture_close(&fixture);
}

/* ---- faults ---- */

typedef struct bad_line {
    const char *line; /* the second of the file */
    const char *message;
    rpo_data_format format;
    size_t size; /* 0 = strlen */
} bad_line;

#define CHOSEN_REJECTED "\"chosen\":\"a\",\"rejected\":\"b\""
#define RESPONSES       "\"chosen\":[" ASSISTANT("A") "],\"rejected\":[" ASSISTANT("B") "]"

#define RAW_NUL "{\"prompt\":\"a\0b\"," CHOSEN_REJECTED "}"

static const bad_line pair_faults[] = {
    {"{\"prompt\":\"a\",", ":2: the text ends early", RPO_DATA_AUTO, 0},
    {"[1]", ":2: record: is no JSON object", RPO_DATA_AUTO, 0},
    {"\"text\"", ":2: record: is no JSON object", RPO_DATA_AUTO, 0},
    {PAIR "x", ":3: unexpected 'x'", RPO_DATA_AUTO, 0},
    {"{\"prompt\":\"a\"," CHOSEN_REJECTED "} {}", ":2: text after the end", RPO_DATA_AUTO, 0},
    {"{\"prompt\":\"a\",\"prompt\":\"b\"," CHOSEN_REJECTED "}", ":2: prompt: duplicate key", RPO_DATA_AUTO,
     0},
    {"{\"prompt\":\"\xC3(\"," CHOSEN_REJECTED "}", ":2: invalid UTF-8", RPO_DATA_AUTO, 0},
    {"{\"prompt\":\"\xED\xA0\x80\"," CHOSEN_REJECTED "}", ":2: invalid UTF-8", RPO_DATA_AUTO, 0},
    {"{\"prompt\":\"\\u0000\"," CHOSEN_REJECTED "}", ":2: escaped NUL", RPO_DATA_AUTO, 0},
    {RAW_NUL, ":2: raw NUL", RPO_DATA_AUTO, sizeof RAW_NUL - 1},
    {"{\"prompt\":\"a\",\"chosen\":\"b\"}", ":2: rejected: is missing", RPO_DATA_AUTO, 0},
    {"{\"prompt\":\"a\",\"rejected\":\"b\"}", ":2: chosen: is missing", RPO_DATA_AUTO, 0},
    {"{" CHOSEN_REJECTED "}", ":2: prompt: is missing", RPO_DATA_PAIRS, 0},
    {"{\"prompt\":null," CHOSEN_REJECTED "}", ":2: prompt: is null", RPO_DATA_PAIRS, 0},
    {"{\"prompt\":7," CHOSEN_REJECTED "}", ":2: prompt: has the wrong type", RPO_DATA_AUTO, 0},
    {"{\"prompt\":\"a\",\"chosen\":{},\"rejected\":\"b\"}", ":2: chosen: has the wrong type", RPO_DATA_AUTO,
     0},
    {"{\"prompt\":\"a\",\"chosen\":\"\",\"rejected\":\"b\"}", ":2: chosen: the response is empty",
     RPO_DATA_AUTO, 0},
    {"{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"\"}", ":2: rejected: the response is empty",
     RPO_DATA_AUTO, 0},
    {"{\"prompt\":[]," CHOSEN_REJECTED "}", ":2: prompt: is an empty list", RPO_DATA_AUTO, 0},
    {"{\"prompt\":[\"a\"]," CHOSEN_REJECTED "}", ":2: prompt: message 0 is no object", RPO_DATA_AUTO, 0},
    {"{\"prompt\":[{\"role\":\"tool\",\"content\":\"x\"}]," RESPONSES "}",
     ":2: prompt: message 0 has role \"tool\"", RPO_DATA_AUTO, 0},
    {"{\"prompt\":[{\"content\":\"x\"}]," RESPONSES "}", ":2: prompt: message 0 has no role", RPO_DATA_AUTO,
     0},
    {"{\"prompt\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"x\"}]}]," RESPONSES "}",
     ":2: prompt: content of message 0 is no string", RPO_DATA_AUTO, 0},
    {"{\"prompt\":[" ASSISTANT("x") "]," RESPONSES "}",
     ":2: prompt: the prompt does not end with a user message", RPO_DATA_AUTO, 0},
    {"{\"prompt\":[" USER("x") "],\"chosen\":[" ASSISTANT("A") "],\"rejected\":\"b\"}",
     ":2: rejected: is a string and chosen is a list", RPO_DATA_AUTO, 0},
    {"{\"prompt\":[" USER("x") "],\"chosen\":[" USER("y") "," ASSISTANT("A") "],\"rejected\":[" ASSISTANT(
         "B") "]}",
     ":2: chosen: does not start with the prompt's messages", RPO_DATA_AUTO, 0},
    {"{\"prompt\":\"x\",\"chosen\":[" USER("y") "," ASSISTANT("A") "],\"rejected\":[" ASSISTANT("B") "]}",
     ":2: chosen: the conversation's question is not the prompt", RPO_DATA_AUTO, 0},
    {"{\"prompt\":[" USER("x") "],\"chosen\":[" USER("x") "],\"rejected\":[" ASSISTANT("B") "]}",
     ":2: chosen: the response must begin and end with an assistant message", RPO_DATA_AUTO, 0},
    {"{\"prompt\":[" USER("x") "],\"chosen\":[" ASSISTANT("") "],\"rejected\":[" ASSISTANT("B") "]}",
     ":2: chosen: the response is empty", RPO_DATA_AUTO, 0},
};

static const bad_line hh_faults[] = {
    {"{\"chosen\":\"\\n\\nHuman: a\\n\\nAssistant: b\",\"rejected\":\"\\n\\nHuman: c\\n\\nAssistant: d\"}",
     ":2: rejected: shares no prompt", RPO_DATA_AUTO, 0},
    {"{\"chosen\":\"same\",\"rejected\":\"same\"}", ":2: rejected: shares no prompt", RPO_DATA_AUTO, 0},
    {"{\"chosen\":\"\",\"rejected\":\"\"}", ":2: rejected: shares no prompt", RPO_DATA_AUTO, 0},
    {"{\"chosen\":\"\\n\\nHuman: a\\n\\nAssistant:\",\"rejected\":\"\\n\\nHuman: a\\n\\nAssistant: b\"}",
     ":2: chosen: the response is empty", RPO_DATA_AUTO, 0},
    {"{\"chosen\":\"\\n\\nHuman: a\\n\\nAssistant: b\",\"rejected\":\"\\n\\nHuman: a\\n\\nAssistant:\"}",
     ":2: rejected: the response is empty", RPO_DATA_AUTO, 0},
    {"{\"chosen\":\"a\"}", ":2: rejected: is missing", RPO_DATA_AUTO, 0},
};

static const bad_line unpaired_faults[] = {
    {"{\"prompt\":\"a\",\"completion\":\"b\"}", ":2: label: ", RPO_DATA_AUTO, 0},
    {"{\"prompt\":\"a\",\"completion\":\"b\",\"label\":1}", ":2: label: ", RPO_DATA_AUTO, 0},
    {"{\"prompt\":\"a\",\"completion\":\"b\",\"label\":\"true\"}", ":2: label: ", RPO_DATA_AUTO, 0},
    {"{\"prompt\":\"a\",\"label\":true}", ":2: completion: is missing", RPO_DATA_AUTO, 0},
    {"{\"completion\":\"a\",\"label\":true}", ":2: prompt: is missing", RPO_DATA_AUTO, 0},
    {"{\"prompt\":\"a\",\"completion\":\"\",\"label\":true}", ":2: completion: the response is empty",
     RPO_DATA_AUTO, 0},
};

/* Each faulty line after a good one: refused with the place and what is wrong, or skipped, counted and
 * quoted. */
static void check_faults(const char *good, const bad_line *faults, size_t count) {
    for (size_t i = 0; i < count; ++i) {
        data_fixture fixture = fixture_open();
        const size_t size = faults[i].size > 0 ? faults[i].size : strlen(faults[i].line), lead = strlen(good);
        char *text = malloc(lead + size + 1);
        memcpy(text, good, lead);
        memcpy(text + lead, faults[i].line, size);
        text[lead + size] = '\n';
        const char *path = fixture_write(&fixture, "bad.jsonl", text, lead + size + 1);
        fixture.options.format = faults[i].format;

        rpo_dataset *dataset = NULL;
        cr_expect_eq(fixture_load(&fixture, &dataset), RPO_ERROR_INVALID_INPUT, "accepted: %s",
                     faults[i].line);
        cr_assert_null(dataset);
        assert_message_has(path);
        assert_message_has(faults[i].message);

        fixture.options.on_bad_record = RPO_BAD_RECORD_SKIP;
        cr_assert_eq(fixture_load(&fixture, &dataset), RPO_OK, "%s", rpo_last_error());
        const rpo_data_report *report = rpo_dataset_report(dataset);
        cr_assert_eq(report->skipped, 1);
        cr_assert_eq(report->records, rpo_dataset_size(dataset));
        cr_assert_geq(report->records, 1);
        cr_assert_not_null(strstr(report->first_skipped, "bad.jsonl:"));
        rpo_dataset_free(dataset);
        free(text);
        fixture_close(&fixture);
    }
}

/* A prompt of null is a pair without its prompt, not an HH record; null columns of other forms are not used. */
Test(dataset, null_members) {
    static const char hh[] = "\"chosen\":\"\\n\\nHuman: a\\n\\nAssistant: b\","
                             "\"rejected\":\"\\n\\nHuman: a\\n\\nAssistant: c\"}";
    data_fixture fixture = fixture_open();
    rpo_dataset *dataset = NULL;
    char line[512];
    snprintf(line, sizeof line, "{\"prompt\":null,%s", hh);
    fixture_write_text(&fixture, "null.jsonl", line);
    cr_assert_eq(fixture_load(&fixture, &dataset), RPO_ERROR_INVALID_INPUT);
    assert_message_has("null.jsonl:1: prompt: is null; must be a string or a list of messages");
    fixture.options.format = RPO_DATA_HH; /* where the user says so, the prompt is not looked at */
    cr_assert_eq(fixture_load(&fixture, &dataset), RPO_OK, "%s", rpo_last_error());
    rpo_dataset_free(dataset);
    fixture.options.format = RPO_DATA_AUTO;
    dataset = fixture_load_text(&fixture, "{\"prompt\":\"a\",\"chosen\":null,\"rejected\":null,"
                                          "\"completion\":\"b\",\"label\":true}");
    cr_assert_eq(rpo_dataset_file_format(dataset, 0), RPO_DATA_UNPAIRED);
    rpo_dataset_free(dataset);
    fixture_close(&fixture);
}

/* [0,0,0,...]: a tree of 2 bytes a value would take 40 times as much memory. */
Test(dataset, a_record_of_too_many_values_is_refused) {
    enum { VALUES = 1 << 20, SIZE = 2 * VALUES };
    data_fixture fixture = fixture_open();
    char *text = malloc(SIZE + 2);
    for (int i = 0; i <= VALUES; ++i)
        memcpy(text + 2 * i, i == 0 ? "[0" : ",0", 2);
    text[SIZE + 1] = ']';
    fixture_write(&fixture, "zeros.jsonl", text, SIZE + 2);
    rpo_dataset *dataset = NULL;
    cr_assert_eq(fixture_load(&fixture, &dataset), RPO_ERROR_INVALID_INPUT);
    assert_message_has("zeros.jsonl:1: holds more than 1048576 values");
    free(text);
    fixture_close(&fixture);
}

Test(dataset, faults_of_pairs) {
    check_faults(PAIR, pair_faults, sizeof pair_faults / sizeof pair_faults[0]);
}

Test(dataset, faults_of_hh) {
    check_faults(HH, hh_faults, sizeof hh_faults / sizeof hh_faults[0]);
}

Test(dataset, faults_of_unpaired) {
    check_faults(UNPAIRED, unpaired_faults, sizeof unpaired_faults / sizeof unpaired_faults[0]);
}

Test(dataset, a_first_record_of_no_known_form) {
    data_fixture fixture = fixture_open();
    rpo_dataset *dataset = NULL;
    fixture_write_text(&fixture, "data.jsonl", "{\"text\": \"a\"}\n" PAIR);
    cr_assert_eq(fixture_load(&fixture, &dataset), RPO_ERROR_INVALID_INPUT);
    assert_message_has(":1: record: has none of the known forms");

    /* Skipped, it decides nothing: the next record does. */
    fixture.options.on_bad_record = RPO_BAD_RECORD_SKIP;
    cr_assert_eq(fixture_load(&fixture, &dataset), RPO_OK);
    cr_assert_eq(rpo_dataset_file_format(dataset, 0), RPO_DATA_PAIRS);
    rpo_dataset_free(dataset);
    fixture_close(&fixture);
}

Test(dataset, a_file_keeps_the_format_of_its_first_record) {
    data_fixture fixture = fixture_open();
    rpo_dataset *dataset = NULL;
    fixture_write_text(&fixture, "data.jsonl", PAIR HH);
    cr_assert_eq(fixture_load(&fixture, &dataset), RPO_ERROR_INVALID_INPUT);
    assert_message_has(":2: prompt: is missing");
    fixture_close(&fixture);
}

static rpo_status load_two(data_fixture *fixture, const char *first, const char *second,
                           rpo_dataset **dataset) {
    char first_path[600], second_path[600];
    snprintf(first_path, sizeof first_path, "%s", fixture_write_text(fixture, "first.jsonl", first));
    snprintf(second_path, sizeof second_path, "%s", fixture_write_text(fixture, "second.jsonl", second));
    const char *paths[2] = {first_path, second_path};
    return rpo_dataset_load(dataset, paths, 2, &fixture->options, fixture->tokenizer);
}

Test(dataset, several_files) {
    data_fixture fixture = fixture_open();
    rpo_dataset *dataset = NULL;
    cr_assert_eq(load_two(&fixture, PAIR, HH HH, &dataset), RPO_OK, "%s", rpo_last_error());
    cr_assert_eq(rpo_dataset_size(dataset), 3);
    cr_assert_eq(rpo_dataset_file_format(dataset, 0), RPO_DATA_PAIRS);
    cr_assert_eq(rpo_dataset_file_format(dataset, 1), RPO_DATA_HH);
    cr_assert_eq(rpo_dataset_record(dataset, 2)->file, 1);
    cr_assert_eq(rpo_dataset_record(dataset, 2)->line, 2);
    rpo_dataset_free(dataset);

    cr_assert_eq(load_two(&fixture, PAIR, UNPAIRED, &dataset), RPO_ERROR_INVALID_INPUT);
    assert_message_has("second.jsonl:1: record: is unpaired after paired records");
    fixture.options.on_bad_record = RPO_BAD_RECORD_SKIP; /* no single record is at fault here */
    cr_assert_eq(load_two(&fixture, UNPAIRED, PAIR, &dataset), RPO_ERROR_INVALID_INPUT);
    assert_message_has("second.jsonl:1: record: is paired after unpaired records");
    fixture_close(&fixture);
}

Test(dataset, no_records) {
    data_fixture fixture = fixture_open();
    rpo_dataset *dataset = NULL;
    fixture_write_text(&fixture, "data.jsonl", "\n\n");
    cr_assert_eq(fixture_load(&fixture, &dataset), RPO_ERROR_INVALID_INPUT);
    assert_message_has("holds no records");
    fixture.options.on_bad_record = RPO_BAD_RECORD_SKIP;
    fixture_write_text(&fixture, "data.jsonl", "{\n{\n");
    cr_assert_eq(fixture_load(&fixture, &dataset), RPO_ERROR_INVALID_INPUT);
    assert_message_has("all 2 records are faulty");
    cr_assert_eq(rpo_dataset_load(&dataset, NULL, 0, &fixture.options, fixture.tokenizer),
                 RPO_ERROR_INVALID_ARGUMENT);
    fixture_close(&fixture);
}

Test(dataset, damaged_files_are_never_skipped) {
    data_fixture fixture = fixture_open();
    rpo_dataset *dataset = NULL;
    size_t size = 0;
    unsigned char *packed = gzip_bytes(PAIR PAIR PAIR, 3 * strlen(PAIR), &size);
    fixture.options.on_bad_record = RPO_BAD_RECORD_SKIP;
    fixture_write(&fixture, "cut.jsonl.gz", packed, size - 9);
    cr_assert_eq(fixture_load(&fixture, &dataset), RPO_ERROR_INVALID_INPUT);
    assert_message_has("cut.jsonl.gz:");
    assert_message_has("cut short");
    free(packed);
    fixture_close(&fixture);
}

Test(dataset, a_line_of_100_megabytes) {
    data_fixture fixture = fixture_open();
    const size_t length = 100000000;
    char *text = malloc(length);
    cr_assert_not_null(text);
    memset(text, 'x', length);
    memcpy(text, PAIR "{\"prompt\":\"", strlen(PAIR) + 11);
    memcpy(text + length - strlen(PAIR) - 1, "\n" PAIR, strlen(PAIR) + 1);
    size_t size = 0;
    unsigned char *packed = gzip_bytes(text, length, &size);
    free(text);
    fixture_write(&fixture, "long.jsonl.gz", packed, size);
    free(packed);
    rpo_dataset *dataset = NULL;
    cr_assert_eq(fixture_load(&fixture, &dataset), RPO_ERROR_INVALID_INPUT);
    assert_message_has("long.jsonl.gz:2: line: is longer than 67108864 bytes");
    fixture.options.on_bad_record = RPO_BAD_RECORD_SKIP;
    cr_assert_eq(fixture_load(&fixture, &dataset), RPO_OK, "%s", rpo_last_error());
    cr_assert_eq(rpo_dataset_size(dataset), 2);
    cr_assert_eq(rpo_dataset_report(dataset)->skipped, 1);
    rpo_dataset_free(dataset);
    fixture_close(&fixture);
}

Test(dataset, duplicates_and_blank_responses_are_counted_and_kept) {
    data_fixture fixture = fixture_open();
    rpo_dataset *dataset =
        fixture_load_text(&fixture, "{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"b\"}\n"
                                    "{\"prompt\":\"a\",\"chosen\":\" \\n\",\"rejected\":\"b\"}\n" PAIR);
    cr_assert_eq(rpo_dataset_size(dataset), 3);
    cr_assert_eq(rpo_dataset_report(dataset)->duplicates, 1);
    cr_assert_eq(rpo_dataset_report(dataset)->blank_responses, 1);
    rpo_dataset_free(dataset);
    fixture_close(&fixture);
}

/* ---- hash and order ---- */

static void hash_of(data_fixture *fixture, const char *text, char hex[33]) {
    rpo_dataset *dataset = fixture_load_text(fixture, text);
    memcpy(hex, rpo_dataset_hash(dataset), 33);
    rpo_dataset_free(dataset);
}

Test(dataset, hash_depends_on_everything_a_model_sees) {
    data_fixture fixture = fixture_open();
    static const char *const variants[] = {
        "{\"prompt\":\"ab\",\"chosen\":\"cd\",\"rejected\":\"e\"}\n",
        "{\"prompt\":\"a\",\"chosen\":\"bcd\",\"rejected\":\"e\"}\n",
        "{\"prompt\":\"ab\",\"chosen\":\"e\",\"rejected\":\"cd\"}\n",
        "{\"prompt\":\"ab\",\"chosen\":\"cd\",\"rejected\":\"f\"}\n",
        "{\"prompt\":\"ab\",\"completion\":\"cd\",\"label\":true}\n",
        "{\"prompt\":\"ab\",\"completion\":\"cd\",\"label\":false}\n",
    };
    enum { COUNT = sizeof variants / sizeof variants[0] };
    char hashes[COUNT][33], again[33];
    for (int i = 0; i < COUNT; ++i) {
        hash_of(&fixture, variants[i], hashes[i]);
        for (int j = 0; j < i; ++j)
            cr_assert_str_neq(hashes[i], hashes[j]);
    }
    hash_of(&fixture, "\n\n{\"rejected\":\"e\", \"chosen\":\"cd\", \"id\": 3, \"prompt\":\"ab\"}", again);
    cr_assert_str_eq(again, hashes[0]);
    fixture_close(&fixture);
}

Test(dataset, shuffle_is_a_pure_function_of_seed_and_epoch) {
    enum { COUNT = 1000 };
    static int64_t first[COUNT], again[COUNT], other_epoch[COUNT], other_seed[COUNT];
    bool seen[COUNT] = {false};
    rpo_dataset_shuffle(first, COUNT, 7, 3);
    rpo_dataset_shuffle(again, COUNT, 7, 3);
    rpo_dataset_shuffle(other_epoch, COUNT, 7, 4);
    rpo_dataset_shuffle(other_seed, COUNT, 8, 3);
    int same_epoch = 0, same_seed = 0, in_place = 0;
    for (int i = 0; i < COUNT; ++i) {
        cr_assert(first[i] >= 0 && first[i] < COUNT && !seen[first[i]]);
        seen[first[i]] = true;
        cr_assert_eq(first[i], again[i]);
        same_epoch += first[i] == other_epoch[i];
        same_seed += first[i] == other_seed[i];
        in_place += first[i] == i;
    }
    /* Two random permutations agree in one place on average. */
    cr_assert(same_epoch < 12 && same_seed < 12 && in_place < 12);
}
