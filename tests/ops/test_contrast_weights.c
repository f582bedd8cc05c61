/* test_contrast_weights.c - prompt similarity and contrastive weights as matrices. */
#include "tests/logprob_testing.h"
#include "tests/ops/reference_loss.h"

typedef struct weight_case {
    int64_t m, n, dim;
    float tau;
    rpo_weight_scale scale;
    float embedding_scale;
    int zero_every;
} weight_case;

static const weight_case cases[] = {
    {1, 1, 1, 0.5f, RPO_WEIGHT_SCALE_NONE, 1.0f, 0},
    {1, 7, 24, 0.5f, RPO_WEIGHT_SCALE_BLOCK, 1.0f, 0},
    {7, 1, 24, 0.5f, RPO_WEIGHT_SCALE_NONE, 1.0f, 0},
    {33, 5, 3, 0.1f, RPO_WEIGHT_SCALE_NONE, 1.0f, 4},
    {257, 129, 384, 0.5f, RPO_WEIGHT_SCALE_BLOCK, 1.0f, 0},
    {1000, 3, 17, 1e3f, RPO_WEIGHT_SCALE_NONE, 1.0f, 0},
    {3, 1000, 17, 0.01f, RPO_WEIGHT_SCALE_NONE, 1.0f, 1},
    {40, 24, 24, 1e-6f, RPO_WEIGHT_SCALE_NONE, 1.0f, 0},
    {20, 20, 12, 0.5f, RPO_WEIGHT_SCALE_NONE, 1e15f, 0},
    {20, 20, 12, 0.5f, RPO_WEIGHT_SCALE_NONE, 1e-15f, 0},
    {0, 5, 8, 0.5f, RPO_WEIGHT_SCALE_NONE, 1.0f, 0},
    {5, 0, 8, 0.5f, RPO_WEIGHT_SCALE_NONE, 1.0f, 0},
};

enum { CASES = sizeof cases / sizeof cases[0] };

static float *embeddings(uint64_t *state, int64_t count, const weight_case *c) {
    float *rows = malloc((size_t)(count * c->dim + 1) * sizeof *rows);
    for (int64_t i = 0; i < count; ++i)
        for (int64_t k = 0; k < c->dim; ++k)
            rows[i * c->dim + k] =
                c->zero_every > 0 && i % c->zero_every == 0 ? 0.0f : test_uniform(state, c->embedding_scale);
    return rows;
}

/* Runs one of the two ops between guards with exactly the workspace it asks for. */
static guarded run(rpo_context *context, const weight_case *c, const float *e, const float *f, bool weights) {
    size_t size = 0;
    const rpo_similarity_inputs inputs = {sizeof inputs, e, f, c->m, c->n, c->dim, RPO_FLOAT32};
    cr_assert_eq(rpo_prompt_similarity_workspace_size(context, &size, &inputs), RPO_OK);
    guarded workspace = guarded_new(size), matrix = guarded_new((size_t)(c->m * c->n) * sizeof(float));
    void *memory = size > 0 ? workspace.data : NULL;
    for (size_t given = size > 0 ? size - 1 : 0; given <= size; ++given) {
        const rpo_status status =
            weights ? rpo_contrast_weights(context, matrix.data, &inputs, c->tau, c->scale, memory, given)
                    : rpo_prompt_similarity(context, matrix.data, &inputs, memory, given);
        cr_assert_eq(status, given < size ? RPO_ERROR_WORKSPACE : RPO_OK, "%s", rpo_last_error());
    }
    guarded_check(&workspace, "workspace");
    guarded_check(&matrix, "matrix");
    guarded_free(&workspace);
    return matrix;
}

static void check(const guarded *matrix, const double *plain, const double *expected, int64_t count, int k,
                  const char *what) {
    const double tolerance = reference_tolerance(plain, expected, count);
    const float *values = matrix->data;
    const int64_t bad = reference_first_beyond(values, expected, count, tolerance);
    cr_assert(bad < 0, "case %d: %s[%lld] is %.9g; must be %.9g within %.3g", k, what, (long long)bad,
              bad < 0 ? 0.0 : (double)values[bad], bad < 0 ? 0.0 : expected[bad], tolerance);
}

Test(contrast_weights, agree_with_float64) {
    rpo_context *context = test_context(RPO_DEVICE_CPU, 2), *single = test_context(RPO_DEVICE_CPU, 1);
    for (int k = 0; k < CASES; ++k) {
        const weight_case *c = &cases[k];
        const int64_t count = c->m * c->n;
        uint64_t state = 50 + (uint64_t)k;
        float *e = embeddings(&state, c->m, c), *f = embeddings(&state, c->n, c);
        double *expected = malloc((size_t)(count + 1) * sizeof *expected);
        double *plain = malloc((size_t)(count + 1) * sizeof *plain);

        guarded similarity = run(context, c, e, f, false);
        reference_double_similarity(expected, e, f, c->m, c->n, c->dim);
        reference_float_similarity(plain, e, f, c->m, c->n, c->dim);
        check(&similarity, plain, expected, count, k, "similarity");

        guarded weights = run(context, c, e, f, true);
        reference_double_weights(expected, e, f, c->m, c->n, c->dim, c->tau, c->scale);
        reference_float_weights(plain, e, f, c->m, c->n, c->dim, c->tau, c->scale);
        check(&weights, plain, expected, count, k, "weights");

        guarded similarity_single = run(single, c, e, f, false), weights_single = run(single, c, e, f, true);
        cr_assert(same_bits(similarity.data, similarity_single.data, similarity.bytes),
                  "case %d: 1 or 2 threads", k);
        cr_assert(same_bits(weights.data, weights_single.data, weights.bytes), "case %d: 1 or 2 threads", k);
        guarded_free(&weights_single);
        guarded_free(&similarity_single);
        guarded_free(&weights);
        guarded_free(&similarity);
        free(plain);
        free(expected);
        free(f);
        free(e);
    }
    rpo_context_free(single);
    rpo_context_free(context);
}

/* A NaN or an infinity stays in its row or column of the similarities. */
Test(contrast_weights, non_finite_embeddings_stay_in_their_row_or_column) {
    const weight_case c = {37, 21, 11, 0.5f, RPO_WEIGHT_SCALE_NONE, 1.0f, 0};
    const float bad_values[] = {NAN, INFINITY, -INFINITY};
    rpo_context *context = test_context(RPO_DEVICE_CPU, 2);
    for (int b = 0; b < 3; ++b) {
        uint64_t state = 9;
        float *e = embeddings(&state, c.m, &c), *f = embeddings(&state, c.n, &c);
        e[5 * c.dim + 3] = bad_values[b];
        f[8 * c.dim + 10] = bad_values[b];
        guarded similarity = run(context, &c, e, f, false);
        const float *values = similarity.data;
        for (int64_t i = 0; i < c.m; ++i)
            for (int64_t j = 0; j < c.n; ++j)
                cr_assert_eq(isfinite(values[i * c.n + j]) != 0, i != 5 && j != 8, "[%lld][%lld] = %g",
                             (long long)i, (long long)j, (double)values[i * c.n + j]);
        guarded_free(&similarity);
        free(f);
        free(e);
    }
    rpo_context_free(context);
}
