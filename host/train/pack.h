/*
 * pack.h - sequences into micro-batches, prompts that several of them share standing there once.
 */
#ifndef RPO_HOST_TRAIN_PACK_H
#define RPO_HOST_TRAIN_PACK_H

#include "host/model/batch.h"
#include "host/train/global_batch.h"

/* A prompt of the global batch. */
typedef struct rpo_prompt {
    uint64_t hash;   /* of its tokens */
    int64_t uses;    /* sequences of this rank that begin with it */
    int64_t first;   /* the first of those: its tokens are the prompt's */
    int64_t segment; /* that holds it in the micro-batch being packed; -1 = none yet */
    int64_t mark;    /* pack.c's, while rows are counted */
} rpo_prompt;

typedef struct rpo_packer {
    const rpo_global_batch *global;
    bool share;          /* prompts stand once */
    rpo_batch batch;     /* the micro-batch being packed */
    rpo_prompt *prompts; /* [num_prompts] of this rank's sequences */
    int64_t num_prompts, mark;
    int64_t *prompt_of; /* [sequences] index into prompts */
    int64_t *slots;     /* hash table over prompts, -1 = free */
    size_t prompt_capacity, prompt_of_capacity, slot_capacity;
} rpo_packer;

/* Makes room, so that no batch within these bounds allocates anything. */
rpo_status rpo_packer_reserve(rpo_packer *packer, int64_t sequences, int64_t rows, int64_t segments);

/* Looks through this rank's sequences; `share` false packs each sequence whole. The memory is reused. */
rpo_status rpo_packer_begin(rpo_packer *packer, const rpo_global_batch *global, bool share);
void rpo_packer_free(rpo_packer *packer);

/* Empties the micro-batch. */
void rpo_packer_clear(rpo_packer *packer);

/* Rows that sequences [first, end) would add to the micro-batch; `alone`: to an empty one. */
int64_t rpo_packer_rows(rpo_packer *packer, int64_t first, int64_t end, bool alone);

/* Adds a sequence; *segment receives the number of the segment that holds its labels, -1 where it has none. */
rpo_status rpo_packer_add(rpo_packer *packer, int64_t sequence, int64_t *segment);

#endif
