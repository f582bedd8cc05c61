/* test_grad_norm.c - the gradient's norm against long double, the clip factor against torch, the decision to skip. */
#include "kernels/op_table.h"
#include "tests/logprob_testing.h"

static const rpo_step_control fresh = {.updates = 41, .grad_norm = NAN, .clip_scale = NAN, .skip = -1};

static rpo_step_control measure(rpo_context *context, const float *gradients, int64_t count,
                                const float *losses, int64_t num_losses, float max_grad_norm) {
    const rpo_optimizer_ops *ops = &context->backend->optimizer;
    const size_t size = ops->grad_norm_workspace_size(context, count);
    guarded workspace = guarded_new(size);
    rpo_step_control control = fresh;
    cr_assert_eq(ops->grad_norm(context, &control, gradients, count, losses, num_losses, max_grad_norm,
                                workspace.data, size),
                 RPO_OK, "%s", rpo_last_error());
    guarded_check(&workspace, "grad_norm workspace");
    if (size > 0) {
        rpo_step_control other = fresh;
        cr_assert_eq(ops->grad_norm(context, &other, gradients, count, losses, num_losses, max_grad_norm,
                                    workspace.data, size - 1),
                     RPO_ERROR_WORKSPACE);
    }
    guarded_free(&workspace);
    return control;
}

Test(grad_norm, is_exact_and_the_same_from_any_threads) {
    static const int64_t counts[] = {0, 1, 2, 255, 256, 257, 1000, 300007};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; ++i) {
        guarded values = guarded_new((size_t)counts[i] * sizeof(float));
        uint64_t state = 9;
        long double squares = 0.0L;
        for (int64_t k = 0; k < counts[i]; ++k) {
            const float value = test_uniform(&state, k % 5 == 0 ? 1e15f : 1.0f);
            ((float *)values.data)[k] = value;
            squares += (long double)value * (long double)value;
        }
        const double expected = (double)sqrtl(squares);
        double first = NAN;
        for (int threads = 1; threads <= 3; ++threads) {
            rpo_context *context = test_context(RPO_DEVICE_CPU, threads);
            const rpo_step_control control = measure(context, values.data, counts[i], NULL, 0, 0.0f);
            first = threads == 1 ? control.grad_norm : first;
            cr_assert(fabs(control.grad_norm - expected) <= 1e-14 * expected,
                      "%lld elements: %.17g, expected %.17g", (long long)counts[i], control.grad_norm,
                      expected);
            cr_assert(same_bits(&first, &control.grad_norm, sizeof first),
                      "%lld elements: threads change the norm", (long long)counts[i]);
            cr_assert(control.skip == RPO_SKIP_NOTHING && control.updates == 42);
            cr_assert_eq(control.clip_scale, 1.0f);
            rpo_context_free(context);
        }
        guarded_free(&values);
    }
}

/* torch.nn.utils.clip_grad_norm_ of (3, 4), whose norm is 5. */
Test(grad_norm, clips_as_torch) {
    static const float gradients[2] = {3.0f, 4.0f};
    static const struct {
        float max_grad_norm;
        double scale;
    } cases[] = {
        {0.0f, 1.0},     {10.0f, 1.0}, {5.0f, 5.0 / 5.000001}, {2.5f, 2.5 / 5.000001}, {1.0f, 1.0 / 5.000001},
        {5.000002f, 1.0}};
    rpo_context *context = test_context(RPO_DEVICE_CPU, 2);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; ++i) {
        const rpo_step_control control = measure(context, gradients, 2, NULL, 0, cases[i].max_grad_norm);
        cr_expect_eq(control.grad_norm, 5.0);
        cr_expect_eq(control.clip_scale, (float)cases[i].scale, "max_grad_norm %g: %.9g",
                     (double)cases[i].max_grad_norm, (double)control.clip_scale);
    }
    rpo_context_free(context);
}

Test(grad_norm, names_why_a_step_is_skipped) {
    enum { COUNT = 1000 };
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    rpo_context *context = test_context(RPO_DEVICE_CPU, 2);
    float good[COUNT] = {0}, broken[COUNT] = {0};
    for (int i = 0; i < 3; ++i) {
        float losses[5] = {0.5f, 1.0f, 0.0f, 2.0f, 3.0f};
        broken[777] = bad[i];
        rpo_step_control control = measure(context, broken, COUNT, losses, 5, 1.0f);
        cr_expect(control.skip == RPO_SKIP_GRADIENT && control.updates == 41, "gradient %g", (double)bad[i]);
        cr_expect_not(isfinite(control.grad_norm));
        losses[4 - i] = bad[i];
        control = measure(context, good, COUNT, losses, 5, 1.0f);
        cr_expect(control.skip == RPO_SKIP_LOSS && control.updates == 41, "loss %g", (double)bad[i]);
        cr_expect_eq(control.grad_norm, 0.0);
        control = measure(context, broken, COUNT, losses, 5, 1.0f);
        cr_expect(control.skip == RPO_SKIP_LOSS && control.updates == 41, "both %g", (double)bad[i]);
        control = measure(context, good, COUNT, losses, 4 - i, 1.0f); /* the losses before it */
        cr_expect(control.skip == RPO_SKIP_NOTHING && control.updates == 42);
    }
    rpo_context_free(context);
}

/* Finite gradients whose squares float32 could not hold. */
Test(grad_norm, of_large_gradients_is_finite) {
    static const float gradients[3] = {3e38f, -3e38f, 1.0f};
    rpo_context *context = test_context(RPO_DEVICE_CPU, 1);
    const rpo_step_control control = measure(context, gradients, 3, NULL, 0, 1.0f);
    cr_expect_eq(control.skip, RPO_SKIP_NOTHING);
    cr_expect(is_close(control.grad_norm / 3e38, sqrt(2.0), 1e-7, 1.0));
    rpo_context_free(context);
}
