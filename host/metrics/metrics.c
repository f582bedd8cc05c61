/* metrics.c - metrics.jsonl and log.txt: opened, appended to, synced. */
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/descriptors.h"
#include "core/files_internal.h"
#include "host/metrics/internal.h"

static rpo_status open_rows(rpo_metrics *metrics, int64_t keep_bytes) {
    RPO_TRY(rpo_open_to_write(metrics->path, 0, &metrics->file));
    RPO_TRY(rpo_cut_file(metrics->file, metrics->path, keep_bytes));
    if (lseek(metrics->file, 0, SEEK_END) < 0)
        return rpo_io_fault(metrics->path, "cannot be sized", errno);
    metrics->bytes = keep_bytes;
    return RPO_OK;
}

/*
 * Rows that a checkpoint counts on and that are not there: the user alone can say whether the run may go on without
 * them, and says so by taking the file away. *gone: that is so, and *keep_bytes is 0 then.
 */
static rpo_status check_rows(const char *path, int64_t *keep_bytes, bool *gone) {
    struct stat facts;
    if (stat(path, &facts) != 0) {
        if (errno != ENOENT)
            return rpo_io_fault(path, "cannot be examined", errno);
        *gone = *keep_bytes > 0;
        *keep_bytes = 0;
        return RPO_OK;
    }
    if (facts.st_size < *keep_bytes)
        return rpo_error_set(
            RPO_ERROR_INVALID_INPUT,
            "%s: holds %lld bytes, but %lld when the checkpoint was saved: rows are lost; put the file "
            "back, or remove it to resume without the rows so far",
            path, (long long)facts.st_size, (long long)*keep_bytes);
    return RPO_OK;
}

static rpo_status open_log(rpo_metrics *metrics, const char *run_folder, bool append) {
    char *path = rpo_path_join(run_folder, "log.txt");
    if (path == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    metrics->log = fopen(path, append ? "ae" : "we");
    const rpo_status status = metrics->log == NULL ? rpo_io_fault(path, "cannot be opened", errno) : RPO_OK;
    rpo_free(path);
    return status;
}

rpo_status rpo_metrics_open(rpo_metrics **out, const char *run_folder, int64_t keep_bytes) {
    *out = NULL;
    rpo_metrics *metrics = rpo_calloc_array(1, sizeof *metrics);
    if (metrics == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    metrics->file = -1;
    metrics->terminal = run_folder == NULL ? stderr : stdout;
    metrics->redraws = isatty(fileno(metrics->terminal)) == 1;

    rpo_status status = RPO_OK;
    if (run_folder != NULL) {
        int64_t kept = keep_bytes;
        bool gone = false;
        metrics->path = rpo_path_join(run_folder, "metrics.jsonl");
        status = metrics->path == NULL ? RPO_ERROR_OUT_OF_MEMORY : check_rows(metrics->path, &kept, &gone);
        if (status == RPO_OK)
            status = open_rows(metrics, kept);
        if (status == RPO_OK)
            status = open_log(metrics, run_folder, keep_bytes > 0);
        if (status == RPO_OK && gone)
            rpo_metrics_warn(metrics, "%s is gone: it begins anew, without the rows of the steps so far",
                             metrics->path);
    }
    if (status != RPO_OK) {
        rpo_metrics_close(metrics);
        return status;
    }
    *out = metrics;
    return RPO_OK;
}

rpo_status rpo_metrics_write(rpo_metrics *metrics, const rpo_metrics_row *row) {
    if (metrics == NULL || metrics->file < 0)
        return RPO_OK;
    rpo_text text = {0};
    rpo_metrics_row stamped = *row;
    if (stamped.time == 0)
        stamped.time = rpo_wall_clock();
    rpo_status status = rpo_metrics_row_to_json(&stamped, &text);
    if (status == RPO_OK)
        status = rpo_text_append(&text, "\n", 1);
    if (status == RPO_OK) /* one write a row: a reader never sees half of one while the run goes on */
        status = rpo_write_all(metrics->file, metrics->path, text.data, text.length);
    if (status == RPO_OK)
        metrics->bytes += (int64_t)text.length;
    rpo_text_free(&text);
    return status;
}

int64_t rpo_metrics_bytes(const rpo_metrics *metrics) {
    return metrics == NULL ? 0 : metrics->bytes;
}

rpo_status rpo_metrics_sync(rpo_metrics *metrics) {
    if (metrics == NULL || metrics->file < 0)
        return RPO_OK;
    return rpo_sync_file(metrics->file, metrics->path);
}

void rpo_metrics_close(rpo_metrics *metrics) {
    if (metrics == NULL)
        return;
    rpo_metrics_clear_line(metrics);
    if (metrics->file >= 0)
        close(metrics->file);
    if (metrics->log != NULL)
        fclose(metrics->log);
    rpo_free(metrics->path);
    rpo_free(metrics);
}

static void log_line(rpo_metrics *metrics, const char *format, va_list arguments) {
    if (metrics->log == NULL)
        return;
    vfprintf(metrics->log, format, arguments);
    fputc('\n', metrics->log);
    fflush(metrics->log);
}

void rpo_metrics_log(rpo_metrics *metrics, const char *format, ...) {
    if (metrics == NULL)
        return;
    va_list arguments;
    va_start(arguments, format);
    log_line(metrics, format, arguments);
    va_end(arguments);
}

void rpo_metrics_say(rpo_metrics *metrics, const char *format, ...) {
    if (metrics == NULL)
        return;
    rpo_metrics_clear_line(metrics);
    va_list arguments;
    va_start(arguments, format);
    vfprintf(metrics->terminal, format, arguments);
    va_end(arguments);
    fputc('\n', metrics->terminal);
    fflush(metrics->terminal);
    va_start(arguments, format);
    log_line(metrics, format, arguments);
    va_end(arguments);
}

void rpo_metrics_warn(rpo_metrics *metrics, const char *format, ...) {
    if (metrics == NULL)
        return;
    rpo_metrics_clear_line(metrics);
    char text[2048], line[2048];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    rpo_show_line(text, sizeof text, line);
    fprintf(stderr, "rpo: warning: %s\n", text);
    if (metrics->log != NULL) {
        fprintf(metrics->log, "warning: %s\n", text);
        fflush(metrics->log);
    }
}

void rpo_metrics_warn_lines(rpo_metrics *metrics, const rpo_text *lines) {
    for (const char *line = lines->data; line != NULL && *line != '\0';) {
        const size_t length = strcspn(line, "\n");
        rpo_metrics_warn(metrics, "%.*s", (int)length, line);
        line += length + (line[length] == '\n');
    }
}
