/*
 * test_model_ops.c - every op of a decoder against a plain double reference: values, gradients as directional
 * derivatives of the reference, exact equality between numbers of threads, untouched guards around outputs.
 */
#include "tests/model_testing.h"

#include "kernels/op_table.h"

/* ---- harness ---- */

static const double value_tolerance = 5e-6;
static const double gradient_tolerance = 2e-5;

enum { MAX_INPUTS = 3, GUARD = 32 /* floats on either side */ };
static const uint32_t guard_bits = 0x7fc0babeu; /* a NaN nobody computes */

/* Memory that starts as NaN between guards. */
static float *guarded(int64_t count) {
    uint32_t *memory = rpo_alloc_array((size_t)count + 2 * GUARD, sizeof *memory);
    cr_assert_not_null(memory);
    for (int64_t i = 0; i < count + 2 * GUARD; ++i)
        memory[i] = guard_bits;
    return (float *)memory + GUARD;
}

static void release(float *values, int64_t count, const char *what) {
    const float *base = values - GUARD;
    for (int64_t i = 0; i < GUARD; ++i) {
        uint32_t before;
        uint32_t after;
        memcpy(&before, base + i, sizeof before);
        memcpy(&after, values + count + i, sizeof after);
        cr_expect(before == guard_bits && after == guard_bits, "%s: wrote outside its output", what);
    }
    rpo_free(values - GUARD);
}

/* A double reference of y = f(inputs), sizes taken from `shape`. */
typedef void (*reference)(const void *shape, const double *const inputs[], double *out);

typedef struct op_case {
    const char *what;
    reference compute;
    const void *shape;
    int num_inputs;
    const float *inputs[MAX_INPUTS];
    int64_t counts[MAX_INPUTS];
    int64_t out_count;
} op_case;

static double *widen(const float *values, int64_t count) {
    double *wide = rpo_alloc_array((size_t)count + 1, sizeof *wide);
    cr_assert_not_null(wide);
    for (int64_t i = 0; i < count; ++i)
        wide[i] = (double)values[i];
    return wide;
}

static void expect_value(const op_case *c, const float *out) {
    double *inputs[MAX_INPUTS] = {NULL};
    double *wanted = rpo_calloc_array((size_t)c->out_count + 1, sizeof *wanted);
    float *narrow = test_floats((size_t)c->out_count + 1);
    for (int k = 0; k < c->num_inputs; ++k)
        inputs[k] = widen(c->inputs[k], c->counts[k]);
    c->compute(c->shape, (const double *const *)inputs, wanted);
    for (int64_t i = 0; i < c->out_count; ++i)
        narrow[i] = (float)wanted[i];
    const double error = relative_error(out, narrow, (size_t)c->out_count);
    cr_expect(error <= value_tolerance, "%s: relative error %g", c->what, error);
    for (int k = 0; k < c->num_inputs; ++k)
        rpo_free(inputs[k]);
    rpo_free(narrow);
    rpo_free(wanted);
}

/* <grad_out, f(x + h d)> in double, direction d on input k only. */
static double probe(const op_case *c, const float *grad_out, int k, const float *direction, double h) {
    double *inputs[MAX_INPUTS] = {NULL};
    double *out = rpo_calloc_array((size_t)c->out_count + 1, sizeof *out);
    double sum = 0.0;
    for (int i = 0; i < c->num_inputs; ++i)
        inputs[i] = widen(c->inputs[i], c->counts[i]);
    for (int64_t i = 0; i < c->counts[k]; ++i)
        inputs[k][i] += h * (double)direction[i];
    c->compute(c->shape, (const double *const *)inputs, out);
    for (int64_t i = 0; i < c->out_count; ++i)
        sum += (double)grad_out[i] * out[i];
    for (int i = 0; i < c->num_inputs; ++i)
        rpo_free(inputs[i]);
    rpo_free(out);
    return sum;
}

