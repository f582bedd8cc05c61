/* instrument.c - attaching the counter to a context, and what it counted. */
#include "kernels/instrument.h"

#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "kernels/guard.h"

static const char *const names[RPO_COUNTED_OPS] = {
    [RPO_COUNTED_PROMPT_SIMILARITY] = "prompt_similarity",
    [RPO_COUNTED_CONTRAST_WEIGHTS] = "contrast_weights",
    [RPO_COUNTED_CONTRAST_LOSS] = "contrast_loss",
    [RPO_COUNTED_LOGPROB_GATHER] = "logprob_gather",
    [RPO_COUNTED_LOGPROB_GATHER_BACKWARD] = "logprob_gather_backward",
    [RPO_COUNTED_LINEAR_LOGPROB] = "linear_logprob",
    [RPO_COUNTED_LINEAR_LOGPROB_BACKWARD] = "linear_logprob_backward",
    [RPO_COUNTED_EMBEDDING] = "embedding",
    [RPO_COUNTED_EMBEDDING_BACKWARD] = "embedding_backward",
    [RPO_COUNTED_RMSNORM] = "rmsnorm",
    [RPO_COUNTED_RMSNORM_BACKWARD] = "rmsnorm_backward",
    [RPO_COUNTED_ROPE_TABLE] = "rope_table",
    [RPO_COUNTED_ROPE] = "rope",
    [RPO_COUNTED_ATTENTION] = "attention",
    [RPO_COUNTED_ATTENTION_BACKWARD] = "attention_backward",
    [RPO_COUNTED_SWIGLU] = "swiglu",
    [RPO_COUNTED_SWIGLU_BACKWARD] = "swiglu_backward",
    [RPO_COUNTED_LINEAR] = "linear",
    [RPO_COUNTED_LINEAR_BACKWARD_INPUT] = "linear_backward_input",
    [RPO_COUNTED_LINEAR_BACKWARD_WEIGHT] = "linear_backward_weight",
    [RPO_COUNTED_TAKE] = "take",
    [RPO_COUNTED_GRAD_NORM] = "grad_norm",
    [RPO_COUNTED_ADAMW] = "adamw",
    [RPO_COUNTED_RMSPROP] = "rmsprop",
};

const char *rpo_counted_op_name(rpo_counted_op op) {
    return names[op];
}

bool rpo_context_counts(const rpo_context *context, rpo_counts *counts) {
    if (context->instrument == NULL)
        *counts = (rpo_counts){0};
    else
        *counts = context->instrument->counts;
    return context->instrument != NULL;
}

void rpo_context_reset_counts(rpo_context *context) {
    if (context->instrument != NULL)
        context->instrument->counts = (rpo_counts){0};
}

rpo_op_counts rpo_counts_of_ops(const rpo_counts *counts) {
    rpo_op_counts sum = {0};
    for (int op = 0; op < RPO_COUNTED_OPS; ++op) {
        sum.calls += counts->ops[op].calls;
        sum.launches += counts->ops[op].launches;
    }
    return sum;
}

static bool is_wanted(void) {
#if defined(RPO_GUARDS_MEMORY)
    return true;
#else
    const char *value = getenv("RPO_TRACE_STEP");
    return value != NULL && value[0] != '\0' && strcmp(value, "0") != 0;
#endif
}

rpo_status rpo_instrument_attach(rpo_context *context) {
    if (!is_wanted())
        return RPO_OK;
    rpo_instrument *instrument = calloc(1, sizeof *instrument);
    if (instrument == NULL)
        return rpo_error_set(RPO_ERROR_OUT_OF_MEMORY, "context: no memory for %zu bytes", sizeof *instrument);
    instrument->inner = context->backend;
    instrument->table = *context->backend;
    rpo_instrument_preference_ops(instrument);
    rpo_instrument_model_ops(instrument);
    rpo_instrument_optimizer_ops(instrument);
    rpo_instrument_device_ops(instrument);
    context->instrument = instrument;
    context->backend = &instrument->table;
    return RPO_OK;
}

void rpo_instrument_detach(rpo_context *context) {
    if (context->instrument == NULL)
        return;
    context->backend = context->instrument->inner;
    free(context->instrument);
    context->instrument = NULL;
}

void rpo_instrument_enter(rpo_context *context, rpo_counted_op op) {
    rpo_instrument *instrument = context->instrument;
    ++instrument->counts.ops[op].calls;
    instrument->launches_before = context->launches;
    instrument->inner->device_ops->range_push(context, names[op]);
    rpo_guard_open();
}

rpo_status rpo_instrument_leave(rpo_context *context, rpo_counted_op op, rpo_status status) {
    rpo_instrument *instrument = context->instrument;
    rpo_guard_close();
    instrument->inner->device_ops->range_pop(context);
    instrument->counts.ops[op].launches += context->launches - instrument->launches_before;
    return status;
}
