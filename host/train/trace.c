/* trace.c - stamps to seconds by phase. */
#include "host/train/trace.h"

#include <stdio.h>
#include <stdlib.h>

#include "kernels/instrument.h"

static const char *const names[RPO_PHASES] = {
    [RPO_PHASE_UPLOAD] = "upload",     [RPO_PHASE_FORWARD] = "forward", [RPO_PHASE_CONTRAST] = "contrast",
    [RPO_PHASE_BACKWARD] = "backward", [RPO_PHASE_UPDATE] = "update",   [RPO_PHASE_DOWNLOAD] = "download",
};

void rpo_trace_open(rpo_trace *trace, rpo_context *context) {
    const char *asked = getenv("RPO_TRACE_STEP");
    *trace = (rpo_trace){.context = context, .enabled = asked != NULL && *asked != '\0' && *asked != '0'};
}

void rpo_trace_begin(rpo_trace *trace) {
    trace->used = 0;
    trace->started = trace->enabled ? rpo_now() : 0;
    if (trace->enabled)
        rpo_context_reset_counts(trace->context);
}

void rpo_trace_phase(rpo_trace *trace, rpo_phase phase) {
    const rpo_device_ops *ops = trace->context->backend->device_ops;
    if (!trace->enabled || trace->used == RPO_STAMP_SLOTS)
        return;
    if (trace->used == 0)
        trace->plan_seconds = rpo_now() - trace->started;
    else if (trace->phase_of[trace->used - 1] == phase)
        return;
    trace->phase_of[trace->used] = phase;
    if (ops->stamp(trace->context, trace->used) == RPO_OK)
        ++trace->used;
}

void rpo_trace_end(rpo_trace *trace, int64_t rows, int64_t tokens, int64_t micro_batches) {
    double seconds[RPO_PHASES] = {0};
    rpo_counts counts;
    if (!trace->enabled)
        return;
    for (int i = 0; i + 1 < trace->used; ++i) {
        double spent = 0;
        if (trace->context->backend->device_ops->stamp_seconds(trace->context, i, i + 1, &spent) == RPO_OK)
            seconds[trace->phase_of[i]] += spent;
    }
    (void)rpo_context_counts(trace->context, &counts); /* such a context is always instrumented */
    const rpo_op_counts ops = rpo_counts_of_ops(&counts);
    fprintf(stderr, "trace: plan %.2f ms", 1e3 * trace->plan_seconds);
    for (int phase = 0; phase + 1 < RPO_PHASES; ++phase)
        fprintf(stderr, ", %s %.2f", names[phase], 1e3 * seconds[phase]);
    fprintf(stderr,
            "; %lld rows of %lld tokens in %lld micro-batches; %lld ops, %lld launches, %lld copies in of "
            "%lld bytes, %lld "
            "out of %lld, %lld waits, %lld allocations\n",
            (long long)rows, (long long)tokens, (long long)micro_batches, (long long)ops.calls,
            (long long)ops.launches, (long long)counts.copies_in, (long long)counts.bytes_in,
            (long long)counts.copies_out, (long long)counts.bytes_out, (long long)counts.waits,
            (long long)counts.allocations);
}

void rpo_trace_say(const rpo_trace *trace, const char *text) {
    if (trace->enabled && text != NULL)
        fprintf(stderr, "%s", text);
}
