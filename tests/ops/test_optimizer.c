/*
 * test_optimizer.c - AdamW and RMSprop against torch.optim, the gradient norm against long double; odd
 * lengths, guards, thread counts bit for bit.
 *
 * The expected values are torch.optim.AdamW(lr=0.01, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1) and
 * torch.optim.RMSprop(lr=0.01, alpha=0.9, eps=1e-8, weight_decay=0.05) of PyTorch 2.15, run in float64 on
 * gradients scaled with 0.25: parameters after each of three steps, then the state.
 */
#include "kernels/op_table.h"
#include "tests/logprob_testing.h"

enum { SIZE = 7, STEPS = 3 };

static const float start[SIZE] = {1.5f, -0.75f, 0.0f, 3.25f, -2.0f, 0.125f, 0.001f};
static const float gradients[STEPS][SIZE] = {{0.5f, -1.25f, 0.0f, 2.0f, 1e-4f, -30.0f, 7.5f},
                                             {-0.25f, 0.5f, 1.0f, 2.5f, 1e-6f, 10.0f, -7.5f},
                                             {0.125f, 0.25f, -0.5f, -1.0f, 0.0f, 1e3f, 1e-3f}};
static const float adamw_parameters[STEPS][SIZE] = {
    {1.4885f, -0.73925f, 0.0f, 3.23675f, -2.007996f, 0.134875f, -0.0090009999f},
    {1.48432781f, -0.735022785f, -0.00734959961f, 3.22354431f, -2.0128456f, 0.138783192f, -0.00846568311f},
    {1.47937666f, -0.732798484f, -0.00961793884f, 3.21481331f, -2.01620149f, 0.132510313f, -0.00804572386f}};
static const float adamw_first[SIZE] = {0.007625f,       -0.0078125f, 0.01f,    0.07175f,
                                        2.04749995e-06f, 24.6175f,    -0.01685f};
static const float adamw_second[SIZE] = {0.000939453125f, 0.00534423828f, 0.00375f,    0.0329609375f,
                                         2.82060923e-11f, 3127.83516f,    0.325634769f};
static const float rmsprop_parameters[STEPS][SIZE] = {
    {1.46837723f, -0.718377226f, 0.0f, 3.21837722f, -1.96837723f, 0.156622776f, -0.030622776f},
    {1.46656042f, -0.726571373f, -0.0316227726f, 3.19368042f, -1.94560694f, 0.146102917f, -0.00767262416f},
    {1.45069411f, -0.729100847f, -0.0167332233f, 3.19665875f, -1.92662953f, 0.114493071f, -0.00767090143f}};
static const float rmsprop_square[SIZE] = {0.00434438619f, 0.0107051848f, 0.00722727847f, 0.0919572649f,
                                           0.00262770172f, 6255.47995f,   0.601704035f};

static const rpo_optimizer_options adamw_options = {.learning_rate = 0.01f,
                                                    .weight_decay = 0.1f,
                                                    .beta1 = 0.9f,
                                                    .beta2 = 0.95f,
                                                    .eps = 1e-8f,
                                                    .gradient_scale = 0.25f};
static const rpo_optimizer_options rmsprop_options = {
    .learning_rate = 0.01f, .weight_decay = 0.05f, .alpha = 0.9f, .eps = 1e-8f, .gradient_scale = 0.25f};

static void check_values(const char *what, const float *found, const float *expected, double floor) {
    for (int i = 0; i < SIZE; ++i)
        cr_assert(fabs((double)found[i] - (double)expected[i]) <=
                      1e-6 * fmax(fabs((double)expected[i]), floor),
                  "%s[%d]: %.9g, expected %.9g", what, i, (double)found[i], (double)expected[i]);
}

Test(optimizer, adamw_is_torch) {
    rpo_context *context = test_context(RPO_DEVICE_CPU, 2);
    float parameter[SIZE], first[SIZE] = {0}, second[SIZE] = {0};
    memcpy(parameter, start, sizeof start);
    for (int step = 0; step < STEPS; ++step) {
        rpo_optimizer_options options = adamw_options;
        options.step = step + 1;
        cr_assert_eq(context->backend->optimizer.adamw(context, parameter, first, second, gradients[step],
                                                       SIZE, &options),
                     RPO_OK);
        check_values("parameter", parameter, adamw_parameters[step], 0.1);
    }
    check_values("first moment", first, adamw_first, 1e-3);
    check_values("second moment", second, adamw_second, 0.0);
    rpo_context_free(context);
}

Test(optimizer, rmsprop_is_torch) {
    rpo_context *context = test_context(RPO_DEVICE_CPU, 2);
    float parameter[SIZE], square[SIZE] = {0};
    memcpy(parameter, start, sizeof start);
    for (int step = 0; step < STEPS; ++step) {
        cr_assert_eq(context->backend->optimizer.rmsprop(context, parameter, square, gradients[step], SIZE,
                                                         &rmsprop_options),
                     RPO_OK);
        check_values("parameter", parameter, rmsprop_parameters[step], 0.1);
    }
    check_values("square average", square, rmsprop_square, 0.0);
    rpo_context_free(context);
}

