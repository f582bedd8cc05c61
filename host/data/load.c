/*
 * load.c - reads data files into a dataset: line by line, each record parsed, tokenized, truncated and
 * appended.
 *
 * Besides the dataset itself only one line, its JSON tree and its tokens are held at a time.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/json.h"
#include "host/data/dataset_internal.h"
#include "host/data/line_reader.h"
#include "host/data/record.h"
#include "host/data/truncate.h"

typedef struct rpo_token_list {
    int32_t *ids;
    size_t count, capacity;
} rpo_token_list;

typedef struct rpo_loader {
    rpo_dataset *dataset;
    const rpo_data_options *options;
    const rpo_tokenizer *tokenizer;
    const char *path; /* the file being read */
    int32_t file;
    rpo_record_text text; /* of the record being read */
    rpo_token_list prompt, chosen, rejected;
} rpo_loader;

static rpo_status append_id(rpo_token_list *list, int32_t id) {
    RPO_TRY(rpo_grow_array((void **)&list->ids, &list->capacity, list->count + 1, sizeof *list->ids));
    list->ids[list->count++] = id;
    return RPO_OK;
}

static rpo_status encode(const rpo_loader *loader, rpo_token_list *list, const rpo_text *text) {
    return rpo_tokenizer_encode(loader->tokenizer, text->length > 0 ? text->data : "", text->length,
                                &list->ids, &list->count, &list->capacity);
}

static rpo_status encode_prompt(rpo_loader *loader) {
    loader->prompt.count = 0;
    RPO_TRY(append_id(&loader->prompt, rpo_tokenizer_bos(loader->tokenizer)));
    return encode(loader, &loader->prompt, &loader->text.prompt);
}

static rpo_status encode_response(rpo_loader *loader, rpo_token_list *list, const rpo_text *text,
                                  bool present) {
    list->count = 0;
    if (!present)
        return RPO_OK;
    RPO_TRY(encode(loader, list, text));
    return append_id(list, rpo_tokenizer_eos(loader->tokenizer));
}

static void append_tokens(rpo_dataset *dataset, const int32_t *ids, size_t count) {
    memcpy(dataset->tokens + dataset->num_tokens, ids, count * sizeof *ids);
    dataset->num_tokens += count;
}

/* Appends BOS + prompt + response, each as long as `kept` says. */
static rpo_status append_sequence(rpo_loader *loader, rpo_sequence *sequence, const rpo_token_list *response,
                                  const rpo_kept_lengths *kept) {
    rpo_dataset *dataset = loader->dataset;
    const size_t prompt = (size_t)kept->prompt, max_response = (size_t)kept->max_response;
    const size_t labels = response->count < max_response ? response->count : max_response;
    const bool keep_end = loader->options->truncation == RPO_TRUNCATE_KEEP_END;
    const size_t first = keep_end ? loader->prompt.count - (prompt - 1) : 1; /* behind BOS */

    RPO_TRY(rpo_grow_array((void **)&dataset->tokens, &dataset->token_capacity,
                           dataset->num_tokens + prompt + labels, sizeof *dataset->tokens));
    append_tokens(dataset, loader->prompt.ids, 1);
    append_tokens(dataset, loader->prompt.ids + first, prompt - 1);
    append_tokens(dataset, response->ids, labels);
    *sequence = (rpo_sequence){.length = (int32_t)(prompt + labels),
                               .prompt_length = kept->prompt,
                               .prompt_cut = (int32_t)(loader->prompt.count - prompt),
                               .response_cut = (int32_t)(response->count - labels)};
    sequence->truncated = sequence->prompt_cut > 0 || sequence->response_cut > 0;

    rpo_data_report *report = &dataset->report;
    report->tokens += sequence->length;
    report->label_tokens += (int64_t)labels;
    report->truncated_responses += sequence->response_cut > 0;
    return RPO_OK;
}

static bool is_blank(const char *text, size_t length) {
    for (size_t i = 0; i < length; ++i)
        if (text[i] != ' ' && text[i] != '\t' && text[i] != '\n' && text[i] != '\r')
            return false;
    return true;
}

