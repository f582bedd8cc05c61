/*
 * test_attention.c - attention over segments: lengths around the tiles' edges, empty segments, groups of heads,
 * prefixes with no, one and several users; against double, and against the same sequences unshared.
 */
#include "tests/ops/segments_testing.h"

/* What one forward and backward leave. */
typedef struct results {
    float *out, *logsumexp, *grad_qkv;
    int64_t out_count, lse_count, qkv_count;
} results;

static rpo_attention_shape shape_of(const batch_layout *layout, int64_t heads, int64_t kv_heads,
                                    int64_t dim) {
    return (rpo_attention_shape){layout->rows, heads, kv_heads, dim, (float)(1.0 / sqrt((double)dim)),
                                 RPO_FLOAT32};
}

static results run(int threads, const batch_layout *layout, const rpo_attention_shape *shape,
                   const float *qkv, const float *grad_out) {
    rpo_context *context = model_test_context(threads);
    const rpo_model_ops *ops = &context->backend->model;
    const size_t forward_size = ops->attention_workspace_size(context, &layout->view, shape, false);
    const size_t backward_size = ops->attention_workspace_size(context, &layout->view, shape, true);
    const int64_t forward_floats = (int64_t)(forward_size / 4),
                  backward_floats = (int64_t)(backward_size / 4);
    float *forward_space = guarded(forward_floats), *backward_space = guarded(backward_floats);
    results made = {.out_count = layout->rows * shape->num_heads * shape->head_dim,
                    .lse_count = layout->rows * shape->num_heads,
                    .qkv_count = layout->rows * qkv_size(shape)};
    made.out = guarded(made.out_count);
    made.logsumexp = guarded(made.lse_count);
    made.grad_qkv = guarded(made.qkv_count);
    MUST(ops->attention(context, made.out, made.logsumexp, qkv, &layout->view, shape, forward_space,
                        forward_size));
    const rpo_attention_saved saved = {qkv, made.out, made.logsumexp};
    MUST(ops->attention_backward(context, made.grad_qkv, grad_out, &saved, &layout->view, shape,
                                 backward_space, backward_size));
    if (forward_size > 0)
        cr_expect_eq(ops->attention(context, made.out, made.logsumexp, qkv, &layout->view, shape,
                                    forward_space, forward_size - 1),
                     RPO_ERROR_WORKSPACE);
    if (backward_size > 0)
        cr_expect_eq(ops->attention_backward(context, made.grad_qkv, grad_out, &saved, &layout->view, shape,
                                             backward_space, backward_size - 1),
                     RPO_ERROR_WORKSPACE);
    release(backward_space, backward_floats, "attention_backward workspace");
    release(forward_space, forward_floats, "attention workspace");
    rpo_context_free(context);
    return made;
}

static void release_results(const results *made) {
    release(made->out, made->out_count, "attention");
    release(made->logsumexp, made->lse_count, "logsumexp");
    release(made->grad_qkv, made->qkv_count, "attention_backward");
}

static void check_results(const attention_reference_shape *shape, const float *qkv, const float *grad_out,
                          const results *made) {
    const op_case out = {"attention", reference_attention, shape,          1,
                         {qkv},       {made->qkv_count},   made->out_count};
    const op_case lse = {"logsumexp", reference_logsumexp, shape,          1,
                         {qkv},       {made->qkv_count},   made->lse_count};
    expect_value(&out, made->out);
    expect_value(&lse, made->logsumexp);
    expect_gradient(&out, grad_out, 0, made->grad_qkv);
}

typedef struct head_counts {
    int64_t heads, kv_heads, dim;
} head_counts;

