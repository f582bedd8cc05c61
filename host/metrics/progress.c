/*
 * progress.c - how far a phase is. On a terminal one line is redrawn in place; elsewhere, and in log.txt, a
 * plain line appears at most every few seconds, so that a log stays readable.
 */
#include <math.h>
#include <string.h>
#include <sys/ioctl.h>

#include "host/metrics/internal.h"

enum { BAR_WIDTH = 20, BAR_WIDTH_MIN = 5, DEFAULT_COLUMNS = 100, LINE_SIZE = 512 };
static const double plain_interval = 5.0; /* seconds between plain lines */

const char *rpo_figure_count(char figure[RPO_FIGURE_SIZE], int64_t count) {
    char digits[RPO_FIGURE_SIZE];
    const int length = snprintf(digits, sizeof digits, "%lld", (long long)count);
    int out = 0;
    for (int i = 0; i < length && out < RPO_FIGURE_SIZE - 2; ++i) {
        figure[out++] = digits[i];
        const int left = length - 1 - i;
        if (left > 0 && left % 3 == 0 && digits[i] != '-')
            figure[out++] = ',';
    }
    figure[out] = '\0';
    return figure;
}

const char *rpo_figure_time(char figure[RPO_FIGURE_SIZE], double seconds) {
    if (!(seconds >= 0 && seconds < 1e9)) {
        snprintf(figure, RPO_FIGURE_SIZE, "?");
        return figure;
    }
    const long long whole = llround(seconds);
    const long long hours = whole / 3600, minutes = whole / 60 % 60, rest = whole % 60;
    if (hours > 0)
        snprintf(figure, RPO_FIGURE_SIZE, "%lld:%02lld:%02lld", hours, minutes, rest);
    else
        snprintf(figure, RPO_FIGURE_SIZE, "%lld:%02lld", minutes, rest);
    return figure;
}

void rpo_metrics_clear_line(rpo_metrics *metrics) {
    if (!metrics->line_open)
        return;
    fputs("\r\033[K", metrics->terminal);
    fflush(metrics->terminal);
    metrics->line_open = false;
}

static int terminal_columns(FILE *terminal) {
    struct winsize size;
    if (ioctl(fileno(terminal), TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        return size.ws_col;
    return DEFAULT_COLUMNS;
}

/* "12/300", the detail, and the time left once there is a rate to judge by; a bar of `bar_width`, 0 = none.
 */
static void describe(const rpo_metrics *metrics, char line[LINE_SIZE], int bar_width) {
    char done[RPO_FIGURE_SIZE], total[RPO_FIGURE_SIZE], left[RPO_FIGURE_SIZE];
    char bar[BAR_WIDTH + 4] = "", ending[RPO_FIGURE_SIZE + 16] = "";
    const int64_t finished = metrics->progress.done, all = metrics->progress.total;
    if (bar_width > 0 && all > 0) {
        const int filled = (int)(bar_width * (finished < all ? finished : all) / all);
        bar[0] = '[';
        memset(bar + 1, '=', (size_t)filled);
        memset(bar + 1 + filled, ' ', (size_t)(bar_width - filled));
        memcpy(bar + 1 + bar_width, "] ", 3);
    }
    const int64_t since = finished - metrics->progress.first;
    if (finished < all && since > 0) {
        const double each = (rpo_now() - metrics->progress.start) / (double)since;
        snprintf(ending, sizeof ending, "  %s left", rpo_figure_time(left, each * (double)(all - finished)));
    }
    snprintf(line, LINE_SIZE, "%-10s %s%s/%s%s%s%s", metrics->progress.phase, bar,
             rpo_figure_count(done, finished), rpo_figure_count(total, all),
             metrics->progress.detail[0] != '\0' ? "  " : "", metrics->progress.detail, ending);
}

static void redraw(rpo_metrics *metrics) {
    char line[LINE_SIZE];
    const int columns = terminal_columns(metrics->terminal);
    describe(metrics, line, 0);
    const int room =
        columns - 1 - (int)strlen(line) - 3; /* the figures come first, the bar takes what is left */
    if (room >= BAR_WIDTH_MIN)
        describe(metrics, line, room < BAR_WIDTH ? room : BAR_WIDTH);
    fprintf(metrics->terminal, "\r\033[K%.*s", columns - 1, line);
    fflush(metrics->terminal);
    metrics->line_open = true;
}

static void print_plain(rpo_metrics *metrics) {
    char line[LINE_SIZE];
    describe(metrics, line, 0);
    if (!metrics->redraws) {
        fprintf(metrics->terminal, "%s\n", line);
        fflush(metrics->terminal);
    }
    if (metrics->log != NULL) {
        fprintf(metrics->log, "%s\n", line);
        fflush(metrics->log);
    }
    metrics->progress.last_line = rpo_now();
    metrics->progress.printed = metrics->progress.done;
}

void rpo_metrics_progress(rpo_metrics *metrics, const char *phase, int64_t done, int64_t total,
                          const char *detail) {
    if (metrics == NULL)
        return;
    if (!metrics->progress.active || strcmp(metrics->progress.phase, phase) != 0) {
        rpo_metrics_progress_end(metrics);
        metrics->progress.active = true;
        snprintf(metrics->progress.phase, sizeof metrics->progress.phase, "%s", phase);
        metrics->progress.start = metrics->progress.last_line = rpo_now();
        metrics->progress.first = metrics->progress.printed = done;
    }
    metrics->progress.done = done;
    metrics->progress.total = total;
    snprintf(metrics->progress.detail, sizeof metrics->progress.detail, "%s", detail == NULL ? "" : detail);
    if (metrics->redraws)
        redraw(metrics);
    if (rpo_now() - metrics->progress.last_line >= plain_interval)
        print_plain(metrics);
}

void rpo_metrics_progress_end(rpo_metrics *metrics) {
    if (metrics == NULL || !metrics->progress.active)
        return;
    rpo_metrics_clear_line(metrics);
    /* A phase that was over before its first plain line needs none: whatever follows tells its result. */
    const bool spoke = metrics->progress.printed != metrics->progress.first;
    if (spoke && metrics->progress.done != metrics->progress.printed)
        print_plain(metrics);
    metrics->progress.active = false;
}