/* gradient of input k against central differences along three directions. */
static void expect_gradient(const op_case *c, const float *grad_out, int k, const float *gradient) {
    const double h = 1e-5;
    for (uint64_t trial = 0; trial < 3; ++trial) {
        float *direction = test_normals((size_t)c->counts[k], 900 + trial, 1.0);
        double along = 0.0;
        double scale = 1.0;
        for (int64_t i = 0; i < c->counts[k]; ++i) {
            along += (double)gradient[i] * (double)direction[i];
            scale += fabs((double)gradient[i] * (double)direction[i]);
        }
        const double wanted =
            (probe(c, grad_out, k, direction, h) - probe(c, grad_out, k, direction, -h)) / (2.0 * h);
        cr_expect(fabs(along - wanted) <= gradient_tolerance * scale,
                  "%s: input %d, direction %d: %.9g, expected %.9g", c->what, k, (int)trial, along, wanted);
        rpo_free(direction);
    }
}

static void expect_same_bits(const float *a, const float *b, int64_t count, const char *what) {
    cr_expect_eq(memcmp(a, b, (size_t)count * sizeof *a), 0, "%s: the number of threads shows in the result",
                 what);
}

static const int thread_counts[] = {1, 2, 5};
enum { THREAD_COUNTS = 3 };

/* ---- embedding ---- */

Test(model_ops, embedding) {
    enum { ROWS = 37, HIDDEN = 70, VOCAB = 11 };
    int32_t tokens[ROWS];
    for (int t = 0; t < ROWS; ++t)
        tokens[t] = (int32_t)(rpo_random_u64(3, 1, (uint64_t)t) % VOCAB);
    float *table = test_normals(VOCAB * HIDDEN, 1, 1.0);
    float *grad_out = test_normals(ROWS * HIDDEN, 2, 1.0);
    float *first = NULL;
    for (int n = 0; n < THREAD_COUNTS; ++n) {
        rpo_context *context = model_test_context(thread_counts[n]);
        const rpo_model_ops *ops = &context->backend->model;
        float *out = guarded(ROWS * HIDDEN);
        float *grad = test_normals(VOCAB * HIDDEN, 4, 1.0); /* gradients are added */
        MUST(ops->embedding(context, out, table, tokens, ROWS, HIDDEN, RPO_FLOAT32));
        for (int t = 0; t < ROWS; ++t)
            cr_expect_eq(memcmp(out + t * HIDDEN, table + tokens[t] * HIDDEN, HIDDEN * sizeof *out), 0);
        MUST(ops->embedding_backward(context, grad, grad_out, tokens, ROWS, HIDDEN, RPO_FLOAT32));
        if (n == 0) {
            float *before = test_normals(VOCAB * HIDDEN, 4, 1.0);
            for (int t = 0; t < ROWS; ++t)
                for (int h = 0; h < HIDDEN; ++h)
                    before[tokens[t] * HIDDEN + h] += grad_out[t * HIDDEN + h];
            cr_expect(relative_error(grad, before, VOCAB * HIDDEN) <= 1e-6);
            rpo_free(before);
            first = grad;
        } else {
            expect_same_bits(first, grad, VOCAB * HIDDEN, "embedding_backward");
            rpo_free(grad);
        }
        release(out, ROWS * HIDDEN, "embedding");
        rpo_context_free(context);
    }
    rpo_free(first);
    rpo_free(grad_out);
    rpo_free(table);
}

/* ---- rmsnorm ---- */

typedef struct norm_shape {
    int64_t rows, hidden;
    double eps;
} norm_shape;

static void reference_rmsnorm(const void *shape, const double *const inputs[], double *out) {
    const norm_shape *s = shape;
    for (int64_t t = 0; t < s->rows; ++t) {
        const double *x = inputs[0] + t * s->hidden;
        double squares = 0.0;
        for (int64_t h = 0; h < s->hidden; ++h)
            squares += x[h] * x[h];
        const double r = 1.0 / sqrt(squares / (double)s->hidden + s->eps);
        for (int64_t h = 0; h < s->hidden; ++h)
            out[t * s->hidden + h] = inputs[1][h] * x[h] * r;
    }
}