static void check_attention(head_counts heads, const test_segment *segments, int64_t count,
                            double size_of_scores) {
    batch_layout layout;
    lay_out_segments(&layout, segments, count);
    const rpo_attention_shape shape = shape_of(&layout, heads.heads, heads.kv_heads, heads.dim);
    const attention_reference_shape checked = {shape, &layout};
    float *qkv = test_normals((size_t)(layout.rows * qkv_size(&shape)) + 1, 31, size_of_scores);
    float *grad_out = test_normals((size_t)(layout.rows * heads.heads * heads.dim) + 1, 32, 1.0);
    const results first = run(thread_counts[0], &layout, &shape, qkv, grad_out);
    check_results(&checked, qkv, grad_out, &first);
    for (int n = 1; n < THREAD_COUNTS; ++n) {
        const results made = run(thread_counts[n], &layout, &shape, qkv, grad_out);
        expect_same_bits(first.out, made.out, made.out_count, "attention");
        expect_same_bits(first.logsumexp, made.logsumexp, made.lse_count, "logsumexp");
        expect_same_bits(first.grad_qkv, made.grad_qkv, made.qkv_count, "attention_backward");
        release_results(&made);
    }
    release_results(&first);
    rpo_free(grad_out);
    rpo_free(qkv);
}

#define CHECK(heads, size_of_scores, ...)                                                                    \
    do {                                                                                                     \
        static const test_segment segments[] = {__VA_ARGS__};                                                \
        check_attention((heads), segments, (int64_t)(sizeof segments / sizeof segments[0]), size_of_scores); \
    } while (0)

static const head_counts tiny = {1, 1, 2}, plain = {2, 2, 8}, halves = {4, 2, 6}, one_kv = {4, 1, 10},
                         thirds = {6, 2, 4};

Test(attention, of_segments_alone) {
    CHECK(tiny, 1.0, {1, -1});
    CHECK(halves, 1.0, {1, -1}, {2, -1}, {0, -1}, {17, -1}, {63, -1}, {1, -1});
    CHECK(one_kv, 1.0, {64, -1}, {65, -1}, {1, -1});
    CHECK(plain, 1.0, {321, -1});
    CHECK(thirds, 1.0, {255, -1}, {257, -1}, {2, -1});
}

Test(attention, of_nothing) {
    CHECK(plain, 1.0, {0, -1});
    CHECK(plain, 1.0, {0, -1}, {0, 0}, {0, -1});
}

/* Scores of hundreds, the largest coming late: the running maximum must hold them. */
Test(attention, of_large_scores) {
    static const head_counts heads = {2, 1, 4};
    CHECK(heads, 6.0, {300, -1});
    CHECK(heads, 5.0, {280, -1}, {70, 0});
}

Test(attention, of_prefixes) {
    CHECK(tiny, 1.0, {1, -1}, {1, 0});
    CHECK(halves, 1.0, {5, -1}, {3, 0}, {4, 0});
    CHECK(plain, 1.0, {63, -1}, {65, 0}, {1, 0}, {64, 0});
    CHECK(one_kv, 1.0, {64, -1}, {64, 0}, {65, 0});
    CHECK(halves, 1.0, {65, -1}, {63, 0}, {2, 0});
    CHECK(thirds, 1.0, {257, -1}, {64, 0}, {65, 0});
    CHECK(plain, 1.0, {256, -1}, {257, 0});
}

/* Prefixes, users far from theirs and segments alone; empty prefixes, empty users, a prefix without users. */
Test(attention, of_mixed_segments) {
    CHECK(halves, 1.0, {7, -1}, {20, -1}, {9, 0}, {66, -1}, {5, 3}, {64, 0}, {70, 3}, {1, -1}, {3, 0});
    CHECK(one_kv, 1.0, {0, -1}, {5, 0}, {66, 0}, {4, -1}, {0, 3}, {2, 3}, {0, 3});
    CHECK(thirds, 1.0, {30, -1}, {1, -1}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, {33, 0});
}

/* ---- a prefix shared and not ---- */

static void copy_rows(float *to, int64_t to_row, const float *from, int64_t from_row, int64_t rows,
                      int64_t size) {
    memcpy(to + to_row * size, from + from_row * size, (size_t)(rows * size) * sizeof *to);
}

/* Adds what unshared copies of the prefix received. */
static void add_rows(float *to, const float *from, int64_t from_row, int64_t rows, int64_t size) {
    for (int64_t i = 0; i < rows * size; ++i)
        to[i] += from[from_row * size + i];
}

/*
 * A prefix of `length` rows and its users, beside one whole sequence a user. The prefix's own rows are those of the
 * first sequence: the copies in the others get no gradient of their own.
 */
