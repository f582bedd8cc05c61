/* test_vector_math.c - exp and log sigmoid of the CPU ops against libm in double, over their whole range. */
#include <criterion/criterion.h>

#include "kernels/cpu/vector_math.h"

/* |value - expected| in units in the last place of a float32 of that size. NaN gives NaN. */
static double ulps(float value, double expected) {
    const double size = fabs(expected) > 1.2e-38 ? fabs(expected) : 1.2e-38;
    return fabs((double)value - expected) / ldexp(1.0, ilogb(size) - 23);
}

/* Steps through negative floats by their bits, so that every exponent is met. */
static float next_sample(float x, uint32_t stride) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits += stride;
    memcpy(&x, &bits, sizeof x);
    return x;
}

Test(vector_math, exp_within_two_ulps) {
    for (float x = -1e-30f; x >= -87.33f; x = next_sample(x, 4099))
        cr_assert(ulps(rpo_exp_nonpositive(x), exp((double)x)) <= 2.0, "exp(%.9g) = %.9g", (double)x,
                  (double)rpo_exp_nonpositive(x));
}

Test(vector_math, exp_edges) {
    cr_assert_eq(rpo_exp_nonpositive(0.0f), 1.0f);
    cr_assert_eq(rpo_exp_nonpositive(-0.0f), 1.0f);
    cr_assert_eq(rpo_exp_nonpositive(-88.0f), 0.0f);
    cr_assert_eq(rpo_exp_nonpositive(-1e30f), 0.0f);
    cr_assert_eq(rpo_exp_nonpositive(-INFINITY), 0.0f);
    cr_assert(isnan(rpo_exp_nonpositive(NAN)));
}

Test(vector_math, log_sigmoid_within_four_ulps) {
    for (float magnitude = -1e-30f; magnitude >= -86.0f; magnitude = next_sample(magnitude, 4099))
        for (int sign = -1; sign <= 1; sign += 2) {
            const float x = (float)sign * magnitude;
            double loss, slope;
            float got_loss, got_slope;
            rpo_log_sigmoid_loss_double((double)x, &loss, &slope);
            rpo_log_sigmoid_loss(x, &got_loss, &got_slope);
            cr_assert(ulps(got_loss, loss) <= 4.0, "loss(%.9g) = %.9g, not %.9g", (double)x, (double)got_loss,
                      loss);
            cr_assert(ulps(got_slope, slope) <= 4.0, "slope(%.9g) = %.9g, not %.9g", (double)x,
                      (double)got_slope, slope);
        }
}

Test(vector_math, log_sigmoid_edges) {
    float loss, slope;
    rpo_log_sigmoid_loss(1e7f, &loss, &slope);
    cr_assert(loss == 0.0f && slope == 0.0f);
    rpo_log_sigmoid_loss(-1e7f, &loss, &slope);
    cr_assert(loss == 1e7f && slope == 1.0f);
    rpo_log_sigmoid_loss(INFINITY, &loss, &slope);
    cr_assert(loss == 0.0f && slope == 0.0f);
    rpo_log_sigmoid_loss(-INFINITY, &loss, &slope);
    cr_assert(isinf(loss) && slope == 1.0f);
    rpo_log_sigmoid_loss(NAN, &loss, &slope);
    cr_assert(isnan(loss) && isnan(slope));
}

/* The double functions against the definition in long double. */
Test(vector_math, double_log_sigmoid_matches_its_definition) {
    for (int k = -4000; k <= 4000; ++k) {
        const double x = 0.01 * k;
        double loss, slope;
        rpo_log_sigmoid_loss_double(x, &loss, &slope);
        const long double expected = log1pl(expl(-(long double)x));
        const long double expected_slope = 1.0L / (1.0L + expl((long double)x));
        cr_assert(fabsl((long double)loss - expected) <= 1e-15L * expected);
        cr_assert(fabsl((long double)slope - expected_slope) <= 1e-15L * expected_slope);
    }
}
