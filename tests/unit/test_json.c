/* test_json.c - the strict JSON reader: what it accepts, what it refuses and how it says so. */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "core/json.h"

static rpo_status parse(rpo_json **json, const char *text) {
    return rpo_json_parse(json, text, strlen(text), "case.json", 1);
}

/* ---- accepted ---- */

Test(json, accepts_rfc_8259) {
    static const char *const texts[] = {
        "0",
        "-0",
        "-1.5e-3",
        "1E+2",
        "\"\"",
        "true",
        "false",
        "null",
        "[]",
        "{}",
        " \t\r\n[ 1 ,\r\n2 ] \r\n",
        "{\"a\":{\"a\":[{\"a\":1}]},\"b\":[]}",
        "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\uD83D\\uDE00\"",
        "\"\xc3\xa9 \xf0\x9f\x98\x80 \x7f\"",
        "1e-400", /* underflows to 0, which is finite */
        "1.7976931348623157e308",
        "{\"\":1,\" \":2}",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; ++i) {
        rpo_json *json = NULL;
        cr_assert_eq(parse(&json, texts[i]), RPO_OK, "%s: %s", texts[i], rpo_last_error());
        cr_assert_not_null(rpo_json_root(json));
        rpo_json_free(json);
    }
}

Test(json, decodes_strings) {
    rpo_json *json = NULL;
    cr_assert_eq(parse(&json, "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\uD83D\\uDE00\\u20AC\""), RPO_OK);
    cr_assert_str_eq(rpo_json_root(json)->valuestring, "\"\\/\b\f\n\r\t\xc3\xa9\xf0\x9f\x98\x80\xe2\x82\xac");
    rpo_json_free(json);
}

/* ---- refused ---- */

typedef struct refused {
    const char *text;
    size_t length; /* 0 = strlen */
    int line;
    const char *says; /* must stand in the message */
} refused;

