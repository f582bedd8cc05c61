/*
 * contrast_cases.h - the table of loss cases and what every backend must show on each of them. A backend's
 * test is one call: contrast_cases_run(context).
 */
#ifndef RPO_TESTS_OPS_CONTRAST_CASES_H
#define RPO_TESTS_OPS_CONTRAST_CASES_H

#include "tests/ops/contrast_run.h"
#include "tests/ops/reference_loss.h"

#define PAIRED   RPO_LOSS_RPO_PAIRED
#define UNPAIRED RPO_LOSS_RPO_UNPAIRED
#define UNIFORM  RPO_LOSS_RPO_UNIFORM
#define DIAGONAL RPO_LOSS_RPO_DIAGONAL
#define NONE     RPO_WEIGHT_SCALE_NONE
#define BLOCK    RPO_WEIGHT_SCALE_BLOCK

static const contrast_case contrast_cases[] = {
    /* kind, m, n, dim, beta, tau, spread, d, epsilon, scale, zero_every, embedding_scale, without_reference
     */
    {"paired 1", PAIRED, 1, 1, 24, 0.1f, 0.5f, 20, 0, 0, NONE, 0, 0, false},
    {"paired 2", PAIRED, 2, 2, 1, 0.1f, 0.5f, 20, 0, 0, NONE, 0, 0, false},
    {"paired 33", PAIRED, 33, 33, 24, 0.1f, 0.5f, 20, 0, 0, NONE, 0, 0, false},
    {"paired 64, zero vectors", PAIRED, 64, 64, 384, 0.5f, 0.75f, 30, 0, 0, NONE, 5, 0, false},
    {"paired 129, all vectors zero", PAIRED, 129, 129, 7, 0.1f, 0.5f, 20, 0, 0, NONE, 1, 0, false},
    {"paired 257, block scale", PAIRED, 257, 257, 40, 0.1f, 0.5f, 20, 0, 0, BLOCK, 0, 0, false},
    {"paired 300, sharp softmax", PAIRED, 300, 300, 24, 0.1f, 0.01f, 20, 0, 0, NONE, 0, 0, true},
    {"paired, margins to 1e4", PAIRED, 24, 24, 24, 0.5f, 0.5f, 5e3f, 0, 0, BLOCK, 0, 0, false},
    {"paired, beta 1e-6", PAIRED, 24, 24, 24, 1e-6f, 0.5f, 20, 0, 0, NONE, 0, 0, false},
    {"paired, beta 1e3", PAIRED, 24, 24, 24, 1e3f, 0.5f, 20, 0, 0, NONE, 0, 0, false},
    {"paired, tau 1e3", PAIRED, 24, 24, 24, 0.1f, 1e3f, 20, 0, 0, NONE, 0, 0, false},
    {"paired, tau 1e-6", PAIRED, 24, 24, 24, 0.1f, 1e-6f, 20, 0, 0, NONE, 0, 0, false},
    {"paired, everything at once", PAIRED, 24, 24, 24, 1e3f, 1e-6f, 5e3f, 0, 0, BLOCK, 5, 0, false},
    {"unpaired 1 x 7", UNPAIRED, 1, 7, 24, 0.1f, 0.5f, 20, 0, 0, NONE, 0, 0, false},
    {"unpaired 7 x 1", UNPAIRED, 7, 1, 24, 0.1f, 0.5f, 20, 0, 0, NONE, 0, 0, false},
    {"unpaired 33 x 5", UNPAIRED, 33, 5, 3, 0.1f, 0.5f, 20, 0, 0, NONE, 0, 0, false},
    {"unpaired 257 x 129", UNPAIRED, 257, 129, 31, 0.2f, 0.3f, 20, 0, 0, BLOCK, 7, 0, true},
    {"unpaired 1000 x 3", UNPAIRED, 1000, 3, 17, 0.1f, 0.5f, 20, 0, 0, NONE, 0, 0, false},
    {"unpaired 3 x 1000", UNPAIRED, 3, 1000, 17, 0.1f, 0.5f, 20, 0, 0, NONE, 0, 0, false},
    {"unpaired 20 x 9001", UNPAIRED, 20, 9001, 3, 0.1f, 0.5f, 20, 0, 0, BLOCK, 0, 0, false},
    {"unpaired 5000 x 2", UNPAIRED, 5000, 2, 8, 0.1f, 0.5f, 20, 0, 0, NONE, 0, 0, false},
    {"unpaired, margins to 1e4", UNPAIRED, 40, 24, 24, 0.5f, 0.5f, 5e3f, 0, 0, BLOCK, 0, 0, false},
    {"unpaired, beta 1e-6", UNPAIRED, 40, 24, 24, 1e-6f, 0.5f, 20, 0, 0, NONE, 0, 0, false},
    {"unpaired, beta 1e3", UNPAIRED, 40, 24, 24, 1e3f, 0.5f, 20, 0, 0, NONE, 0, 0, false},
    {"unpaired, tau 1e3", UNPAIRED, 40, 24, 24, 0.1f, 1e3f, 20, 0, 0, NONE, 0, 0, false},
    {"unpaired, tau 1e-6", UNPAIRED, 40, 24, 24, 0.1f, 1e-6f, 20, 0, 0, NONE, 0, 0, false},
    {"unpaired, everything at once", UNPAIRED, 40, 24, 24, 1e3f, 1e-6f, 5e3f, 0, 0, BLOCK, 7, 0, false},
    {"unpaired, 1 x 9, zero vectors", UNPAIRED, 1, 9, 24, 0.1f, 1e-6f, 20, 0, 0, NONE, 1, 0, false},
    {"unpaired, long vectors", UNPAIRED, 33, 18, 40, 0.1f, 0.5f, 20, 0, 0, NONE, 0, 1e15f, false},
    {"unpaired, short vectors", UNPAIRED, 33, 18, 40, 0.1f, 0.5f, 20, 0, 0, NONE, 0, 1e-15f, false},
    {"uniform 1 x 1", UNIFORM, 1, 1, 0, 0.1f, 0, 20, 0, 0, NONE, 0, 0, false},
    {"uniform 1 x 9", UNIFORM, 1, 9, 0, 0.1f, 0, 20, 0, 0, NONE, 0, 0, false},
    {"uniform 9 x 1", UNIFORM, 9, 1, 0, 0.1f, 0, 20, 0, 0, NONE, 0, 0, false},
    {"uniform 33 x 5", UNIFORM, 33, 5, 0, 0.1f, 0, 20, 0, 0, NONE, 0, 0, false},
    {"uniform 256 x 257", UNIFORM, 256, 257, 0, 0.1f, 0, 20, 0, 0, NONE, 0, 0, true},
    {"uniform 5000 x 3", UNIFORM, 5000, 3, 0, 0.1f, 0, 20, 0, 0, NONE, 0, 0, false},
    {"uniform 3 x 1025", UNIFORM, 3, 1025, 0, 0.1f, 0, 20, 0, 0, NONE, 0, 0, false},
    {"uniform, margins to 1e4", UNIFORM, 16, 48, 0, 1, 0, 5e3f, 0, 0, NONE, 0, 0, false},
    {"uniform, beta 1e3", UNIFORM, 16, 48, 0, 1e3f, 0, 20, 0, 0, NONE, 0, 0, false},
    {"uniform, beta 1e-6", UNIFORM, 16, 48, 0, 1e-6f, 0, 20, 0, 0, NONE, 0, 0, false},
    {"diagonal 1", DIAGONAL, 1, 1, 0, 0.1f, 0, 20, 0.8f, 0, NONE, 0, 0, false},
    {"diagonal 2", DIAGONAL, 2, 2, 0, 0.1f, 0, 20, 0.8f, 0, NONE, 0, 0, false},
    {"diagonal 300", DIAGONAL, 300, 300, 0, 0.1f, 0, 20, 0.8f, 0, NONE, 0, 0, false},
    {"diagonal 33, d = 0", DIAGONAL, 33, 33, 0, 0.1f, 0, 20, 0, 0, NONE, 0, 0, false},
    {"diagonal 33, d = 1", DIAGONAL, 33, 33, 0, 0.1f, 0, 20, 1, 0, NONE, 0, 0, false},
    {"diagonal, margins to 1e4", DIAGONAL, 48, 48, 0, 1, 0, 5e3f, 0.8f, 0, NONE, 0, 0, false},
    {"diagonal, beta 1e3", DIAGONAL, 48, 48, 0, 1e3f, 0, 20, 0.8f, 0, NONE, 0, 0, false},
    {"diagonal, beta 1e-6", DIAGONAL, 48, 48, 0, 1e-6f, 0, 20, 0.8f, 0, NONE, 0, 0, false},
    {"dpo 1", RPO_LOSS_DPO, 1, 1, 0, 0.1f, 0, 20, 0, 0, NONE, 0, 0, false},
    {"dpo 129", RPO_LOSS_DPO, 129, 129, 0, 0.1f, 0, 20, 0, 0, NONE, 0, 0, true},
    {"dpo, margins to 1e4", RPO_LOSS_DPO, 65, 65, 0, 1, 0, 5e3f, 0, 0, NONE, 0, 0, false},
    {"dpo, beta 1e3", RPO_LOSS_DPO, 65, 65, 0, 1e3f, 0, 20, 0, 0, NONE, 0, 0, false},
    {"dpo, beta 1e-6", RPO_LOSS_DPO, 65, 65, 0, 1e-6f, 0, 20, 0, 0, NONE, 0, 0, false},
    {"cdpo 33", RPO_LOSS_CDPO, 33, 33, 0, 0.1f, 0, 20, 0, 0.1f, NONE, 0, 0, false},
    {"cdpo 33, epsilon 0", RPO_LOSS_CDPO, 33, 33, 0, 0.1f, 0, 20, 0, 0, NONE, 0, 0, false},
    {"cdpo, margins to 1e4", RPO_LOSS_CDPO, 33, 33, 0, 1, 0, 5e3f, 0, 0.5f, NONE, 0, 0, false},
    {"cdpo, beta 1e3", RPO_LOSS_CDPO, 33, 33, 0, 1e3f, 0, 20, 0, 0.1f, NONE, 0, 0, false},
    {"cdpo, beta 1e-6", RPO_LOSS_CDPO, 33, 33, 0, 1e-6f, 0, 20, 0, 0.1f, NONE, 0, 0, false},
    {"cdpo 1", RPO_LOSS_CDPO, 1, 1, 0, 0.1f, 0, 20, 0, 0.1f, NONE, 0, 0, false},
    {"ipo 33", RPO_LOSS_IPO, 33, 33, 0, 0.1f, 0, 20, 0, 0, NONE, 0, 0, false},
    {"ipo, beta 1e-6", RPO_LOSS_IPO, 33, 33, 0, 1e-6f, 0, 20, 0, 0, NONE, 0, 0, false},
    {"ipo, beta 1e3", RPO_LOSS_IPO, 33, 33, 0, 1e3f, 0, 20, 0, 0, NONE, 0, 0, false},
    {"ipo, margins to 1e4", RPO_LOSS_IPO, 33, 33, 0, 0.1f, 0, 5e3f, 0, 0, NONE, 0, 0, false},
    {"ipo 1", RPO_LOSS_IPO, 1, 1, 0, 0.1f, 0, 20, 0, 0, NONE, 0, 0, false},
    {"kto-simple 1 x 1", RPO_LOSS_KTO_SIMPLE, 1, 1, 0, 0.1f, 0, 20, 0, 0, NONE, 0, 0, false},
    {"kto-simple 33 x 5", RPO_LOSS_KTO_SIMPLE, 33, 5, 0, 0.1f, 0, 20, 0, 0, NONE, 0, 0, false},
    {"kto-simple 5 x 70", RPO_LOSS_KTO_SIMPLE, 5, 70, 0, 0.1f, 0, 20, 0, 0, NONE, 0, 0, true},
    {"kto-simple, margins to 1e4", RPO_LOSS_KTO_SIMPLE, 16, 24, 0, 0.01f, 0, 5e3f, 0, 0, NONE, 0, 0, false},
    {"kto-simple, beta 1e3", RPO_LOSS_KTO_SIMPLE, 16, 24, 0, 1e3f, 0, 20, 0, 0, NONE, 0, 0, false},
    /* Spread wide: the difference quotient's step, 1e-5 / beta, must not reach over the clamp's kink at 0. */
    {"kto-simple, beta 1e-6", RPO_LOSS_KTO_SIMPLE, 16, 24, 0, 1e-6f, 0, 5e3f, 0, 0, NONE, 0, 0, false},
    {"kto-simple 1 x 9", RPO_LOSS_KTO_SIMPLE, 1, 9, 0, 0.1f, 0, 20, 0, 0, NONE, 0, 0, false},
    {"sft 1 x 0", RPO_LOSS_SFT, 1, 0, 0, 0.1f, 0, 20, 0, 0, NONE, 0, 0, false},
    {"sft 33 x 5", RPO_LOSS_SFT, 33, 5, 0, 0.1f, 0, 20, 0, 0, NONE, 0, 0, false},
    {"sft, log-probs to 1e4", RPO_LOSS_SFT, 33, 5, 0, 0.1f, 0, 1e4f, 0, 0, NONE, 0, 0, false},
    {"empty: unpaired 5 x 0", UNPAIRED, 5, 0, 24, 0.1f, 0.5f, 20, 0, 0, NONE, 0, 0, false},
    {"empty: unpaired 0 x 5", UNPAIRED, 0, 5, 24, 0.1f, 0.5f, 20, 0, 0, NONE, 0, 0, false},
    {"empty: uniform 5 x 0", UNIFORM, 5, 0, 0, 0.1f, 0, 20, 0, 0, NONE, 0, 0, false},
    {"empty: uniform 0 x 5", UNIFORM, 0, 5, 0, 0.1f, 0, 20, 0, 0, NONE, 0, 0, false},
    {"empty: diagonal", DIAGONAL, 0, 0, 0, 0.1f, 0, 20, 0.8f, 0, NONE, 0, 0, false},
    {"empty: paired", PAIRED, 0, 0, 24, 0.1f, 0.5f, 20, 0, 0, NONE, 0, 0, false},
    {"empty: dpo", RPO_LOSS_DPO, 0, 0, 0, 0.1f, 0, 20, 0, 0, NONE, 0, 0, false},
    {"empty: cdpo", RPO_LOSS_CDPO, 0, 0, 0, 0.1f, 0, 20, 0, 0.1f, NONE, 0, 0, false},
    {"empty: ipo", RPO_LOSS_IPO, 0, 0, 0, 0.1f, 0, 20, 0, 0, NONE, 0, 0, false},
    {"empty: kto-simple 5 x 0", RPO_LOSS_KTO_SIMPLE, 5, 0, 0, 0.1f, 0, 20, 0, 0, NONE, 0, 0, false},
    {"empty: kto-simple 0 x 5", RPO_LOSS_KTO_SIMPLE, 0, 5, 0, 0.1f, 0, 20, 0, 0, NONE, 0, 0, false},
    {"empty: sft 0 x 4", RPO_LOSS_SFT, 0, 4, 0, 0.1f, 0, 20, 0, 0, NONE, 0, 0, false},
};

