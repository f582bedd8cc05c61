/* test_memory.c - a model's memory: how large, in which pieces, what it holds at first, and when it is refused. */
#include "tests/model_testing.h"

typedef struct fixture {
    rpo_context *context;
    rpo_model *model;
    rpo_memory_request request;
} fixture;

static fixture open_fixture(void) {
    fixture f = {.context = model_test_context(1)};
    const rpo_model_config config = tiny_config(true);
    MUST(rpo_model_new(&f.model, f.context, &config));
    f.request = test_memory_request(f.model);
    return f;
}

static void close_fixture(fixture *f) {
    rpo_model_free(f->model);
    rpo_context_free(f->context);
}

static rpo_memory *create(fixture *f) {
    rpo_memory *memory = NULL;
    MUST(rpo_memory_create(&memory, f->model, &f->request));
    cr_expect_eq(rpo_model_memory(f->model), memory);
    return memory;
}

static size_t size_of(fixture *f) {
    rpo_memory *memory = create(f);
    const size_t size = rpo_arena_size(memory->arena);
    rpo_memory_free(memory);
    return size;
}

Test(memory, what_was_asked_for_is_there) {
    fixture f = open_fixture();
    rpo_memory *memory = create(&f);
    cr_expect(memory->weights != NULL && memory->gradients != NULL && memory->moments[0] != NULL &&
              memory->moments[1] != NULL && memory->tape != NULL && memory->head_cache != NULL &&
              memory->rope != NULL && memory->scratch != NULL && memory->workspace != NULL &&
              memory->plan != NULL && memory->figures != NULL);
    cr_expect_eq(memory->tape_bytes, rpo_tape_bytes(f.model, TEST_ROWS));
    cr_expect_eq(memory->head_cache_bytes, TEST_BYTES);
    cr_expect_geq(memory->workspace_bytes, TEST_BYTES);
    cr_expect_eq(memcmp(&memory->request, &f.request, sizeof f.request), 0);
    rpo_memory_free(memory);
    rpo_memory_free(NULL);
    close_fixture(&f);
}

Test(memory, scoring_needs_neither_gradients_nor_a_tape) {
    fixture f = open_fixture();
    const size_t training = size_of(&f);
    f.request.train = false;
    rpo_memory *memory = create(&f);
    cr_expect(memory->gradients == NULL && memory->moments[0] == NULL && memory->moments[1] == NULL &&
              memory->tape == NULL && memory->head_cache == NULL);
    cr_expect_eq(memory->tape_bytes, 0);
    cr_expect_eq(memory->head_cache_bytes, 0);
    cr_expect_lt(rpo_arena_size(memory->arena) + f.request.tape_bytes + f.request.head_cache_bytes, training);
    rpo_memory_free(memory);
    close_fixture(&f);
}

/* Each request by itself adds what it says, up to the alignment, and nothing else. */
Test(memory, every_byte_has_a_reason) {
    fixture f = open_fixture();
    const size_t trainable = (size_t)rpo_model_tensors(f.model)->trainable * sizeof(float), some = 3 << 20;
    const size_t before = size_of(&f);
    f.request.moments = 1;
    cr_expect_eq(before - size_of(&f), rpo_bump_align(trainable));
    f.request.moments = 0;
    cr_expect_eq(before - size_of(&f), 2 * rpo_bump_align(trainable));
    size_t *const bytes[] = {&f.request.tape_bytes, &f.request.head_cache_bytes, &f.request.batch_bytes,
                             &f.request.figure_bytes};
    for (size_t k = 0; k < sizeof bytes / sizeof bytes[0]; ++k) {
        const size_t less = size_of(&f);
        *bytes[k] += some;
        cr_expect_eq(size_of(&f) - less, some, "request %zu", k);
    }
    f.request.workspace_bytes = 100 << 20; /* more than any op wants */
    const size_t less = size_of(&f);
    f.request.workspace_bytes += some;
    cr_expect_eq(size_of(&f) - less, some);
    close_fixture(&f);
}

/* Gradients, moments and whatever lies between tensors begin at 0; the rotary table is there. */
Test(memory, what_it_holds_at_first) {
    fixture f = open_fixture();
    rpo_memory *memory = create(&f);
    const test_model m = {.context = f.context, .model = f.model, .memory = memory};
    const int64_t count = rpo_model_tensors(f.model)->trainable;
    float *const arrays[] = {memory->weights, memory->gradients, memory->moments[0], memory->moments[1]};
    for (size_t k = 0; k < sizeof arrays / sizeof arrays[0]; ++k) {
        float *values = test_read(&m, arrays[k], count);
        for (int64_t i = 0; i < count; ++i)
            cr_assert_eq(values[i], 0.0f, "array %zu, element %lld", k, (long long)i);
        rpo_free(values);
    }
    float *rope = test_read(&m, memory->rope, f.request.longest * 4);
    for (int64_t t = 0; t < f.request.longest; ++t)
        for (int i = 0; i < 2; ++i) {
            const double angle = (double)t * pow(10000.0, -2.0 * i / 4.0);
            cr_expect(fabs((double)rope[4 * t + i] - cos(angle)) <= 1e-7 &&
                      fabs((double)rope[4 * t + 2 + i] - sin(angle)) <= 1e-7);
        }
    rpo_free(rope);
    rpo_memory_free(memory);
    close_fixture(&f);
}