static const refused refused_texts[] = {
    {"", 0, 1, "empty"},
    {" \n\n ", 0, 3, "empty"},
    {"{\"a\":1} x", 0, 1, "after the end"},
    {"1\n2", 0, 2, "after the end"},
    {"{}{}", 0, 1, "after the end"},
    {"[1,]", 0, 1, "a value is expected"},
    {"[1 2]", 0, 1, "',' or ']'"},
    {"[", 0, 1, "ends early"},
    {"[1", 0, 1, "ends early"},
    {"[1,", 0, 1, "ends early"},
    {"{", 0, 1, "ends early"},
    {"{\"a\"", 0, 1, "':'"},
    {"{\"a\":", 0, 1, "ends early"},
    {"{\"a\":1", 0, 1, "ends early"},
    {"{\"a\":1,}", 0, 1, "a quoted key"},
    {"{\"a\" 1}", 0, 1, "':'"},
    {"{a:1}", 0, 1, "a quoted key"},
    {"{'a':1}", 0, 1, "a quoted key"},
    {"{1:2}", 0, 1, "a quoted key"},
    {"{,}", 0, 1, "a quoted key"},
    {"]", 0, 1, "a value is expected"},
    {"[1}", 0, 1, "',' or ']'"},
    {"// comment\n1", 0, 1, "a value is expected"},
    {"NaN", 0, 1, "NaN is not JSON; numbers must be finite"},
    {"[1,\nNaN]", 0, 2, "NaN is not JSON"},
    {"{\"a\":Infinity}", 0, 1, "Infinity is not JSON"},
    {"-Infinity", 0, 1, "-Infinity is not JSON"},
    {"nan", 0, 1, "nan is not JSON"},
    {"1e400", 0, 1, "must be finite"},
    {"-1e999", 0, 1, "must be finite"},
    {"01", 0, 1, "leading zero"},
    {"-", 0, 1, "a digit"},
    {"-a", 0, 1, "a digit"},
    {"+1", 0, 1, "a value is expected"},
    {".5", 0, 1, "a value is expected"},
    {"1.", 0, 1, "after the decimal point"},
    {"1.e5", 0, 1, "after the decimal point"},
    {"1e", 0, 1, "exponent"},
    {"1e+", 0, 1, "exponent"},
    {"0x10", 0, 1, "after the end"},
    {"1234567890123456789012345678901234567890123456789012345678901234", 0, 1, "64 characters"},
    {"True", 0, 1, "a value is expected"},
    {"nul", 0, 1, "a value is expected"},
    {"truee", 0, 1, "after the end"},
    {"\"a", 0, 1, "inside a string"},
    {"\"a\\", 0, 1, "inside a string"},
    {"\"a\\\"", 0, 1, "inside a string"},
    {"\"\\x\"", 0, 1, "bad escape"},
    {"\"\\u12\"", 0, 1, "four hexadecimal digits"},
    {"\"\\u12G4\"", 0, 1, "four hexadecimal digits"},
    {"\"\\u0000\"", 0, 1, "escaped NUL"},
    {"\n\n[\"a\\u0000b\"]", 0, 3, "escaped NUL"},
    {"\"\\ud800\"", 0, 1, "lone surrogate"},
    {"\"\\udc00\"", 0, 1, "lone surrogate"},
    {"\"\\ud800\\ud800\"", 0, 1, "lone surrogate"},
    {"\"\\ud800\\n\"", 0, 1, "lone surrogate"},
    {"\"\\ud800\\u0041\"", 0, 1, "lone surrogate"},
    {"\"a\tb\"", 0, 1, "control byte 0x09"},
    {"\"a\nb\"", 0, 1, "control byte 0x0a"},
    {"\"\x1f\"", 0, 1, "control byte 0x1f"},
    {"\"a\0b\"", 5, 1, "raw NUL"},
    {"[1,\0]", 5, 1, "raw NUL"},
    {"1\0", 2, 1, "after the end"},
    {"\"\xff\"", 0, 1, "invalid UTF-8 (byte 0xff)"},
    {"{\n\"a\":\n\"\xc0\x80\"}", 0, 3, "invalid UTF-8"},
    {"\"\xed\xa0\x80\"", 0, 1, "invalid UTF-8"},
    {"\"\xc3\"", 0, 1, "invalid UTF-8"},
    {"\xef\xbb\xbf{}", 0, 1, "unexpected byte 0xef"}, /* a mark inside a stream; files: see below */
    {"\xc2\xa0", 0, 1, "unexpected byte 0xc2"},
    {"\f1", 0, 1, "unexpected byte 0x0c"},
    {"{\"a\":1,\"a\":2}", 0, 1, "a: duplicate key"},
    {"{\"a\":1,\n\"b\":2,\n\"\\u0061\":3}", 0, 3, "a: duplicate key"},
    {"{\"x\":[{\"k\":1,\n\"k\":null}]}", 0, 2, "k: duplicate key"},
    {"{\"a\":0,\"b\":0,\"c\":0,\"d\":0,\"e\":0,\"f\":0,\"g\":0,\"h\":0,\"i\":0,\n\"c\":0,\n\"a\":0}", 0, 2,
     "c: duplicate key"},
};

Test(json, refuses_and_names_the_line) {
    for (size_t i = 0; i < sizeof refused_texts / sizeof refused_texts[0]; ++i) {
        const refused *c = &refused_texts[i];
        rpo_json *json = (rpo_json *)&json;
        char place[32];
        rpo_error_clear();
        const rpo_status status =
            rpo_json_parse(&json, c->text, c->length > 0 ? c->length : strlen(c->text), "case.json", 1);
        cr_assert_eq(status, RPO_ERROR_INVALID_INPUT, "case %zu (%s) was accepted", i, c->text);
        cr_assert_null(json);
        snprintf(place, sizeof place, "case.json:%d: ", c->line);
        cr_assert_eq(strncmp(rpo_last_error(), place, strlen(place)), 0,
                     "case %zu: \"%s\" names another line", i, rpo_last_error());
        cr_assert_not_null(strstr(rpo_last_error(), c->says), "case %zu: \"%s\" does not say \"%s\"", i,
                           rpo_last_error(), c->says);
    }
}

/* Every cut of a sound text is refused: nothing reads past the end, nothing half is accepted. */
Test(json, refuses_every_prefix) {
    static const char text[] =
        "{\"k\\u00e9y\":[1.5e3,true,null,\"\\ud83d\\ude00\",{\"\xc3\xa9\":-2}],\"z\":{}}";
    for (size_t length = 0; length + 1 < sizeof text; ++length) {
        char *exact = malloc(length + 1); /* so that a sanitizer sees any read beyond */
        memcpy(exact, text, length);
        rpo_json *json = NULL;
        cr_assert_eq(rpo_json_parse(&json, length > 0 ? exact : "", length, "cut", 1),
                     RPO_ERROR_INVALID_INPUT, "%zu bytes", length);
        free(exact);
    }
}