static void count_record(rpo_data_report *report, const rpo_record_text *text) {
    ++report->records;
    report->chosen += text->has_chosen;
    report->rejected += text->has_rejected;
    report->blank_responses += text->has_chosen && is_blank(text->chosen.data, text->chosen.length);
    report->blank_responses += text->has_rejected && is_blank(text->rejected.data, text->rejected.length);
    report->duplicates += text->has_chosen && text->has_rejected &&
                          text->chosen.length == text->rejected.length &&
                          memcmp(text->chosen.data, text->rejected.data, text->chosen.length) == 0;
}

static rpo_status append_prompt_text(rpo_dataset *dataset, rpo_record *record, const rpo_text *prompt) {
    if (prompt->length > 0)
        RPO_TRY(rpo_text_append(&dataset->prompts, prompt->data, prompt->length));
    record->prompt_size = prompt->length;
    return rpo_text_append(&dataset->prompts, "", 1); /* its NUL */
}

static rpo_status append_record(rpo_loader *loader, int64_t line) {
    rpo_dataset *dataset = loader->dataset;
    const rpo_record_text *text = &loader->text;
    RPO_TRY(encode_prompt(loader));
    RPO_TRY(encode_response(loader, &loader->chosen, &text->chosen, text->has_chosen));
    RPO_TRY(encode_response(loader, &loader->rejected, &text->rejected, text->has_rejected));
    const size_t longest =
        loader->chosen.count > loader->rejected.count ? loader->chosen.count : loader->rejected.count;
    const rpo_kept_lengths kept = rpo_truncate_plan(loader->prompt.count, longest, loader->options);

    rpo_record record = {.file = loader->file, .line = line};
    if (text->has_chosen)
        RPO_TRY(append_sequence(loader, &record.chosen, &loader->chosen, &kept));
    if (text->has_rejected)
        RPO_TRY(append_sequence(loader, &record.rejected, &loader->rejected, &kept));
    RPO_TRY(append_prompt_text(dataset, &record, &text->prompt));
    RPO_TRY(rpo_grow_array((void **)&dataset->records, &dataset->capacity, dataset->count + 1,
                           sizeof *dataset->records));
    dataset->records[dataset->count++] = record;
    dataset->report.truncated_prompts += (size_t)kept.prompt < loader->prompt.count;
    count_record(&dataset->report, text);
    return RPO_OK;
}

static rpo_status parse_line(rpo_loader *loader, const rpo_line *line, rpo_data_format *format) {
    if (line->kind == RPO_LINE_TOO_LONG)
        return rpo_error_set(RPO_ERROR_INVALID_INPUT,
                             "%s:%" PRId64 ": line: is longer than %zu bytes; a record must fit into that",
                             loader->path, line->number, RPO_DATA_MAX_LINE);
    rpo_json *json = NULL;
    RPO_TRY(rpo_json_parse_bounded(&json, line->text, line->length, loader->path, line->number,
                                   RPO_RECORD_MAX_VALUES));
    rpo_status status = RPO_OK;
    if (*format == RPO_DATA_AUTO)
        status = rpo_record_detect(format, json);
    if (status == RPO_OK)
        status = rpo_record_read(&loader->text, json, *format);
    rpo_json_free(json);
    return status;
}

/* The first good record of each file settles its format, and the dataset's first one whether it is paired. */
static rpo_status settle_format(rpo_loader *loader, rpo_data_format format, int64_t line) {
    rpo_dataset *dataset = loader->dataset;
    const bool paired = format != RPO_DATA_UNPAIRED;
    if (dataset->format_known && dataset->paired != paired)
        return rpo_error_set(
            RPO_ERROR_INVALID_INPUT,
            "%s:%" PRId64 ": record: is %s after %s records; one list of files must hold one kind",
            loader->path, line, paired ? "paired" : "unpaired", dataset->paired ? "paired" : "unpaired");
    dataset->formats[loader->file] = format;
    dataset->format_known = true;
    dataset->paired = paired;
    return RPO_OK;
}

