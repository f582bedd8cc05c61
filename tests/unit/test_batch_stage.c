/*
 * test_batch_stage.c - what the device gets to see of a batch, against plain loops over the host's arrays; and what a
 * batch refuses to hold.
 */
#include "tests/model_testing.h"

enum { VOCAB = 11, MOST_SEGMENTS = 64, MOST_LENGTH = 200 };

/* A staging buffer of exactly so many bytes. */
typedef struct desk {
    rpo_context *context;
    void *device;
    rpo_staging *staging;
} desk;

static desk open_desk(size_t bytes) {
    desk made = {.context = model_test_context(1)};
    MUST(made.context->backend->device_ops->allocate(made.context, &made.device, bytes));
    MUST(rpo_staging_create(&made.staging, made.context, made.device, bytes));
    return made;
}

static void close_desk(desk *at) {
    rpo_staging_free(at->staging);
    at->context->backend->device_ops->release(at->context, at->device);
    rpo_context_free(at->context);
}

/* ---- batches ---- */

static void add_rows(rpo_batch *batch, int64_t first, int64_t end, int64_t prefix, uint64_t seed) {
    int32_t tokens[MOST_LENGTH + MOST_LENGTH];
    for (int64_t t = 0; t < end; ++t)
        tokens[t] = (int32_t)(rpo_random_u64(seed, 1, (uint64_t)t) % VOCAB);
    const rpo_segment_rows rows = {
        .tokens = tokens, .length = end, .label_start = 1, .first = first, .end = end, .prefix = prefix};
    MUST(rpo_batch_add_rows(batch, &rows));
}

/* Ragged segments; about half of them users of some earlier one that has no prefix. */
static void add_random(rpo_batch *batch, int64_t segments, int64_t longest, uint64_t seed) {
    for (int64_t s = 0; s < segments; ++s) {
        const int64_t rows = 1 + (int64_t)(rpo_random_u64(seed, 2, (uint64_t)s) % (uint64_t)longest);
        const int64_t wanted = s == 0 ? 0 : (int64_t)(rpo_random_u64(seed, 3, (uint64_t)s) % (uint64_t)s);
        const bool uses = s > 0 && rpo_random_u64(seed, 4, (uint64_t)s) % 2 == 0 && batch->prefix[wanted] < 0;
        const int64_t before = uses ? batch->cu_seqlens[wanted + 1] - batch->cu_seqlens[wanted] : 0;
        add_rows(batch, before, before + rows, uses ? wanted : -1, seed + 100 + (uint64_t)s);
    }
}

static void add_lengths(rpo_batch *batch, const int64_t *lengths, int64_t count) {
    for (int64_t s = 0; s < count; ++s)
        add_rows(batch, 0, lengths[s], -1, 40 + (uint64_t)s);
}

/* ---- what was staged ---- */

/* A copy of a device's array; rpo_free. */
static int32_t *fetch(const desk *at, const int32_t *device, int64_t count) {
    int32_t *host = rpo_calloc_array((size_t)count + 1, sizeof *host);
    cr_assert_not_null(host);
    MUST(at->context->backend->device_ops->copy_out(at->context, host, device, (size_t)count * sizeof *host));
    return host;
}

static void expect_array(const desk *at, const int32_t *device, const int32_t *expected, int64_t count,
                         const char *what) {
    int32_t *found = fetch(at, device, count);
    for (int64_t i = 0; i < count; ++i)
        cr_expect_eq(found[i], expected[i], "%s[%d]: is %d, expected %d", what, (int)i, found[i],
                     expected[i]);
    rpo_free(found);
}

/* Every row stands in one tile, and a tile in one segment. */
static void check_tiles(const desk *at, const rpo_batch *batch, const rpo_segments *staged) {
    int32_t *tiles = fetch(at, staged->tiles, 2 * staged->num_tiles);
    int64_t next = 0, longest = 0;
    for (int64_t s = 0; s < batch->num_segments; ++s) {
        const int64_t rows = batch->cu_seqlens[s + 1] - batch->cu_seqlens[s];
        longest = rows > longest ? rows : longest;
        for (int64_t row = 0; row < rows; row += RPO_ATTENTION_TILE_ROWS, ++next) {
            cr_assert_lt(next, staged->num_tiles);
            cr_expect(tiles[2 * next] == s && tiles[2 * next + 1] == row, "tile %d", (int)next);
        }
    }
    cr_expect_eq(next, staged->num_tiles);
    cr_expect_eq(staged->max_length, longest);
    rpo_free(tiles);
}