/* Random damage to a sound text: refused or accepted, but read within its bounds and with a message. */
Test(json, survives_damage) {
    static const char text[] = "{\"prompt\": \"a \\u00e9 \xf0\x9f\x98\x80\", \"n\": [1, -2.5e-3, 1e9, "
                               "{\"deep\": [[[true, null]]]}],\n \"x\": \"\\\"\\\\\"}";
    enum { SIZE = sizeof text - 1, ROUNDS = 20000 };
    static const char alphabet[] = "{}[]\",:\\u0123456789eE+-.ntf \n\xc3\xa9\xff";
    for (uint64_t round = 0; round < ROUNDS; ++round) {
        char damaged[SIZE];
        memcpy(damaged, text, SIZE);
        const uint64_t hits = 1 + rpo_random_u64(11, round, 0) % 4;
        for (uint64_t hit = 0; hit < hits; ++hit)
            damaged[rpo_random_u64(11, round, 2 * hit + 1) % SIZE] =
                alphabet[rpo_random_u64(11, round, 2 * hit + 2) % (sizeof alphabet)];
        rpo_json *json = NULL;
        rpo_error_clear();
        const rpo_status status = rpo_json_parse(&json, damaged, SIZE, "damaged", 1);
        if (status == RPO_OK)
            rpo_json_free(json);
        else
            cr_assert(status == RPO_ERROR_INVALID_INPUT && strncmp(rpo_last_error(), "damaged:", 8) == 0,
                      "round %llu: status %d, \"%s\"", (unsigned long long)round, (int)status,
                      rpo_last_error());
    }
}

/* ---- limits and cost ---- */

static char *nested(int depth, const char *open, const char *inside, const char *close) {
    rpo_text text = {0};
    for (int i = 0; i < depth; ++i)
        cr_assert_eq(rpo_text_printf(&text, "%s", open), RPO_OK);
    cr_assert_eq(rpo_text_printf(&text, "%s", inside), RPO_OK);
    for (int i = 0; i < depth; ++i)
        cr_assert_eq(rpo_text_printf(&text, "%s", close), RPO_OK);
    return text.data;
}

Test(json, nesting_is_bounded) {
    static const struct {
        const char *open, *inside, *close;
    } forms[] = {{"[", "", "]"}, {"{\"a\":", "1", "}"}};
    for (size_t form = 0; form < 2; ++form)
        for (int depth = 64; depth <= 65; ++depth) {
            char *text = nested(depth, forms[form].open, forms[form].inside, forms[form].close);
            rpo_json *json = NULL;
            cr_assert_eq(parse(&json, text), depth == 64 ? RPO_OK : RPO_ERROR_INVALID_INPUT);
            if (depth == 65)
                cr_assert_not_null(strstr(rpo_last_error(), "nested more than 64 deep"));
            rpo_json_free(json);
            rpo_free(text);
        }
    rpo_json *json = NULL;
    char *abyss = nested(1000000, "[", "", "");
    cr_assert_eq(parse(&json, abyss), RPO_ERROR_INVALID_INPUT);
    rpo_free(abyss);
}

/* Half a million keys, then one twice: found, and in a time that a quadratic search would not keep. */
Test(json, duplicates_in_a_huge_object, .timeout = 60) {
    enum { KEYS = 500000 };
    rpo_text text = {0};
    rpo_text_printf(&text, "{");
    for (int i = 0; i < KEYS; ++i)
        rpo_text_printf(&text, "\"some common prefix %d\":%d,\n", i, i);
    const size_t sound = text.length;
    rpo_text_printf(&text, "\"last\":0}");
    rpo_json *json = NULL;
    double begin = rpo_now();
    cr_assert_eq(rpo_json_parse(&json, text.data, text.length, "huge", 1), RPO_OK, "%s", rpo_last_error());
    rpo_json_free(json);
    const double seconds = rpo_now() - begin;
    text.length = sound;
    rpo_text_printf(&text, "\"some common prefix 77\":0}");
    cr_assert_eq(rpo_json_parse(&json, text.data, text.length, "huge", 1), RPO_ERROR_INVALID_INPUT);
    cr_assert_str_eq(rpo_last_error(),
                     "huge:500001: some common prefix 77: duplicate key; every key may stand once");
    rpo_text_free(&text);
    cr_assert(seconds < 20, "%g s for half a million keys", seconds);
}