#undef PAIRED
#undef UNPAIRED
#undef UNIFORM
#undef DIAGONAL
#undef NONE
#undef BLOCK

enum { CONTRAST_CASES = sizeof contrast_cases / sizeof contrast_cases[0] };

/* ---- what is expected of it ---- */

/* Log-ratios as the op sees them: differences of float32 inputs; for sft the chosen log-probs themselves. */
static inline double *contrast_ratios(const float *policy, const float *reference, int64_t count,
                                      bool in_float) {
    double *ratios = malloc((size_t)(count + 1) * sizeof *ratios);
    for (int64_t i = 0; i < count; ++i) {
        const float r = reference != NULL ? reference[i] : 0.0f;
        ratios[i] = in_float ? (double)(policy[i] - r) : (double)policy[i] - (double)r;
    }
    return ratios;
}

static inline void contrast_expect(const float *values, const double *plain, const double *expected,
                                   int64_t count, const char *name, const char *what) {
    const double tolerance = reference_tolerance(plain, expected, count);
    const int64_t bad = reference_first_beyond(values, expected, count, tolerance);
    cr_assert(isfinite(tolerance), "%s: %s: the expectation is not finite", name, what);
    cr_assert(bad < 0, "%s: %s[%lld] is %.9g; must be %.9g within %.3g", name, what, (long long)bad,
              bad < 0 ? 0.0 : (double)values[bad], bad < 0 ? 0.0 : expected[bad], tolerance);
}

