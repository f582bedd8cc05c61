/* test_swiglu.c - gate and up in one row: forward, backward apart and in place. */
#include "tests/ops/model_ops_testing.h"

typedef struct reference_shape {
    int64_t rows, intermediate;
} reference_shape;

static void reference_swiglu(const void *shape, const double *const inputs[], double *out) {
    const reference_shape *s = shape;
    for (int64_t t = 0; t < s->rows; ++t)
        for (int64_t i = 0; i < s->intermediate; ++i) {
            const double *gate = inputs[0] + 2 * t * s->intermediate;
            const double *up = gate + s->intermediate;
            out[t * s->intermediate + i] = gate[i] / (1.0 + exp(-gate[i])) * up[i];
        }
}

/* In place, as the model calls it: the same bits as apart, and the forward's result once more. */
static void check_in_place(rpo_context *context, const reference_shape *s, const float *gate_up,
                           const float *grad_out, const float *out, const float *grad) {
    const int64_t count = s->rows * s->intermediate;
    float *both = guarded_copy(gate_up, 2 * count), *product = guarded_copy(grad_out, count);
    MUST(context->backend->model.swiglu_backward(context, both, product, product, both, s->rows,
                                                 s->intermediate, RPO_FLOAT32));
    expect_same_bits(grad, both, 2 * count, "swiglu_backward in place");
    expect_close(product, out, count, 1e-6, "swiglu_backward, the forward once more");
    release(product, count, "swiglu_backward");
    release(both, 2 * count, "swiglu_backward");
}

static void check_swiglu(int64_t rows, int64_t intermediate) {
    const reference_shape shape = {rows, intermediate};
    const int64_t count = rows * intermediate;
    float *gate_up = test_normals((size_t)(2 * count) + 1, 51, 2.5);
    float *grad_out = test_normals((size_t)count + 1, 53, 1.0);
    float *first[3] = {NULL};
    if (intermediate > 2) {
        gate_up[0] = 0.0f;
        gate_up[1] = 200.0f; /* sigmoid is 1, then 0, without overflow */
        gate_up[2] = -200.0f;
    }
    const op_case c = {"swiglu", reference_swiglu, &shape, 1, {gate_up}, {2 * count}, count};
    for (int n = 0; n < THREAD_COUNTS; ++n) {
        rpo_context *context = model_test_context(thread_counts[n]);
        const rpo_model_ops *ops = &context->backend->model;
        float *made[3] = {guarded(count), guarded(count), guarded(2 * count)};
        MUST(ops->swiglu(context, made[0], gate_up, rows, intermediate, RPO_FLOAT32));
        MUST(ops->swiglu_backward(context, made[2], made[1], grad_out, gate_up, rows, intermediate,
                                  RPO_FLOAT32));
        check_in_place(context, &shape, gate_up, grad_out, made[0], made[2]);
        if (n == 0) {
            expect_value(&c, made[0]);
            expect_close(made[1], made[0], count, 1e-6, "swiglu_backward, the forward once more");
            expect_gradient(&c, grad_out, 0, made[2]);
            memcpy(first, made, sizeof first);
        } else {
            for (int i = 0; i < 3; ++i) {
                const int64_t size = i < 2 ? count : 2 * count;
                expect_same_bits(first[i], made[i], size, "swiglu");
                release(made[i], size, "swiglu");
            }
        }
        rpo_context_free(context);
    }
    for (int i = 0; i < 3; ++i)
        release(first[i], i < 2 ? count : 2 * count, "swiglu");
    rpo_free(grad_out);
    rpo_free(gate_up);
}

Test(swiglu, values_and_gradients) {
    check_swiglu(0, 5);
    check_swiglu(1, 1);
    check_swiglu(7, 33);
    check_swiglu(3, 4096 + 77); /* more than a block, and a ragged one */
}

Test(swiglu, refuses_other_dtypes) {
    rpo_context *context = model_test_context(1);
    float x[4] = {0}, y[2];
    expect_error(context->backend->model.swiglu(context, y, x, 1, 2, RPO_BFLOAT16), RPO_ERROR_UNSUPPORTED,
                 "bfloat16");
    rpo_context_free(context);
}