Test(json, a_huge_line_is_scanned_once, .timeout = 60) {
    enum { SIZE = 100 << 20 };
    char *line = rpo_alloc_array(SIZE, 1);
    cr_assert_not_null(line);
    memset(line, 'x', SIZE);
    line[0] = '"'; /* never closed */
    rpo_json *json = NULL;
    const double begin = rpo_now();
    cr_assert_eq(rpo_json_parse(&json, line, SIZE, "line", 1), RPO_ERROR_INVALID_INPUT);
    cr_assert(rpo_now() - begin < 20);
    rpo_free(line);
}

/* ---- lines ---- */

Test(json, lines_of_values) {
    static const char text[] = "\n{\"a\":\n 1,\r\n\"b\": [\n10,\n[],\n{\"c\":\n\n\"d\"}\n]\n}\n";
    rpo_json *json = NULL;
    cr_assert_eq(rpo_json_parse(&json, text, sizeof text - 1, "lines", 100), RPO_OK);
    const cJSON *root = rpo_json_root(json), *a = root->child, *b = a->next, *ten = b->child,
                *empty = ten->next;
    cr_assert_eq(rpo_json_line(json, root), 101);
    cr_assert_eq(rpo_json_line(json, a), 102);
    cr_assert_eq(rpo_json_line(json, b), 103);
    cr_assert_eq(rpo_json_line(json, ten), 104);
    cr_assert_eq(rpo_json_line(json, empty), 105);
    cr_assert_eq(rpo_json_line(json, empty->next), 106);
    cr_assert_eq(rpo_json_line(json, empty->next->child), 108);
    rpo_json_free(json);
}

/* ---- files ---- */

Test(json, reads_files_with_a_mark) {
    char path[] = "/tmp/rpo-test-json-XXXXXX";
    const int file = mkstemp(path);
    cr_assert(file >= 0);
    static const char text[] = "\xef\xbb\xbf{\r\n\"a\": 1\r\n}\r\n";
    cr_assert_eq(rpo_write_file_atomic(path, text, sizeof text - 1), RPO_OK);
    rpo_json *json = NULL;
    cr_assert_eq(rpo_json_read_file(&json, path, 1000), RPO_OK, "%s", rpo_last_error());
    cr_assert_eq(rpo_json_line(json, rpo_json_root(json)->child), 2);
    cr_assert_str_eq(rpo_json_name(json), path);
    rpo_json_free(json);
    cr_assert_eq(rpo_json_read_file(&json, path, 5), RPO_ERROR_INVALID_INPUT);
    remove(path);
    cr_assert_eq(rpo_json_read_file(&json, path, 5), RPO_ERROR_INVALID_INPUT);
}

/* ---- typed readers ---- */

static const char members[] =
    "{\"d\": 1.5, \"i\": -7, \"big\": 9007199254740991, \"bigger\": 9007199254740993,\n"
    "\"t\": true, \"s\": \"text\", \"n\": null, \"list\": [1, 2.5, -3],\n"
    "\"mixed\": [1, \"2\"], \"large\": [1e39], \"empty\": [], \"o\": {}}";

