/* test_checkpoint.c - checkpoints: what comes back, what damage does, what is kept and cleaned. */
#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/checkpoint/checkpoint.h"
#include "host/train/optimizer.h"
#include "tests/train_fixture.h"

typedef struct fixture {
    char folder[64];
    rpo_context *context;
    test_model m;
    rpo_optimizer optimizer;
    rpo_trainer_state state;
} fixture;

/* Seeded values in [first, first + count) of a device's array. */
static void fill(const fixture *f, float *device, int64_t first, int64_t count, uint64_t seed) {
    float *values = test_normals((size_t)count, seed, 1.0);
    must(rpo_device_write(f->context, device, values, first, count));
    rpo_free(values);
}

static void open_optimizer(fixture *f, rpo_optimizer_kind kind) {
    const rpo_optimizer_settings settings = {.kind = kind};
    rpo_optimizer_close(&f->optimizer);
    must(rpo_optimizer_open(&f->optimizer, &settings, f->m.model));
}

static rpo_optimizer_state moments_of(const fixture *f) {
    return rpo_optimizer_state_of(&f->optimizer, f->m.model);
}

static void open_fixture(fixture *f, rpo_optimizer_kind kind) {
    *f = (fixture){0};
    make_folder(f->folder);
    must(rpo_context_create(&f->context, NULL));
    f->m = make_model(f->context, 1);
    open_optimizer(f, kind);
    const rpo_optimizer_state moments = moments_of(f);
    for (int i = 0; i < moments.num_moments; ++i)
        fill(f, moments.moments[i], 0, moments.count, (uint64_t)i + 10);
    f->state = (rpo_trainer_state){
        .step = 3,
        .updates = 2,
        .epoch = 1,
        .position = 16,
        .skipped_steps = 1,
        .eval_pending = true,
        .seed = UINT64_MAX,
        .metrics_bytes = 1234,
        .config_hash = "0123456789abcdef0123456789abcdef",
        .data_hash = "d",
        .start_hash = "s",
        .before = {.loss = 1.0 / 3,
                   .rewards_accuracies = NAN,
                   .rewards_margins = -0.0,
                   .logps_chosen = -1e300},
        .latest = {.loss = 5e-324,
                   .rewards_accuracies = 1,
                   .rewards_margins = NAN,
                   .logps_chosen = 0.1 + 0.2},
        .tokens = 987654321,
        .seconds = 12.75,
    };
}

static void close_fixture(fixture *f) {
    must(rpo_remove_tree(f->folder));
    rpo_optimizer_close(&f->optimizer);
    test_model_free(&f->m);
    rpo_context_free(f->context);
}

static void save_step(fixture *f, int64_t step, int64_t keep) {
    const rpo_optimizer_state moments = moments_of(f);
    f->state.step = step;
    must(rpo_checkpoint_save(f->folder, f->m.model, &moments, &f->state, keep, NULL, NULL));
}

static bool has(const fixture *f, const char *name) {
    char path[256];
    path_in(path, f->folder, name);
    return rpo_path_exists(path);
}

static bool same(double a, double b) {
    return (isnan(a) && isnan(b)) || memcmp(&a, &b, sizeof a) == 0;
}

enum { MAX_ARRAYS = 1 + RPO_MAX_MOMENTS };

/* Weights and moments, as many as the kind has; returns their number. */
static int arrays_of(const fixture *f, float *device[MAX_ARRAYS]) {
    const rpo_optimizer_state moments = moments_of(f);
    device[0] = f->m.memory->weights;
    for (int i = 0; i < moments.num_moments; ++i)
        device[1 + i] = moments.moments[i];
    return 1 + moments.num_moments;
}

/* Other weights and moments in memory: padding between tensors excepted, all must come back. */
static void overwrite(const fixture *f) {
    const rpo_tensor_table *tensors = rpo_model_tensors(f->m.model);
    const rpo_optimizer_state moments = moments_of(f);
    for (size_t p = 0; p < tensors->count; ++p)
        fill(f, f->m.memory->weights, tensors->items[p].offset, tensors->items[p].count, 99);
    for (int i = 0; i < moments.num_moments; ++i)
        fill(f, moments.moments[i], 0, moments.count, 77);
}

