/*
 * test_oracle_logprob.c - the log-prob cases of the shared golden values (float64, autograd), within 1e-5 of
 * the larger of 1 and the case's largest value. Without the files the test says so and is skipped.
 */
#include <unistd.h>

#include "core/json.h"
#include "tests/logprob_testing.h"

enum { NUM_CASES = 3 };
static const char *const case_names[NUM_CASES] = {"logps-sum", "logps-average", "logps-vocab1000"};

static int64_t list_length(const cJSON *list) {
    return cJSON_GetArraySize(list);
}

/* [rows][columns] of numbers (columns 0: a flat list) as floats. */
static float *read_numbers(const cJSON *list, int64_t columns) {
    const int64_t rows = list_length(list);
    float *values = malloc((size_t)(rows * (columns > 0 ? columns : 1) + 1) * sizeof *values);
    int64_t at = 0;
    for (const cJSON *row = list->child; row != NULL; row = row->next) {
        if (columns == 0)
            values[at++] = (float)row->valuedouble;
        for (const cJSON *item = row->child; columns > 0 && item != NULL; item = item->next)
            values[at++] = (float)item->valuedouble;
    }
    cr_assert_eq(at, rows * (columns > 0 ? columns : 1));
    return values;
}

static int32_t *read_integers(const cJSON *list) {
    int32_t *values = malloc((size_t)(list_length(list) + 1) * sizeof *values);
    int64_t at = 0;
    for (const cJSON *item = list->child; item != NULL; item = item->next)
        values[at++] = (int32_t)item->valuedouble;
    return values;
}

static void check_expected(const char *name, const cJSON *expect, const char *key, const float *found,
                           int64_t columns) {
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(expect, key);
    cr_assert(cJSON_IsArray(list), "%s: expect.%s is missing", name, key);
    const int64_t count = list_length(list) * (columns > 0 ? columns : 1);
    double largest = 1.0;
    for (int pass = 0; pass < 2; ++pass) {
        int64_t at = 0;
        for (const cJSON *row = list->child; row != NULL; row = row->next)
            for (const cJSON *item = columns > 0 ? row->child : row; item != NULL;
                 item = columns > 0 ? item->next : NULL, ++at) {
                if (pass == 0)
                    largest = fmax(largest, fabs(item->valuedouble));
                else
                    cr_assert(fabs((double)found[at] - item->valuedouble) <= 1e-5 * largest,
                              "%s: %s[%lld]: %.9g, expected %.9g", name, key, (long long)at,
                              (double)found[at], item->valuedouble);
            }
        cr_assert_eq(at, count);
    }
}

static void check_case(const char *name, rpo_device device) {
    char path[512];
    snprintf(path, sizeof path, "%s/oracle/%s.json", RPO_TEST_SHARED_DIR, name);
    if (access(path, R_OK) != 0) {
        cr_log_warn("%s is not there", path);
        cr_skip_test("the golden values are not there");
    }
    rpo_json *json = NULL;
    cr_assert_eq(rpo_json_read_file(&json, path, (size_t)1 << 26), RPO_OK, "%s", rpo_last_error());
    const cJSON *root = rpo_json_root(json);
    const cJSON *expect = cJSON_GetObjectItemCaseSensitive(root, "expect");
    const int64_t vocab_size = (int64_t)cJSON_GetObjectItemCaseSensitive(root, "vocab")->valuedouble;
    const cJSON *lens = cJSON_GetObjectItemCaseSensitive(root, "lens");
    const int64_t num_sequences = list_length(lens);
    int32_t *cu_seqlens = calloc((size_t)num_sequences + 1, sizeof *cu_seqlens);
    int64_t s = 0;
    for (const cJSON *item = lens->child; item != NULL; item = item->next, ++s)
        cu_seqlens[s + 1] = cu_seqlens[s] + (int32_t)item->valuedouble;
    int32_t *labels = read_integers(cJSON_GetObjectItemCaseSensitive(root, "labels"));
    float *logits = read_numbers(cJSON_GetObjectItemCaseSensitive(root, "logits"), vocab_size);
    float *coef = read_numbers(cJSON_GetObjectItemCaseSensitive(root, "coef"), 0);

    rpo_context *context = test_context(device, 2);
    rpo_logprob_shape shape = {.struct_size = sizeof shape,
                               .rows = cu_seqlens[num_sequences],
                               .vocab_size = vocab_size,
                               .num_sequences = num_sequences,
                               .dtype = RPO_FLOAT32};
    if (cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(root, "average")))
        shape.reduction = RPO_REDUCTION_AVERAGE;
    size_t bytes = 0;
    cr_assert_eq(rpo_logprob_gather_workspace_size(context, &bytes, &shape), RPO_OK);
    guarded workspace = guarded_new(bytes), token_logps = guarded_new((size_t)shape.rows * sizeof(float));
    guarded sequence_logps = guarded_new((size_t)num_sequences * sizeof(float));
    guarded logsumexp = guarded_new((size_t)shape.rows * sizeof(float));
    guarded gradient = guarded_new((size_t)(shape.rows * vocab_size) * sizeof(float));
    rpo_logprob_inputs inputs = {.struct_size = sizeof inputs,
                                 .logits = logits,
                                 .labels = labels,
                                 .cu_seqlens = cu_seqlens,
                                 .grad_sequence_logps = coef};
    const rpo_logprob_outputs outputs = {sizeof outputs, sequence_logps.data, token_logps.data,
                                         logsumexp.data};
    cr_assert_eq(rpo_logprob_gather(context, &outputs, &inputs, &shape, workspace.data, bytes), RPO_OK, "%s",
                 rpo_last_error());
    check_expected(name, expect, "token_logps", token_logps.data, 0);
    check_expected(name, expect, "sequence_logps", sequence_logps.data, 0);
    for (int recompute = 0; recompute < 2; ++recompute) {
        inputs.logsumexp = recompute ? NULL : logsumexp.data;
        cr_assert_eq(
            rpo_logprob_gather_backward(context, gradient.data, &inputs, &shape, workspace.data, bytes),
            RPO_OK, "%s", rpo_last_error());
        check_expected(name, expect, "grad_logits", gradient.data, vocab_size);
    }

    guarded_free(&gradient);
    guarded_free(&logsumexp);
    guarded_free(&sequence_logps);
    guarded_free(&token_logps);
    guarded_free(&workspace);
    rpo_context_free(context);
    free(coef);
    free(logits);
    free(labels);
    free(cu_seqlens);
    rpo_json_free(json);
}

Test(oracle_logprob, every_case) {
    for (int i = 0; i < NUM_CASES; ++i)
        check_case(case_names[i], RPO_DEVICE_CPU);
}