static void check_rmsnorm(int64_t rows, int64_t hidden) {
    const norm_shape shape = {rows, hidden, 1e-5};
    const int64_t count = rows * hidden;
    float *x = test_normals((size_t)count, 11, 2.0);
    float *weight = test_normals((size_t)hidden, 12, 1.0);
    float *grad_out = test_normals((size_t)count, 13, 1.0);
    float *first_x = NULL;
    float *first_weight = NULL;
    const op_case c = {"rmsnorm", reference_rmsnorm, &shape, 2, {x, weight}, {count, hidden}, count};
    for (int n = 0; n < THREAD_COUNTS; ++n) {
        rpo_context *context = model_test_context(thread_counts[n]);
        const rpo_model_ops *ops = &context->backend->model;
        float *out = guarded(count);
        float *inverse_rms = guarded(rows);
        float *grad_x = guarded(count);
        float *grad_weight = test_floats((size_t)hidden);
        const size_t size = ops->rmsnorm_backward_workspace_size(context, rows, hidden);
        float *workspace = guarded((int64_t)(size / sizeof(float)));
        MUST(ops->rmsnorm(context, out, inverse_rms, x, weight, rows, hidden, 1e-5f, RPO_FLOAT32));
        MUST(ops->rmsnorm_backward(context, grad_x, grad_weight, grad_out, x, weight, inverse_rms, rows,
                                   hidden, false, RPO_FLOAT32, workspace, size));
        if (n == 0) {
            expect_value(&c, out);
            expect_gradient(&c, grad_out, 0, grad_x);
            expect_gradient(&c, grad_out, 1, grad_weight);
            first_x = grad_x;
            first_weight = grad_weight;
        } else {
            expect_same_bits(first_x, grad_x, count, "rmsnorm_backward, x");
            expect_same_bits(first_weight, grad_weight, hidden, "rmsnorm_backward, weight");
            /* accumulate: once more on top */
            MUST(ops->rmsnorm_backward(context, grad_x, grad_weight, grad_out, x, weight, inverse_rms, rows,
                                       hidden, true, RPO_FLOAT32, workspace, size));
            float *twice = test_floats((size_t)count);
            for (int64_t i = 0; i < count; ++i)
                twice[i] = 2.0f * first_x[i];
            cr_expect(relative_error(grad_x, twice, (size_t)count) <= 1e-6);
            rpo_free(twice);
            release(grad_x, count, "rmsnorm_backward");
            rpo_free(grad_weight);
        }
        if (size > 0)
            cr_expect_eq(ops->rmsnorm_backward(context, grad_x, grad_weight, grad_out, x, weight, inverse_rms,
                                               rows, hidden, false, RPO_FLOAT32, workspace, size - 1),
                         RPO_ERROR_WORKSPACE);
        release(workspace, (int64_t)(size / sizeof(float)), "rmsnorm workspace");
        release(inverse_rms, rows, "inverse_rms");
        release(out, count, "rmsnorm");
        rpo_context_free(context);
    }
    release(first_x, count, "rmsnorm_backward");
    rpo_free(first_weight);
    rpo_free(grad_out);
    rpo_free(weight);
    rpo_free(x);
}

Test(model_ops, rmsnorm) {
    check_rmsnorm(1, 1);
    check_rmsnorm(3, 17);
    check_rmsnorm(131, 48);
}

/* ---- rope ---- */

typedef struct rope_shape {
    int64_t rows, stride, heads, head_dim;
    const int32_t *positions;
    double theta;
} rope_shape;

static void reference_rope(const void *shape, const double *const inputs[], double *out) {
    const rope_shape *s = shape;
    const int64_t half = s->head_dim / 2;
    memcpy(out, inputs[0], (size_t)(s->rows * s->stride) * sizeof *out);
    for (int64_t t = 0; t < s->rows; ++t)
        for (int64_t h = 0; h < s->heads; ++h)
            for (int64_t i = 0; i < half; ++i) {
                const double angle = s->positions[t] * pow(s->theta, -2.0 * (double)i / (double)s->head_dim);
                double *x = out + t * s->stride + h * s->head_dim;
                const double a = x[i];
                const double b = x[i + half];
                x[i] = a * cos(angle) - b * sin(angle);
                x[i + half] = b * cos(angle) + a * sin(angle);
            }
}

