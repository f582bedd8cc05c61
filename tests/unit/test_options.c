/* test_options.c - a table of arguments: what is read into where, every fault's line, usage and help; exit codes. */
#include <criterion/criterion.h>
#include <signal.h>
#include <string.h>

#include "core/exit_codes.h"
#include "core/options.h"

typedef struct arguments {
    const char *first, *second, *text;
    rpo_option_list list;
    int64_t count;
    int choice;
    bool flag;
} arguments;

static const char *const colours[] = {"red", "green", "blue", NULL};

static const rpo_option table[] = {
    {.name = "FIRST",
     .type = RPO_OPTION_TEXT,
     .offset = offsetof(arguments, first),
     .required = true,
     .meaning = "a"},
    {.name = "SECOND", .type = RPO_OPTION_TEXT, .offset = offsetof(arguments, second), .meaning = "b"},
    {.name = "--text",
     .value = "T",
     .type = RPO_OPTION_TEXT,
     .offset = offsetof(arguments, text),
     .meaning = "c"},
    {.name = "--list",
     .value = "ITEM",
     .type = RPO_OPTION_LIST,
     .offset = offsetof(arguments, list),
     .meaning = "d"},
    {.name = "--count",
     .value = "N",
     .type = RPO_OPTION_COUNT,
     .offset = offsetof(arguments, count),
     .low = -2,
     .high = 7,
     .meaning = "e"},
    {.name = "--colour",
     .type = RPO_OPTION_CHOICE,
     .offset = offsetof(arguments, choice),
     .choices = colours,
     .meaning = "f"},
    {.name = "--flag", .type = RPO_OPTION_FLAG, .offset = offsetof(arguments, flag), .meaning = "g"},
};

static const rpo_options_spec spec = {.program = "prog",
                                      .command = "cmd",
                                      .summary = "does it",
                                      .options = table,
                                      .num_options = sizeof table / sizeof table[0],
                                      .details = "More.\n"};

/* `line`: arguments separated by single blanks. */
static rpo_status read_line(arguments *read, const char *line) {
    static char copy[512];
    static char *words[64];
    int count = 0;
    cr_assert_lt(strlen(line), sizeof copy);
    strcpy(copy, line);
    for (char *word = strtok(copy, " "); word != NULL; word = strtok(NULL, " "))
        words[count++] = word;
    rpo_error_clear();
    return rpo_options_read(&spec, read, count, words);
}

Test(options, everything_lands_in_its_place) {
    static const char *const lines[] = {
        "one --text t --list a --list b=c --count -2 --colour blue --flag -",
        "--flag --colour=blue one --count=-2 --list=a --list=b=c --text=t -",
    };
    for (size_t i = 0; i < 2; ++i) {
        arguments read = {0};
        cr_assert_eq(read_line(&read, lines[i]), RPO_OK, "%s", rpo_last_error());
        cr_expect_str_eq(read.first, "one");
        cr_expect_str_eq(read.second, "-");
        cr_expect_str_eq(read.text, "t");
        cr_assert_eq(read.list.count, 2);
        cr_expect_str_eq(read.list.items[0], "a");
        cr_expect_str_eq(read.list.items[1], "b=c");
        cr_expect(read.count == -2 && read.choice == 2 && read.flag);
        rpo_options_free(&spec, &read);
        cr_expect(read.list.items == NULL && read.list.count == 0);
    }
}

Test(options, what_is_not_given_stays) {
    arguments read = {.text = "kept", .count = 5, .choice = 1};
    cr_assert_eq(read_line(&read, "one"), RPO_OK);
    cr_expect_str_eq(read.text, "kept");
    cr_expect(read.second == NULL && read.count == 5 && read.choice == 1 && !read.flag &&
              read.list.count == 0);
    cr_assert_eq(read_line(&read, "one --text="), RPO_OK);
    cr_expect_str_eq(read.text, "");
}

#define USAGE                                                                                                \
    "prog cmd FIRST [SECOND] [--text T] [--list ITEM ...] [--count N] [--colour red|green|blue] [--flag]"