/* Segment s is the prefix of those that name it, in rising order. */
static void check_users(const desk *at, const rpo_batch *batch, const rpo_segments *staged) {
    const int64_t segments = batch->num_segments;
    int32_t *bounds = fetch(at, staged->user_bounds, segments + 1);
    int32_t *users = fetch(at, staged->users, segments);
    int64_t next = 0;
    for (int64_t s = 0; s < segments; ++s) {
        cr_expect_eq(bounds[s], next, "user_bounds[%d]", (int)s);
        for (int64_t u = 0; u < segments; ++u)
            if (batch->prefix[u] == s)
                cr_expect_eq(users[next++], u, "a user of segment %d", (int)s);
    }
    cr_expect_eq(bounds[segments], next);
    rpo_free(users);
    rpo_free(bounds);
}

/* Distinct tokens rise, and so do the rows of each. */
static void check_order(const desk *at, const rpo_batch *batch, const rpo_token_order *staged) {
    int32_t *order = fetch(at, staged->order, batch->num_rows);
    int32_t *tokens = fetch(at, staged->tokens, staged->distinct);
    int32_t *bounds = fetch(at, staged->bounds, staged->distinct + 1);
    int64_t next = 0, distinct = 0;
    for (int32_t token = 0; token < VOCAB; ++token) {
        const int64_t begin = next;
        for (int64_t t = 0; t < batch->num_rows; ++t)
            if (batch->tokens[t] == token)
                cr_expect_eq(order[next++], t, "a row of token %d", token);
        if (next == begin)
            continue;
        cr_assert_lt(distinct, staged->distinct);
        cr_expect(tokens[distinct] == token && bounds[distinct] == begin, "token %d", token);
        ++distinct;
    }
    cr_expect_eq(distinct, staged->distinct);
    cr_expect_eq(bounds[distinct], batch->num_rows);
    rpo_free(bounds);
    rpo_free(tokens);
    rpo_free(order);
}

/* Stages into no byte more than the bound, and looks at everything that arrived. */
static void check_staged(rpo_batch *batch) {
    const int64_t rows = batch->num_rows, segments = batch->num_segments;
    desk at = open_desk(rpo_batch_staged_bytes(rows, segments));
    rpo_device_batch staged;
    MUST(rpo_batch_stage(batch, at.staging, &staged));
    cr_expect_leq(rpo_staging_used(at.staging), rpo_batch_staged_bytes(rows, segments));
    MUST(rpo_staging_upload(at.staging));
    MUST(rpo_context_synchronize(at.context));
    cr_expect(staged.num_rows == rows && staged.num_segments == segments &&
              staged.num_labels == batch->num_labels && staged.segments.num_segments == segments &&
              staged.segments.max_context == batch->max_context);
    expect_array(&at, staged.tokens, batch->tokens, rows, "tokens");
    expect_array(&at, staged.labels, batch->labels, rows, "labels");
    expect_array(&at, staged.positions, batch->positions, rows, "positions");
    expect_array(&at, staged.segments.cu_seqlens, batch->cu_seqlens, segments + 1, "cu_seqlens");
    expect_array(&at, staged.segments.prefix, batch->prefix, segments, "prefix");
    check_tiles(&at, batch, &staged.segments);
    check_users(&at, batch, &staged.segments);
    check_order(&at, batch, &staged.order);
    close_desk(&at);
}

Test(batch_stage, whole_sequences) {
    static const int64_t lengths[] = {1, 63, 64, 65, 128, 129, 2};
    rpo_batch batch = {0};
    for (int64_t count = 1; count <= 7; ++count) {
        rpo_batch_clear(&batch);
        add_lengths(&batch, lengths, count);
        check_staged(&batch);
    }
    rpo_batch_free(&batch);
}