Test(model_ops, rope) {
    enum { ROWS = 21, HEADS = 3, DIM = 10, STRIDE = HEADS * DIM + 7, POSITIONS = 1000 };
    int32_t positions[ROWS];
    for (int t = 0; t < ROWS; ++t)
        positions[t] = (int32_t)(rpo_random_u64(5, 1, (uint64_t)t) % POSITIONS);
    const rope_shape shape = {ROWS, STRIDE, HEADS, DIM, positions, 10000.0};
    float *x = test_normals(ROWS * STRIDE, 21, 1.0);
    float *grad_out = test_normals(ROWS * STRIDE, 22, 1.0);
    const op_case c = {"rope", reference_rope, &shape, 1, {x}, {ROWS * STRIDE}, ROWS * STRIDE};
    for (int n = 0; n < THREAD_COUNTS; ++n) {
        rpo_context *context = model_test_context(thread_counts[n]);
        const rpo_model_ops *ops = &context->backend->model;
        float *table = guarded(POSITIONS * DIM);
        float *y = guarded(ROWS * STRIDE);
        memcpy(y, x, ROWS * STRIDE * sizeof *y);
        MUST(ops->rope_table(context, table, 0, 400, DIM, 10000.0));
        MUST(ops->rope_table(context, table, 400, POSITIONS - 400, DIM, 10000.0));
        MUST(ops->rope(context, y, STRIDE, table, positions, ROWS, HEADS, DIM, false, RPO_FLOAT32));
        expect_value(&c, y);
        MUST(ops->rope(context, y, STRIDE, table, positions, ROWS, HEADS, DIM, true, RPO_FLOAT32));
        cr_expect(relative_error(y, x, ROWS * STRIDE) <= 1e-6, "the inverse does not turn back");
        memcpy(y, grad_out, ROWS * STRIDE * sizeof *y);
        MUST(ops->rope(context, y, STRIDE, table, positions, ROWS, HEADS, DIM, true, RPO_FLOAT32));
        expect_gradient(&c, grad_out, 0, y);
        release(y, ROWS * STRIDE, "rope");
        release(table, POSITIONS * DIM, "rope_table");
        rpo_context_free(context);
    }
    rpo_free(grad_out);
    rpo_free(x);
}

/* ---- attention ---- */

typedef struct attention_reference_shape {
    rpo_attention_shape op;
    const int32_t *cu_seqlens;
} attention_reference_shape;

static double dot(const double *a, const double *b, int64_t count) {
    double sum = 0.0;
    for (int64_t i = 0; i < count; ++i)
        sum += a[i] * b[i];
    return sum;
}

static void reference_attention(const void *shape, const double *const inputs[], double *out) {
    const attention_reference_shape *s = shape;
    const int64_t dim = s->op.head_dim;
    const int64_t heads = s->op.num_heads;
    const int64_t row = (heads + 2 * s->op.num_kv_heads) * dim;
    double *p = rpo_alloc_array((size_t)s->op.rows + 1, sizeof *p);
    for (int64_t q = 0; q < s->op.num_sequences; ++q)
        for (int64_t h = 0; h < heads; ++h) {
            const int64_t kv = h / (heads / s->op.num_kv_heads);
            for (int64_t i = s->cu_seqlens[q]; i < s->cu_seqlens[q + 1]; ++i) {
                const double *query = inputs[0] + i * row + h * dim;
                double largest = -INFINITY;
                double sum = 0.0;
                for (int64_t j = s->cu_seqlens[q]; j <= i; ++j) {
                    p[j] = (double)s->op.scale * dot(query, inputs[0] + j * row + (heads + kv) * dim, dim);
                    largest = fmax(largest, p[j]);
                }
                for (int64_t j = s->cu_seqlens[q]; j <= i; ++j)
                    sum += p[j] = exp(p[j] - largest);
                double *to = out + (i * heads + h) * dim;
                memset(to, 0, (size_t)dim * sizeof *to);
                for (int64_t j = s->cu_seqlens[q]; j <= i; ++j)
                    for (int64_t d = 0; d < dim; ++d)
                        to[d] +=
                            p[j] / sum * inputs[0][j * row + (heads + s->op.num_kv_heads + kv) * dim + d];
            }
        }
    rpo_free(p);
}

