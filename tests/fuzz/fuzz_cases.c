/* fuzz_cases.c - the case files of rpo loss and rpo logprob. */
#include <math.h>

#include "core/json.h"
#include "fuzz.h"
#include "host/cli/logprob_case.h"
#include "host/cli/loss_case.h"

static void check_finite(const float *values, int64_t count) {
    for (int64_t i = 0; i < count; ++i)
        FUZZ_CHECK(isfinite(values[i]));
}

static void check_loss(const rpo_json *json) {
    rpo_loss_case one = {0};
    if (fuzz_accepted(rpo_loss_case_read(&one, json))) {
        FUZZ_CHECK(one.m >= 0 && one.n >= 0);
        check_finite(one.policy_chosen_logps, one.m);
        check_finite(one.policy_rejected_logps, one.n);
        if (one.chosen_embeddings != NULL)
            check_finite(one.chosen_embeddings, one.m * one.dim);
    }
    rpo_loss_case_free(&one);
}

static void check_logprob(const rpo_json *json) {
    rpo_logprob_case one = {0};
    if (fuzz_accepted(rpo_logprob_case_read(&one, json))) {
        FUZZ_CHECK(one.rows >= 0 && one.vocab_size >= 1);
        for (int64_t s = 0; s < one.num_sequences; ++s)
            FUZZ_CHECK(one.cu_seqlens[s] <= one.cu_seqlens[s + 1]);
        FUZZ_CHECK(one.cu_seqlens[one.num_sequences] == one.rows);
        for (int64_t row = 0; row < one.rows; ++row)
            FUZZ_CHECK(one.labels[row] < one.vocab_size);
    }
    rpo_logprob_case_free(&one);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    rpo_json *json = NULL;
    if (!fuzz_accepted(rpo_json_parse(&json, (const char *)data, size, "case.json", 1)))
        return 0;
    if (cJSON_IsObject(rpo_json_root(json))) { /* the commands check that first */
        check_loss(json);
        check_logprob(json);
    }
    rpo_json_free(json);
    return 0;
}
