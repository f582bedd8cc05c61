/* reference.c - the reference pass: what is known, what is missing, in which parts it is computed. */
#include "host/train/reference.h"

#include <math.h>
#include <stdlib.h>

#include "core/signals.h"
#include "host/train/evaluate.h"
#include "host/train/reference_cache.h"

enum { SAMPLE_SIZE = 8 };
static const double seconds_between_saves = 10;

/* A pass under way. */
typedef struct pass {
    const rpo_reference *reference;
    rpo_scores *scores;
    const char *path; /* of the cache; NULL = none */
    double saved;     /* when */
    bool warned;      /* that the cache cannot be written */
} pass;

static const rpo_dataset *dataset_of(const rpo_reference *reference) {
    return reference->scoring.dataset;
}

static void set_unknown(rpo_scores *scores) {
    for (int64_t i = 0; i < scores->count; ++i)
        scores->chosen[i] = scores->rejected[i] = NAN;
}

/* A side that a record lacks is never asked for. */
static bool is_known(const rpo_scores *scores, const rpo_dataset *dataset, int64_t i) {
    const rpo_record *record = rpo_dataset_record(dataset, i);
    return (record->chosen.tokens == NULL || isfinite(scores->chosen[i])) &&
           (record->rejected.tokens == NULL || isfinite(scores->rejected[i]));
}

/* ---- the cache ---- */

/* Rank 0 reads; the others get what it found. */
static rpo_status load_shared(const pass *at) {
    rpo_comm *comm = at->reference->scoring.comm;
    rpo_scores *scores = at->scores;
    rpo_status status = RPO_OK;
    if (comm->rank == 0 && rpo_path_exists(at->path)) {
        status = rpo_reference_cache_read(scores, at->path);
        if (status == RPO_ERROR_INVALID_INPUT) { /* damaged; any other failure is no verdict on the file */
            rpo_metrics_warn(at->reference->metrics, "%s; computing the reference log-probs again",
                             rpo_last_error());
            set_unknown(scores);
            status = RPO_OK;
        }
    }
    RPO_TRY(rpo_comm_agree(comm, status));
    const size_t bytes = (size_t)scores->count * sizeof(float);
    RPO_TRY(comm->ops->broadcast(comm, scores->chosen, bytes, 0));
    return comm->ops->broadcast(comm, scores->rejected, bytes, 0);
}

/* A cache that cannot be written costs the next run some time and is no reason to stop this one. */
static void save(pass *at) {
    at->saved = rpo_now();
    if (at->path == NULL || at->reference->scoring.comm->rank != 0 || at->warned)
        return;
    if (rpo_reference_cache_write(at->scores, at->reference->cache_folder, at->path) == RPO_OK)
        return;
    rpo_metrics_warn(at->reference->metrics, "%s; the reference log-probs are not cached", rpo_last_error());
    at->warned = true;
}

/* ---- computing ---- */

static rpo_status keep_part(void *user, const rpo_global_batch *batch, const float *logps) {
    pass *at = user;
    rpo_scores_keep(at->scores, batch, logps);
    if (rpo_now() - at->saved > seconds_between_saves)
        save(at);
    return RPO_OK;
}

static rpo_status keep_sample(void *user, const rpo_global_batch *batch, const float *logps) {
    rpo_scores_keep(user, batch, logps);
    return RPO_OK;
}

