/* preview.h - the parts of `rpo preview`'s output. Everything fits 100 columns and is printed on stdout. */
#ifndef RPO_HOST_CLI_PREVIEW_H
#define RPO_HOST_CLI_PREVIEW_H

#include "host/cli/data_run.h"

enum { RPO_PREVIEW_COLUMNS = 100 };

/* Escape sequences on a terminal, empty strings elsewhere. */
typedef struct rpo_preview_style {
    const char *bold, *dim, *label, *warning, *reset;
} rpo_preview_style;

rpo_preview_style rpo_preview_style_for_stdout(void);

/*
 * One character of text as a terminal may show it: control bytes, invisible characters and bytes that are no
 * UTF-8 become escapes. Writes the cell, NUL-terminated, and its width; returns the bytes of `text` it stands
 * for.
 */
typedef struct rpo_preview_cell {
    char text[16];
    int columns;
} rpo_preview_cell;

size_t rpo_preview_next_cell(rpo_preview_cell *cell, const char *text, size_t length);

/* Prints at most `columns` columns of text on the current line, "..." at the end of what is longer. */
void rpo_preview_print_start(const char *text, size_t length, int columns);

/* "1,234,567" into out[32]; returns out. */
const char *rpo_preview_number(char out[32], int64_t value);

/* Counts, formats and lengths of one list of files. */
rpo_status rpo_preview_print_list(const char *key, const rpo_dataset *dataset, const rpo_string_list *paths,
                                  const rpo_preview_style *style);

/* Both sides of a record: lengths, what was cut, text and label mask. */
rpo_status rpo_preview_print_record(const rpo_data_run *run, int64_t index, const rpo_preview_style *style);

/* The nearest prompts, and the contrastive weights of the record's contrast block in the first epoch. */
rpo_status rpo_preview_print_neighbours(const rpo_data_run *run, const rpo_embeddings *embeddings,
                                        int64_t index, const rpo_preview_style *style);

#endif
