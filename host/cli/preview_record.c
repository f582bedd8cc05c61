/* preview_record.c - one record's sequences with their label masks. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "host/cli/preview.h"

/* Tokens shown on either side of the first label; the rest is counted. */
enum { PROMPT_SHOWN = 276, LABELS_SHOWN = 276, INDENT = 4 };

/* The sequence's text, and for each byte of it whether its token is a label. */
typedef struct rpo_masked_text {
    rpo_text text, mask;
} rpo_masked_text;

static rpo_status append_token(rpo_masked_text *masked, const rpo_tokenizer *tokenizer, int32_t token,
                               bool label) {
    const size_t before = masked->text.length;
    RPO_TRY(rpo_tokenizer_decode(tokenizer, &token, 1, &masked->text));
    for (size_t i = before; i < masked->text.length; ++i)
        RPO_TRY(rpo_text_append(&masked->mask, label ? "^" : ".", 1));
    return RPO_OK;
}

/* Prints one line of cells and the mask below it; returns the bytes shown. */
static size_t print_line(const rpo_masked_text *masked, size_t begin, const rpo_preview_style *style) {
    enum { WIDTH = RPO_PREVIEW_COLUMNS - INDENT };
    char marks[WIDTH + 1];
    int used = 0;
    bool coloured = false;
    size_t at = begin;
    printf("%*s", INDENT, "");
    while (at < masked->text.length) {
        rpo_preview_cell cell;
        const size_t size = rpo_preview_next_cell(&cell, masked->text.data + at, masked->text.length - at);
        if (used + cell.columns > WIDTH)
            break;
        const char mark = masked->mask.data[at];
        if (mark == '^' && !coloured) {
            fputs(style->label, stdout);
            coloured = true;
        }
        fputs(cell.text, stdout);
        memset(marks + used, mark, (size_t)cell.columns);
        used += cell.columns;
        at += size;
    }
    marks[used] = '\0';
    printf("%s\n%*s%s%s%s\n", coloured ? style->reset : "", INDENT, "", style->dim, marks, style->reset);
    return at - begin;
}

static void print_sequence_head(const char *side, const rpo_sequence *sequence,
                                const rpo_data_options *options, const rpo_preview_style *style) {
    printf("  %s%s%s: %d tokens = %d prompt + %d labels", style->bold, side, style->reset, sequence->length,
           sequence->prompt_length, sequence->length - sequence->prompt_length);
    if (sequence->prompt_cut > 0)
        printf("; cut: prompt %d (its %s)", sequence->prompt_cut,
               options->truncation == RPO_TRUNCATE_KEEP_END ? "start" : "end");
    if (sequence->response_cut > 0)
        printf("%s response %d", sequence->prompt_cut > 0 ? "," : "; cut:", sequence->response_cut);
    putchar('\n');
}

static rpo_status print_sequence(const rpo_data_run *run, const char *side, const rpo_sequence *sequence,
                                 const rpo_preview_style *style) {
    rpo_masked_text masked = {0};
    rpo_status status = RPO_OK;
    const int32_t first = sequence->prompt_length > PROMPT_SHOWN ? sequence->prompt_length - PROMPT_SHOWN : 0;
    const int32_t labels = sequence->length - sequence->prompt_length;
    const int32_t last = labels > LABELS_SHOWN ? sequence->prompt_length + LABELS_SHOWN : sequence->length;

    print_sequence_head(side, sequence, &run->config->data.options, style);
    for (int32_t i = first; i < last && status == RPO_OK; ++i)
        status = append_token(&masked, run->tokenizer, sequence->tokens[i], i >= sequence->prompt_length);
    if (status != RPO_OK)
        goto cleanup;
    if (first > 0)
        printf("%*s%s(%d earlier tokens not shown)%s\n", INDENT, "", style->dim, first, style->reset);
    for (size_t at = 0; at < masked.text.length;)
        at += print_line(&masked, at, style);
    if (last < sequence->length)
        printf("%*s%s(%d later labels not shown)%s\n", INDENT, "", style->dim, sequence->length - last,
               style->reset);

cleanup:
    rpo_text_free(&masked.mask);
    rpo_text_free(&masked.text);
    return status;
}

rpo_status rpo_preview_print_record(const rpo_data_run *run, int64_t index, const rpo_preview_style *style) {
    const rpo_record *record = rpo_dataset_record(run->train, index);
    printf("%srecord %" PRId64 "%s  %s:%" PRId64 "\n", style->bold, index, style->reset,
           run->config->data.train.items[record->file], record->line);
    if (record->chosen.tokens != NULL)
        RPO_TRY(print_sequence(run, "chosen", &record->chosen, style));
    if (record->rejected.tokens != NULL)
        RPO_TRY(print_sequence(run, "rejected", &record->rejected, style));
    return RPO_OK;
}