/* Counts a faulty record; false where it has to stop the load. */
static bool skip_record(rpo_loader *loader, rpo_status status) {
    if (status != RPO_ERROR_INVALID_INPUT || loader->options->on_bad_record != RPO_BAD_RECORD_SKIP)
        return false;
    rpo_data_report *report = &loader->dataset->report;
    if (report->skipped++ == 0)
        snprintf(report->first_skipped, sizeof report->first_skipped, "%s", rpo_last_error());
    rpo_error_clear();
    return true;
}

static rpo_status load_line(rpo_loader *loader, const rpo_line *line) {
    if (line->kind == RPO_LINE_TEXT && is_blank(line->text, line->length)) {
        ++loader->dataset->report.lines_blank;
        return RPO_OK;
    }
    rpo_data_format format = loader->dataset->formats[loader->file];
    const rpo_status status = parse_line(loader, line, &format);
    if (status != RPO_OK)
        return skip_record(loader, status) ? RPO_OK : status;
    RPO_TRY(settle_format(loader, format, line->number));
    return append_record(loader, line->number);
}

static rpo_status load_file(rpo_loader *loader) {
    rpo_line_reader *reader = NULL;
    RPO_TRY(rpo_line_reader_open(&reader, loader->path, RPO_DATA_MAX_LINE));
    rpo_status status = RPO_OK;
    while (status == RPO_OK) {
        rpo_line line;
        status = rpo_line_reader_next(reader, &line);
        if (status != RPO_OK || line.kind == RPO_LINE_END)
            break;
        status = load_line(loader, &line);
    }
    rpo_line_reader_close(reader);
    return status;
}

static rpo_status check_not_empty(const rpo_dataset *dataset, const char *path) {
    const rpo_data_report *report = &dataset->report;
    if (report->records > 0)
        return RPO_OK;
    if (report->skipped > 0)
        return rpo_error_set(RPO_ERROR_INVALID_INPUT,
                             "%s: all %" PRId64
                             " records are faulty; at least one must be good (the first fault: %s)",
                             path, report->skipped, report->first_skipped);
    return rpo_error_set(RPO_ERROR_INVALID_INPUT, "%s: holds no records; must hold at least one", path);
}

rpo_status rpo_dataset_load(rpo_dataset **dataset, const char *const *paths, size_t num_paths,
                            const rpo_data_options *options, const rpo_tokenizer *tokenizer) {
    rpo_status status = RPO_OK;
    rpo_loader loader = {.options = options, .tokenizer = tokenizer};
    *dataset = NULL;
    if (num_paths == 0 || num_paths > INT32_MAX)
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT, "paths: are %zu; must be 1 or more", num_paths);
    RPO_TRY(rpo_truncate_check(options));

    loader.dataset = rpo_calloc_array(1, sizeof *loader.dataset);
    if (loader.dataset == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    loader.dataset->num_files = num_paths;
    loader.dataset->formats = rpo_calloc_array(num_paths, sizeof *loader.dataset->formats);
    if (loader.dataset->formats == NULL) {
        status = RPO_ERROR_OUT_OF_MEMORY;
        goto cleanup;
    }
    for (size_t i = 0; i < num_paths && status == RPO_OK; ++i) {
        loader.path = paths[i];
        loader.file = (int32_t)i;
        loader.dataset->formats[i] = options->format;
        status = load_file(&loader);
    }
    if (status == RPO_OK)
        status = check_not_empty(loader.dataset, paths[0]);
    if (status == RPO_OK)
        status = rpo_dataset_seal(loader.dataset, tokenizer);

cleanup:
    if (status == RPO_OK)
        *dataset = loader.dataset;
    else
        rpo_dataset_free(loader.dataset);
    rpo_free(loader.rejected.ids);
    rpo_free(loader.chosen.ids);
    rpo_free(loader.prompt.ids);
    rpo_record_text_free(&loader.text);
    return status;
}
