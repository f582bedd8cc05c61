/* figures.c - the table of figures, and figures as text. */
#include "host/metrics/figures.h"

#include <math.h>
#include <stdio.h>

#define AT(member) offsetof(rpo_figures, member)

static const rpo_figure table[] = {
    {"loss", "loss", "loss", RPO_FIGURE_NUMBER, true, AT(loss)},
    {"rewards/chosen", "reward of chosen", NULL, RPO_FIGURE_NUMBER, false, AT(rewards_chosen)},
    {"rewards/rejected", "reward of rejected", NULL, RPO_FIGURE_NUMBER, false, AT(rewards_rejected)},
    {"rewards/accuracies", "reward accuracy", "accuracy", RPO_FIGURE_SHARE, true, AT(rewards_accuracies)},
    {"rewards/margins", "reward margin", "margin", RPO_FIGURE_SIGNED, true, AT(rewards_margins)},
    {"logps/chosen", "log-prob of chosen", NULL, RPO_FIGURE_NUMBER, true, AT(logps_chosen)},
    {"logps/rejected", "log-prob of rejected", NULL, RPO_FIGURE_NUMBER, false, AT(logps_rejected)},
};

enum { NUM_FIGURES = sizeof table / sizeof table[0] };

const rpo_figure *rpo_figure_table(size_t *count) {
    *count = NUM_FIGURES;
    return table;
}

double rpo_figure_value(const rpo_figures *figures, const rpo_figure *figure) {
    return *(const double *)(const void *)((const char *)figures + figure->offset);
}

void rpo_figure_set(rpo_figures *figures, const rpo_figure *figure, double value) {
    *(double *)(void *)((char *)figures + figure->offset) = value;
}

rpo_figures rpo_figures_empty(void) {
    rpo_figures figures = {0};
    for (size_t i = 0; i < NUM_FIGURES; ++i)
        rpo_figure_set(&figures, &table[i], NAN);
    return figures;
}

const char *rpo_figure_text(char text[RPO_FIGURE_SIZE], const rpo_figure *figure, double value) {
    if (!isfinite(value))
        snprintf(text, RPO_FIGURE_SIZE, "-");
    else if (figure->format == RPO_FIGURE_SHARE)
        snprintf(text, RPO_FIGURE_SIZE, "%.1f %%", 100 * value);
    else
        snprintf(text, RPO_FIGURE_SIZE, "%.4f", value);
    return text;
}

static void format_for_line(char text[RPO_FIGURE_SIZE], const rpo_figure *figure, double value) {
    if (figure->format == RPO_FIGURE_SHARE)
        snprintf(text, RPO_FIGURE_SIZE, "%.2f", value);
    else if (figure->format == RPO_FIGURE_SIGNED)
        snprintf(text, RPO_FIGURE_SIZE, "%+.4f", value);
    else
        snprintf(text, RPO_FIGURE_SIZE, "%.4f", value);
}

const char *rpo_figures_line(char *line, size_t size, const rpo_figures *figures) {
    size_t length = 0;
    line[0] = '\0';
    for (size_t i = 0; i < NUM_FIGURES && length < size; ++i) {
        const double value = rpo_figure_value(figures, &table[i]);
        char text[RPO_FIGURE_SIZE];
        if (table[i].line == NULL || isnan(value))
            continue;
        format_for_line(text, &table[i], value);
        length += (size_t)snprintf(line + length, size - length, "%s%s %s", length > 0 ? "  " : "",
                                   table[i].line, text);
    }
    return line;
}