static void check_round_trip(rpo_optimizer_kind kind) {
    fixture f;
    open_fixture(&f, kind);
    save_step(&f, 3, 2);
    float *arrays[MAX_ARRAYS] = {0}, *before[MAX_ARRAYS] = {0};
    const int num_arrays = arrays_of(&f, arrays);
    const int64_t count = rpo_model_tensors(f.m.model)->weights;
    cr_assert_eq(count, rpo_model_tensors(f.m.model)->trainable);
    for (int i = 0; i < num_arrays; ++i)
        before[i] = test_read(&f.m, arrays[i], count);
    overwrite(&f);

    char *folder = NULL;
    rpo_text warnings = {0};
    rpo_trainer_state read;
    must(rpo_checkpoint_find_latest(f.folder, &folder, &read, &warnings));
    cr_assert_not_null(folder);
    cr_expect_null(warnings.data);
    const rpo_optimizer_state moments = moments_of(&f);
    must(rpo_checkpoint_load(folder, f.m.model, &moments));
    for (int i = 0; i < num_arrays; ++i) {
        float *after = test_read(&f.m, arrays[i], count);
        cr_expect_eq(memcmp(before[i], after, (size_t)count * sizeof *after), 0, "array %d of %s", i,
                     rpo_optimizer_kind_name(kind));
        rpo_free(after);
        rpo_free(before[i]);
    }
    const rpo_trainer_state *s = &f.state;
    cr_expect(read.step == s->step && read.updates == s->updates && read.epoch == s->epoch &&
              read.position == s->position && read.skipped_steps == s->skipped_steps &&
              read.eval_pending == s->eval_pending && read.seed == s->seed &&
              read.metrics_bytes == s->metrics_bytes && read.tokens == s->tokens &&
              same(read.seconds, s->seconds));
    cr_expect_str_eq(read.config_hash, s->config_hash);
    cr_expect_str_eq(read.data_hash, s->data_hash);
    cr_expect_str_eq(read.start_hash, s->start_hash);
    cr_expect_str_eq(read.reference_hash, "");
    cr_expect(same(read.before.loss, s->before.loss) &&
              same(read.before.rewards_accuracies, s->before.rewards_accuracies) &&
              read.before.rewards_margins == s->before.rewards_margins &&
              same(read.before.logps_chosen, s->before.logps_chosen));
    cr_expect(same(read.latest.loss, s->latest.loss) &&
              same(read.latest.rewards_accuracies, s->latest.rewards_accuracies) &&
              same(read.latest.rewards_margins, s->latest.rewards_margins) &&
              same(read.latest.logps_chosen, s->latest.logps_chosen));
    rpo_free(folder);
    close_fixture(&f);
}

Test(checkpoint, everything_comes_back) {
    check_round_trip(RPO_OPTIMIZER_ADAMW);
    check_round_trip(RPO_OPTIMIZER_RMSPROP);
}

Test(checkpoint, keeps_the_newest_and_removes_later_ones) {
    fixture f;
    open_fixture(&f, RPO_OPTIMIZER_RMSPROP);
    for (int64_t step = 1; step <= 4; ++step)
        save_step(&f, step, 2);
    cr_expect(!has(&f, "checkpoints/step-1") && !has(&f, "checkpoints/step-2"));
    cr_expect(has(&f, "checkpoints/step-3") && has(&f, "checkpoints/step-4"));
    save_step(&f, 12, 2); /* numbers, not names, decide: step-12 sorts before step-3 */
    cr_expect(!has(&f, "checkpoints/step-3") && has(&f, "checkpoints/step-4") &&
              has(&f, "checkpoints/step-12"));
    save_step(&f, 5, 2); /* the run went back: step 12 belongs to a past that is over */
    cr_expect(has(&f, "checkpoints/step-4") && has(&f, "checkpoints/step-5") &&
              !has(&f, "checkpoints/step-12"));
    save_step(&f, 5, 2); /* again in the same place */
    cr_expect(has(&f, "checkpoints/step-5"));
    close_fixture(&f);
}

static void damage(const char *path, bool cut) {
    struct stat facts;
    cr_assert_eq(stat(path, &facts), 0, "%s", path);
    if (cut) {
        cr_assert_eq(truncate(path, facts.st_size / 2), 0);
        return;
    }
    FILE *file = fopen(path, "r+b");
    cr_assert_not_null(file);
    fseek(file, facts.st_size / 2, SEEK_SET);
    const int byte = fgetc(file);
    fseek(file, facts.st_size / 2, SEEK_SET);
    fputc(byte ^ 1, file);
    fclose(file);
}

