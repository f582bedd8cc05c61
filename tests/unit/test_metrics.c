/* test_metrics.c - rows of metrics.jsonl: key names, exactness, cutting on resume; figures for people. */
#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/json.h"
#include "host/metrics/metrics.h"
#include "tests/train_fixture.h"

static double number_at(const rpo_json *json, const char *key) {
    double value = NAN;
    must(rpo_json_get_double(json, rpo_json_root(json), key, true, -HUGE_VAL, HUGE_VAL, &value));
    return value;
}

static rpo_metrics_row sample_row(void) {
    return (rpo_metrics_row){
        .step = 7,
        .epoch = 1.0 / 3,
        .figures =
            {
                .loss = (double)0.693147182f,
                .rewards_chosen = 0.1,
                .rewards_rejected = -1e-300,
                .rewards_accuracies = 2.0 / 3,
                .rewards_margins = 5e-324,
                .logps_chosen = -123456.789,
                .logps_rejected = -1.0000000000000002,
            },
        .grad_norm = 1.7976931348623157e308,
        .learning_rate = 5e-7,
        .tokens = 1234567,
        .seconds = 0.1 + 0.2,
        .tokens_per_second = 4115223.0 / 7,
    };
}

Test(metrics, keys_and_values_read_back_exactly) {
    static const char *const keys[] = {
        "loss",         "rewards/chosen",   "rewards/rejected", "rewards/accuracies", "rewards/margins",
        "logps/chosen", "logps/rejected",   "grad_norm",        "learning_rate",      "tokens",
        "seconds",      "tokens_per_second"};
    rpo_metrics_row row = sample_row();
    const double values[] = {row.figures.loss,
                             row.figures.rewards_chosen,
                             row.figures.rewards_rejected,
                             row.figures.rewards_accuracies,
                             row.figures.rewards_margins,
                             row.figures.logps_chosen,
                             row.figures.logps_rejected,
                             row.grad_norm,
                             row.learning_rate,
                             (double)row.tokens,
                             row.seconds,
                             row.tokens_per_second};
    for (int is_eval = 0; is_eval < 2; ++is_eval) {
        row.is_eval = is_eval == 1;
        rpo_text text = {0};
        rpo_json *json = NULL;
        must(rpo_metrics_row_to_json(&row, &text));
        must(rpo_json_parse(&json, text.data, text.length, "row", 1));
        for (size_t i = 0; i < sizeof keys / sizeof keys[0]; ++i) {
            char key[64];
            snprintf(key, sizeof key, "%s%s", is_eval ? "eval_" : "", keys[i]);
            cr_expect(number_at(json, key) == values[i], "%s: %.17g, written as in %s", key, values[i],
                      text.data);
        }
        cr_expect_eq(number_at(json, "step"), 7);
        cr_expect_eq(number_at(json, "epoch"), 1.0 / 3);
        cr_expect_eq(cJSON_GetArraySize(rpo_json_root(json)), 14);
        rpo_json_free(json);
        rpo_text_free(&text);
    }
}

Test(metrics, figures_that_are_not_finite_are_left_out) {
    rpo_metrics_row row = rpo_metrics_row_empty();
    row.figures.loss = INFINITY;
    row.figures.empty_blocks = 2;
    rpo_text text = {0};
    must(rpo_metrics_row_to_json(&row, &text));
    cr_expect_str_eq(text.data, "{\"step\": 0, \"epoch\": 0, \"tokens\": 0, \"empty_blocks\": 2}");
    rpo_text_free(&text);
}

Test(metrics, every_written_row_has_its_time) {
    char folder[64], path[256], *data = NULL;
    size_t size = 0;
    make_folder(folder);
    path_in(path, folder, "metrics.jsonl");
    rpo_metrics_row row = sample_row();
    rpo_metrics *metrics = NULL;
    must(rpo_metrics_open(&metrics, folder, 0));
    row.time = 951782399; /* the last second of a leap day */
    must(rpo_metrics_write(metrics, &row));
    row.time = 0;
    row.is_eval = true;
    const int64_t before = rpo_wall_clock();
    must(rpo_metrics_write(metrics, &row));
    const int64_t after = rpo_wall_clock();
    rpo_metrics_close(metrics);
    must(rpo_read_file(path, 1 << 16, &data, &size));
    cr_expect_not_null(strstr(data, "\"time\": \"2000-02-28T23:59:59Z\"}\n{"));
    const char *stamp = strstr(strchr(data, '\n'), "\"time\": \"");
    cr_assert_not_null(stamp);
    char first[RPO_UTC_SIZE], last[RPO_UTC_SIZE], written[RPO_UTC_SIZE] = "";
    memcpy(written, stamp + strlen("\"time\": \""), strlen("2000-02-28T23:59:59Z"));
    cr_expect(strcmp(written, rpo_utc_text(first, before)) >= 0 &&
                  strcmp(written, rpo_utc_text(last, after)) <= 0,
              "%s is not between %s and %s", written, first, last);
    rpo_free(data);
    must(rpo_remove_tree(folder));
}

