/* record.h - the record of a run: which program, called how, when and on which machine, made what stands in a run folder. */
#ifndef RPO_HOST_RUN_RECORD_H
#define RPO_HOST_RUN_RECORD_H

#include "core/machine.h"
#include "host/metrics/metrics.h"

typedef struct rpo_run_record {
    const char *version, *commit;
    const char *command; /* the command line, as a shell would take it */
    char date[RPO_UTC_SIZE];
    rpo_machine machine;
    int threads; /* of the ops */
    const char *model_hash, *reference_hash,
        *data_hash; /* what the run began with; the reference's "" for sft */
} rpo_run_record;

/* The record of this process, now, without the hashes. `command` is only referred to. */
rpo_run_record rpo_run_record_now(const char *command, int threads);

/* One JSON object on one line. */
rpo_status rpo_run_record_append_json(const rpo_run_record *record, rpo_text *text);

/* The same as lines of log.txt. */
void rpo_run_record_log(const rpo_run_record *record, rpo_metrics *metrics);

#endif