/* beta times the ratios, margins and accuracy: computed here from the inputs once more. */
static inline void contrast_expect_rewards(const contrast_run *run, const contrast_data *data,
                                           const char *name) {
    const int64_t m = data->inputs.m, n = data->inputs.n, pairs = m < n ? m : n;
    const double beta = (double)data->options.beta;
    double *a = contrast_ratios(data->chosen, data->reference_chosen, m, false);
    double *b = contrast_ratios(data->rejected, data->reference_rejected, n, false);
    const float *margins = run->margins.data;
    double correct = 0.0;
    for (int64_t i = 0; i < pairs; ++i) {
        const double margin = beta * (a[i] - b[i]);
        correct += margin > 0.0;
        cr_assert(fabs((double)margins[i] - margin) <= 1e-6 * fabs(margin), "%s: margins[%lld]", name,
                  (long long)i);
    }
    const double accuracy = pairs > 0 ? correct / (double)pairs : 0.0;
    cr_assert(fabs((double)*(float *)run->accuracy.data - accuracy) <= 1e-6, "%s: accuracy", name);
    for (int64_t i = 0; i < m; ++i)
        a[i] *= beta;
    for (int64_t j = 0; j < n; ++j)
        b[j] *= beta;
    contrast_expect(run->chosen_rewards.data, a, a, m, name, "chosen_rewards");
    contrast_expect(run->rejected_rewards.data, b, b, n, name, "rejected_rewards");
    free(b);
    free(a);
}

