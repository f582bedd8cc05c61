/* record.c - what is known of the process that makes a run. */
#include "host/run/record.h"

#include "core/json.h"

rpo_run_record rpo_run_record_now(const char *command, int threads) {
    rpo_run_record record = {
        .version = rpo_version(), .commit = rpo_build_commit(), .command = command, .threads = threads};
    rpo_utc_text(record.date, rpo_wall_clock());
    rpo_machine_look(&record.machine);
    return record;
}

static rpo_status append_string(rpo_text *text, const char *before, const char *value) {
    RPO_TRY(rpo_text_printf(text, "%s", before));
    return rpo_json_append_string(text, value);
}

rpo_status rpo_run_record_append_json(const rpo_run_record *record, rpo_text *text) {
    RPO_TRY(append_string(text, "{\"version\": ", record->version));
    RPO_TRY(append_string(text, ", \"commit\": ", record->commit));
    RPO_TRY(append_string(text, ", \"date\": ", record->date));
    RPO_TRY(append_string(text, ", \"command\": ", record->command));
    RPO_TRY(append_string(text, ", \"machine\": {\"cpu\": ", record->machine.cpu));
    RPO_TRY(
        rpo_text_printf(text, ", \"cores\": %d, \"threads\": %d", record->machine.cores, record->threads));
    RPO_TRY(append_string(text, ", \"os\": ", record->machine.os));
    RPO_TRY(append_string(text, "}, \"hashes\": {\"model\": ", record->model_hash));
    RPO_TRY(append_string(text, ", \"reference\": ", record->reference_hash));
    RPO_TRY(append_string(text, ", \"data\": ", record->data_hash));
    return rpo_text_append(text, "}}", 2);
}

void rpo_run_record_log(const rpo_run_record *record, rpo_metrics *metrics) {
    const rpo_machine *machine = &record->machine;
    rpo_metrics_log(metrics, "record     rpo %s, commit %s, %s", record->version, record->commit,
                    record->date);
    rpo_metrics_log(metrics, "command    %s", record->command);
    rpo_metrics_log(metrics, "machine    %s, %d core%s, %d thread%s, %s", machine->cpu, machine->cores,
                    machine->cores == 1 ? "" : "s", record->threads, record->threads == 1 ? "" : "s",
                    machine->os);
}