static void check_shared(head_counts heads, int32_t length, const int32_t *users, int64_t num_users) {
    test_segment shared[SEGMENTS_MAX] = {{length, -1}}, apart[SEGMENTS_MAX];
    for (int64_t u = 0; u < num_users; ++u) {
        shared[u + 1] = (test_segment){users[u], 0};
        apart[u] = (test_segment){length + users[u], -1};
    }
    batch_layout one, many;
    lay_out_segments(&one, shared, num_users + 1);
    lay_out_segments(&many, apart, num_users);
    const rpo_attention_shape one_shape = shape_of(&one, heads.heads, heads.kv_heads, heads.dim);
    const rpo_attention_shape many_shape = shape_of(&many, heads.heads, heads.kv_heads, heads.dim);
    const int64_t size = qkv_size(&one_shape), out_size = heads.heads * heads.dim;
    float *qkv = test_normals((size_t)(one.rows * size), 71, 1.0);
    float *grad_out = test_normals((size_t)(one.rows * out_size), 72, 1.0);
    float *many_qkv = test_floats((size_t)(many.rows * size));
    float *many_grad_out = test_floats((size_t)(many.rows * out_size));
    for (int64_t u = 0; u < num_users; ++u) {
        const int64_t from = one.cu_seqlens[u + 1], to = many.cu_seqlens[u];
        copy_rows(many_qkv, to, qkv, 0, length, size);
        copy_rows(many_qkv, to + length, qkv, from, users[u], size);
        if (u == 0)
            copy_rows(many_grad_out, to, grad_out, 0, length, out_size);
        copy_rows(many_grad_out, to + length, grad_out, from, users[u], out_size);
    }
    const results a = run(2, &one, &one_shape, qkv, grad_out);
    const results b = run(2, &many, &many_shape, many_qkv, many_grad_out);
    float *prefix_grad = test_floats((size_t)(length * size));
    expect_close(a.out, b.out, length * out_size, 1e-6, "the prefix's rows");
    for (int64_t u = 0; u < num_users; ++u) {
        const int64_t from = one.cu_seqlens[u + 1], to = many.cu_seqlens[u] + length;
        expect_close(a.out + from * out_size, b.out + to * out_size, users[u] * out_size, 1e-6,
                     "a user's rows");
        expect_close(a.grad_qkv + from * size, b.grad_qkv + to * size, users[u] * size, 1e-6,
                     "the gradient of a user's rows");
        add_rows(prefix_grad, b.grad_qkv, many.cu_seqlens[u], length, size);
    }
    expect_close(a.grad_qkv, prefix_grad, length * size, 1e-6, "the gradient of the prefix's rows");
    release_results(&a);
    release_results(&b);
    rpo_free(prefix_grad);
    rpo_free(many_grad_out);
    rpo_free(many_qkv);
    rpo_free(grad_out);
    rpo_free(qkv);
}

Test(attention, a_shared_prefix_is_the_same_sequences_unshared) {
    check_shared(plain, 40, (const int32_t[]){30}, 1);
    check_shared(halves, 64, (const int32_t[]){65, 1, 64}, 3);
    check_shared(one_kv, 257, (const int32_t[]){63, 65}, 2);
    check_shared(thirds, 13, (const int32_t[]){1, 2, 3, 70, 5, 6, 7}, 7);
}