/* The directional derivative of the float64 loss against the op's gradients. */
static inline void contrast_expect_directional(const contrast_run *run, const contrast_data *data,
                                               const double *a, const double *b, const double *weights,
                                               uint64_t seed, const char *name) {
    const int64_t m = data->inputs.m, n = data->inputs.n;
    const float *grad_a = run->grad_chosen.data, *grad_b = run->grad_rejected.data;
    const double step = 1e-5 / (double)data->options.beta;
    double *moved_a = malloc((size_t)(m + 1) * sizeof(double)),
           *moved_b = malloc((size_t)(n + 1) * sizeof(double));
    reference_result result = reference_result_new(m, n);
    double difference = 0.0, slope = 0.0, size = 0.0;
    for (int side = -1; side <= 1; side += 2) {
        uint64_t state = seed;
        slope = size = 0.0;
        for (int64_t i = 0; i < m; ++i) {
            const double u = (double)test_uniform(&state, 1.0f);
            moved_a[i] = a[i] + side * step * u;
            slope += u * (double)grad_a[i];
            size += fabs(u * (double)grad_a[i]);
        }
        for (int64_t j = 0; j < n; ++j) {
            const double v = (double)test_uniform(&state, 1.0f);
            moved_b[j] = b[j] + side * step * v;
            slope += v * (double)grad_b[j];
            size += fabs(v * (double)grad_b[j]);
        }
        reference_double_loss(&result, moved_a, moved_b, weights, m, n, &data->options);
        difference += side * result.loss;
    }
    const double derivative = difference / (2.0 * step);
    const double rounding = 1e-15 * fabs(result.loss) / step;
    cr_assert(fabs(derivative - slope) <= 1e-4 * size + 10.0 * rounding,
              "%s: directional derivative is %.9g, the gradients give %.9g", name, derivative, slope);
    reference_result_free(&result);
    free(moved_b);
    free(moved_a);
}

