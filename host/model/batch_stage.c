/*
 * batch_stage.c - a batch on its way to the device, with what the ops want to know of it beforehand: no launch has to
 * wait for the device to count something.
 */
#include <stdlib.h>
#include <string.h>

#include "core/bump.h"
#include "host/model/batch.h"

static int64_t tiles_of(int64_t rows) {
    return (rows + RPO_ATTENTION_TILE_ROWS - 1) / RPO_ATTENTION_TILE_ROWS;
}

size_t rpo_batch_staged_bytes(int64_t rows, int64_t segments) {
    const int64_t tiles = tiles_of(rows) + segments;
    const int64_t arrays[] = {rows,         rows,     rows,         rows,     rows,     rows + 1, /* by row */
                              segments + 1, segments, segments + 1, segments, 2 * tiles};
    rpo_bump sizes = rpo_bump_from(NULL);
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; ++i)
        (void)rpo_bump_take(&sizes, arrays[i] > 0 ? arrays[i] : 1, sizeof(int32_t));
    return rpo_bump_size(&sizes);
}

/* A piece of the staging buffer to fill; *device is where it will lie. */
static rpo_status put(rpo_staging *staging, const int32_t *data, int64_t count, int32_t **host,
                      const int32_t **device) {
    void *where = NULL;
    *host = rpo_staging_put(staging, data, count > 0 ? count : 1, sizeof(int32_t), &where);
    *device = where;
    if (*host == NULL)
        return rpo_error_set(RPO_ERROR_INTERNAL, "batch: its arrays are larger than the batch segment");
    return RPO_OK;
}

static int compare_keys(const void *a, const void *b) {
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Rows by token, rising rows within a token: one sort of token and row side by side. */
static rpo_status stage_order(rpo_batch *batch, rpo_staging *staging, rpo_token_order *staged) {
    const int64_t rows = batch->num_rows;
    int32_t *order = NULL, *tokens = NULL, *bounds = NULL;
    int64_t distinct = 0;
    for (int64_t t = 0; t < rows; ++t)
        batch->keys[t] = (int64_t)batch->tokens[t] << 32 | t;
    qsort(batch->keys, (size_t)rows, sizeof *batch->keys, compare_keys);
    RPO_TRY(put(staging, NULL, rows, &order, &staged->order));
    RPO_TRY(put(staging, NULL, rows, &tokens, &staged->tokens));
    RPO_TRY(put(staging, NULL, rows + 1, &bounds, &staged->bounds));
    for (int64_t t = 0; t < rows; ++t) {
        const int32_t token = (int32_t)(batch->keys[t] >> 32);
        order[t] = (int32_t)(batch->keys[t] & INT32_MAX);
        if (distinct > 0 && tokens[distinct - 1] == token)
            continue;
        tokens[distinct] = token;
        bounds[distinct++] = (int32_t)t;
    }
    bounds[distinct] = (int32_t)rows;
    staged->distinct = distinct;
    return RPO_OK;
}

/* For every segment the segments that have it as their prefix: counted, summed up, filled in rising order. */
static rpo_status stage_users(const rpo_batch *batch, rpo_staging *staging, rpo_segments *staged) {
    const int64_t segments = batch->num_segments;
    int32_t *bounds = NULL, *users = NULL;
    RPO_TRY(put(staging, NULL, segments + 1, &bounds, &staged->user_bounds));
    RPO_TRY(put(staging, NULL, segments, &users, &staged->users));
    memset(bounds, 0, (size_t)(segments + 1) * sizeof *bounds);
    for (int64_t s = 0; s < segments; ++s)
        if (batch->prefix[s] >= 0)
            ++bounds[batch->prefix[s] + 1];
    for (int64_t s = 0; s < segments; ++s)
        bounds[s + 1] += bounds[s];
    for (int64_t s = 0; s < segments; ++s) /* bounds[p] runs to the start of p + 1 ... */
        if (batch->prefix[s] >= 0)
            users[bounds[batch->prefix[s]]++] = (int32_t)s;
    for (int64_t s = segments; s > 0; --s) /* ... and is set back */
        bounds[s] = bounds[s - 1];
    bounds[0] = 0;
    return RPO_OK;
}

static rpo_status stage_tiles(const rpo_batch *batch, rpo_staging *staging, rpo_segments *staged) {
    int32_t *tiles = NULL;
    staged->num_tiles = 0;
    for (int64_t s = 0; s < batch->num_segments; ++s)
        staged->num_tiles += tiles_of(batch->cu_seqlens[s + 1] - batch->cu_seqlens[s]);
    RPO_TRY(put(staging, NULL, 2 * staged->num_tiles, &tiles, &staged->tiles));
    for (int64_t s = 0; s < batch->num_segments; ++s) {
        const int32_t length = batch->cu_seqlens[s + 1] - batch->cu_seqlens[s];
        staged->max_length = length > staged->max_length ? length : staged->max_length;
        for (int32_t row = 0; row < length; row += RPO_ATTENTION_TILE_ROWS) {
            *tiles++ = (int32_t)s;
            *tiles++ = row;
        }
    }
    return RPO_OK;
}

rpo_status rpo_batch_stage(rpo_batch *batch, rpo_staging *staging, rpo_device_batch *staged) {
    int32_t *unused = NULL;
    const int64_t rows = batch->num_rows, segments = batch->num_segments;
    *staged = (rpo_device_batch){.num_rows = rows, .num_segments = segments, .num_labels = batch->num_labels};
    if (segments == 0)
        return RPO_OK;
    staged->segments.num_segments = segments;
    staged->segments.max_context = batch->max_context;
    RPO_TRY(put(staging, batch->tokens, rows, &unused, &staged->tokens));
    RPO_TRY(put(staging, batch->labels, rows, &unused, &staged->labels));
    RPO_TRY(put(staging, batch->positions, rows, &unused, &staged->positions));
    RPO_TRY(put(staging, batch->cu_seqlens, segments + 1, &unused, &staged->segments.cu_seqlens));
    RPO_TRY(put(staging, batch->prefix, segments, &unused, &staged->segments.prefix));
    RPO_TRY(stage_users(batch, staging, &staged->segments));
    RPO_TRY(stage_tiles(batch, staging, &staged->segments));
    return stage_order(batch, staging, &staged->order);
}