static int compare_records(const void *a, const void *b) {
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* A log-prob computed in another packing differs by rounding only: far less than this. */
static bool same_logp(float cached, float computed) {
    return fabs((double)cached - (double)computed) <= 1e-4 * (1.0 + fabs((double)computed));
}

/* Computes a random sample again: a cache of another model or other code does not get past it. */
static rpo_status verify_sample(const pass *at, const int64_t *known, int64_t count, bool *same) {
    const uint64_t stream = rpo_random_stream(RPO_RANDOM_REFERENCE_SAMPLE, 0);
    int64_t sample[SAMPLE_SIZE];
    const int64_t rows = count < SAMPLE_SIZE ? count : SAMPLE_SIZE;
    rpo_scores computed = {0};
    for (int64_t i = 0; i < rows; ++i)
        sample[i] = known[rpo_random_u64(at->reference->seed, stream, (uint64_t)i) % (uint64_t)count];
    qsort(sample, (size_t)rows, sizeof sample[0], compare_records);
    *same = true;
    RPO_TRY(rpo_scores_create(&computed, at->scores->count));
    const rpo_status status =
        rpo_score_records(&at->reference->scoring, sample, rows, keep_sample, &computed, NULL, "");
    for (int64_t i = 0; i < rows && status == RPO_OK; ++i) {
        const rpo_record *record = rpo_dataset_record(dataset_of(at->reference), sample[i]);
        if (record->chosen.tokens != NULL)
            *same = *same && same_logp(at->scores->chosen[sample[i]], computed.chosen[sample[i]]);
        if (record->rejected.tokens != NULL)
            *same = *same && same_logp(at->scores->rejected[sample[i]], computed.rejected[sample[i]]);
    }
    rpo_scores_free(&computed);
    return status;
}

/* Splits `records` into those that are known and, by whole batches, those that must be computed. */
static void split(const pass *at, const int64_t *records, int64_t count, int64_t *known, int64_t *num_known,
                  int64_t *missing, int64_t *num_missing) {
    const int64_t step = at->reference->scoring.rows_at_once;
    *num_known = *num_missing = 0;
    for (int64_t first = 0; first < count; first += step) {
        const int64_t end = count - first < step ? count : first + step;
        bool whole = true;
        for (int64_t i = first; i < end; ++i)
            whole = whole && is_known(at->scores, dataset_of(at->reference), records[i]);
        for (int64_t i = first; i < end; ++i)
            if (whole)
                known[(*num_known)++] = records[i];
            else
                missing[(*num_missing)++] = records[i];
    }
}

static rpo_status compute(pass *at, const int64_t *missing, int64_t count) {
    if (count == 0)
        return RPO_OK;
    at->saved = rpo_now();
    const rpo_status status = rpo_score_records(&at->reference->scoring, missing, count, keep_part, at,
                                                at->reference->metrics, "reference");
    if (status == RPO_OK || status == RPO_ERROR_INTERRUPTED) {
        save(at);
        if (status == RPO_ERROR_INTERRUPTED) /* saving may have set another message */
            (void)rpo_signals_check();
    }
    return status;
}

static rpo_status compute_or_load(pass *at, rpo_reference_report *report, const int64_t *records,
                                  int64_t count, int64_t *known, int64_t *missing) {
    int64_t num_known = 0, num_missing = 0;
    bool same = true;
    if (at->path != NULL)
        RPO_TRY(load_shared(at));
    split(at, records, count, known, &num_known, missing, &num_missing);
    if (num_known > 0)
        RPO_TRY(verify_sample(at, known, num_known, &same));
    if (!same) {
        rpo_metrics_warn(at->reference->metrics,
                         "%s: a sample of its log-probs computes to others; computing all of them again",
                         at->path);
        if (at->reference->scoring.comm->rank == 0)
            RPO_TRY(rpo_remove_tree(at->path)); /* nothing of it may be merged in */
        set_unknown(at->scores);
        split(at, records, count, known, &num_known, missing, &num_missing);
    }
    *report = (rpo_reference_report){.from_cache = num_known, .computed = num_missing};
    return compute(at, missing, num_missing);
}

static rpo_status run_pass(pass *at, rpo_reference_report *report, const int64_t *records, int64_t count) {
    int64_t *all = rpo_alloc_array((size_t)count, sizeof *all);
    int64_t *known = rpo_alloc_array((size_t)count, sizeof *known);
    int64_t *missing = rpo_alloc_array((size_t)count, sizeof *missing);
    rpo_status status = all != NULL && known != NULL && missing != NULL ? RPO_OK : RPO_ERROR_OUT_OF_MEMORY;
    for (int64_t i = 0; i < count && status == RPO_OK; ++i)
        all[i] = records != NULL ? records[i] : i;
    if (status == RPO_OK)
        status = compute_or_load(at, report, all, count, known, missing);
    rpo_free(missing);
    rpo_free(known);
    rpo_free(all);
    return status;
}

rpo_status rpo_reference_scores(rpo_scores *scores, rpo_reference_report *report,
                                const rpo_reference *reference, const int64_t *records, int64_t count) {
    char *path = NULL;
    if (reference->cache_folder != NULL) {
        path = rpo_reference_cache_path(reference->cache_folder, reference->model_hash,
                                        rpo_dataset_hash(dataset_of(reference)));
        if (path == NULL)
            return RPO_ERROR_OUT_OF_MEMORY;
    }
    rpo_status status = rpo_scores_create(scores, rpo_dataset_size(dataset_of(reference)));
    if (status == RPO_OK) {
        pass at = {.reference = reference, .scores = scores, .path = path};
        set_unknown(scores);
        status = run_pass(&at, report, records, records != NULL ? count : scores->count);
    }
    if (status != RPO_OK)
        rpo_scores_free(scores);
    rpo_free(path);
    return status;
}
