/* test_rope.c - rotary embeddings: the table and the rotation, there and back. */
#include "tests/ops/model_ops_testing.h"

typedef struct reference_shape {
    rpo_rope_shape op;
    const int32_t *positions;
    double theta;
} reference_shape;

static void reference_rope(const void *shape, const double *const inputs[], double *out) {
    const reference_shape *s = shape;
    const int64_t dim = s->op.head_dim, half = dim / 2;
    memcpy(out, inputs[0], (size_t)(s->op.rows * s->op.stride) * sizeof *out);
    for (int64_t t = 0; t < s->op.rows; ++t)
        for (int64_t h = 0; h < s->op.num_heads; ++h)
            for (int64_t i = 0; i < half; ++i) {
                const double angle = s->positions[t] * pow(s->theta, -2.0 * (double)i / (double)dim);
                double *x = out + t * s->op.stride + h * dim;
                const double a = x[i];
                const double b = x[i + half];
                x[i] = a * cos(angle) - b * sin(angle);
                x[i + half] = b * cos(angle) + a * sin(angle);
            }
}

Test(rope, turns_by_the_position_and_back) {
    enum { ROWS = 21, HEADS = 3, DIM = 10, STRIDE = HEADS * DIM + 7, POSITIONS = 1000 };
    int32_t positions[ROWS];
    for (int t = 0; t < ROWS; ++t)
        positions[t] = (int32_t)(rpo_random_u64(5, 1, (uint64_t)t) % POSITIONS);
    const reference_shape shape = {{ROWS, HEADS, DIM, STRIDE, RPO_FLOAT32}, positions, 10000.0};
    float *x = test_normals(ROWS * STRIDE, 21, 1.0);
    float *grad_out = test_normals(ROWS * STRIDE, 22, 1.0);
    float *first = NULL;
    const op_case c = {"rope", reference_rope, &shape, 1, {x}, {ROWS * STRIDE}, ROWS * STRIDE};
    for (int n = 0; n < THREAD_COUNTS; ++n) {
        rpo_context *context = model_test_context(thread_counts[n]);
        const rpo_model_ops *ops = &context->backend->model;
        float *table = guarded(POSITIONS * DIM);
        float *y = guarded_copy(x, ROWS * STRIDE), *grad = guarded_copy(grad_out, ROWS * STRIDE);
        MUST(ops->rope_table(context, table, 0, 400, DIM, 10000.0));
        for (int64_t i = 400 * DIM; i < POSITIONS * DIM; ++i)
            cr_assert(is_untouched(table + i), "the table was written beyond what was asked for");
        MUST(ops->rope_table(context, table, 400, POSITIONS - 400, DIM, 10000.0));
        MUST(ops->rope(context, y, table, positions, &shape.op, false));
        expect_value(&c, y);
        if (n == 0)
            first = guarded_copy(y, ROWS * STRIDE);
        expect_same_bits(first, y, ROWS * STRIDE, "rope");
        MUST(ops->rope(context, y, table, positions, &shape.op, true));
        expect_close(y, x, ROWS * STRIDE, 1e-6, "rope, turned back");
        MUST(ops->rope(context, grad, table, positions, &shape.op, true));
        expect_gradient(&c, grad_out, 0, grad);
        release(grad, ROWS * STRIDE, "rope");
        release(y, ROWS * STRIDE, "rope");
        release(table, POSITIONS * DIM, "rope_table");
        rpo_context_free(context);
    }
    release(first, ROWS * STRIDE, "rope");
    rpo_free(grad_out);
    rpo_free(x);
}