static void check_attention(int64_t heads, int64_t kv_heads, int64_t dim, const int32_t *cu_seqlens,
                            int64_t num_sequences, double size_of_scores) {
    const int64_t rows = cu_seqlens[num_sequences];
    const int64_t row = (heads + 2 * kv_heads) * dim;
    const attention_reference_shape shape = {
        {rows, num_sequences, heads, kv_heads, dim, (float)(1.0 / sqrt((double)dim)), RPO_FLOAT32},
        cu_seqlens};
    float *qkv = test_normals((size_t)(rows * row), 31, size_of_scores);
    float *grad_out = test_normals((size_t)(rows * heads * dim), 32, 1.0);
    float *first_out = NULL;
    float *first_grad = NULL;
    const op_case c = {"attention", reference_attention, &shape, 1, {qkv}, {rows * row}, rows * heads * dim};
    for (int n = 0; n < THREAD_COUNTS; ++n) {
        rpo_context *context = model_test_context(thread_counts[n]);
        const rpo_model_ops *ops = &context->backend->model;
        const int64_t forward_floats =
            (int64_t)(ops->attention_workspace_size(context, &shape.op, false) / 4);
        const int64_t backward_floats =
            (int64_t)(ops->attention_workspace_size(context, &shape.op, true) / 4);
        float *forward_space = guarded(forward_floats);
        float *backward_space = guarded(backward_floats);
        float *out = guarded(rows * heads * dim);
        float *logsumexp = guarded(rows * heads);
        float *grad = guarded(rows * row);
        MUST(ops->attention(context, out, logsumexp, qkv, cu_seqlens, &shape.op, forward_space,
                            (size_t)forward_floats * 4));
        MUST(ops->attention_backward(context, grad, grad_out, out, logsumexp, qkv, cu_seqlens, &shape.op,
                                     backward_space, (size_t)backward_floats * 4));
        if (n == 0) {
            expect_value(&c, out);
            expect_gradient(&c, grad_out, 0, grad);
            first_out = out;
            first_grad = grad;
        } else {
            expect_same_bits(first_out, out, rows * heads * dim, "attention");
            expect_same_bits(first_grad, grad, rows * row, "attention_backward");
            release(grad, rows * row, "attention_backward");
            release(out, rows * heads * dim, "attention");
        }
        release(logsumexp, rows * heads, "logsumexp");
        release(backward_space, backward_floats, "attention_backward workspace");
        release(forward_space, forward_floats, "attention workspace");
        rpo_context_free(context);
    }
    release(first_grad, rows * row, "attention_backward");
    release(first_out, rows * heads * dim, "attention");
    rpo_free(grad_out);
    rpo_free(qkv);
}

Test(model_ops, attention) {
    /* Around the tiles' edges (64 queries, 256 keys), an empty sequence, single tokens. */
    check_attention(1, 1, 2, (const int32_t[]){0, 1}, 1, 1.0);
    check_attention(4, 2, 6, (const int32_t[]){0, 1, 3, 3, 20, 83, 84}, 6, 1.0);
    check_attention(4, 1, 10, (const int32_t[]){0, 64, 129, 130}, 3, 1.0);
    check_attention(2, 2, 8, (const int32_t[]){0, 321}, 1, 1.0);
    check_attention(3, 3, 16, (const int32_t[]){0, 255, 512, 514}, 3, 1.0);
}

/* Scores of hundreds, the largest coming late: the running maximum must hold them. */
Test(model_ops, attention_of_large_scores) {
    check_attention(2, 1, 4, (const int32_t[]){0, 300}, 1, 6.0);
}

