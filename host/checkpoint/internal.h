/* internal.h - file names of a checkpoint and what the files of this room share. */
#ifndef RPO_HOST_CHECKPOINT_INTERNAL_H
#define RPO_HOST_CHECKPOINT_INTERNAL_H

#include "host/checkpoint/checkpoint.h"

#define RPO_CHECKPOINT_OPTIMIZER "optimizer.safetensors"
#define RPO_CHECKPOINT_STATE     "trainer_state.json"
#define RPO_CHECKPOINT_CHECKSUMS "checksums"
#define RPO_CHECKPOINT_TEMPORARY ".tmp-"  /* prefix of a folder being written or removed */
#define RPO_CHECKPOINT_REPLACED  ".old-"  /* prefix of a folder whose successor takes its place */
#define RPO_CHECKPOINT_ASIDE     "aside-" /* prefix of a damaged folder: kept, and never looked at again */

/* state.c: trainer_state.json */
rpo_status rpo_trainer_state_write(const rpo_trainer_state *state, const char *path);
rpo_status rpo_trainer_state_read(rpo_trainer_state *state, const char *path);

/* checksums.c: one "HASH  NAME" line for every other file of the folder, as sha256sum and its kin write them.
 */
rpo_status rpo_checksums_write(const char *folder);
/*
 * Compares every listed file with its checksum. `damage` tells what does not fit (a file that differs or is missing, a
 * list that vouches for too little) and stays empty for a whole folder; `extra` then names the files that are not
 * listed, which harm nobody. Any other status than RPO_OK means that it could not be told: the folder may be whole.
 */
rpo_status rpo_checksums_verify(const char *folder, rpo_text *damage, rpo_text *extra);

/* folders.c: the step of "step-N" as a run writes it (no leading zeros), or -1 for any other name. */
int64_t rpo_checkpoint_step_of(const char *name);
/* Steps that RUN/checkpoints holds a folder of, ascending. *steps: rpo_free. */
rpo_status rpo_checkpoint_steps(const char *checkpoints_folder, int64_t **steps, size_t *count);
/* PARENT/PREFIXstep-N; rpo_free. */
char *rpo_checkpoint_step_path(const char *checkpoints_folder, const char *prefix, int64_t step);
/* Puts the finished folder `from` in the place of `to`, which may exist: at every moment it or its successor lies
 * under `to` or `aside`, and after a failure under `to`. What cannot be removed afterwards is one line in
 * `warnings`. */
rpo_status rpo_checkpoint_replace(const char *from, const char *to, const char *aside, rpo_text *warnings);
/* Appends the message of a failure that costs no more than disk space, as one line. */
void rpo_checkpoint_warn(rpo_text *warnings);

#endif