/* A family of segments is the same wherever it stands and whatever stands between: no bit of it follows the batch. */
Test(attention, does_not_depend_on_the_rest_of_the_batch) {
    static const test_segment alone[] = {{7, -1}, {70, 0}, {65, 0}};
    static const test_segment among[] = {{33, -1}, {7, -1}, {4, 0}, {70, 1}, {20, -1}, {65, 1}};
    static const int places[] = {1, 3, 5}; /* of the family among the others */
    batch_layout one, many;
    lay_out_segments(&one, alone, 3);
    lay_out_segments(&many, among, 6);
    const rpo_attention_shape one_shape = shape_of(&one, halves.heads, halves.kv_heads, halves.dim);
    const rpo_attention_shape many_shape = shape_of(&many, halves.heads, halves.kv_heads, halves.dim);
    const int64_t size = qkv_size(&one_shape), out_size = halves.heads * halves.dim;
    float *many_qkv = test_normals((size_t)(many.rows * size), 81, 1.0);
    float *many_grad_out = test_normals((size_t)(many.rows * out_size), 82, 1.0);
    float *qkv = test_floats((size_t)(one.rows * size)),
          *grad_out = test_floats((size_t)(one.rows * out_size));
    for (int s = 0; s < 3; ++s) {
        const int64_t to = one.cu_seqlens[s], from = many.cu_seqlens[places[s]];
        copy_rows(qkv, to, many_qkv, from, alone[s].length, size);
        copy_rows(grad_out, to, many_grad_out, from, alone[s].length, out_size);
    }
    const results a = run(2, &one, &one_shape, qkv, grad_out);
    const results b = run(2, &many, &many_shape, many_qkv, many_grad_out);
    for (int s = 0; s < 3; ++s) {
        const int64_t at = one.cu_seqlens[s], other = many.cu_seqlens[places[s]], rows = alone[s].length;
        expect_same_bits(a.out + at * out_size, b.out + other * out_size, rows * out_size, "attention");
        expect_same_bits(a.grad_qkv + at * size, b.grad_qkv + other * size, rows * size,
                         "attention_backward");
    }
    release_results(&a);
    release_results(&b);
    rpo_free(grad_out);
    rpo_free(qkv);
    rpo_free(many_grad_out);
    rpo_free(many_qkv);
}

Test(attention, sees_neither_the_future_nor_other_segments) {
    enum { HEADS = 2, DIM = 8, ROW = 3 * HEADS * DIM, OUT = HEADS * DIM };
    static const test_segment segments[] = {{100, -1}, {80, -1}, {120, 1}, {60, 1}};
    batch_layout layout;
    lay_out_segments(&layout, segments, 4);
    const rpo_attention_shape shape = shape_of(&layout, HEADS, HEADS, DIM);
    rpo_context *context = model_test_context(2);
    const rpo_model_ops *ops = &context->backend->model;
    const size_t size = ops->attention_workspace_size(context, &layout.view, &shape, false);
    void *workspace = rpo_alloc_array(size, 1);
    float *qkv = test_normals((size_t)(layout.rows * ROW), 41, 1.0);
    float *before = test_floats((size_t)(layout.rows * OUT)),
          *after = test_floats((size_t)(layout.rows * OUT));
    MUST(ops->attention(context, before, NULL, qkv, &layout.view, &shape, workspace, size));
    for (int64_t i = 250 * ROW; i < 300 * ROW; ++i) /* the end of the first user */
        qkv[i] += 3.0f;
    for (int64_t i = 0; i < 10 * ROW; ++i) /* the beginning of the segment alone */
        qkv[i] -= 3.0f;
    MUST(ops->attention(context, after, NULL, qkv, &layout.view, &shape, workspace, size));
    expect_same_bits(before + 100 * OUT, after + 100 * OUT, 150 * OUT,
                     "the prefix and its first user before it");
    expect_same_bits(before + 300 * OUT, after + 300 * OUT, 60 * OUT, "the other user");
    cr_expect(relative_error(before, after, 100 * OUT) > 1e-2, "the segment alone did not change");
    cr_expect(relative_error(before + 250 * OUT, after + 250 * OUT, 50 * OUT) > 1e-2,
              "the user did not change");
    for (int64_t i = 100 * ROW; i < 101 * ROW; ++i) /* the prefix's first row: both users see it */
        qkv[i] += 3.0f;
    MUST(ops->attention(context, before, NULL, qkv, &layout.view, &shape, workspace, size));
    expect_same_bits(before, after, 100 * OUT, "the segment alone");
    cr_expect(relative_error(before + 180 * OUT, after + 180 * OUT, OUT) > 1e-2, "a user missed its prefix");
    cr_expect(relative_error(before + 300 * OUT, after + 300 * OUT, OUT) > 1e-2, "a user missed its prefix");
    rpo_free(after);
    rpo_free(before);
    rpo_free(qkv);
    rpo_free(workspace);
    rpo_context_free(context);
}
