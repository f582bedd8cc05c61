/*
 * test_oracle_loss.c - the golden loss cases of ../shared/oracle (float64, gradients by autograd): every
 * value within 1e-5 of the larger of 1 and the list's largest value.
 */
#include "tests/logprob_testing.h"

#include "core/json.h"

static const char folder[] = RPO_TEST_SHARED_DIR "/oracle";

typedef struct list {
    double *values;
    int64_t count;
} list;

static void flatten(list *out, const cJSON *node) {
    if (cJSON_IsNumber(node))
        out->values[out->count++] = node->valuedouble;
    for (const cJSON *child = node->child; child != NULL; child = child->next)
        flatten(out, child);
}

static int64_t count_numbers(const cJSON *node) {
    int64_t count = cJSON_IsNumber(node);
    for (const cJSON *child = node->child; child != NULL; child = child->next)
        count += count_numbers(child);
    return count;
}

/* All numbers of a member, nested or not; none when it is null. */
static list read_list(const cJSON *object, const char *key) {
    const cJSON *node = cJSON_GetObjectItemCaseSensitive(object, key);
    cr_assert_not_null(node, "no %s", key);
    list out = {.values = malloc((size_t)(count_numbers(node) + 1) * sizeof(double))};
    flatten(&out, node);
    return out;
}

static float *read_floats(const cJSON *object, const char *key) {
    list numbers = read_list(object, key);
    float *values = malloc((size_t)(numbers.count + 1) * sizeof *values);
    for (int64_t i = 0; i < numbers.count; ++i)
        values[i] = (float)numbers.values[i];
    free(numbers.values);
    return values;
}

/* A number, or `otherwise` for null. */
static float read_number(const cJSON *object, const char *key, float otherwise) {
    const cJSON *node = cJSON_GetObjectItemCaseSensitive(object, key);
    return cJSON_IsNumber(node) ? (float)node->valuedouble : otherwise;
}

static void compare(const char *name, const cJSON *expect, const char *key, const float *values,
                    int64_t count) {
    list expected = read_list(expect, key);
    double scale = 1.0;
    for (int64_t i = 0; i < expected.count; ++i)
        scale = fmax(scale, fabs(expected.values[i]));
    cr_assert_eq(expected.count, count, "%s: %s holds %lld numbers, not %lld", name, key, (long long)count,
                 (long long)expected.count);
    for (int64_t i = 0; i < count; ++i)
        cr_assert(fabs((double)values[i] - expected.values[i]) <= 1e-5 * scale,
                  "%s: %s[%lld] is %.9g; must be %.9g", name, key, (long long)i, (double)values[i],
                  expected.values[i]);
    free(expected.values);
}

static void compare_weights(rpo_context *context, const char *name, const cJSON *expect,
                            const rpo_contrast_inputs *inputs, const rpo_loss_options *options) {
    if (!rpo_loss_kind_needs_embeddings(options->kind))
        return;
    size_t size = 0;
    const rpo_similarity_inputs prompts = {.struct_size = sizeof prompts,
                                           .chosen_embeddings = inputs->chosen_embeddings,
                                           .rejected_embeddings = inputs->rejected_embeddings,
                                           .m = inputs->m,
                                           .n = inputs->n,
                                           .dim = inputs->dim,
                                           .dtype = RPO_FLOAT32};
    cr_assert_eq(rpo_prompt_similarity_workspace_size(context, &size, &prompts), RPO_OK);
    guarded workspace = guarded_new(size),
            weights = guarded_new((size_t)(inputs->m * inputs->n) * sizeof(float));
    cr_assert_eq(rpo_contrast_weights(context, weights.data, &prompts, options->tau, RPO_WEIGHT_SCALE_NONE,
                                      workspace.data, size),
                 RPO_OK, "%s", rpo_last_error());
    compare(name, expect, "weights", weights.data, inputs->m * inputs->n);
    guarded_free(&weights);
    guarded_free(&workspace);
}