Test(optimizer, adamw_refuses_step_zero) {
    rpo_context *context = test_context(RPO_DEVICE_CPU, 1);
    float one[1] = {0};
    cr_assert_eq(context->backend->optimizer.adamw(context, one, one, one, one, 1, &adamw_options),
                 RPO_ERROR_INVALID_ARGUMENT);
    cr_assert_not_null(strstr(rpo_last_error(), "options.step"));
    rpo_context_free(context);
}

/* Parameter and state after one step from seeded values, `threads` at work. */
typedef struct updated {
    guarded parameter, first, second;
} updated;

static updated update(int64_t count, int threads, bool adamw) {
    const size_t bytes = (size_t)count * sizeof(float);
    updated result = {guarded_new(bytes), guarded_new(bytes), guarded_new(bytes)};
    guarded gradient = guarded_new(bytes);
    uint64_t state = 5;
    for (int64_t i = 0; i < count; ++i) {
        ((float *)result.parameter.data)[i] = test_uniform(&state, 1.0f);
        ((float *)result.first.data)[i] = test_uniform(&state, 0.1f);
        ((float *)result.second.data)[i] = fabsf(test_uniform(&state, 0.1f));
        ((float *)gradient.data)[i] = test_uniform(&state, 2.0f);
    }
    rpo_context *context = test_context(RPO_DEVICE_CPU, threads);
    const rpo_optimizer_ops *ops = &context->backend->optimizer;
    rpo_optimizer_options options = adamw_options;
    options.step = 3;
    const rpo_status status = adamw ? ops->adamw(context, result.parameter.data, result.first.data,
                                                 result.second.data, gradient.data, count, &options)
                                    : ops->rmsprop(context, result.parameter.data, result.second.data,
                                                   gradient.data, count, &rmsprop_options);
    cr_assert_eq(status, RPO_OK);
    guarded_check(&gradient, "gradient");
    guarded_check(&result.parameter, "parameter");
    guarded_check(&result.first, "first moment");
    guarded_check(&result.second, "second moment");
    guarded_free(&gradient);
    rpo_context_free(context);
    return result;
}

Test(optimizer, threads_do_not_change_the_bits) {
    static const int64_t counts[] = {0, 1, 15, 17, 1000, 100003};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; ++i)
        for (int adamw = 0; adamw < 2; ++adamw) {
            updated one = update(counts[i], 1, adamw == 1), three = update(counts[i], 3, adamw == 1);
            cr_assert(same_bits(one.parameter.data, three.parameter.data, one.parameter.bytes) &&
                          same_bits(one.first.data, three.first.data, one.first.bytes) &&
                          same_bits(one.second.data, three.second.data, one.second.bytes),
                      "%lld elements", (long long)counts[i]);
            guarded_free(&one.parameter), guarded_free(&one.first), guarded_free(&one.second);
            guarded_free(&three.parameter), guarded_free(&three.first), guarded_free(&three.second);
        }
}

Test(optimizer, sum_of_squares) {
    static const int64_t counts[] = {0, 1, 2, 255, 256, 257, 1000, 300007};
    rpo_context *one = test_context(RPO_DEVICE_CPU, 1), *three = test_context(RPO_DEVICE_CPU, 3);
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; ++i) {
        guarded values = guarded_new((size_t)counts[i] * sizeof(float));
        uint64_t state = 9;
        long double expected = 0.0L;
        for (int64_t k = 0; k < counts[i]; ++k) {
            const float value = test_uniform(&state, k % 5 == 0 ? 1e15f : 1.0f);
            ((float *)values.data)[k] = value;
            expected += (long double)value * (long double)value;
        }
        double sum = NAN, again = NAN;
        cr_assert_eq(one->backend->optimizer.sum_of_squares(one, &sum, values.data, counts[i]), RPO_OK);
        cr_assert_eq(three->backend->optimizer.sum_of_squares(three, &again, values.data, counts[i]), RPO_OK);
        cr_assert(fabs(sum - (double)expected) <= 1e-14 * (double)expected,
                  "%lld elements: %.17g, expected %.17Lg", (long long)counts[i], sum, expected);
        cr_assert(same_bits(&sum, &again, sizeof sum), "%lld elements: threads change the sum",
                  (long long)counts[i]);
        guarded_free(&values);
    }
    rpo_context_free(three);
    rpo_context_free(one);
}

Test(optimizer, sum_of_squares_shows_nan) {
    rpo_context *context = test_context(RPO_DEVICE_CPU, 2);
    float values[1000] = {0};
    values[777] = NAN;
    double sum = 0.0;
    cr_assert_eq(context->backend->optimizer.sum_of_squares(context, &sum, values, 1000), RPO_OK);
    cr_assert(isnan(sum));
    rpo_context_free(context);
}
