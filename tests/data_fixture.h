/* data_fixture.h - data files made on the fly for tests, in a folder that goes away again. */
#ifndef RPO_TESTS_DATA_FIXTURE_H
#define RPO_TESTS_DATA_FIXTURE_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "host/data/dataset.h"

typedef struct data_fixture {
    char folder[512];
    char path[600]; /* of the file written last */
    rpo_tokenizer *tokenizer;
    rpo_data_options options;
} data_fixture;

static inline data_fixture fixture_open(void) {
    data_fixture fixture = {.options = {.format = RPO_DATA_AUTO,
                                        .max_length = 512,
                                        .max_prompt_length = 256,
                                        .truncation = RPO_TRUNCATE_KEEP_END,
                                        .on_bad_record = RPO_BAD_RECORD_ERROR}};
    snprintf(fixture.folder, sizeof fixture.folder, "%s/test-data-XXXXXX", RPO_TEST_BINARY_DIR);
    cr_assert_not_null(mkdtemp(fixture.folder));
    cr_assert_eq(rpo_tokenizer_open(&fixture.tokenizer, NULL, RPO_TOKENIZER_AUTO), RPO_OK);
    return fixture;
}

static inline void fixture_close(data_fixture *fixture) {
    rpo_tokenizer_free(fixture->tokenizer);
    cr_assert_eq(rpo_remove_tree(fixture->folder), RPO_OK);
}

static inline const char *fixture_write(data_fixture *fixture, const char *name, const void *data,
                                        size_t size) {
    snprintf(fixture->path, sizeof fixture->path, "%s/%s", fixture->folder, name);
    FILE *file = fopen(fixture->path, "wb");
    cr_assert_not_null(file);
    cr_assert_eq(fwrite(data, 1, size, file), size);
    cr_assert_eq(fclose(file), 0);
    return fixture->path;
}

static inline const char *fixture_write_text(data_fixture *fixture, const char *name, const char *text) {
    return fixture_write(fixture, name, text, strlen(text));
}

/* One gzip member in memory; free(). */
static inline unsigned char *gzip_bytes(const void *data, size_t size, size_t *packed_size) {
    z_stream stream = {0};
    cr_assert_eq(deflateInit2(&stream, Z_BEST_SPEED, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    const size_t room = deflateBound(&stream, (uLong)size) + 64;
    unsigned char *packed = malloc(room);
    cr_assert_not_null(packed);
    stream.next_in = (unsigned char *)(uintptr_t)data;
    stream.avail_in = (uInt)size;
    stream.next_out = packed;
    stream.avail_out = (uInt)room;
    cr_assert_eq(deflate(&stream, Z_FINISH), Z_STREAM_END);
    *packed_size = room - stream.avail_out;
    deflateEnd(&stream);
    return packed;
}

static inline rpo_status fixture_load(data_fixture *fixture, rpo_dataset **dataset) {
    const char *paths[1] = {fixture->path};
    return rpo_dataset_load(dataset, paths, 1, &fixture->options, fixture->tokenizer);
}

/* Loads text that must be accepted. */
static inline rpo_dataset *fixture_load_text(data_fixture *fixture, const char *text) {
    rpo_dataset *dataset = NULL;
    fixture_write_text(fixture, "data.jsonl", text);
    cr_assert_eq(fixture_load(fixture, &dataset), RPO_OK, "%s", rpo_last_error());
    return dataset;
}

/* Text of tokens [begin, end); free(). */
static inline char *decode_range(const data_fixture *fixture, const rpo_sequence *sequence, int32_t begin,
                                 int32_t end) {
    rpo_text text = {0};
    cr_assert_eq(
        rpo_tokenizer_decode(fixture->tokenizer, sequence->tokens + begin, (size_t)(end - begin), &text),
        RPO_OK);
    char *copy = strdup(text.data != NULL ? text.data : "");
    rpo_text_free(&text);
    return copy;
}

/* The sequence must read BOS + prompt + response + EOS with labels from the response on. */
static inline void assert_sequence(const data_fixture *fixture, const rpo_sequence *sequence,
                                   const char *prompt, const char *response) {
    cr_assert_not_null(sequence->tokens);
    cr_assert_eq(sequence->prompt_length, (int32_t)strlen(prompt) + 1);
    char *head = decode_range(fixture, sequence, 0, sequence->prompt_length);
    char *tail = decode_range(fixture, sequence, sequence->prompt_length, sequence->length);
    cr_assert(strncmp(head, "<bos>", 5) == 0 && strcmp(head + 5, prompt) == 0, "prompt is \"%s\"", head);
    const size_t length = strlen(response);
    cr_assert(strncmp(tail, response, length) == 0 && strcmp(tail + length, "<eos>") == 0,
              "response is \"%s\"", tail);
    free(tail);
    free(head);
}

static inline void assert_message_has(const char *part) {
    cr_assert_not_null(strstr(rpo_last_error(), part), "\"%s\" is not in \"%s\"", part, rpo_last_error());
}

#endif