/* Segments of one row take the most bytes a row: each has a tile of its own. */
Test(batch_stage, segments_of_one_row) {
    rpo_batch batch = {0};
    for (int64_t count = 1; count <= MOST_SEGMENTS; ++count) {
        add_rows(&batch, 0, 1, -1, (uint64_t)count);
        check_staged(&batch);
    }
    cr_expect_eq(batch.num_labels, 0);
    rpo_batch_free(&batch);
}

Test(batch_stage, random_prefixes) {
    rpo_batch batch = {0};
    int64_t users = 0;
    for (uint64_t seed = 0; seed < 40; ++seed) {
        rpo_batch_clear(&batch);
        add_random(&batch, 1 + (int64_t)(rpo_random_u64(seed, 9, 0) % MOST_SEGMENTS),
                   seed % 2 == 0 ? 5 : MOST_LENGTH, seed);
        for (int64_t s = 0; s < batch.num_segments; ++s)
            users += batch.prefix[s] >= 0;
        check_staged(&batch);
    }
    cr_expect_gt(users, 100);
    rpo_batch_free(&batch);
}

/* Two batches in one upload, as a step's micro-batches are. */
Test(batch_stage, one_upload_for_several) {
    rpo_batch batches[2] = {{0}, {0}};
    rpo_device_batch staged[2];
    size_t bytes = 0;
    for (int k = 0; k < 2; ++k) {
        add_random(&batches[k], 20, 70, 7 + (uint64_t)k);
        bytes += rpo_batch_staged_bytes(batches[k].num_rows, batches[k].num_segments);
    }
    desk at = open_desk(bytes);
    for (int k = 0; k < 2; ++k)
        MUST(rpo_batch_stage(&batches[k], at.staging, &staged[k]));
    MUST(rpo_staging_upload(at.staging));
    for (int k = 0; k < 2; ++k) {
        check_tiles(&at, &batches[k], &staged[k].segments);
        check_users(&at, &batches[k], &staged[k].segments);
        check_order(&at, &batches[k], &staged[k].order);
        rpo_batch_free(&batches[k]);
    }
    close_desk(&at);
}

Test(batch_stage, an_empty_batch_takes_nothing) {
    rpo_batch batch = {0};
    desk at = open_desk(256);
    rpo_device_batch staged = {.num_segments = 7};
    MUST(rpo_batch_stage(&batch, at.staging, &staged));
    cr_expect(staged.num_segments == 0 && staged.num_rows == 0 && staged.num_labels == 0);
    cr_expect_eq(rpo_staging_used(at.staging), 0);
    close_desk(&at);
}

Test(batch_stage, too_little_room) {
    rpo_batch batch = {0};
    add_random(&batch, 12, 30, 3);
    desk at = open_desk(rpo_batch_staged_bytes(batch.num_rows, batch.num_segments) / 2);
    rpo_device_batch staged;
    (void)rpo_error_set(RPO_ERROR_IO, "of an earlier failure");
    expect_error(rpo_batch_stage(&batch, at.staging, &staged), RPO_ERROR_INTERNAL, "batch: ");
    close_desk(&at);
    rpo_batch_free(&batch);
}

/* ---- rows of a sequence ---- */

static const int32_t six[] = {1, 2, 3, 4, 5, 6};

/* The prompt's row is shared, its last token stands with each response and predicts its first. */
Test(batch_rows, a_prompt_and_two_responses) {
    static const int32_t other[] = {1, 2, 3, 9};
    static const int32_t tokens[] = {1, 2, 3, 4, 5, 3}, positions[] = {0, 1, 2, 3, 4, 2};
    static const int32_t labels[] = {RPO_IGNORE_LABEL, RPO_IGNORE_LABEL, 4, 5, 6, 9};
    static const int32_t bounds[] = {0, 2, 5, 6}, prefix[] = {-1, 0, 0};
    rpo_batch batch = {0};
    const rpo_segment_rows rows[3] = {
        {.tokens = six, .length = 6, .label_start = 3, .first = 0, .end = 2, .prefix = -1},
        {.tokens = six, .length = 6, .label_start = 3, .first = 2, .end = 5, .prefix = 0},
        {.tokens = other, .length = 4, .label_start = 3, .first = 2, .end = 3, .prefix = 0},
    };
    for (int repeat = 0; repeat < 2; ++repeat) {
        rpo_batch_clear(&batch);
        for (int k = 0; k < 3; ++k)
            MUST(rpo_batch_add_rows(&batch, &rows[k]));
        cr_expect(batch.num_rows == 6 && batch.num_segments == 3 && batch.num_labels == 4 &&
                  batch.max_context == 5);
        cr_expect_eq(memcmp(batch.tokens, tokens, sizeof tokens), 0);
        cr_expect_eq(memcmp(batch.positions, positions, sizeof positions), 0);
        cr_expect_eq(memcmp(batch.labels, labels, sizeof labels), 0);
        cr_expect_eq(memcmp(batch.cu_seqlens, bounds, sizeof bounds), 0);
        cr_expect_eq(memcmp(batch.prefix, prefix, sizeof prefix), 0);
    }
    rpo_batch_free(&batch);
}