/* The closing table and the progress line take their figures from the table: what a person has read since 0.1.0. */
Test(metrics, figures_as_lines_and_in_tables) {
    char line[128], text[RPO_FIGURE_SIZE];
    rpo_figures figures = rpo_figures_empty();
    cr_expect_str_eq(rpo_figures_line(line, sizeof line, &figures), "");
    figures.loss = 0.42444;
    cr_expect_str_eq(rpo_figures_line(line, sizeof line, &figures), "loss 0.4244");
    figures.rewards_accuracies = 0.8359375;
    figures.rewards_margins = 25.09213;
    figures.logps_chosen = -32;
    cr_expect_str_eq(rpo_figures_line(line, sizeof line, &figures),
                     "loss 0.4244  accuracy 0.84  margin +25.0921");
    cr_expect_str_eq(rpo_figures_line(line, 9, &figures), "loss 0.4", "cut, never beyond its size");

    size_t count = 0;
    const rpo_figure *table = rpo_figure_table(&count);
    rpo_text shown = {0};
    for (size_t i = 0; i < count; ++i)
        if (table[i].closing)
            must(rpo_text_printf(&shown, "%s %s; ", table[i].name,
                                 rpo_figure_text(text, &table[i], rpo_figure_value(&figures, &table[i]))));
    cr_expect_str_eq(shown.data, "loss 0.4244; reward accuracy 83.6 %; reward margin 25.0921; "
                                 "log-prob of chosen -32.0000; ");
    rpo_text_free(&shown);
    cr_expect_str_eq(rpo_figure_text(text, &table[0], NAN), "-");
}

static long file_size(const char *path) {
    struct stat facts;
    cr_assert_eq(stat(path, &facts), 0);
    return (long)facts.st_size;
}

Test(metrics, resume_cuts_to_the_length_of_the_checkpoint) {
    char folder[64], path[256];
    make_folder(folder);
    path_in(path, folder, "metrics.jsonl");
    rpo_metrics_row row = sample_row();
    rpo_metrics *metrics = NULL;
    must(rpo_metrics_open(&metrics, folder, 0));
    must(rpo_metrics_write(metrics, &row));
    const int64_t kept = rpo_metrics_bytes(metrics);
    must(rpo_metrics_write(metrics, &row));
    must(rpo_metrics_sync(metrics));
    cr_expect_eq(rpo_metrics_bytes(metrics), 2 * kept);
    rpo_metrics_close(metrics);
    cr_expect_eq(file_size(path), 2 * kept);

    must(rpo_metrics_open(&metrics, folder, kept));
    cr_expect_eq(file_size(path), kept);
    must(rpo_metrics_write(metrics, &row));
    rpo_metrics_close(metrics);
    cr_expect_eq(file_size(path), 2 * kept);

    cr_expect_eq(rpo_metrics_open(&metrics, folder, 5 * kept), RPO_ERROR_INVALID_INPUT);
    cr_expect_null(metrics);
    cr_expect_not_null(strstr(rpo_last_error(), "metrics.jsonl"));
    cr_expect_not_null(strstr(rpo_last_error(), "put the file back, or remove it"));
    cr_expect_eq(file_size(path), 2 * kept, "a refused file stays as it was");

    cr_assert_eq(unlink(path), 0);
    must(rpo_metrics_open(&metrics, folder, 5 * kept));
    cr_expect_eq(rpo_metrics_bytes(metrics), 0);
    must(rpo_metrics_write(metrics, &row));
    rpo_metrics_close(metrics);
    cr_expect_eq(file_size(path), kept);
    must(rpo_remove_tree(folder));
}

Test(metrics, none_is_accepted_everywhere) {
    const rpo_metrics_row row = sample_row();
    must(rpo_metrics_write(NULL, &row));
    must(rpo_metrics_sync(NULL));
    cr_expect_eq(rpo_metrics_bytes(NULL), 0);
    rpo_metrics_say(NULL, "nothing");
    rpo_metrics_progress(NULL, "phase", 1, 2, "");
    rpo_metrics_progress_end(NULL);
    rpo_metrics_close(NULL);
}

Test(metrics, figures_for_people) {
    const struct {
        int64_t count;
        const char *text;
    } counts[] = {{0, "0"},
                  {7, "7"},
                  {999, "999"},
                  {1000, "1,000"},
                  {123456, "123,456"},
                  {-1234, "-1,234"},
                  {-123, "-123"},
                  {INT64_MAX, "9,223,372,036,854,775,807"},
                  {INT64_MIN, "-9,223,372,036,854,775,808"}};
    const struct {
        double seconds;
        const char *text;
    } times[] = {{0, "0:00"}, {59.4, "0:59"}, {59.6, "1:00"}, {3661, "1:01:01"},
                 {NAN, "?"},  {-1, "?"},      {1e30, "?"}};
    char figure[RPO_FIGURE_SIZE];
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; ++i)
        cr_expect_str_eq(rpo_figure_count(figure, counts[i].count), counts[i].text);
    for (size_t i = 0; i < sizeof times / sizeof times[0]; ++i)
        cr_expect_str_eq(rpo_figure_time(figure, times[i].seconds), times[i].text);
}
