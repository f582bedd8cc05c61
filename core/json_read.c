/* json_read.c - typed readers of object members. */
#include <float.h>
#include <math.h>

#include "core/json.h"

/* Integers beyond this are not exact as a double, so they are refused rather than rounded. */
static const double max_exact_integer = 9007199254740991.0; /* 2^53 - 1 */

/* *node is the member, or NULL when it is absent (or null) and need not be there. */
static rpo_status find_member(const rpo_json *json, const cJSON *object, const char *key, bool required,
                              const cJSON **node) {
    *node = NULL;
    if (!cJSON_IsObject(object))
        return rpo_json_fault(json, object, key,
                              "is looked for in something that is no object; must be an object");
    const cJSON *member = cJSON_GetObjectItemCaseSensitive(object, key);
    if (member != NULL && !cJSON_IsNull(member))
        *node = member;
    else if (required)
        return rpo_json_fault(json, member != NULL ? member : object, key, "is missing; required");
    return RPO_OK;
}

rpo_status rpo_json_get_double(const rpo_json *json, const cJSON *object, const char *key, bool required,
                               double low, double high, double *value) {
    const cJSON *node = NULL;
    RPO_TRY(find_member(json, object, key, required, &node));
    if (node == NULL)
        return RPO_OK;
    if (!cJSON_IsNumber(node))
        return rpo_json_fault(json, node, key, "must be a number");
    if (!(node->valuedouble >= low && node->valuedouble <= high)) {
        if (isinf(high))
            return rpo_json_fault(json, node, key, "is %g; must be at least %g", node->valuedouble, low);
        return rpo_json_fault(json, node, key, "is %g; must be from %g to %g", node->valuedouble, low, high);
    }
    *value = node->valuedouble;
    return RPO_OK;
}

rpo_status rpo_json_get_int(const rpo_json *json, const cJSON *object, const char *key, bool required,
                            int64_t low, int64_t high, int64_t *value) {
    const cJSON *node = NULL;
    RPO_TRY(find_member(json, object, key, required, &node));
    if (node == NULL)
        return RPO_OK;
    if (!cJSON_IsNumber(node) || node->valuedouble != trunc(node->valuedouble))
        return rpo_json_fault(json, node, key, "must be an integer");
    if (fabs(node->valuedouble) > max_exact_integer)
        return rpo_json_fault(json, node, key, "is %.17g; integers must lie within +-%.0f", node->valuedouble,
                              max_exact_integer);
    const int64_t integer = (int64_t)node->valuedouble;
    if (integer < low || integer > high)
        return rpo_json_fault(json, node, key, "is %lld; must be from %lld to %lld", (long long)integer,
                              (long long)low, (long long)high);
    *value = integer;
    return RPO_OK;
}

rpo_status rpo_json_get_bool(const rpo_json *json, const cJSON *object, const char *key, bool required,
                             bool *value) {
    const cJSON *node = NULL;
    RPO_TRY(find_member(json, object, key, required, &node));
    if (node == NULL)
        return RPO_OK;
    if (!cJSON_IsBool(node))
        return rpo_json_fault(json, node, key, "must be true or false");
    *value = cJSON_IsTrue(node) != 0;
    return RPO_OK;
}

rpo_status rpo_json_get_string(const rpo_json *json, const cJSON *object, const char *key, bool required,
                               const char **value) {
    const cJSON *node = NULL;
    RPO_TRY(find_member(json, object, key, required, &node));
    if (node == NULL)
        return RPO_OK;
    if (!cJSON_IsString(node))
        return rpo_json_fault(json, node, key, "must be a string");
    *value = node->valuestring;
    return RPO_OK;
}

rpo_status rpo_json_get_floats(const rpo_json *json, const cJSON *object, const char *key, bool required,
                               int64_t count, float **values, int64_t *length) {
    const cJSON *node = NULL;
    RPO_TRY(find_member(json, object, key, required, &node));
    if (node == NULL)
        return RPO_OK;
    if (!cJSON_IsArray(node))
        return rpo_json_fault(json, node, key, "must be a list of numbers");
    int64_t found = 0;
    for (const cJSON *item = node->child; item != NULL; item = item->next)
        ++found;
    if (count >= 0 && found != count)
        return rpo_json_fault(json, node, key, "has %lld numbers; must have %lld", (long long)found,
                              (long long)count);
    float *numbers = rpo_alloc_array((size_t)found, sizeof *numbers);
    if (numbers == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    int64_t at = 0;
    for (const cJSON *item = node->child; item != NULL; item = item->next, ++at) {
        if (!cJSON_IsNumber(item) || !(fabs(item->valuedouble) <= FLT_MAX)) {
            rpo_free(numbers);
            return rpo_json_fault(json, item, key, "item %lld must be a number within +-%g", (long long)at,
                                  (double)FLT_MAX);
        }
        numbers[at] = (float)item->valuedouble;
    }
    *values = numbers;
    if (length != NULL)
        *length = found;
    return RPO_OK;
}