/* The loss in float64 and as the plain float32 formula gives it. */
typedef struct contrast_reference {
    double *a, *b, *weights; /* log-ratios in double; weights NULL for kinds without */
    reference_result expected, plain;
} contrast_reference;

static inline contrast_reference contrast_reference_new(const contrast_data *data) {
    const int64_t m = data->inputs.m, n = data->inputs.n, dim = data->inputs.dim;
    const bool sft = data->options.kind == RPO_LOSS_SFT;
    const float *reference = sft ? NULL : data->reference_chosen;
    contrast_reference of = {.a = contrast_ratios(data->chosen, reference, m, false),
                             .b = contrast_ratios(data->rejected, data->reference_rejected, n, false),
                             .expected = reference_result_new(m, n),
                             .plain = reference_result_new(m, n)};
    double *plain_a = contrast_ratios(data->chosen, reference, m, true);
    double *plain_b = contrast_ratios(data->rejected, data->reference_rejected, n, true);
    double *plain_weights = NULL;
    if (rpo_loss_kind_needs_embeddings(data->options.kind)) {
        of.weights = malloc((size_t)(m * n + 1) * sizeof *of.weights);
        plain_weights = malloc((size_t)(m * n + 1) * sizeof *plain_weights);
        reference_double_weights(of.weights, data->chosen_embeddings, data->rejected_embeddings, m, n, dim,
                                 data->options.tau, data->options.weight_scale);
        reference_float_weights(plain_weights, data->chosen_embeddings, data->rejected_embeddings, m, n, dim,
                                data->options.tau, data->options.weight_scale);
    }
    reference_double_loss(&of.expected, of.a, of.b, of.weights, m, n, &data->options);
    reference_float_loss(&of.plain, plain_a, plain_b, plain_weights, m, n, &data->options);
    free(plain_weights);
    free(plain_b);
    free(plain_a);
    return of;
}

static inline void contrast_reference_free(contrast_reference *of) {
    reference_result_free(&of->plain);
    reference_result_free(&of->expected);
    free(of->weights);
    free(of->b);
    free(of->a);
    *of = (contrast_reference){0};
}

