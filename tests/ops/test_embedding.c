/* test_embedding.c - rows by token id, and the table's gradient by the order of a batch's tokens. */
#include "tests/ops/model_ops_testing.h"

/* The order of a batch's tokens, found the slow way. */
typedef struct ordered {
    int32_t *tokens, *order, *distinct, *bounds;
    rpo_token_order view;
} ordered;

static ordered ordered_new(int64_t rows, int64_t vocab) {
    ordered made = {.tokens = rpo_alloc_array((size_t)rows + 1, sizeof(int32_t)),
                    .order = rpo_alloc_array((size_t)rows + 1, sizeof(int32_t)),
                    .distinct = rpo_alloc_array((size_t)rows + 1, sizeof(int32_t)),
                    .bounds = rpo_alloc_array((size_t)rows + 1, sizeof(int32_t))};
    for (int64_t t = 0; t < rows; ++t) /* half of them among the first three, so that some come often */
        made.tokens[t] = (int32_t)(rpo_random_u64(3, 1, (uint64_t)t) % (uint64_t)vocab) %
                         (int32_t)(t % 2 == 0 && vocab > 3 ? 3 : vocab);
    int64_t placed = 0, distinct = 0;
    made.bounds[0] = 0;
    for (int32_t v = 0; v < vocab; ++v) {
        const int64_t before = placed;
        for (int64_t t = 0; t < rows; ++t)
            if (made.tokens[t] == v)
                made.order[placed++] = (int32_t)t;
        if (placed > before) {
            made.distinct[distinct++] = v;
            made.bounds[distinct] = (int32_t)placed;
        }
    }
    made.view = (rpo_token_order){made.order, made.distinct, made.bounds, distinct};
    return made;
}

static void ordered_free(ordered *made) {
    rpo_free(made->bounds);
    rpo_free(made->distinct);
    rpo_free(made->order);
    rpo_free(made->tokens);
}

static float *wanted_gradient(const ordered *made, const float *grad_out, int64_t rows, int64_t vocab,
                              int64_t hidden) {
    float *wanted = test_floats((size_t)(vocab * hidden));
    for (int64_t h = 0; h < hidden; ++h)
        for (int64_t v = 0; v < vocab; ++v) {
            double sum = 0.0;
            for (int64_t t = 0; t < rows; ++t)
                sum += made->tokens[t] == v ? (double)grad_out[t * hidden + h] : 0.0;
            wanted[v * hidden + h] = (float)sum;
        }
    return wanted;
}

static void check_backward(const ordered *made, const rpo_embedding_shape *shape) {
    const int64_t count = shape->vocab_size * shape->hidden_size;
    float *grad_out = test_normals((size_t)(shape->rows * shape->hidden_size) + 1, 2, 1.0);
    float *before = test_normals((size_t)count, 4, 1.0);
    float *wanted = wanted_gradient(made, grad_out, shape->rows, shape->vocab_size, shape->hidden_size);
    float *first[2] = {NULL};
    for (int n = 0; n < THREAD_COUNTS; ++n) {
        rpo_context *context = model_test_context(thread_counts[n]);
        const rpo_model_ops *ops = &context->backend->model;
        float *grads[2] = {guarded(count), guarded_copy(before, count)}; /* overwritten, added to */
        for (int added = 0; added < 2; ++added) {
            MUST(ops->embedding_backward(context, grads[added], grad_out, &made->view, shape, added == 1));
            if (n > 0)
                expect_same_bits(first[added], grads[added], count, "embedding_backward");
        }
        if (n == 0) {
            expect_close(grads[0], wanted, count, 1e-6, "embedding_backward");
            expect_added(grads[1], before, wanted, count, "embedding_backward, added");
            for (int64_t i = 0; i < count; ++i)
                cr_expect(wanted[i] != 0.0f || grads[0][i] == 0.0f,
                          "a token that does not occur has a gradient");
            memcpy(first, grads, sizeof first);
        } else {
            release(grads[0], count, "embedding_backward");
            release(grads[1], count, "embedding_backward, added");
        }
        rpo_context_free(context);
    }
    release(first[0], count, "embedding_backward");
    release(first[1], count, "embedding_backward, added");
    rpo_free(wanted);
    rpo_free(before);
    rpo_free(grad_out);
}

static void check_embedding(int64_t rows, int64_t vocab, int64_t hidden) {
    const rpo_embedding_shape shape = {rows, vocab, hidden, RPO_FLOAT32};
    ordered made = ordered_new(rows, vocab);
    float *table = test_normals((size_t)(vocab * hidden), 1, 1.0);
    for (int n = 0; n < THREAD_COUNTS; ++n) {
        rpo_context *context = model_test_context(thread_counts[n]);
        float *out = guarded(rows * hidden);
        MUST(context->backend->model.embedding(context, out, table, made.tokens, &shape));
        for (int64_t t = 0; t < rows; ++t)
            expect_same_bits(out + t * hidden, table + made.tokens[t] * hidden, hidden, "embedding");
        release(out, rows * hidden, "embedding");
        rpo_context_free(context);
    }
    check_backward(&made, &shape);
    rpo_free(table);
    ordered_free(&made);
}

Test(embedding, is_a_row_of_the_table) {
    check_embedding(1, 1, 1);
    check_embedding(37, 11, 70);
    check_embedding(100, 15, 3); /* around the strips of the table */
    check_embedding(100, 16, 3);
    check_embedding(100, 17, 3);
    check_embedding(9, 300, 5); /* most tokens do not occur */
}

Test(embedding, of_no_rows_has_a_gradient_of_zero) {
    check_embedding(0, 40, 6);
}