Test(checkpoint, damage_of_any_file_falls_back_to_the_one_before) {
    static const char *const names[] = {"model.safetensors", "config.json", "optimizer.safetensors",
                                        "trainer_state.json", "checksums"};
    enum { CUT, ALTER, REMOVE, WAYS };
    for (size_t n = 0; n < sizeof names / sizeof names[0]; ++n)
        for (int way = 0; way < WAYS; ++way) {
            fixture f;
            open_fixture(&f, RPO_OPTIMIZER_ADAMW);
            save_step(&f, 1, 3);
            save_step(&f, 2, 3);
            char name[128], path[256];
            snprintf(name, sizeof name, "checkpoints/step-2/%s", names[n]);
            path_in(path, f.folder, name);
            if (way == REMOVE)
                cr_assert_eq(unlink(path), 0);
            else
                damage(path, way == CUT);

            char *folder = NULL;
            rpo_text warnings = {0};
            rpo_trainer_state read;
            must(rpo_checkpoint_find_latest(f.folder, &folder, &read, &warnings));
            cr_assert_not_null(folder, "%s, way %d: nothing found", names[n], way);
            cr_expect_eq(read.step, 1, "%s, way %d: step %lld", names[n], way, (long long)read.step);
            cr_expect_not_null(warnings.data);
            cr_expect_not_null(strstr(warnings.data, "step-2"), "%s", warnings.data);
            cr_expect_not_null(strstr(warnings.data, "falling back to the checkpoint of step 1"), "%s",
                               warnings.data);
            const rpo_optimizer_state moments = moments_of(&f);
            must(rpo_checkpoint_load(folder, f.m.model, &moments));
            rpo_text_free(&warnings);
            rpo_free(folder);
            close_fixture(&f);
        }
}

/* How many entries of RUN/checkpoints have a name that begins so. */
static size_t count_entries(const fixture *f, const char *prefix) {
    char path[256], **names = NULL;
    size_t count = 0, found = 0;
    path_in(path, f->folder, "checkpoints");
    must(rpo_list_folder(path, &names, &count));
    for (size_t i = 0; i < count; ++i)
        found += strncmp(names[i], prefix, strlen(prefix)) == 0;
    rpo_free_names(names, count);
    return found;
}

Test(checkpoint, damaged_ones_are_set_aside_and_kept) {
    fixture f;
    open_fixture(&f, RPO_OPTIMIZER_ADAMW);
    char path[256];
    rpo_text warnings = {0};
    for (int round = 0; round < 3; ++round) { /* each time the name is taken already */
        for (int64_t step = 1; step <= 3; ++step)
            save_step(&f, step, 5);
        path_in(path, f.folder, "checkpoints/step-3/model.safetensors");
        damage(path, false);
        must(rpo_checkpoint_set_later_aside(f.folder, 2, &warnings));
        cr_expect(has(&f, "checkpoints/step-2") && !has(&f, "checkpoints/step-3"));
        cr_expect_eq(count_entries(&f, "aside-step-3"), (size_t)round + 1);
    }
    cr_expect(has(&f, "checkpoints/aside-step-3.3/model.safetensors"));
    cr_expect_not_null(strstr(warnings.data, "step-3: is kept as "), "%s", warnings.data);
    rpo_text_free(&warnings);

    char *folder = NULL;
    rpo_trainer_state read;
    must(rpo_checkpoint_find_latest(f.folder, &folder, &read, &warnings));
    cr_expect_eq(read.step, 2);
    cr_expect_null(warnings.data, "what was set aside is not looked at: %s", warnings.data);
    rpo_free(folder);
    save_step(&f, 4, 1);
    must(rpo_checkpoint_clean(f.folder));
    cr_expect_eq(count_entries(&f, "aside-step-3"), 3, "neither pruned nor cleaned away");
    close_fixture(&f);
}

Test(checkpoint, extra_files_are_named_and_ignored) {
    fixture f;
    open_fixture(&f, RPO_OPTIMIZER_ADAMW);
    save_step(&f, 1, 3);
    char path[256];
    path_in(path, f.folder, "checkpoints/step-1/a-note.txt");
    FILE *file = fopen(path, "w");
    cr_assert_not_null(file);
    fclose(file);
    path_in(path, f.folder, "checkpoints/step-1/pipe");
    cr_assert_eq(mkfifo(path, 0600), 0);
    char *folder = NULL;
    rpo_text warnings = {0};
    rpo_trainer_state read;
    must(rpo_checkpoint_find_latest(f.folder, &folder, &read, &warnings));
    cr_assert_not_null(folder);
    cr_expect_not_null(strstr(warnings.data, "(a-note.txt, pipe)"), "%s", warnings.data);
    rpo_free(folder);
    rpo_text_free(&warnings);
    close_fixture(&f);
}