static void expect_refused(fixture *f, const char *segment, const char *key) {
    rpo_memory *memory = NULL;
    rpo_model_free(f->model);
    const rpo_model_config config = tiny_config(true);
    MUST(rpo_model_new(&f->model, f->context, &config));
    expect_error(rpo_memory_create(&memory, f->model, &f->request), RPO_ERROR_OUT_OF_MEMORY, segment);
    cr_expect_not_null(strstr(rpo_last_error(), key), "message lacks %s: %s", key, rpo_last_error());
    cr_expect_null(memory);
    cr_expect_null(rpo_model_memory(f->model));
}

/* At the limit it is made; a byte below it is refused, with the key that makes the largest segment smaller. */
Test(memory, a_limit_is_kept_and_its_key_named) {
    fixture f = open_fixture();
    f.request.limit = size_of(&f);
    cr_expect_eq(size_of(&f), f.request.limit);
    f.request.limit -= 1;
    expect_refused(&f, "tape takes the most", "train.micro_batch_tokens makes it smaller");
    f.request.batch_bytes = 64 << 20;
    expect_refused(&f, "batch takes the most, 64.0 MiB", "train.batch_size makes it smaller");
    f.request.longest = 8 << 20;
    expect_refused(&f, "rope takes the most, 128.0 MiB", "data.max_length makes it smaller");
    close_fixture(&f);
}

static rpo_status no_room(rpo_context *context, void **memory, size_t bytes) {
    (void)context;
    *memory = NULL;
    return rpo_error_set(RPO_ERROR_OUT_OF_MEMORY, "no memory for %zu bytes", bytes);
}

/* A full device, and sizes that no pointer reaches. */
Test(memory, what_the_device_lacks_is_refused) {
    fixture f = open_fixture();
    const rpo_backend *real = f.context->backend;
    rpo_device_ops ops = *real->device_ops;
    rpo_backend backend = *real;
    ops.allocate = no_room;
    backend.device_ops = &ops;
    f.context->backend = &backend;
    expect_refused(&f, "there is no room for the", "train.micro_batch_tokens makes it smaller");
    f.context->backend = real;
    f.request.figure_bytes = SIZE_MAX - 1024;
    expect_refused(&f, "more than can be addressed", "train.batch_size");
    close_fixture(&f);
}

Test(memory, its_table_names_the_segments) {
    static const char *const names[] = {"weights ",    "gradients ", "moments ",   "tape ",
                                        "head cache ", "scratch ",   "workspace ", "rope ",
                                        "batch ",      "figures ",   "total "};
    fixture f = open_fixture();
    rpo_memory *memory = create(&f);
    rpo_text table = {0};
    MUST(rpo_memory_append_table(memory, &table));
    for (size_t i = 0; i < sizeof names / sizeof names[0]; ++i)
        cr_expect_not_null(strstr(table.data, names[i]), "%s lacks %s", table.data, names[i]);
    rpo_text_free(&table);
    rpo_memory_free(memory);
    close_fixture(&f);
}

/* `rows` rows in `segments` sequences. */
static rpo_batch batch_of(int64_t rows, int64_t segments) {
    rpo_batch batch = {0};
    for (int64_t s = 0; s < segments; ++s)
        add_sequence(&batch, (s + 1) * rows / segments - s * rows / segments, 1, 31, 4 + (uint64_t)s);
    return batch;
}

/* Scores, records and goes back: log-probs are the same however much of the head's logits was kept. */
static void run_batch(test_model *m, rpo_batch *batch) {
    const size_t count = (size_t)batch->num_segments;
    float *scored = test_floats(count), *recorded = test_floats(count), *late = test_floats(count);
    MUST(test_score(m, batch, scored, NULL));
    MUST(test_record(m, batch, recorded));
    MUST(test_backward(m, scored, false, late));
    cr_expect(relative_error(recorded, scored, count) <= 1e-6);
    cr_expect(relative_error(late, scored, count) <= 1e-6);
    float *gradients = test_gradients(m);
    for (int64_t i = 0; i < rpo_model_tensors(m->model)->trainable; ++i)
        cr_assert(isfinite(gradients[i]));
    rpo_free(gradients);
    rpo_free(late);
    rpo_free(recorded);
    rpo_free(scored);
}

/* Whatever batch stays within the rows and segments asked for fits, and nothing was asked for beyond that. */
Test(memory, every_batch_within_the_request_fits) {
    static const int64_t shapes[][2] = {{128, 1}, {256, 2}, {65, 65}, {130, 2}, {200, 7}};
    static const size_t caches[] = {0, 256, 4096, 1 << 20}; /* none, a few rows' logits, most, all */
    for (size_t k = 0; k < 4 * sizeof shapes / sizeof shapes[0]; ++k) {
        fixture f = open_fixture();
        const int64_t rows = shapes[k / 4][0], segments = shapes[k / 4][1];
        f.request =
            (rpo_memory_request){.batch_rows = rows,
                                 .batch_segments = segments,
                                 .longest = (rows + segments - 1) / segments,
                                 .train = true,
                                 .tape_bytes = rpo_tape_bytes(f.model, rows),
                                 .head_cache_bytes = caches[k % 4],
                                 .batch_bytes = rpo_batch_staged_bytes(rows, segments),
                                 .figure_bytes = 2 * rpo_bump_align((size_t)segments * sizeof(float))};
        test_model m = {.context = f.context, .model = f.model, .memory = create(&f)};
        MUST(rpo_model_initialise(m.model, 3));
        for (int64_t part = 1; part <= 3; ++part) {
            const int64_t fewer = segments / part > 0 ? segments / part : 1, most = fewer * f.request.longest;
            rpo_batch batch = batch_of(rows / part < most ? rows / part : most, fewer);
            run_batch(&m, &batch);
            rpo_batch_free(&batch);
        }
        test_model_free(&m);
        rpo_context_free(f.context);
    }
}
