/* loss_kinds.c - the table of loss kinds and the public functions that read it. */
#include "kernels/api/loss_kinds.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/error.h"
#include "kernels/api/logprob_check.h"
#include "kernels/api/versioned.h"

/* -log sigmoid(0), whatever it is weighted with. */
static double log_sigmoid_at_start(double beta) {
    (void)beta;
    return log(2.0);
}

static double ipo_at_start(double beta) {
    return 1.0 / (4.0 * beta * beta);
}

/* 1 - sigmoid(0). */
static double kto_at_start(double beta) {
    (void)beta;
    return 0.5;
}

static const rpo_loss_traits kinds[RPO_LOSS_KIND_COUNT] = {
    /* name, needs_embeddings, needs_pairs, contrasts, over_matrix, at_start */
    [RPO_LOSS_RPO_PAIRED] = {"rpo-paired", true, true, true, true, log_sigmoid_at_start},
    [RPO_LOSS_RPO_UNPAIRED] = {"rpo-unpaired", true, false, true, true, log_sigmoid_at_start},
    [RPO_LOSS_RPO_UNIFORM] = {"rpo-uniform", false, false, true, true, log_sigmoid_at_start},
    [RPO_LOSS_RPO_DIAGONAL] = {"rpo-diagonal", false, true, true, true, log_sigmoid_at_start},
    [RPO_LOSS_DPO] = {"dpo", false, true, false, false, log_sigmoid_at_start},
    [RPO_LOSS_CDPO] = {"cdpo", false, true, false, false, log_sigmoid_at_start},
    [RPO_LOSS_IPO] = {"ipo", false, true, false, false, ipo_at_start},
    [RPO_LOSS_KTO_SIMPLE] = {"kto-simple", false, false, true, false, kto_at_start},
    [RPO_LOSS_SFT] = {"sft", false, false, false, false, NULL},
};

const rpo_loss_traits *rpo_loss_traits_of(rpo_loss_kind kind) {
    return (unsigned)kind < RPO_LOSS_KIND_COUNT ? &kinds[kind] : NULL;
}

const char *rpo_loss_kind_name(rpo_loss_kind kind) {
    const rpo_loss_traits *traits = rpo_loss_traits_of(kind);
    return traits != NULL ? traits->name : NULL;
}

/* "rpo-paired, rpo-unpaired, ..." */
static void list_names(char *text, size_t size) {
    size_t used = 0;
    for (int k = 0; k < RPO_LOSS_KIND_COUNT && used < size; ++k)
        used += (size_t)snprintf(text + used, size - used, "%s%s", k > 0 ? ", " : "", kinds[k].name);
}

rpo_status rpo_loss_kind_from_name(rpo_loss_kind *kind, const char *name) {
    const rpo_pointer_check pointers[] = {{"kind", kind, true}, {"name", name, true}};
    RPO_TRY(rpo_check_pointers(pointers, sizeof pointers / sizeof pointers[0]));
    for (int k = 0; k < RPO_LOSS_KIND_COUNT; ++k)
        if (strcmp(kinds[k].name, name) == 0) {
            *kind = (rpo_loss_kind)k;
            return RPO_OK;
        }
    char names[256];
    list_names(names, sizeof names);
    return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT, "loss kind: is \"%.64s\"; must be one of %s", name,
                         names);
}

int rpo_loss_kind_needs_embeddings(rpo_loss_kind kind) {
    const rpo_loss_traits *traits = rpo_loss_traits_of(kind);
    return traits != NULL && traits->needs_embeddings;
}

int rpo_loss_kind_needs_pairs(rpo_loss_kind kind) {
    const rpo_loss_traits *traits = rpo_loss_traits_of(kind);
    return traits != NULL && traits->needs_pairs;
}

int rpo_loss_kind_contrasts(rpo_loss_kind kind) {
    const rpo_loss_traits *traits = rpo_loss_traits_of(kind);
    return traits != NULL && traits->contrasts;
}

double rpo_loss_at_start(const rpo_loss_options *options) {
    rpo_loss_options taken = RPO_LOSS_OPTIONS_INIT;
    if (rpo_versioned_take(&taken, sizeof taken, RPO_LOSS_OPTIONS_FIRST, options, "options") != RPO_OK)
        return NAN;
    const rpo_loss_traits *traits = rpo_loss_traits_of(taken.kind);
    return traits != NULL && traits->at_start != NULL ? traits->at_start((double)taken.beta) : NAN;
}
