/* reference_cache.h - the file behind a reference pass. Log-probs that are not there are NaN. */
#ifndef RPO_HOST_TRAIN_REFERENCE_CACHE_H
#define RPO_HOST_TRAIN_REFERENCE_CACHE_H

#include "host/train/contrast.h"

/* FOLDER/reference-HASH.bin for a model and a dataset; rpo_free. NULL: out of memory. */
char *rpo_reference_cache_path(const char *folder, const char *model_hash, const char *data_hash);

/* Reads it into `scores`, whose count must be the file's. INVALID_INPUT where it is damaged; IO and OUT_OF_MEMORY are
 * the machine's fault and say nothing of the file. */
rpo_status rpo_reference_cache_read(rpo_scores *scores, const char *path);

/* Replaces it as a whole, keeping what another run has added meanwhile. Creates the folder. */
rpo_status rpo_reference_cache_write(const rpo_scores *scores, const char *folder, const char *path);

#endif
