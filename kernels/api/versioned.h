/*
 * versioned.h - structs that cross the ABI, taken from a caller of any version.
 *
 * What a struct gains it gains at its end, at or beyond the sizeof of the version before, and 0 (or the default of
 * its initializer) means "as before". So a smaller struct is complete with defaults, and a larger one means what we
 * know of it as long as the rest is zero.
 */
#ifndef RPO_KERNELS_API_VERSIONED_H
#define RPO_KERNELS_API_VERSIONED_H

#include <stddef.h>

#include "rpo/rpo.h"

/* The size of each struct in the first version with it; sizeof where it has not grown since. */
enum {
    RPO_CONTEXT_OPTIONS_FIRST = sizeof(rpo_context_options),
    RPO_LOSS_OPTIONS_FIRST = sizeof(rpo_loss_options),
    RPO_CONTRAST_INPUTS_FIRST = offsetof(rpo_contrast_inputs, chosen_bounds), /* 0.1 */
    RPO_CONTRAST_OUTPUTS_FIRST = sizeof(rpo_contrast_outputs),
    RPO_SIMILARITY_INPUTS_FIRST = sizeof(rpo_similarity_inputs),
    RPO_LOGPROB_SHAPE_FIRST = sizeof(rpo_logprob_shape),
    RPO_LOGPROB_INPUTS_FIRST = sizeof(rpo_logprob_inputs),
    RPO_LOGPROB_OUTPUTS_FIRST = sizeof(rpo_logprob_outputs),
    RPO_LINEAR_LOGPROB_SHAPE_FIRST = sizeof(rpo_linear_logprob_shape),
    RPO_LINEAR_LOGPROB_INPUTS_FIRST = sizeof(rpo_linear_logprob_inputs),
    RPO_LINEAR_LOGPROB_SAVED_FIRST = sizeof(rpo_linear_logprob_saved),
    RPO_LINEAR_LOGPROB_OUTPUTS_FIRST = sizeof(rpo_linear_logprob_outputs),
    RPO_LINEAR_LOGPROB_GRADIENTS_FIRST = sizeof(rpo_linear_logprob_gradients)
};

/*
 * ours    in/out, this version's struct of `size` bytes with its defaults; receives what the caller has set
 * first   bytes of the struct's first version
 * theirs  in, the caller's struct, which begins with its size
 * name    of the parameter, for messages
 * Errors: INVALID_ARGUMENT when theirs is NULL, smaller than the first version, or larger than ours and not zero
 * beyond it.
 */
rpo_status rpo_versioned_take(void *ours, size_t size, size_t first, const void *theirs, const char *name);

#endif