Test(model_ops, attention_sees_neither_the_future_nor_other_sequences) {
    enum { ROWS = 300, HEADS = 2, DIM = 8, ROW = 3 * HEADS * DIM };
    const int32_t cu_seqlens[] = {0, 100, ROWS};
    const rpo_attention_shape shape = {ROWS, 2, HEADS, HEADS, DIM, 0.35f, RPO_FLOAT32};
    rpo_context *context = model_test_context(2);
    const rpo_model_ops *ops = &context->backend->model;
    const size_t size = ops->attention_workspace_size(context, &shape, false);
    void *workspace = rpo_alloc_array(size, 1);
    float *qkv = test_normals(ROWS * ROW, 41, 1.0);
    float *before = test_floats(ROWS * HEADS * DIM);
    float *after = test_floats(ROWS * HEADS * DIM);
    MUST(ops->attention(context, before, NULL, qkv, cu_seqlens, &shape, workspace, size));
    for (int64_t i = 250 * ROW; i < ROWS * ROW; ++i) /* the end of the second sequence */
        qkv[i] += 3.0f;
    for (int64_t i = 0; i < 10 * ROW; ++i) /* the beginning of the first */
        qkv[i] -= 3.0f;
    MUST(ops->attention(context, after, NULL, qkv, cu_seqlens, &shape, workspace, size));
    expect_same_bits(before + 100 * HEADS * DIM, after + 100 * HEADS * DIM, 150 * HEADS * DIM,
                     "unrelated rows");
    cr_expect(relative_error(before, after, 100 * HEADS * DIM) > 1e-2, "the first sequence did not change");
    rpo_free(after);
    rpo_free(before);
    rpo_free(qkv);
    rpo_free(workspace);
    rpo_context_free(context);
}

/* ---- swiglu ---- */

static void reference_swiglu(const void *shape, const double *const inputs[], double *out) {
    const int64_t count = *(const int64_t *)shape;
    for (int64_t i = 0; i < count; ++i)
        out[i] = inputs[0][i] / (1.0 + exp(-inputs[0][i])) * inputs[1][i];
}

Test(model_ops, swiglu) {
    const int64_t count = 3 * 4096 + 77;
    float *gate = test_normals((size_t)count, 51, 4.0);
    float *up = test_normals((size_t)count, 52, 1.0);
    float *grad_out = test_normals((size_t)count, 53, 1.0);
    float *first = NULL;
    gate[0] = 0.0f;
    gate[1] = 200.0f; /* sigmoid is 1, then 0, without overflow */
    gate[2] = -200.0f;
    const op_case c = {"swiglu", reference_swiglu, &count, 2, {gate, up}, {count, count}, count};
    for (int n = 0; n < THREAD_COUNTS; ++n) {
        rpo_context *context = model_test_context(thread_counts[n]);
        const rpo_model_ops *ops = &context->backend->model;
        float *out = guarded(count);
        MUST(ops->swiglu(context, out, gate, up, count, RPO_FLOAT32));
        expect_value(&c, out);
        /* In place, as the model calls it. */
        float *grad_gate = guarded(count);
        float *grad_up = guarded(count);
        float *product = guarded(count);
        memcpy(grad_gate, gate, (size_t)count * sizeof *gate);
        memcpy(grad_up, up, (size_t)count * sizeof *up);
        memcpy(product, grad_out, (size_t)count * sizeof *product);
        MUST(ops->swiglu_backward(context, grad_gate, grad_up, product, product, grad_gate, grad_up, count,
                                  RPO_FLOAT32));
        cr_expect(relative_error(product, out, (size_t)count) <= 1e-6);
        expect_gradient(&c, grad_out, 0, grad_gate);
        expect_gradient(&c, grad_out, 1, grad_up);
        release(product, count, "swiglu_backward");
        release(grad_up, count, "swiglu_backward");
        if (n == 0) {
            first = grad_gate;
        } else {
            expect_same_bits(first, grad_gate, count, "swiglu_backward");
            release(grad_gate, count, "swiglu_backward");
        }
        release(out, count, "swiglu");
        rpo_context_free(context);
    }
    release(first, count, "swiglu_backward");
    rpo_free(grad_out);
    rpo_free(up);
    rpo_free(gate);
}

/* ---- linear ---- */

