/* loss_kinds.h - what sets the loss kinds apart, one line each: the public functions, both backends and the host's
 * checks read it here. */
#ifndef RPO_KERNELS_API_LOSS_KINDS_H
#define RPO_KERNELS_API_LOSS_KINDS_H

#include <stdbool.h>

#include "rpo/loss.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rpo_loss_traits {
    const char *name;
    bool needs_embeddings;
    bool needs_pairs; /* m = n in every block */
    bool contrasts;   /* a pair's loss depends on other pairs of its block */
    bool over_matrix; /* a sum over all m x n pairs; otherwise over the diagonal or the two vectors */
    double (*at_start)(double beta); /* the loss where policy = reference; NULL where nothing fixes it */
} rpo_loss_traits;

/* NULL for a value that is no rpo_loss_kind. */
const rpo_loss_traits *rpo_loss_traits_of(rpo_loss_kind kind);

#ifdef __cplusplus
}
#endif
#endif