Test(options, faults_say_what_is_wrong_and_what_is_allowed) {
    static const struct {
        const char *line, *message;
    } cases[] = {
        {"", "cmd: FIRST: is missing; usage: " USAGE},
        {"--flag", "cmd: FIRST: is missing; usage: " USAGE},
        {"a b c", "cmd: c: unknown argument; usage: " USAGE},
        {"a --flga", "cmd: --flga: unknown option; did you mean --flag?"},
        {"a --color red", "cmd: --color: unknown option; did you mean --colour?"},
        {"a --lsit=3", "cmd: --lsit=3: unknown option; did you mean --list?"},
        {"a --zzzzzzzz", "cmd: --zzzzzzzz: unknown option; usage: " USAGE},
        {"a -x", "cmd: -x: unknown option; usage: " USAGE},
        {"a --text", "cmd: --text: is the last argument; must be --text T"},
        {"a --colour", "cmd: --colour: is the last argument; must be --colour red|green|blue"},
        {"a --flag=1", "cmd: --flag: is given a value; must stand alone"},
        {"a --count 8", "cmd: --count: is \"8\"; must be a whole number from -2 to 7"},
        {"a --count -3", "cmd: --count: is \"-3\"; must be a whole number from -2 to 7"},
        {"a --count 1x", "cmd: --count: is \"1x\"; must be a whole number from -2 to 7"},
        {"a --count=", "cmd: --count: is \"\"; must be a whole number from -2 to 7"},
        {"a --count 99999999999999999999",
         "cmd: --count: is \"99999999999999999999\"; must be a whole number from -2 to 7"},
        {"a --colour pink", "cmd: --colour: is \"pink\"; must be red, green or blue"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; ++i) {
        arguments read = {0};
        cr_expect_eq(read_line(&read, cases[i].line), RPO_ERROR_INVALID_INPUT, "%s", cases[i].line);
        cr_expect_str_eq(rpo_last_error(), cases[i].message);
        rpo_options_free(&spec, &read);
    }
}

/* A list that was begun is given free after a fault too: the leak checker watches. */
Test(options, a_fault_leaves_nothing_behind) {
    arguments read = {0};
    cr_assert_eq(read_line(&read, "a --list x --list y --nothing"), RPO_ERROR_INVALID_INPUT);
    rpo_options_free(&spec, &read);
    cr_expect_null(read.list.items);
}

Test(options, help_comes_from_the_same_table) {
    rpo_text text = {0};
    cr_assert_eq(rpo_options_append_help(&spec, &text), RPO_OK);
    cr_expect_str_eq(text.data, "usage: prog cmd FIRST [SECOND] [--text T] [--list ITEM ...] [--count N] "
                                "[--colour red|green|blue]\n"
                                "       [--flag]\n"
                                "\n"
                                "does it\n"
                                "\n"
                                "  FIRST                    a\n"
                                "  SECOND                   b\n"
                                "  --text T                 c\n"
                                "  --list ITEM              d\n"
                                "  --count N                e\n"
                                "  --colour red|green|blue  f\n"
                                "  --flag                   g\n"
                                "\n"
                                "More.\n");
    rpo_text_free(&text);
    const rpo_options_spec bare = {.program = "prog", .summary = "does nothing"};
    cr_assert_eq(rpo_options_append_help(&bare, &text), RPO_OK);
    cr_expect_str_eq(text.data, "usage: prog\n\ndoes nothing\n");
    rpo_text_free(&text);
}

Test(options, words_are_wrapped_behind_their_column) {
    static const struct {
        const char *words, *wrapped;
    } cases[] = {
        {"", ""},
        {"  a  ", "a"},
        {"aa bb cc", "aa bb cc"},
        {"aa bb ccc", "aa bb\n  ccc"},
        {"aaaaaaaaaaaaaaaa b", "aaaaaaaaaaaaaaaa\n  b"},
        {"a aaaaaaaaaaaaaaaa b", "a\n  aaaaaaaaaaaaaaaa\n  b"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; ++i) {
        rpo_text text = {0};
        cr_assert_eq(rpo_text_append_wrapped(&text, cases[i].words, 2, 10), RPO_OK);
        cr_expect_str_eq(text.data == NULL ? "" : text.data, cases[i].wrapped);
        rpo_text_free(&text);
    }
}

/* The codes are a contract: scripts decide by them whether to mend the input, to try another machine, or to resume. */
Test(exit_codes, every_status_has_its_code) {
    static const struct {
        rpo_status status;
        int signal, code;
    } cases[] = {
        {RPO_OK, 0, 0},
        {RPO_ERROR_INVALID_ARGUMENT, 0, 2},
        {RPO_ERROR_INVALID_INPUT, 0, 2},
        {RPO_ERROR_NONFINITE, 0, 3},
        {RPO_ERROR_OUT_OF_MEMORY, 0, 3},
        {RPO_ERROR_IO, 0, 3},
        {RPO_ERROR_UNSUPPORTED, 0, 3},
        {RPO_ERROR_DEVICE, 0, 3},
        {RPO_ERROR_WORKSPACE, 0, 3},
        {RPO_ERROR_INTERNAL, 0, 3},
        {RPO_ERROR_COMM, 0, 4},
        {RPO_ERROR_INTERRUPTED, SIGINT, 130},
        {RPO_ERROR_INTERRUPTED, SIGTERM, 143},
        {RPO_ERROR_INTERRUPTED, SIGHUP, 143},
        {RPO_ERROR_IO, SIGTERM, 3}, /* the signal came, but saving failed */
        {(rpo_status)9999, 0, 3},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; ++i)
        cr_expect_eq(rpo_exit_code(cases[i].status, cases[i].signal), cases[i].code, "case %zu", i);
}
