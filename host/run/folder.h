/* folder.h - what a run folder may hold when a run starts, and which settings may change when it goes on. */
#ifndef RPO_HOST_RUN_FOLDER_H
#define RPO_HOST_RUN_FOLDER_H

#include "host/config/config.h"
#include "host/run/record.h"

/* INVALID_INPUT when run.dir holds a run already and it is not to be resumed. Caches are no run. Counts only under the
 * lock: until then another process may begin one. */
rpo_status rpo_run_folder_check(const rpo_config *config, bool resume);

/*
 * Takes the run folder for this process: two runs in one folder would write over each other. *lock is a file
 * descriptor (-1 on failure); closing it, or the end of the process, however it comes, gives the folder free.
 * INVALID_INPUT when another process has it; IO when it cannot be locked at all.
 */
rpo_status rpo_run_folder_lock(const rpo_config *config, int *lock);

/* Before anything is written by its path: IO when the folder that was locked no longer stands in its place. */
rpo_status rpo_run_folder_still_held(const rpo_config *config, int lock);

/* Hash of the settings that must not change on resume. */
rpo_status rpo_run_folder_config_hash(const rpo_config *config, char hex[33]);

/* INVALID_INPUT, naming the key, when a setting that must not change differs from those the run began with.
 * `begun_with` is the hash in the checkpoint; RUN/config.json serves to name the key. */
rpo_status rpo_run_folder_check_settings(const rpo_config *config, const char *begun_with);

/*
 * Where several runs keep what depends on model and data alone: RPO_CACHE, else rpo/ in XDG_CACHE_HOME or in
 * HOME/.cache; without any of them `own`. rpo_free; NULL: out of memory.
 */
char *rpo_run_shared_cache(const char *own);

/* RUN/config.json, replaced as a whole: the resolved configuration, and behind the records of the processes before this one's. */
rpo_status rpo_run_folder_write_config(const rpo_config *config, const rpo_run_record *record);

#endif
