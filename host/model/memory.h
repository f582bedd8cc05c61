/*
 * memory.h - the device memory of one model: a single arena in named segments, sized before the first step and never
 * after. Whoever creates it owns it; a model works in the one that was created for it.
 */
#ifndef RPO_HOST_MODEL_MEMORY_H
#define RPO_HOST_MODEL_MEMORY_H

#include "core/core.h"
#include "host/device/arena.h"
#include "host/device/staging.h"
#include "kernels/op_table.h"

struct rpo_model;

enum { RPO_MAX_MOMENTS = 2 };

/* What will be asked of the memory. */
typedef struct rpo_memory_request {
    int64_t batch_rows;     /* most rows of one forward */
    int64_t batch_segments; /* most segments of one forward */
    int64_t longest;        /* most tokens of one sequence */

    bool train;        /* gradients and a tape; the two below count only then */
    int moments;       /* of the optimizer: arrays of the trainable space */
    size_t tape_bytes; /* at least rpo_tape_bytes of one batch; more keeps the tapes of several at once */
    size_t
        head_cache_bytes; /* for the head's logits between a recorded forward and its backward; any number helps */

    size_t batch_bytes;     /* what is uploaded at once: a step's plan */
    size_t figure_bytes;    /* what a step leaves for the host */
    size_t workspace_bytes; /* of the ops outside of the model, at least */
    size_t limit;           /* most bytes of the whole; 0 = none */
} rpo_memory_request;

typedef struct rpo_memory {
    rpo_arena *arena;
    float *weights;   /* [tensors.weights] */
    float *gradients; /* [tensors.trainable]; NULL unless training, as the two below */
    float *moments[RPO_MAX_MOMENTS];
    void *tape;
    size_t tape_bytes;
    void *head_cache;
    size_t head_cache_bytes;
    float *rope;   /* [longest][head_dim] */
    void *scratch; /* of one forward or backward: tape.h cuts it */
    void *workspace;
    size_t workspace_bytes;
    rpo_staging *plan;    /* the batch segment and its pinned twin: what a step uploads, once */
    rpo_staging *figures; /* what it leaves for the host, downloaded once */
    rpo_memory_request request;
} rpo_memory;

/* Sizes, refuses or allocates, and hands the memory to `model`. Errors: OUT_OF_MEMORY, naming the key that would
 * make the largest segment smaller. */
rpo_status rpo_memory_create(rpo_memory **memory, struct rpo_model *model, const rpo_memory_request *request);
void rpo_memory_free(rpo_memory *memory);

/* Segments with their sizes, one a line: what RPO_TRACE_STEP shows. */
rpo_status rpo_memory_append_table(const rpo_memory *memory, rpo_text *text);

/* ---- between a flat array of the device and the host: tests, files, other ranks ---- */

/* Waits; `count` floats from element `first` on. */
rpo_status rpo_device_read(rpo_context *context, float *host, const float *device, int64_t first,
                           int64_t count);
rpo_status rpo_device_write(rpo_context *context, float *device, const float *host, int64_t first,
                            int64_t count);

#endif
