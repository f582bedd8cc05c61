/* test_rmsnorm.c - values, both gradients, every way to overwrite and to add them. */
#include "tests/ops/model_ops_testing.h"

static void reference_rmsnorm(const void *shape, const double *const inputs[], double *out) {
    const rpo_norm_shape *s = shape;
    const int64_t hidden = s->hidden_size;
    for (int64_t t = 0; t < s->rows; ++t) {
        const double *x = inputs[0] + t * hidden;
        const double r = 1.0 / sqrt(dot(x, x, hidden) / (double)hidden + (double)s->eps);
        for (int64_t h = 0; h < hidden; ++h)
            out[t * hidden + h] = inputs[1][h] * x[h] * r;
    }
}

typedef struct norm_case {
    rpo_norm_shape shape;
    int64_t count;
    float *x, *weight, *grad_out, *inverse_rms;
} norm_case;

/* Gradients by one call; what is not added to begins as NaN. */
typedef struct norm_gradients {
    float *x, *weight;
} norm_gradients;

static norm_gradients run_backward(rpo_context *context, const norm_case *c, bool accumulate_x,
                                   bool accumulate_weight, bool frozen) {
    const rpo_model_ops *ops = &context->backend->model;
    const int64_t hidden = c->shape.hidden_size;
    /* On top of grad_out and weight, as good as any numbers. */
    norm_gradients made = {accumulate_x ? guarded_copy(c->grad_out, c->count) : guarded(c->count),
                           accumulate_weight ? guarded_copy(c->weight, hidden) : guarded(hidden)};
    const rpo_rmsnorm_gradients gradients = {made.x, frozen ? NULL : made.weight, accumulate_x,
                                             accumulate_weight};
    const size_t size = ops->rmsnorm_backward_workspace_size(context, &c->shape);
    float *workspace = guarded((int64_t)(size / sizeof(float)));
    MUST(ops->rmsnorm_backward(context, &gradients, c->grad_out, c->x, c->weight, c->inverse_rms, &c->shape,
                               workspace, size));
    if (size > 0)
        cr_expect_eq(ops->rmsnorm_backward(context, &gradients, c->grad_out, c->x, c->weight, c->inverse_rms,
                                           &c->shape, workspace, size - 1),
                     RPO_ERROR_WORKSPACE);
    release(workspace, (int64_t)(size / sizeof(float)), "rmsnorm workspace");
    return made;
}

static void release_gradients(const norm_case *c, norm_gradients made) {
    release(made.x, c->count, "rmsnorm_backward, x");
    release(made.weight, c->shape.hidden_size, "rmsnorm_backward, weight");
}

/* Every way to add, against the overwriting call. */
static void check_ways(rpo_context *context, const norm_case *c, norm_gradients wanted) {
    const int64_t hidden = c->shape.hidden_size;
    for (int way = 1; way < 4; ++way) {
        const bool add_x = way & 1, add_weight = way & 2;
        const norm_gradients made = run_backward(context, c, add_x, add_weight, false);
        if (add_x)
            expect_added(made.x, c->grad_out, wanted.x, c->count, "rmsnorm_backward, x added");
        else
            expect_same_bits(made.x, wanted.x, c->count, "rmsnorm_backward, x");
        if (add_weight)
            expect_added(made.weight, c->weight, wanted.weight, hidden, "rmsnorm_backward, weight added");
        else
            expect_same_bits(made.weight, wanted.weight, hidden, "rmsnorm_backward, weight");
        release_gradients(c, made);
    }
    const norm_gradients frozen = run_backward(context, c, false, false, true);
    expect_same_bits(frozen.x, wanted.x, c->count, "rmsnorm_backward of a frozen weight");
    for (int64_t h = 0; h < hidden; ++h)
        cr_expect(is_untouched(frozen.weight + h));
    release_gradients(c, frozen);
}

static void check_rmsnorm(int64_t rows, int64_t hidden) {
    const int64_t count = rows * hidden;
    norm_case one = {.shape = {rows, hidden, 1e-5f, RPO_FLOAT32},
                     .count = count,
                     .x = test_normals((size_t)count + 1, 11, 2.0),
                     .weight = test_normals((size_t)hidden, 12, 1.0),
                     .grad_out = test_normals((size_t)count + 1, 13, 1.0)};
    const op_case c = {"rmsnorm",           reference_rmsnorm, &one.shape, 2,
                       {one.x, one.weight}, {count, hidden},   count};
    norm_gradients first = {NULL, NULL};
    float *first_out = NULL;
    for (int n = 0; n < THREAD_COUNTS; ++n) {
        rpo_context *context = model_test_context(thread_counts[n]);
        const rpo_model_ops *ops = &context->backend->model;
        float *out = guarded(count), *without = guarded(count);
        one.inverse_rms = guarded(rows);
        MUST(ops->rmsnorm(context, out, one.inverse_rms, one.x, one.weight, &one.shape));
        MUST(ops->rmsnorm(context, without, NULL, one.x, one.weight, &one.shape));
        expect_same_bits(out, without, count, "rmsnorm without inverse_rms");
        release(without, count, "rmsnorm");
        const norm_gradients made = run_backward(context, &one, false, false, false);
        if (n == 0) {
            expect_value(&c, out);
            expect_gradient(&c, one.grad_out, 0, made.x);
            expect_gradient(&c, one.grad_out, 1, made.weight);
            check_ways(context, &one, made);
            first = made;
            first_out = out;
        } else {
            expect_same_bits(first_out, out, count, "rmsnorm");
            expect_same_bits(first.x, made.x, count, "rmsnorm_backward, x");
            expect_same_bits(first.weight, made.weight, hidden, "rmsnorm_backward, weight");
            release_gradients(&one, made);
            release(out, count, "rmsnorm");
        }
        release(one.inverse_rms, rows, "inverse_rms");
        rpo_context_free(context);
    }
    release(first_out, count, "rmsnorm");
    release_gradients(&one, first);
    rpo_free(one.grad_out);
    rpo_free(one.weight);
    rpo_free(one.x);
}

Test(rmsnorm, values_and_gradients) {
    check_rmsnorm(1, 1);
    check_rmsnorm(3, 17);
    check_rmsnorm(131, 48);
    check_rmsnorm(1100, 5); /* as many strips of rows as there are */
}

Test(rmsnorm, of_no_rows_has_a_gradient_of_zero) {
    check_rmsnorm(0, 9);
}
