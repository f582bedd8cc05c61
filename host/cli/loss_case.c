/* loss_case.c - reads one loss case. */
#include "host/cli/loss_case.h"

#include <float.h>
#include <math.h>

#include "host/cli/case_command.h"

static const char *const case_keys[] = {"kind",
                                        "m",
                                        "n",
                                        "dim",
                                        "beta",
                                        "tau",
                                        "diagonal_weight",
                                        "epsilon",
                                        "policy_chosen_logps",
                                        "policy_rejected_logps",
                                        "reference_chosen_logps",
                                        "reference_rejected_logps",
                                        "emb_chosen",
                                        "emb_rejected"};

static rpo_status read_kind(rpo_loss_kind *kind, const rpo_json *json) {
    const cJSON *root = rpo_json_root(json);
    const char *name = NULL;
    RPO_TRY(rpo_json_get_string(json, root, "kind", true, &name));
    if (rpo_loss_kind_from_name(kind, name) != RPO_OK)
        return rpo_json_fault(json, cJSON_GetObjectItemCaseSensitive(root, "kind"), "kind", "%s",
                              rpo_last_error());
    return RPO_OK;
}

/* A number > 0 that stays so as a float32. */
static rpo_status read_positive(float *value, const rpo_json *json, const char *key, bool required) {
    const cJSON *root = rpo_json_root(json);
    double number = (double)*value;
    RPO_TRY(rpo_json_get_double(json, root, key, required, -INFINITY, INFINITY, &number));
    if (!(number > 0.0 && number <= (double)FLT_MAX && (float)number > 0.0f))
        return rpo_json_fault(json, cJSON_GetObjectItemCaseSensitive(root, key), key,
                              "is %g; must be > 0 and within float32", number);
    *value = (float)number;
    return RPO_OK;
}

static rpo_status read_share(float *value, const rpo_json *json, const char *key, double high) {
    double number = (double)*value;
    RPO_TRY(rpo_json_get_double(json, rpo_json_root(json), key, true, 0.0, high, &number));
    *value = (float)number;
    return RPO_OK;
}

/* Options that the kind does not read may be null, absent or anything. */
static rpo_status read_options(rpo_loss_options *options, const rpo_json *json) {
    *options = (rpo_loss_options)RPO_LOSS_OPTIONS_INIT;
    RPO_TRY(read_kind(&options->kind, json));
    RPO_TRY(read_positive(&options->beta, json, "beta", options->kind != RPO_LOSS_SFT));
    if (rpo_loss_kind_needs_embeddings(options->kind))
        RPO_TRY(read_positive(&options->tau, json, "tau", true));
    if (options->kind == RPO_LOSS_RPO_DIAGONAL)
        RPO_TRY(read_share(&options->diagonal_weight, json, "diagonal_weight", 1.0));
    if (options->kind == RPO_LOSS_CDPO)
        RPO_TRY(read_share(&options->epsilon, json, "epsilon", 0.5));
    return RPO_OK;
}

static rpo_status read_embedding(float *row, const rpo_json *json, const char *key, const cJSON *list,
                                 int64_t i, int64_t dim) {
    int64_t k = 0;
    const cJSON *item = cJSON_IsArray(list) ? list->child : NULL;
    for (; item != NULL && k < dim; item = item->next, ++k) {
        if (!cJSON_IsNumber(item) || !(fabs(item->valuedouble) <= (double)FLT_MAX))
            return rpo_json_fault(json, item, key, "row %lld item %lld must be a number within +-%g",
                                  (long long)i, (long long)k, (double)FLT_MAX);
        row[k] = (float)item->valuedouble;
    }
    if (k != dim || item != NULL)
        return rpo_json_fault(json, list, key, "row %lld must be a list of %lld numbers, dim", (long long)i,
                              (long long)dim);
    return RPO_OK;
}

static rpo_status read_embeddings(float **rows, const rpo_json *json, const char *key, int64_t count,
                                  int64_t dim) {
    const cJSON *root = rpo_json_root(json);
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(root, key);
    if (list == NULL || cJSON_IsNull(list))
        return rpo_json_fault(json, list != NULL ? list : root, key,
                              "is missing; this kind needs embeddings");
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) != count)
        return rpo_json_fault(json, list, key, "must be a list of %lld rows", (long long)count);
    /* Only as much as the file can hold: the first row bounds the others before anything is allocated. */
    if (count > 0 && cJSON_GetArraySize(list->child) != dim)
        return rpo_json_fault(json, list->child, key, "row 0 must be a list of %lld numbers, dim",
                              (long long)dim);
    *rows = rpo_alloc_array((size_t)count * (size_t)dim, sizeof **rows);
    if (*rows == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    int64_t i = 0;
    for (const cJSON *row = list->child; row != NULL; row = row->next, ++i)
        RPO_TRY(read_embedding(*rows + i * dim, json, key, row, i, dim));
    return RPO_OK;
}

rpo_status rpo_loss_case_read(rpo_loss_case *one, const rpo_json *json) {
    *one = (rpo_loss_case){0};
    const cJSON *root = rpo_json_root(json);
    RPO_TRY(rpo_case_check_keys(json, case_keys, sizeof case_keys / sizeof case_keys[0]));
    RPO_TRY(read_options(&one->options, json));
    const rpo_loss_kind kind = one->options.kind;
    const bool embeddings = rpo_loss_kind_needs_embeddings(kind) != 0;

    RPO_TRY(rpo_json_get_int(json, root, "m", true, 0, INT32_MAX, &one->m));
    RPO_TRY(rpo_json_get_int(json, root, "n", true, 0, INT32_MAX, &one->n));
    RPO_TRY(rpo_json_get_int(json, root, "dim", embeddings, embeddings ? 1 : 0, INT32_MAX, &one->dim));
    if (rpo_loss_kind_needs_pairs(kind) && one->m != one->n)
        return rpo_json_fault(json, cJSON_GetObjectItemCaseSensitive(root, "n"), "n",
                              "is %lld; %s needs as many as m, %lld", (long long)one->n,
                              rpo_loss_kind_name(kind), (long long)one->m);

    RPO_TRY(rpo_json_get_floats(json, root, "policy_chosen_logps", true, one->m, &one->policy_chosen_logps,
                                NULL));
    RPO_TRY(rpo_json_get_floats(json, root, "policy_rejected_logps", true, one->n,
                                &one->policy_rejected_logps, NULL));
    RPO_TRY(rpo_json_get_floats(json, root, "reference_chosen_logps", true, one->m,
                                &one->reference_chosen_logps, NULL));
    RPO_TRY(rpo_json_get_floats(json, root, "reference_rejected_logps", true, one->n,
                                &one->reference_rejected_logps, NULL));
    if (!embeddings)
        return RPO_OK;
    RPO_TRY(read_embeddings(&one->chosen_embeddings, json, "emb_chosen", one->m, one->dim));
    return read_embeddings(&one->rejected_embeddings, json, "emb_rejected", one->n, one->dim);
}

void rpo_loss_case_free(rpo_loss_case *one) {
    rpo_free(one->rejected_embeddings);
    rpo_free(one->chosen_embeddings);
    rpo_free(one->reference_rejected_logps);
    rpo_free(one->policy_rejected_logps);
    rpo_free(one->reference_chosen_logps);
    rpo_free(one->policy_chosen_logps);
    *one = (rpo_loss_case){0};
}