static inline void contrast_expect_all(const contrast_run *run, const contrast_data *data, uint64_t seed,
                                       const char *name) {
    const int64_t m = data->inputs.m, n = data->inputs.n;
    contrast_reference of = contrast_reference_new(data);
    contrast_expect(run->loss.data, &of.plain.loss, &of.expected.loss, 1, name, "loss");
    contrast_expect(run->row_losses.data, of.plain.row_losses, of.expected.row_losses,
                    (int64_t)(run->row_losses.bytes / sizeof(float)), name, "row_losses");
    contrast_expect(run->grad_chosen.data, of.plain.grad_chosen, of.expected.grad_chosen, m, name,
                    "grad_chosen_logps");
    contrast_expect(run->grad_rejected.data, of.plain.grad_rejected, of.expected.grad_rejected, n, name,
                    "grad_rejected_logps");
    contrast_expect_rewards(run, data, name);
    contrast_expect_directional(run, data, of.a, of.b, of.weights, seed, name);
    contrast_reference_free(&of);
}

/* The data of case k with embeddings of a dtype. */
static inline contrast_data contrast_case_data(int k, rpo_dtype dtype) {
    contrast_data data = contrast_data_new(&contrast_cases[k], 1000 + (uint64_t)k);
    contrast_data_round(&data, dtype);
    return data;
}

/* One case: values, gradients, guards, workspace, the same bits twice. */
static inline void contrast_case_run(rpo_context *context, int k, rpo_dtype dtype) {
    const char *name = contrast_cases[k].name;
    contrast_data data = contrast_case_data(k, dtype);
    contrast_run run = contrast_run_new(context, &data, name);
    contrast_run again = contrast_run_new(context, &data, name);
    contrast_runs_equal(&run, &again, name, "two runs");
    contrast_expect_all(&run, &data, 1001 + (uint64_t)k, name);
    contrast_run_free(&again);
    contrast_run_free(&run);
    contrast_data_free(&data);
}

static inline void contrast_cases_run(rpo_context *context) {
    for (int k = 0; k < CONTRAST_CASES; ++k)
        contrast_case_run(context, k, RPO_FLOAT32);
}

/* Both backends are within a tolerance of the reference, so they are within two of each other. */
static inline void contrast_expect_close(const guarded *x, const guarded *y, const double *plain,
                                         const double *expected, const char *name) {
    const int64_t count = (int64_t)(x->bytes / sizeof(float));
    const double tolerance = 2.0 * reference_tolerance(plain, expected, count);
    for (int64_t i = 0; i < count; ++i) {
        const double difference = (double)((float *)x->data)[i] - (double)((float *)y->data)[i];
        cr_assert(fabs(difference) <= tolerance, "%s: element %lld differs by %.3g between the backends",
                  name, (long long)i, difference);
    }
}

/* Two backends on the same inputs. */
static inline void contrast_case_compare(rpo_context *one, rpo_context *other, int k) {
    const char *name = contrast_cases[k].name;
    contrast_data data = contrast_data_new(&contrast_cases[k], 1000 + (uint64_t)k);
    contrast_run a = contrast_run_new(one, &data, name), b = contrast_run_new(other, &data, name);
    contrast_reference of = contrast_reference_new(&data);
    contrast_expect_close(&a.loss, &b.loss, &of.plain.loss, &of.expected.loss, name);
    contrast_expect_close(&a.row_losses, &b.row_losses, of.plain.row_losses, of.expected.row_losses, name);
    contrast_expect_close(&a.grad_chosen, &b.grad_chosen, of.plain.grad_chosen, of.expected.grad_chosen,
                          name);
    contrast_expect_close(&a.grad_rejected, &b.grad_rejected, of.plain.grad_rejected,
                          of.expected.grad_rejected, name);
    contrast_reference_free(&of);
    contrast_run_free(&b);
    contrast_run_free(&a);
    contrast_data_free(&data);
}

/* Every case gives the same bits on both contexts (other thread counts of one backend). */
static inline void contrast_cases_compare(rpo_context *one, rpo_context *other, const char *what) {
    for (int k = 0; k < CONTRAST_CASES; ++k) {
        const contrast_case *c = &contrast_cases[k];
        contrast_data data = contrast_data_new(c, 1000 + (uint64_t)k);
        contrast_run a = contrast_run_new(one, &data, c->name), b = contrast_run_new(other, &data, c->name);
        contrast_runs_equal(&a, &b, c->name, what);
        contrast_run_free(&b);
        contrast_run_free(&a);
        contrast_data_free(&data);
    }
}

#endif
