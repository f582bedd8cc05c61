/* test_linear.c - y = x W^T and its gradients: strided rows, residuals, every way to overwrite and to add. */
#include "tests/ops/model_ops_testing.h"

static void reference_linear(const void *shape, const double *const inputs[], double *out) {
    const rpo_linear_shape *s = shape;
    for (int64_t r = 0; r < s->rows; ++r)
        for (int64_t o = 0; o < s->out_features; ++o)
            out[r * s->out_stride + o] =
                dot(inputs[0] + r * s->in_stride, inputs[1] + o * s->in_features, s->in_features);
}

typedef struct linear_case {
    rpo_linear_shape shape;
    int64_t x_count, w_count, y_count;
    float *x, *weight, *grad_y; /* what lies between two rows is NaN */
} linear_case;

/* Rows of `columns` numbers and NaN up to the stride. */
static float *strided(int64_t rows, int64_t columns, int64_t stride, uint64_t seed) {
    float *values = test_normals((size_t)(rows * stride) + 1, seed, 1.0);
    for (int64_t r = 0; r < rows; ++r)
        for (int64_t c = columns; c < stride; ++c)
            values[r * stride + c] = NAN;
    return values;
}

/* What lies between two rows of an output must be as it was; it becomes 0, for the comparisons to come. */
static void clear_gaps(float *values, int64_t rows, int64_t columns, int64_t stride, const float *before) {
    for (int64_t r = 0; r < rows; ++r)
        for (int64_t c = columns; c < stride; ++c) {
            const int64_t at = r * stride + c;
            cr_expect(before != NULL ? memcmp(values + at, before + at, sizeof *values) == 0
                                     : is_untouched(values + at),
                      "wrote between two rows");
            values[at] = 0.0f;
        }
}

static linear_case linear_case_new(rpo_linear_shape shape) {
    linear_case c = {.shape = shape,
                     .x_count = shape.rows * shape.in_stride,
                     .w_count = shape.in_features * shape.out_features,
                     .y_count = shape.rows * shape.out_stride};
    c.x = strided(shape.rows, shape.in_features, shape.in_stride, 61);
    c.weight = test_normals((size_t)c.w_count, 62, 1.0 / sqrt((double)shape.in_features));
    c.grad_y = strided(shape.rows, shape.out_features, shape.out_stride, 63);
    return c;
}

static void linear_case_free(linear_case *c) {
    rpo_free(c->grad_y);
    rpo_free(c->weight);
    rpo_free(c->x);
}

/* A residual, apart and in place; gradients on top of others. */
static void check_added(rpo_context *context, const linear_case *c, const float *y, const float *grad_x,
                        const float *grad_weight) {
    const rpo_model_ops *ops = &context->backend->model;
    const rpo_linear_shape *s = &c->shape;
    float *residual = test_normals((size_t)c->y_count + 1, 64, 1.0);
    float *apart = guarded(c->y_count), *in_place = guarded_copy(residual, c->y_count);
    float *sum_x = guarded_copy(c->x, c->x_count), *sum_weight = guarded_copy(c->weight, c->w_count);
    MUST(ops->linear(context, apart, c->x, c->weight, residual, s));
    MUST(ops->linear(context, in_place, c->x, c->weight, in_place, s));
    MUST(ops->linear_backward_input(context, sum_x, c->grad_y, c->weight, s, true));
    MUST(ops->linear_backward_weight(context, sum_weight, c->grad_y, c->x, s, true));
    clear_gaps(apart, s->rows, s->out_features, s->out_stride, NULL);
    clear_gaps(in_place, s->rows, s->out_features, s->out_stride, residual);
    clear_gaps(sum_x, s->rows, s->in_features, s->in_stride, c->x);
    clear_gaps(residual, s->rows, s->out_features, s->out_stride, residual);
    expect_added(apart, residual, y, c->y_count, "linear, residual");
    expect_same_bits(apart, in_place, c->y_count, "linear, residual in place");
    float *x = guarded_copy(c->x, c->x_count);
    clear_gaps(x, s->rows, s->in_features, s->in_stride, c->x);
    expect_added(sum_x, x, grad_x, c->x_count, "linear_backward_input, added");
    expect_added(sum_weight, c->weight, grad_weight, c->w_count, "linear_backward_weight, added");
    release(x, c->x_count, "x");
    release(sum_weight, c->w_count, "linear_backward_weight");
    release(sum_x, c->x_count, "linear_backward_input");
    release(in_place, c->y_count, "linear");
    release(apart, c->y_count, "linear");
    rpo_free(residual);
}

/* The references take zeros where the op must not look. */
static void check_against_reference(const linear_case *c, const float *y, const float *grad_x,
                                    const float *grad_weight) {
    const rpo_linear_shape *s = &c->shape;
    float *x = guarded_copy(c->x, c->x_count), *grad_y = guarded_copy(c->grad_y, c->y_count);
    clear_gaps(x, s->rows, s->in_features, s->in_stride, c->x);
    clear_gaps(grad_y, s->rows, s->out_features, s->out_stride, c->grad_y);
    const op_case checked = {"linear",       reference_linear,         s,         2,
                             {x, c->weight}, {c->x_count, c->w_count}, c->y_count};
    expect_value(&checked, y);
    expect_gradient(&checked, grad_y, 0, grad_x);
    expect_gradient(&checked, grad_y, 1, grad_weight);
    release(grad_y, c->y_count, "grad_y");
    release(x, c->x_count, "x");
}

static void check_linear(rpo_linear_shape shape) {
    linear_case c = linear_case_new(shape);
    const int64_t counts[3] = {c.y_count, c.x_count, c.w_count};
    float *first[3] = {NULL};
    for (int n = 0; n < THREAD_COUNTS; ++n) {
        rpo_context *context = model_test_context(thread_counts[n]);
        const rpo_model_ops *ops = &context->backend->model;
        float *made[3] = {guarded(c.y_count), guarded(c.x_count), guarded(c.w_count)};
        MUST(ops->linear(context, made[0], c.x, c.weight, NULL, &shape));
        MUST(ops->linear_backward_input(context, made[1], c.grad_y, c.weight, &shape, false));
        MUST(ops->linear_backward_weight(context, made[2], c.grad_y, c.x, &shape, false));
        clear_gaps(made[0], shape.rows, shape.out_features, shape.out_stride, NULL);
        clear_gaps(made[1], shape.rows, shape.in_features, shape.in_stride, NULL);
        if (n == 0) {
            check_against_reference(&c, made[0], made[1], made[2]);
            check_added(context, &c, made[0], made[1], made[2]);
            memcpy(first, made, sizeof first);
        } else {
            for (int i = 0; i < 3; ++i) {
                expect_same_bits(first[i], made[i], counts[i], "linear");
                release(made[i], counts[i], "linear");
            }
        }
        rpo_context_free(context);
    }
    for (int i = 0; i < 3; ++i)
        release(first[i], counts[i], "linear");
    linear_case_free(&c);
}

Test(linear, values_and_gradients) {
    check_linear((rpo_linear_shape){1, 1, 1, 1, 1, RPO_FLOAT32});
    check_linear((rpo_linear_shape){7, 5, 3, 9, 8, RPO_FLOAT32});
    check_linear((rpo_linear_shape){300, 33, 260, 33, 260, RPO_FLOAT32}); /* several tiles, ragged ends */
}

Test(linear, of_no_rows_has_a_gradient_of_zero) {
    check_linear((rpo_linear_shape){0, 5, 3, 5, 3, RPO_FLOAT32});
}
