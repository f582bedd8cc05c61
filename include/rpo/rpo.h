/*
 * rpo.h - the whole public interface of librpo: Relative Preference Optimization (Yin et al. 2024,
 * arXiv 2402.10958) as ops for pipelines of one's own.
 */
#ifndef RPO_RPO_H
#define RPO_RPO_H

#include "rpo/context.h"
#include "rpo/linear_logprob.h"
#include "rpo/logprob.h"
#include "rpo/loss.h"
#include "rpo/similarity.h"
#include "rpo/status.h"

#endif