static void expect_rows_refused(rpo_segment_rows rows, const char *part) {
    rpo_batch batch = {0};
    const rpo_segment_rows prompt = {six, 6, 3, 0, 2, -1}, response = {six, 6, 3, 2, 5, 0};
    MUST(rpo_batch_add_rows(&batch, &prompt));
    MUST(rpo_batch_add_rows(&batch, &response));
    expect_error(rpo_batch_add_rows(&batch, &rows), RPO_ERROR_INVALID_ARGUMENT, part);
    cr_expect(batch.num_rows == 5 && batch.num_segments == 2 && batch.num_labels == 3, "%s", part);
    rpo_batch_free(&batch);
}

/* Into a batch of a prompt of two rows (segment 0) and a response of three (segment 1). */
Test(batch_rows, refusals) {
    expect_rows_refused((rpo_segment_rows){six, 0, 1, 0, 1, -1}, "length: is 0");
    expect_rows_refused((rpo_segment_rows){six, 6, 0, 0, 6, -1}, "label_start: is 0; must be in 1..6");
    expect_rows_refused((rpo_segment_rows){six, 6, 7, 0, 6, -1}, "label_start: is 7");
    expect_rows_refused((rpo_segment_rows){six, 6, 3, -1, 5, -1}, "rows: are -1..5 of 6");
    expect_rows_refused((rpo_segment_rows){six, 6, 3, 2, 2, 0}, "rows: are 2..2");
    expect_rows_refused((rpo_segment_rows){six, 6, 3, 0, 7, -1}, "rows: are 0..7");
    expect_rows_refused((rpo_segment_rows){six, 6, 3, 2, 6, -1}, "prefix: is segment -1"); /* lacks one */
    expect_rows_refused((rpo_segment_rows){six, 6, 3, 0, 6, 0}, "prefix: is segment 0");   /* takes none */
    expect_rows_refused((rpo_segment_rows){six, 6, 3, 2, 6, 2}, "prefix: is segment 2; must be one before");
    expect_rows_refused((rpo_segment_rows){six, 6, 3, 3, 6, 0}, "that holds the 3 rows before");
    expect_rows_refused((rpo_segment_rows){six, 6, 3, 3, 6, 1}, "without a prefix of its own");
    expect_rows_refused((rpo_segment_rows){six, INT32_MAX, 1, 0, INT32_MAX - 4, -1}, "at most 2147483647");
}

/* What was reserved is enough: rows and segments within it move no array. */
Test(batch_rows, reserved_room_stays_where_it_is) {
    rpo_batch batch = {0};
    MUST(rpo_batch_reserve(&batch, 1000, 100));
    const int32_t *const tokens = batch.tokens, *const bounds = batch.cu_seqlens,
                         *const prefix = batch.prefix;
    for (int s = 0; s < 100; ++s)
        add_rows(&batch, 0, 10, -1, 1);
    cr_expect(batch.num_rows == 1000 && batch.num_segments == 100);
    cr_expect(batch.tokens == tokens && batch.cu_seqlens == bounds && batch.prefix == prefix);
    MUST(rpo_batch_reserve(&batch, 10, 1));
    cr_expect(batch.tokens == tokens);
    add_rows(&batch, 0, 10, -1, 2);
    cr_expect_eq(batch.cu_seqlens[101], 1010);
    rpo_batch_free(&batch);
}
