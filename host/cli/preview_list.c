/* preview_list.c - what one list of data files holds. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "host/cli/preview.h"

static int compare_lengths(const void *a, const void *b) {
    const int32_t left = *(const int32_t *)a, right = *(const int32_t *)b;
    return (left > right) - (left < right);
}

/* Nearest-rank percentile of sorted values. */
static int32_t percentile(const int32_t *sorted, int64_t count, int percent) {
    const int64_t rank = (count * percent + 99) / 100;
    return sorted[rank > 0 ? rank - 1 : 0];
}

static void print_lengths(const char *what, const int32_t *sorted, int64_t count) {
    printf("  %-22s min %6d   median %6d   p95 %6d   max %6d\n", what, sorted[0],
           percentile(sorted, count, 50), percentile(sorted, count, 95), sorted[count - 1]);
}

static rpo_status print_all_lengths(const rpo_dataset *dataset) {
    const int64_t records = rpo_dataset_size(dataset);
    const rpo_data_report *report = rpo_dataset_report(dataset);
    const int64_t sequences = report->chosen + report->rejected;
    int32_t *lengths = rpo_alloc_array((size_t)sequences, sizeof *lengths);
    int32_t *labels = rpo_alloc_array((size_t)sequences, sizeof *labels);
    rpo_status status = RPO_OK;
    if (lengths == NULL || labels == NULL) {
        status = RPO_ERROR_OUT_OF_MEMORY;
        goto cleanup;
    }
    int64_t next = 0;
    for (int64_t i = 0; i < records; ++i) {
        const rpo_record *record = rpo_dataset_record(dataset, i);
        const rpo_sequence *sides[2] = {&record->chosen, &record->rejected};
        for (int side = 0; side < 2; ++side) {
            if (sides[side]->tokens == NULL)
                continue;
            lengths[next] = sides[side]->length;
            labels[next++] = sides[side]->length - sides[side]->prompt_length;
        }
    }
    qsort(lengths, (size_t)sequences, sizeof *lengths, compare_lengths);
    qsort(labels, (size_t)sequences, sizeof *labels, compare_lengths);
    print_lengths("tokens of a sequence", lengths, sequences);
    print_lengths("labels of a sequence", labels, sequences);

cleanup:
    rpo_free(labels);
    rpo_free(lengths);
    return status;
}

static void print_count(const char *what, int64_t value, bool alarming, const rpo_preview_style *style) {
    char number[32];
    const bool warn = alarming && value > 0;
    printf("  %s%-22s %12s%s\n", warn ? style->warning : "", what, rpo_preview_number(number, value),
           warn ? style->reset : "");
}

rpo_status rpo_preview_print_list(const char *key, const rpo_dataset *dataset, const rpo_string_list *paths,
                                  const rpo_preview_style *style) {
    const rpo_data_report *report = rpo_dataset_report(dataset);
    char number[32];
    printf("%s%s%s  %s %s records\n", style->bold, key, style->reset,
           rpo_preview_number(number, report->records),
           rpo_dataset_is_paired(dataset) ? "paired" : "unpaired");
    for (size_t i = 0; i < paths->count; ++i) {
        const rpo_data_format format = rpo_dataset_file_format(dataset, i);
        printf("  %-22s %s\n", format == RPO_DATA_AUTO ? "(no records)" : rpo_data_format_name(format),
               paths->items[i]);
    }
    if (!rpo_dataset_is_paired(dataset)) {
        print_count("chosen", report->chosen, false, style);
        print_count("rejected", report->rejected, false, style);
    }
    print_count("prompts cut", report->truncated_prompts, false, style);
    print_count("responses cut", report->truncated_responses, false, style);
    print_count("skipped records", report->skipped, true, style);
    if (report->skipped > 0)
        printf("    first: %s\n", report->first_skipped);
    print_count("chosen = rejected", report->duplicates, true, style);
    print_count("blank responses", report->blank_responses, true, style);
    print_count("blank lines", report->lines_blank, false, style);
    print_count("tokens", report->tokens, false, style);
    print_count("labels", report->label_tokens, false, style);
    RPO_TRY(print_all_lengths(dataset));
    putchar('\n');
    return RPO_OK;
}
