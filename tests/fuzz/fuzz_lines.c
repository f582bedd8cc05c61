/* fuzz_lines.c - lines of plain and gzip files. */
#include "fuzz.h"
#include "host/data/line_reader.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    enum { MAX_LINE = 40 };
    rpo_line_reader *reader = NULL;
    if (!fuzz_accepted(rpo_line_reader_open(&reader, fuzz_file(data, size), MAX_LINE)))
        return 0;
    for (int64_t number = 1;; ++number) {
        rpo_line line;
        if (!fuzz_accepted(rpo_line_reader_next(reader, &line)) || line.kind == RPO_LINE_END)
            break;
        FUZZ_CHECK(line.number == number);
        if (line.kind == RPO_LINE_TEXT)
            FUZZ_CHECK(line.length <= MAX_LINE &&
                       (line.length == 0 || memchr(line.text, '\n', line.length) == NULL));
    }
    rpo_line_reader_close(reader);
    return 0;
}