static void reference_linear(const void *shape, const double *const inputs[], double *out) {
    const rpo_linear_shape *s = shape;
    for (int64_t r = 0; r < s->rows; ++r)
        for (int64_t o = 0; o < s->out_stride; ++o)
            out[r * s->out_stride + o] =
                o >= s->out_features
                    ? 0.0
                    : dot(inputs[0] + r * s->in_stride, inputs[1] + o * s->in_features, s->in_features);
}

static void check_linear(rpo_linear_shape shape) {
    const int64_t x_count = shape.rows * shape.in_stride;
    const int64_t y_count = shape.rows * shape.out_stride;
    const int64_t w_count = shape.in_features * shape.out_features;
    float *x = test_normals((size_t)x_count, 61, 1.0);
    float *weight = test_normals((size_t)w_count, 62, 1.0 / sqrt((double)shape.in_features));
    float *grad_y = test_normals((size_t)y_count, 63, 1.0);
    float *first[3] = {NULL};
    const op_case c = {"linear", reference_linear, &shape, 2, {x, weight}, {x_count, w_count}, y_count};
    for (int n = 0; n < THREAD_COUNTS; ++n) {
        rpo_context *context = model_test_context(thread_counts[n]);
        const rpo_model_ops *ops = &context->backend->model;
        float *y = test_floats((size_t)y_count);
        float *grad_x = test_floats((size_t)x_count);
        float *grad_weight = test_floats((size_t)w_count);
        MUST(ops->linear(context, y, x, weight, NULL, &shape));
        MUST(ops->linear_backward_input(context, grad_x, grad_y, weight, &shape, false));
        MUST(ops->linear_backward_weight(context, grad_weight, grad_y, x, &shape));
        float *results[3] = {y, grad_x, grad_weight};
        const int64_t counts[3] = {y_count, x_count, w_count};
        if (n == 0) {
            expect_value(&c, y);
            expect_gradient(&c, grad_y, 0, grad_x);
            expect_gradient(&c, grad_y, 1, grad_weight);
            /* A residual, apart and in place; a second gradient on top of the first. */
            float *sum = test_floats((size_t)y_count);
            float *wanted = test_floats((size_t)y_count);
            MUST(ops->linear(context, sum, x, weight, grad_y, &shape));
            for (int64_t i = 0; i < y_count; ++i)
                wanted[i] = i % shape.out_stride < shape.out_features ? y[i] + grad_y[i] : 0.0f;
            cr_expect(relative_error(sum, wanted, (size_t)y_count) <= 1e-6);
            memcpy(sum, grad_y, (size_t)y_count * sizeof *sum);
            MUST(ops->linear(context, sum, x, weight, sum, &shape));
            for (int64_t i = 0; i < y_count; ++i)
                wanted[i] = i % shape.out_stride < shape.out_features ? wanted[i] : grad_y[i];
            cr_expect(relative_error(sum, wanted, (size_t)y_count) <= 1e-6);
            rpo_free(wanted);
            rpo_free(sum);
            memcpy(first, results, sizeof first);
        } else {
            for (int i = 0; i < 3; ++i) {
                expect_same_bits(first[i], results[i], counts[i], "linear");
                rpo_free(results[i]);
            }
        }
        rpo_context_free(context);
    }
    for (int i = 0; i < 3; ++i)
        rpo_free(first[i]);
    rpo_free(grad_y);
    rpo_free(weight);
    rpo_free(x);
}

Test(model_ops, linear) {
    check_linear((rpo_linear_shape){1, 1, 1, 1, 1, RPO_FLOAT32});
    check_linear((rpo_linear_shape){7, 5, 3, 9, 8, RPO_FLOAT32});
    check_linear((rpo_linear_shape){300, 33, 260, 33, 260, RPO_FLOAT32}); /* several tiles, ragged ends */
}

Test(model_ops, other_dtypes_are_refused) {
    rpo_context *context = model_test_context(1);
    float x[4] = {0};
    expect_error(context->backend->model.swiglu(context, x, x, x, 4, RPO_BFLOAT16), RPO_ERROR_UNSUPPORTED,
                 "bfloat16");
    rpo_context_free(context);
}
