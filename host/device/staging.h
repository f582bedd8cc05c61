/*
 * staging.h - many small arrays between host and device in one copy: a pinned buffer and a device buffer of the same
 * layout. What the host packs lies at the same offset on the device once uploaded; what ops leave on the device lies at
 * the same offset in the pinned buffer once downloaded. A plan of a step is one staging that is uploaded, its results
 * another that is downloaded.
 *
 *     rpo_staging_reset(plan);
 *     rpo_staging_put(plan, tokens, rows, sizeof *tokens, &device_tokens);
 *     int32_t *bounds = rpo_staging_put(plan, NULL, count, sizeof *bounds, &device_bounds);
 *     ... fill bounds ...
 *     RPO_TRY(rpo_staging_upload(plan));
 */
#ifndef RPO_HOST_DEVICE_STAGING_H
#define RPO_HOST_DEVICE_STAGING_H

#include "core/core.h"

typedef struct rpo_staging rpo_staging;

/*
 * device_memory  of `bytes` bytes, 256-byte aligned, the caller's (a segment of an arena); it outlives the staging
 * bytes          room for all arrays, each rounded up to 256 bytes (core/bump.h counts them so)
 * The caller owns *staging and frees it before the context; on failure *staging is NULL.
 * Errors: OUT_OF_MEMORY, DEVICE.
 */
rpo_status rpo_staging_create(rpo_staging **staging, rpo_context *context, void *device_memory, size_t bytes);
void rpo_staging_free(rpo_staging *staging); /* NULL accepted; copies under way must be done */

/* Empties the buffer. The context must have been waited for since the last upload or download. */
void rpo_staging_reset(rpo_staging *staging);

/*
 * Takes room for `count` elements of `size` bytes; copies them from `data` unless that is NULL. Returns the place in the
 * pinned buffer, 256-byte aligned, for the host to fill before the upload or to read after the download and a wait;
 * *device, unless device is NULL, receives the place on the device. Both are NULL for count = 0, and where there is no
 * room: then the following uploads and downloads fail until the next reset.
 */
void *rpo_staging_put(rpo_staging *staging, const void *data, int64_t count, size_t size, void **device);

/* One copy of everything put since the reset; enqueue and return. Errors: INTERNAL (there was no room), DEVICE. */
rpo_status rpo_staging_upload(rpo_staging *staging);
rpo_status rpo_staging_download(rpo_staging *staging);

/* Bytes put since the reset, which are those of a copy. */
size_t rpo_staging_used(const rpo_staging *staging);

#endif