static void run_case(rpo_context *context, const char *name, const cJSON *root, rpo_loss_kind kind) {
    rpo_loss_options options = RPO_LOSS_OPTIONS_INIT;
    options.kind = kind;
    options.beta = read_number(root, "beta", options.beta);
    options.tau = read_number(root, "tau", options.tau);
    options.diagonal_weight = read_number(root, "diagonal_weight", options.diagonal_weight);
    options.epsilon = read_number(root, "epsilon", options.epsilon);

    float *policy_chosen = read_floats(root, "policy_chosen_logps");
    float *policy_rejected = read_floats(root, "policy_rejected_logps");
    float *reference_chosen = read_floats(root, "reference_chosen_logps");
    float *reference_rejected = read_floats(root, "reference_rejected_logps");
    float *chosen_embeddings = read_floats(root, "emb_chosen");
    float *rejected_embeddings = read_floats(root, "emb_rejected");
    const rpo_contrast_inputs inputs = {.struct_size = sizeof inputs,
                                        .policy_chosen_logps = policy_chosen,
                                        .policy_rejected_logps = policy_rejected,
                                        .reference_chosen_logps = reference_chosen,
                                        .reference_rejected_logps = reference_rejected,
                                        .chosen_embeddings = chosen_embeddings,
                                        .rejected_embeddings = rejected_embeddings,
                                        .embedding_dtype = RPO_FLOAT32,
                                        .m = (int64_t)read_number(root, "m", -1),
                                        .n = (int64_t)read_number(root, "n", -1),
                                        .dim = (int64_t)read_number(root, "dim", -1)};
    const int64_t m = inputs.m, n = inputs.n, rows = kind == RPO_LOSS_KTO_SIMPLE ? m + n : m;
    float loss = NAN, *all = malloc((size_t)(rows + 2 * m + 2 * n) * sizeof *all);
    float *row_losses = all, *grad_chosen = all + rows, *grad_rejected = grad_chosen + m,
          *chosen_rewards = grad_rejected + n, *rejected_rewards = chosen_rewards + m;
    const rpo_contrast_outputs outputs = {.struct_size = sizeof outputs,
                                          .loss = &loss,
                                          .row_losses = row_losses,
                                          .grad_chosen_logps = grad_chosen,
                                          .grad_rejected_logps = grad_rejected,
                                          .chosen_rewards = chosen_rewards,
                                          .rejected_rewards = rejected_rewards};
    size_t size = 0;
    cr_assert_eq(rpo_contrast_loss_workspace_size(context, &size, &inputs, &options), RPO_OK, "%s: %s", name,
                 rpo_last_error());
    guarded workspace = guarded_new(size);
    cr_assert_eq(rpo_contrast_loss(context, &outputs, &inputs, &options, workspace.data, size), RPO_OK,
                 "%s: %s", name, rpo_last_error());

    const cJSON *expect = cJSON_GetObjectItemCaseSensitive(root, "expect");
    compare(name, expect, "loss", &loss, 1);
    compare(name, expect, "row_losses", row_losses, rows);
    compare(name, expect, "grad_policy_chosen_logps", grad_chosen, m);
    compare(name, expect, "grad_policy_rejected_logps", grad_rejected, n);
    compare(name, expect, "chosen_rewards", chosen_rewards, m);
    compare(name, expect, "rejected_rewards", rejected_rewards, n);
    compare_weights(context, name, expect, &inputs, &options);

    guarded_free(&workspace);
    free(all);
    free(rejected_embeddings);
    free(chosen_embeddings);
    free(reference_rejected);
    free(reference_chosen);
    free(policy_rejected);
    free(policy_chosen);
}

Test(oracle_loss, every_golden_case) {
    if (!rpo_path_is_folder(folder))
        cr_skip_test("no golden values at %s", folder);
    rpo_context *context = test_context(RPO_DEVICE_CPU, 2);
    char **names = NULL;
    size_t count = 0, ran = 0;
    cr_assert_eq(rpo_list_folder(folder, &names, &count), RPO_OK, "%s", rpo_last_error());
    for (size_t i = 0; i < count; ++i) {
        if (strstr(names[i], ".json") == NULL)
            continue;
        char *path = rpo_path_join(folder, names[i]);
        rpo_json *json = NULL;
        cr_assert_eq(rpo_json_read_file(&json, path, (size_t)1 << 26), RPO_OK, "%s", rpo_last_error());
        const cJSON *root = rpo_json_root(json);
        const char *kind_name = NULL;
        rpo_loss_kind kind;
        cr_assert_eq(rpo_json_get_string(json, root, "kind", true, &kind_name), RPO_OK);
        if (rpo_loss_kind_from_name(&kind, kind_name) == RPO_OK) {
            run_case(context, names[i], root, kind);
            ++ran;
        } else {
            cr_assert_str_eq(kind_name, "logps", "%s: a kind this suite does not know: %s", names[i],
                             kind_name);
        }
        rpo_json_free(json);
        rpo_free(path);
    }
    rpo_free_names(names, count);
    rpo_context_free(context);
    cr_assert_gt(ran, 0, "%s holds no loss case", folder);
}