/* A list of checksums that ends early, at the end of a line, vouches for too little. */
Test(checkpoint, a_shortened_list_is_damage) {
    fixture f;
    open_fixture(&f, RPO_OPTIMIZER_ADAMW);
    save_step(&f, 1, 3);
    char path[256], *list = NULL;
    size_t size = 0;
    path_in(path, f.folder, "checkpoints/step-1/checksums");
    must(rpo_read_file(path, 1 << 20, &list, &size));
    while (size > 1 && list[size - 2] != '\n')
        --size;
    must(rpo_write_file_atomic(path, list, size - 1));
    rpo_free(list);
    char *folder = NULL;
    rpo_text warnings = {0};
    rpo_trainer_state read;
    must(rpo_checkpoint_find_latest(f.folder, &folder, &read, &warnings));
    cr_expect_null(folder);
    cr_expect_not_null(strstr(warnings.data, "trainer_state.json"), "%s", warnings.data);
    rpo_text_free(&warnings);
    close_fixture(&f);
}

/* A name longer than any file's is damage of the list, not a failure to look: older checkpoints are still found. */
Test(checkpoint, a_list_with_an_endless_name_is_damage) {
    fixture f;
    open_fixture(&f, RPO_OPTIMIZER_ADAMW);
    save_step(&f, 1, 3);
    save_step(&f, 2, 3);
    char path[256], line[400];
    memset(line, 'a', sizeof line);
    memcpy(line + 32, "  ", 2);
    line[sizeof line - 1] = '\n';
    path_in(path, f.folder, "checkpoints/step-2/checksums");
    must(rpo_write_file_atomic(path, line, sizeof line));
    char *folder = NULL;
    rpo_text warnings = {0};
    rpo_trainer_state read;
    must(rpo_checkpoint_find_latest(f.folder, &folder, &read, &warnings));
    cr_assert_not_null(folder);
    cr_expect_eq(read.step, 1);
    cr_expect_not_null(strstr(warnings.data, "step-2/checksums: is damaged"), "%s", warnings.data);
    rpo_free(folder);
    rpo_text_free(&warnings);
    close_fixture(&f);
}

/* What is whole by its checksums but does not fit is no damage: nothing is passed over. */
Test(checkpoint, a_renamed_one_is_refused) {
    fixture f;
    open_fixture(&f, RPO_OPTIMIZER_ADAMW);
    save_step(&f, 1, 3);
    save_step(&f, 2, 3);
    char path[256], other[256], *folder = NULL;
    path_in(path, f.folder, "checkpoints/step-2");
    path_in(other, f.folder, "checkpoints/step-9");
    cr_assert_eq(rename(path, other), 0);
    rpo_text warnings = {0};
    rpo_trainer_state read;
    cr_expect_eq(rpo_checkpoint_find_latest(f.folder, &folder, &read, &warnings), RPO_ERROR_INVALID_INPUT);
    cr_expect_null(folder);
    cr_expect_not_null(strstr(rpo_last_error(), "holds the state of step 2"), "%s", rpo_last_error());
    rpo_text_free(&warnings);
    close_fixture(&f);
}

/* Names that only look like a run's own are nobody's business. */
Test(checkpoint, only_exact_names_count) {
    static const char *const others[] = {
        "step-0099", "step-", "step-7x", "step-+7", "step- 7", "step--1", "step-99999999999999999999"};
    fixture f;
    open_fixture(&f, RPO_OPTIMIZER_ADAMW);
    save_step(&f, 1, 1);
    char path[256], name[64];
    for (size_t i = 0; i < sizeof others / sizeof others[0]; ++i) {
        snprintf(name, sizeof name, "checkpoints/%s", others[i]);
        path_in(path, f.folder, name);
        must(rpo_make_folders(path));
    }
    path_in(path, f.folder, "checkpoints/step-50"); /* no folder */
    FILE *file = fopen(path, "w");
    cr_assert_not_null(file);
    fclose(file);
    rpo_text warnings = {0};
    f.state.step = 2;
    const rpo_optimizer_state moments = moments_of(&f);
    must(rpo_checkpoint_save(f.folder, f.m.model, &moments, &f.state, 1, NULL, &warnings));
    cr_expect_null(warnings.data, "%s", warnings.data);
    char *folder = NULL;
    rpo_trainer_state read;
    must(rpo_checkpoint_find_latest(f.folder, &folder, &read, &warnings));
    cr_expect_eq(read.step, 2);
    cr_expect_null(warnings.data, "%s", warnings.data);
    cr_expect_eq(count_entries(&f, ""), sizeof others / sizeof others[0] + 2);
    rpo_free(folder);
    close_fixture(&f);
}

