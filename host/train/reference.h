/*
 * reference.h - log-probs under the frozen model: computed once, for the records that will be visited, kept in a cache
 * that all runs of the same model and data share, spot-checked when reused.
 */
#ifndef RPO_HOST_TRAIN_REFERENCE_H
#define RPO_HOST_TRAIN_REFERENCE_H

#include "host/metrics/metrics.h"
#include "host/train/objective.h"

typedef struct rpo_reference {
    rpo_objective scoring;    /* scores_only: the frozen model and the data */
    const char *model_hash;   /* rpo_model_hash of it */
    const char *cache_folder; /* NULL = no cache */
    uint64_t seed;            /* of the sample that is checked */
    rpo_metrics *metrics;
} rpo_reference;

typedef struct rpo_reference_report {
    int64_t from_cache, computed; /* records */
} rpo_reference_report;

/*
 * Log-probs of both sides of `count` records, in batches of scoring.rows_at_once as they come (NULL: all of the dataset, in
 * its order). `scores` is created here; what it holds of other records is unspecified.
 *
 * The cache, CACHE/reference-HASH.bin, is named after model and data. It may hold a part of the records: what is missing
 * is computed and added, in parts, so that an interrupted pass goes on where it was. Parts are always the same batches of
 * the same list, so the values do not depend on interruptions; from a run that made other batches they may differ by
 * rounding. A file that is damaged, or a random sample of which
 * computes to other values, is replaced with a warning.
 */
rpo_status rpo_reference_scores(rpo_scores *scores, rpo_reference_report *report,
                                const rpo_reference *reference, const int64_t *records, int64_t count);

#endif
