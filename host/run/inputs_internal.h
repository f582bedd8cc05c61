/* inputs_internal.h - between the files that load what a run works on. */
#ifndef RPO_HOST_RUN_INPUTS_INTERNAL_H
#define RPO_HOST_RUN_INPUTS_INTERNAL_H

#include "host/run/inputs.h"

/* inputs_model.c: the policy with its memory, weights and hash. */
rpo_status rpo_inputs_open_model(rpo_inputs *inputs, rpo_inputs_use use);

#endif