Test(checkpoint, none_left_is_found_as_none) {
    fixture f;
    open_fixture(&f, RPO_OPTIMIZER_ADAMW);
    char *folder = NULL;
    rpo_text warnings = {0};
    rpo_trainer_state read;
    must(rpo_checkpoint_find_latest(f.folder, &folder, &read, &warnings));
    cr_expect_null(folder);
    cr_expect_null(warnings.data);

    save_step(&f, 2, 3);
    char path[256];
    path_in(path, f.folder, "checkpoints/step-2/model.safetensors");
    damage(path, false);
    must(rpo_checkpoint_find_latest(f.folder, &folder, &read, &warnings));
    cr_expect_null(folder);
    cr_expect_not_null(strstr(warnings.data, "model.safetensors: differs from its checksum"), "%s",
                       warnings.data);
    cr_expect_not_null(strstr(warnings.data, "the beginning"), "%s", warnings.data);
    rpo_text_free(&warnings);
    close_fixture(&f);
}

Test(checkpoint, leftovers_of_a_kill_are_ignored_and_cleaned) {
    fixture f;
    open_fixture(&f, RPO_OPTIMIZER_ADAMW);
    save_step(&f, 1, 3);
    char path[256];
    static const char *const leftovers[] = {"checkpoints/.tmp-step-9", "checkpoints/.old-step-1",
                                            ".tmp-final"};
    for (size_t i = 0; i < sizeof leftovers / sizeof leftovers[0]; ++i) {
        path_in(path, f.folder, leftovers[i]);
        must(rpo_make_folders(path));
    }
    path_in(path, f.folder, "checkpoints/step-x");
    must(rpo_make_folders(path));

    char *folder = NULL;
    rpo_text warnings = {0};
    rpo_trainer_state read;
    must(rpo_checkpoint_find_latest(f.folder, &folder, &read, &warnings));
    cr_assert_not_null(folder);
    cr_expect_eq(read.step, 1);
    cr_expect_null(warnings.data);
    rpo_free(folder);

    save_step(&f, 2, 3); /* killed between the renames that replace step 2 */
    char aside[256];
    path_in(path, f.folder, "checkpoints/step-2");
    path_in(aside, f.folder, "checkpoints/.old-step-2");
    cr_assert_eq(rename(path, aside), 0);

    must(rpo_checkpoint_clean(f.folder));
    cr_expect(has(&f, "checkpoints/step-2") && !has(&f, "checkpoints/.old-step-2"));
    for (size_t i = 0; i < sizeof leftovers / sizeof leftovers[0]; ++i)
        cr_expect(!has(&f, leftovers[i]), "%s", leftovers[i]);
    cr_expect(has(&f, "checkpoints/step-1") && has(&f, "checkpoints/step-x"));
    close_fixture(&f);
}

Test(checkpoint, another_model_does_not_fit) {
    fixture f;
    open_fixture(&f, RPO_OPTIMIZER_ADAMW);
    save_step(&f, 1, 3);
    char *folder = NULL;
    rpo_text warnings = {0};
    rpo_trainer_state read;
    must(rpo_checkpoint_find_latest(f.folder, &folder, &read, &warnings));
    rpo_model_config config = *rpo_model_get_config(f.m.model);
    config.intermediate_size += 1;
    test_model other = test_model_create(f.context, &config, 1);
    rpo_optimizer_state moments = moments_of(&f);
    cr_expect_eq(rpo_checkpoint_load(folder, other.model, &moments), RPO_ERROR_INVALID_INPUT);
    cr_expect_not_null(strstr(rpo_last_error(), "tensor "), "%s", rpo_last_error());
    open_optimizer(&f, RPO_OPTIMIZER_RMSPROP); /* its moments have another name */
    moments = moments_of(&f);
    cr_expect_eq(rpo_checkpoint_load(folder, f.m.model, &moments), RPO_ERROR_INVALID_INPUT);
    cr_expect_not_null(strstr(rpo_last_error(), "square_avg"), "%s", rpo_last_error());
    test_model_free(&other);
    rpo_free(folder);
    close_fixture(&f);
}

Test(checkpoint, final_model_is_replaced_as_a_whole) {
    fixture f;
    open_fixture(&f, RPO_OPTIMIZER_ADAMW);
    const float other = 42.0f;
    must(rpo_checkpoint_save_final(f.folder, f.m.model, NULL, NULL));
    test_set_weights(&f.m, &other, 0, 1);
    must(rpo_checkpoint_save_final(f.folder, f.m.model, NULL, NULL));
    cr_expect(!has(&f, ".tmp-final") && !has(&f, ".old-final"));
    char path[256];
    path_in(path, f.folder, "final");
    test_model read = test_model_load(f.context, path);
    float *weights = test_weights(&read);
    cr_expect_eq(weights[0], 42.0f);
    rpo_free(weights);
    test_model_free(&read);
    close_fixture(&f);
}
