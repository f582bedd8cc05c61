/* logprob_case.c - reads one log-prob case. */
#include "host/cli/logprob_case.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "host/cli/case_command.h"

static const char *const case_keys[] = {"kind", "vocab", "lens", "average", "logits", "labels", "coef"};

/* The member, which must be a list; *length receives its number of items. */
static rpo_status get_list(const rpo_json *json, const char *key, const cJSON **list, int64_t *length) {
    const cJSON *root = rpo_json_root(json);
    *list = cJSON_GetObjectItemCaseSensitive(root, key);
    if (*list == NULL)
        return rpo_json_fault(json, root, key, "is missing; required");
    if (!cJSON_IsArray(*list))
        return rpo_json_fault(json, *list, key, "must be a list");
    *length = 0;
    for (const cJSON *item = (*list)->child; item != NULL; item = item->next)
        ++*length;
    return RPO_OK;
}

static bool is_integer(const cJSON *item, double low, double high) {
    return cJSON_IsNumber(item) && item->valuedouble == trunc(item->valuedouble) &&
           item->valuedouble >= low && item->valuedouble <= high;
}

/* lens: rows of each sequence, turned into cu_seqlens. */
static rpo_status read_lens(rpo_logprob_case *one, const rpo_json *json) {
    const cJSON *list = NULL;
    RPO_TRY(get_list(json, "lens", &list, &one->num_sequences));
    one->cu_seqlens = rpo_calloc_array((size_t)one->num_sequences + 1, sizeof *one->cu_seqlens);
    if (one->cu_seqlens == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    int64_t s = 0, rows = 0;
    for (const cJSON *item = list->child; item != NULL; item = item->next, ++s) {
        if (!is_integer(item, 0.0, (double)(INT32_MAX - rows)))
            return rpo_json_fault(json, item, "lens",
                                  "item %lld must be an integer >= 0, all together at most %d", (long long)s,
                                  INT32_MAX);
        rows += (int64_t)item->valuedouble;
        one->cu_seqlens[s + 1] = (int32_t)rows;
    }
    one->rows = rows;
    return RPO_OK;
}

static rpo_status read_labels(rpo_logprob_case *one, const rpo_json *json) {
    const cJSON *list = NULL;
    int64_t length = 0;
    RPO_TRY(get_list(json, "labels", &list, &length));
    if (length != one->rows)
        return rpo_json_fault(json, list, "labels", "has %lld items; must have %lld, the sum of lens",
                              (long long)length, (long long)one->rows);
    one->labels = rpo_calloc_array((size_t)length, sizeof *one->labels);
    if (one->labels == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    int64_t t = 0;
    for (const cJSON *item = list->child; item != NULL; item = item->next, ++t) {
        const bool ignored = is_integer(item, RPO_IGNORE_LABEL, RPO_IGNORE_LABEL);
        if (!ignored && !is_integer(item, 0.0, (double)(one->vocab_size - 1)))
            return rpo_json_fault(json, item, "labels", "item %lld must be an integer from 0 to %lld, or %d",
                                  (long long)t, (long long)(one->vocab_size - 1), RPO_IGNORE_LABEL);
        one->labels[t] = (int32_t)item->valuedouble;
    }
    return RPO_OK;
}

static rpo_status read_logit_row(float *row, const rpo_json *json, const cJSON *list, int64_t t) {
    int64_t v = 0;
    for (const cJSON *item = list->child; item != NULL; item = item->next, ++v) {
        if (!cJSON_IsNumber(item) || !(fabs(item->valuedouble) <= (double)FLT_MAX))
            return rpo_json_fault(json, item, "logits", "row %lld item %lld must be a number within +-%g",
                                  (long long)t, (long long)v, (double)FLT_MAX);
        row[v] = (float)item->valuedouble;
    }
    return RPO_OK;
}

/* Every row, before memory is asked for: there are then no more logits than the file holds. */
static rpo_status check_row_lengths(const rpo_json *json, const cJSON *list, int64_t vocab_size) {
    int64_t t = 0;
    for (const cJSON *row = list->child; row != NULL; row = row->next, ++t)
        if (!cJSON_IsArray(row) || cJSON_GetArraySize(row) != vocab_size)
            return rpo_json_fault(json, row, "logits",
                                  "row %lld must be a list of %lld numbers, the vocabulary", (long long)t,
                                  (long long)vocab_size);
    return RPO_OK;
}

static rpo_status read_logits(rpo_logprob_case *one, const rpo_json *json) {
    const cJSON *list = NULL;
    int64_t length = 0;
    RPO_TRY(get_list(json, "logits", &list, &length));
    if (length != one->rows)
        return rpo_json_fault(json, list, "logits", "has %lld rows; must have %lld, the sum of lens",
                              (long long)length, (long long)one->rows);
    RPO_TRY(check_row_lengths(json, list, one->vocab_size));
    one->logits = rpo_alloc_array((size_t)(length * one->vocab_size), sizeof *one->logits);
    if (one->logits == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    int64_t t = 0;
    for (const cJSON *row = list->child; row != NULL; row = row->next, ++t)
        RPO_TRY(read_logit_row(one->logits + t * one->vocab_size, json, row, t));
    return RPO_OK;
}

rpo_status rpo_logprob_case_read(rpo_logprob_case *one, const rpo_json *json) {
    *one = (rpo_logprob_case){0};
    const cJSON *root = rpo_json_root(json);
    const char *kind = NULL;
    RPO_TRY(rpo_case_check_keys(json, case_keys, sizeof case_keys / sizeof case_keys[0]));
    RPO_TRY(rpo_json_get_string(json, root, "kind", true, &kind));
    if (strcmp(kind, "logps") != 0)
        return rpo_json_fault(json, cJSON_GetObjectItemCaseSensitive(root, "kind"), "kind",
                              "is %s; must be logps (losses: rpo loss)", kind);
    RPO_TRY(rpo_json_get_int(json, root, "vocab", true, 1, INT32_MAX, &one->vocab_size));
    RPO_TRY(rpo_json_get_bool(json, root, "average", false, &one->average));
    RPO_TRY(read_lens(one, json));
    RPO_TRY(read_labels(one, json));
    RPO_TRY(read_logits(one, json));
    return rpo_json_get_floats(json, root, "coef", true, one->num_sequences, &one->coef, NULL);
}

void rpo_logprob_case_free(rpo_logprob_case *one) {
    rpo_free(one->coef);
    rpo_free(one->cu_seqlens);
    rpo_free(one->labels);
    rpo_free(one->logits);
    *one = (rpo_logprob_case){0};
}
