/* test_line_reader.c - lines of plain and gzip files, and every way a file can be damaged. */
#include "../data_fixture.h"

#include "host/data/line_reader.h"

/* Reads on to the end or the first fault; lines are joined with '|', too long ones stand as "(long)". */
static rpo_status read_all(const char *path, size_t max_line, rpo_text *joined) {
    rpo_line_reader *reader = NULL;
    rpo_status status = rpo_line_reader_open(&reader, path, max_line);
    for (int64_t number = 1; status == RPO_OK; ++number) {
        rpo_line line;
        status = rpo_line_reader_next(reader, &line);
        if (status != RPO_OK || line.kind == RPO_LINE_END)
            break;
        cr_assert_eq(line.number, number);
        if (line.kind == RPO_LINE_TOO_LONG)
            cr_assert_eq(rpo_text_append(joined, "(long)", 6), RPO_OK);
        else
            cr_assert_eq(rpo_text_append(joined, line.text, line.length), RPO_OK);
        cr_assert_eq(rpo_text_append(joined, "|", 1), RPO_OK);
    }
    rpo_line_reader_close(reader);
    return status;
}

static void assert_lines(const char *path, size_t max_line, const char *expected) {
    rpo_text joined = {0};
    cr_assert_eq(read_all(path, max_line, &joined), RPO_OK, "%s", rpo_last_error());
    cr_assert_str_eq(joined.data != NULL ? joined.data : "", expected);
    rpo_text_free(&joined);
}

static void assert_fault(const char *path, rpo_status expected, const char *part) {
    rpo_text joined = {0};
    cr_assert_eq(read_all(path, 1000, &joined), expected);
    assert_message_has(part);
    assert_message_has(path);
    rpo_text_free(&joined);
}