Test(json, typed_readers) {
    rpo_json *json = NULL;
    double d = 9;
    int64_t i = 9, length = 9;
    bool t = false;
    const char *s = NULL;
    float *list = NULL;
    cr_assert_eq(parse(&json, members), RPO_OK, "%s", rpo_last_error());
    const cJSON *root = rpo_json_root(json);

    cr_assert_eq(rpo_json_get_double(json, root, "d", true, 0, 2, &d), RPO_OK);
    cr_assert_eq(d, 1.5);
    cr_assert_eq(rpo_json_get_int(json, root, "i", true, -7, 7, &i), RPO_OK);
    cr_assert_eq(i, -7);
    cr_assert_eq(rpo_json_get_int(json, root, "big", true, 0, INT64_MAX, &i), RPO_OK);
    cr_assert_eq(i, INT64_C(9007199254740991));
    cr_assert_eq(rpo_json_get_bool(json, root, "t", true, &t), RPO_OK);
    cr_assert(t);
    cr_assert_eq(rpo_json_get_string(json, root, "s", true, &s), RPO_OK);
    cr_assert_str_eq(s, "text");
    cr_assert_eq(rpo_json_get_floats(json, root, "list", true, 3, &list, NULL), RPO_OK);
    cr_assert(list[0] == 1 && list[1] == 2.5f && list[2] == -3);
    rpo_free(list);
    list = NULL;
    cr_assert_eq(rpo_json_get_floats(json, root, "empty", true, -1, &list, &length), RPO_OK);
    cr_assert_eq(length, 0);
    rpo_free(list);

    d = 9;
    cr_assert_eq(rpo_json_get_double(json, root, "absent", false, 0, 1, &d), RPO_OK);
    cr_assert_eq(rpo_json_get_double(json, root, "n", false, 0, 1, &d), RPO_OK);
    cr_assert_eq(d, 9, "an absent member leaves the value as it is");
    rpo_json_free(json);
}

Test(json, typed_readers_refuse) {
    rpo_json *json = NULL;
    double d = 9;
    int64_t i = 9;
    bool t = false;
    const char *s = NULL;
    float *list = NULL;
    cr_assert_eq(parse(&json, members), RPO_OK);
    const cJSON *root = rpo_json_root(json);
#define REFUSED(call, message)                                                                               \
    do {                                                                                                     \
        cr_assert_eq(call, RPO_ERROR_INVALID_INPUT);                                                         \
        cr_assert_str_eq(rpo_last_error(), message);                                                         \
    } while (0)
    REFUSED(rpo_json_get_double(json, root, "s", true, 0, 1, &d), "case.json:2: s: must be a number");
    REFUSED(rpo_json_get_double(json, root, "d", true, 0, 1, &d),
            "case.json:1: d: is 1.5; must be from 0 to 1");
    REFUSED(rpo_json_get_double(json, root, "i", true, 0, INFINITY, &d),
            "case.json:1: i: is -7; must be at least 0");
    REFUSED(rpo_json_get_double(json, root, "absent", true, 0, 1, &d),
            "case.json:1: absent: is missing; required");
    REFUSED(rpo_json_get_double(json, root, "n", true, 0, 1, &d), "case.json:2: n: is missing; required");
    REFUSED(rpo_json_get_int(json, root, "d", true, 0, 1, &i), "case.json:1: d: must be an integer");
    REFUSED(rpo_json_get_int(json, root, "i", true, 0, 5, &i), "case.json:1: i: is -7; must be from 0 to 5");
    REFUSED(rpo_json_get_int(json, root, "bigger", true, 0, INT64_MAX, &i),
            "case.json:1: bigger: is 9007199254740992; integers must lie within +-9007199254740991");
    REFUSED(rpo_json_get_bool(json, root, "i", true, &t), "case.json:1: i: must be true or false");
    REFUSED(rpo_json_get_string(json, root, "i", true, &s), "case.json:1: i: must be a string");
    REFUSED(rpo_json_get_floats(json, root, "o", true, -1, &list, NULL),
            "case.json:3: o: must be a list of numbers");
    REFUSED(rpo_json_get_floats(json, root, "list", true, 4, &list, NULL),
            "case.json:2: list: has 3 numbers; must have 4");
    REFUSED(rpo_json_get_floats(json, root, "mixed", true, -1, &list, NULL),
            "case.json:3: mixed: item 1 must be a number within +-3.40282e+38");
    REFUSED(rpo_json_get_floats(json, root, "large", true, -1, &list, NULL),
            "case.json:3: large: item 0 must be a number within +-3.40282e+38");
#undef REFUSED
    cr_assert(d == 9 && i == 9 && list == NULL);
    rpo_json_free(json);
}

/* ---- overrides ---- */

