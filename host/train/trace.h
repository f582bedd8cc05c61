/*
 * trace.h - RPO_TRACE_STEP=1: after every step a line on stderr with the phases' device time, what was forwarded, and how
 * often the host launched, copied and waited. Without the variable nothing is measured.
 */
#ifndef RPO_HOST_TRAIN_TRACE_H
#define RPO_HOST_TRAIN_TRACE_H

#include "core/core.h"
#include "kernels/op_table.h"

typedef enum rpo_phase {
    RPO_PHASE_UPLOAD,
    RPO_PHASE_FORWARD,
    RPO_PHASE_CONTRAST,
    RPO_PHASE_BACKWARD,
    RPO_PHASE_UPDATE,
    RPO_PHASE_DOWNLOAD,
    RPO_PHASES
} rpo_phase;

typedef struct rpo_trace {
    rpo_context *context;
    bool enabled;
    int used;                            /* stamps of the step so far */
    rpo_phase phase_of[RPO_STAMP_SLOTS]; /* that begins at a stamp */
    double plan_seconds, started;        /* of the host, before the upload */
} rpo_trace;

void rpo_trace_open(rpo_trace *trace, rpo_context *context);

/* A step begins: the host plans. */
void rpo_trace_begin(rpo_trace *trace);

/* What is enqueued from here on belongs to `phase`. Where a step has more turns than there are stamps, the last phase
 * that found one takes the rest. */
void rpo_trace_phase(rpo_trace *trace, rpo_phase phase);

/* Prints the line; the context has been waited for. */
void rpo_trace_end(rpo_trace *trace, int64_t rows, int64_t tokens, int64_t micro_batches);

/* Lines of `text`, before the first step: what the memory consists of. */
void rpo_trace_say(const rpo_trace *trace, const char *text);

#endif