Test(line_reader, line_ends) {
    data_fixture fixture = fixture_open();
    static const struct {
        const char *text, *lines;
    } cases[] = {{"", ""},
                 {"\n", "|"},
                 {"a", "a|"},
                 {"a\n", "a|"},
                 {"a\nb", "a|b|"},
                 {"a\r\nb\r\n", "a|b|"},
                 {"a\r\n\r\n\nb", "a|||b|"},
                 {"\xEF\xBB\xBF"
                  "a\nb\n",
                  "a|b|"},
                 {"\xEF\xBB\xBF\r\nb\n", "|b|"},
                 {"a\n\xEF\xBB\xBF"
                  "b",
                  "a|\xEF\xBB\xBF"
                  "b|"},
                 {"a\rb\n", "a\rb|"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; ++i)
        assert_lines(fixture_write_text(&fixture, "lines", cases[i].text), 1000, cases[i].lines);
    fixture_close(&fixture);
}

Test(line_reader, limit_is_exact_and_reading_goes_on_behind_it) {
    data_fixture fixture = fixture_open();
    const char *path = fixture_write_text(&fixture, "lines", "12345\n123456\nab\n1234567890123456\n12345");
    assert_lines(path, 5, "12345|(long)|ab|(long)|12345|");
    fixture_close(&fixture);
}

/* Passing over a bad line must end where the line does not: a gzip bomb would be unpacked for hours. */
Test(line_reader, a_line_without_end_is_not_read_to_its_end) {
    enum { LENGTH = 8 << 20 }; /* far more than 16 times the limit of a few blocks */
    data_fixture fixture = fixture_open();
    char *text = calloc(LENGTH, 1);
    size_t size = 0;
    unsigned char *packed = gzip_bytes(text, LENGTH, &size);
    assert_fault(fixture_write(&fixture, "bomb.gz", packed, size), RPO_ERROR_INVALID_INPUT,
                 ":1: line: goes on for more than 16 times the 1000 bytes allowed");
    memcpy(text + LENGTH / 16, "\n{}\n", 4); /* 512 KiB: passed over */
    assert_lines(fixture_write(&fixture, "plain", text, LENGTH / 16 + 4), 100000, "(long)|{}|");
    free(packed);
    free(text);
    fixture_close(&fixture);
}

Test(line_reader, lines_longer_than_a_block) {
    data_fixture fixture = fixture_open();
    enum { LENGTH = 300000 };
    char *text = malloc(2 * LENGTH + 2), *expected = malloc(2 * LENGTH + 3);
    memset(text, 'x', 2 * LENGTH + 2);
    text[LENGTH] = text[2 * LENGTH + 1] = '\n';
    memcpy(expected, text, 2 * LENGTH + 2);
    expected[LENGTH] = expected[2 * LENGTH + 1] = '|';
    expected[2 * LENGTH + 2] = '\0';
    assert_lines(fixture_write(&fixture, "plain", text, 2 * LENGTH + 2), LENGTH, expected);
    size_t size = 0;
    unsigned char *packed = gzip_bytes(text, 2 * LENGTH + 2, &size);
    assert_lines(fixture_write(&fixture, "packed", packed, size), LENGTH, expected);
    assert_lines(fixture.path, LENGTH - 1, "(long)|(long)|");
    free(packed);
    free(expected);
    free(text);
    fixture_close(&fixture);
}

Test(line_reader, gzip_is_found_by_content_and_members_follow_each_other) {
    data_fixture fixture = fixture_open();
    size_t first_size = 0, second_size = 0;
    unsigned char *first = gzip_bytes("a\nb", 3, &first_size),
                  *second = gzip_bytes("c\nd\n", 4, &second_size);
    unsigned char *both = malloc(first_size + second_size);
    memcpy(both, first, first_size);
    memcpy(both + first_size, second, second_size);
    assert_lines(fixture_write(&fixture, "data.jsonl", both, first_size + second_size), 1000, "a|bc|d|");
    assert_lines(fixture_write_text(&fixture, "plain.jsonl.gz", "a\nb\n"), 1000, "a|b|");
    free(both);
    free(second);
    free(first);
    fixture_close(&fixture);
}

Test(line_reader, gzip_cut_anywhere_is_found) {
    data_fixture fixture = fixture_open();
    const char text[] = "one line\nanother one\nand a third\n";
    size_t size = 0;
    unsigned char *packed = gzip_bytes(text, sizeof text - 1, &size);
    for (size_t cut = 2; cut < size; ++cut)
        assert_fault(fixture_write(&fixture, "cut.gz", packed, cut), RPO_ERROR_INVALID_INPUT, "cut short");
    free(packed);
    fixture_close(&fixture);
}

Test(line_reader, gzip_damage_and_what_follows_are_found) {
    data_fixture fixture = fixture_open();
    const char text[] = "one line\nanother one\nand a third\n";
    size_t size = 0;
    unsigned char *packed = gzip_bytes(text, sizeof text - 1, &size);
    unsigned char *longer = malloc(size + 4);
    memcpy(longer, packed, size);
    memcpy(longer + size, "tail", 4);
    assert_fault(fixture_write(&fixture, "tail.gz", longer, size + 4), RPO_ERROR_INVALID_INPUT,
                 "other data follows");
    assert_fault(fixture_write(&fixture, "tail.gz", longer, size + 1), RPO_ERROR_INVALID_INPUT,
                 "other data follows");
    packed[size - 6] ^= 1; /* inside the checksum */
    assert_fault(fixture_write(&fixture, "crc.gz", packed, size), RPO_ERROR_INVALID_INPUT, "damaged");
    free(longer);
    free(packed);
    fixture_close(&fixture);
}

Test(line_reader, paths_that_are_no_files) {
    data_fixture fixture = fixture_open();
    assert_fault(fixture.folder, RPO_ERROR_INVALID_INPUT, "is a folder");
    snprintf(fixture.path, sizeof fixture.path, "%s/absent.jsonl", fixture.folder);
    assert_fault(fixture.path, RPO_ERROR_INVALID_INPUT, "cannot be opened");
    fixture_close(&fixture);
}