Test(json, overrides_name_their_origin) {
    rpo_json *json = NULL;
    double d = 0;
    cr_assert_eq(parse(&json, "{\"a\": {\n\"x\": 1, \"y\": {\"z\": 2}}}"), RPO_OK);
    cr_assert_eq(rpo_json_override(json, "a.x", "5", "--set a.x=5"), RPO_OK);
    cr_assert_eq(rpo_json_override(json, "a.y.z", "word", "--set a.y.z=word"), RPO_OK);
    cr_assert_eq(rpo_json_override(json, "b.new", "[1, 2]", "--set b.new=[1, 2]"), RPO_OK);
    cr_assert_eq(rpo_json_override(json, "b.new", "[3]", "--set b.new=[3]"), RPO_OK);
    const cJSON *root = rpo_json_root(json), *a = cJSON_GetObjectItemCaseSensitive(root, "a");
    const cJSON *y = cJSON_GetObjectItemCaseSensitive(a, "y"),
                *b = cJSON_GetObjectItemCaseSensitive(root, "b");
    cr_assert_eq(rpo_json_get_double(json, a, "x", true, 0, 9, &d), RPO_OK);
    cr_assert_eq(d, 5);
    cr_assert_eq(rpo_json_get_double(json, a, "x", true, 0, 1, &d), RPO_ERROR_INVALID_INPUT);
    cr_assert_str_eq(rpo_last_error(), "--set a.x=5: x: is 5; must be from 0 to 1");
    cr_assert_eq(rpo_json_get_double(json, y, "z", true, 0, 1, &d), RPO_ERROR_INVALID_INPUT);
    cr_assert_str_eq(rpo_last_error(), "--set a.y.z=word: z: must be a number");
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(b, "new")->child;
    cr_assert_eq(item->valuedouble, 3);
    rpo_json_fault(json, item, "k", "bad");
    cr_assert_str_eq(rpo_last_error(), "--set b.new=[3]: k: bad");
    rpo_json_fault(json, y, "k", "bad");
    cr_assert_str_eq(rpo_last_error(), "case.json:2: k: bad");
    cr_assert_eq(rpo_json_override(json, "a.x.below", "1", "o"), RPO_ERROR_INVALID_INPUT);
    cr_assert_eq(rpo_json_override(json, "a..b", "1", "o"), RPO_ERROR_INVALID_INPUT);
    cr_assert_eq(rpo_json_override(json, "a.x", "\xff", "o"), RPO_ERROR_INVALID_INPUT);
    rpo_json_free(json);
}

/* ---- writing ---- */

Test(json, numbers_read_back_exactly) {
    static const double fixed[] = {
        0, 1, -1, 0.1, 5e-7, 1e22, DBL_MAX, DBL_MIN, 5e-324, 1.0 / 3, 9007199254740991.0};
    for (uint64_t i = 0; i < 20000; ++i) {
        double value;
        if (i < sizeof fixed / sizeof fixed[0]) {
            value = fixed[i];
        } else {
            const uint64_t bits = rpo_random_u64(5, 0, i);
            memcpy(&value, &bits, sizeof value);
            if (!isfinite(value))
                continue;
        }
        rpo_text text = {0};
        rpo_json *json = NULL;
        cr_assert_eq(rpo_json_append_number(&text, value), RPO_OK);
        cr_assert_eq(parse(&json, text.data), RPO_OK, "%s", rpo_last_error());
        cr_assert_eq(rpo_json_root(json)->valuedouble, value, "%s", text.data);
        rpo_json_free(json);
        rpo_text_free(&text);
    }
    rpo_text text = {0};
    rpo_json_append_number(&text, NAN);
    rpo_json_append_number(&text, -INFINITY);
    rpo_json_append_number(&text, 0.1);
    cr_assert_str_eq(text.data, "nullnull0.1");
    rpo_text_free(&text);
}

Test(json, strings_read_back) {
    char every[256];
    for (int i = 1; i < 128; ++i)
        every[i - 1] = (char)i;
    strcpy(every + 127, "\xc3\xa9\xf0\x9f\x98\x80");
    rpo_text text = {0};
    rpo_json *json = NULL;
    cr_assert_eq(rpo_json_append_string(&text, every), RPO_OK);
    cr_assert_eq(parse(&json, text.data), RPO_OK, "%s", rpo_last_error());
    cr_assert_str_eq(rpo_json_root(json)->valuestring, every);
    rpo_json_free(json);
    rpo_text_free(&text);
    cr_assert_eq(rpo_json_append_string(&text, "a\xff\xfe"
                                               "b"),
                 RPO_OK);
    cr_assert_str_eq(text.data, "\"a\xef\xbf\xbd\xef\xbf\xbd"
                                "b\"");
    rpo_text_free(&text);
}
