/*
 * test_model_gradients.c - the whole model's gradient: directional derivatives, micro-batches, shared prompts, threads,
 * what was in the gradients before, and the memory of a forward without a backward.
 */
#include "tests/model_testing.h"

static const int64_t lengths[8] = {9, 2, 1, 17, 5, 70, 3, 12};
static const int64_t label_starts[8] = {4, 1, 1, 8, 5, 20, 2, 1}; /* the fifth has no label */
static const float upstream[8] = {0.7f, -1.3f, 2.0f, 0.25f, 3.0f, -0.5f, 1.1f, -0.9f};

static rpo_batch batch_of(int64_t first, int64_t end) {
    rpo_batch batch = {0};
    for (int64_t s = first; s < end; ++s)
        add_sequence(&batch, lengths[s], label_starts[s], tiny_config(true).vocab_size, 100 + (uint64_t)s);
    return batch;
}

/* sum_s upstream[s] * logps[s] */
static double objective(const test_model *m, rpo_batch *batch) {
    float logps[8];
    double sum = 0.0;
    MUST(test_score(m, batch, logps, NULL));
    for (int64_t s = 0; s < batch->num_segments; ++s)
        sum += (double)upstream[s] * (double)logps[s];
    return sum;
}

/* The derivative along `direction`, of length 1: differentiated twice, with steps h and h/2, and extrapolated
 * (Richardson), which leaves room for a step large enough for float32. */
static double slope_along(const test_model *m, rpo_batch *batch, const rpo_tensor *tensor, const float *start,
                          const double *direction) {
    float *moved = test_floats((size_t)tensor->count);
    double slopes[2];
    for (int k = 0; k < 2; ++k) {
        const double h = 0.02 / (1 << k);
        double values[2];
        for (int side = 0; side < 2; ++side) {
            for (int64_t i = 0; i < tensor->count; ++i)
                moved[i] = (float)((double)start[i] + (side == 0 ? h : -h) * direction[i]);
            test_set_weights(m, moved, tensor->offset, tensor->count);
            values[side] = objective(m, batch);
        }
        slopes[k] = (values[0] - values[1]) / (2.0 * h);
    }
    test_set_weights(m, start, tensor->offset, tensor->count);
    rpo_free(moved);
    return (4.0 * slopes[1] - slopes[0]) / 3.0;
}

/* Half along the gradient, half random, of length 1: the derivative is then far from zero. Returns what the gradient
 * says that it is. */
static double choose_direction(double *direction, const float *gradient, const rpo_tensor *tensor,
                               uint64_t seed) {
    double gradient_length = 0.0, length = 0.0, analytic = 0.0;
    for (int64_t i = 0; i < tensor->count; ++i)
        gradient_length += pow((double)gradient[i], 2.0);
    cr_assert(gradient_length > 0.0, "%s: its gradient is zero", tensor->name);
    for (int64_t i = 0; i < tensor->count; ++i) {
        direction[i] = rpo_random_normal(seed, 77, (uint64_t)i) +
                       sqrt((double)tensor->count / gradient_length) * (double)gradient[i];
        length += pow(direction[i], 2.0);
    }
    for (int64_t i = 0; i < tensor->count; ++i) {
        direction[i] /= sqrt(length);
        analytic += (double)gradient[i] * direction[i];
    }
    return analytic;
}

/* Tensor by tensor, so that a wrong small one cannot hide behind the large ones. */
static void check_directions(bool tied) {
    rpo_context *context = model_test_context(2);
    const rpo_model_config config = tiny_config(tied);
    test_model m = test_model_create(context, &config, 3);
    const rpo_tensor_table *tensors = rpo_model_tensors(m.model);
    rpo_batch batch = batch_of(0, 8);
    MUST(test_record(&m, &batch, NULL));
    MUST(test_backward(&m, upstream, false, NULL));
    float *gradients = test_gradients(&m), *weights = test_weights(&m);
    for (size_t p = 0; p < tensors->count; ++p) {
        const rpo_tensor *tensor = &tensors->items[p];
        double *direction = rpo_calloc_array((size_t)tensor->count, sizeof *direction);
        cr_assert_not_null(direction);
        const double analytic = choose_direction(direction, gradients + tensor->slot, tensor, 40 + p);
        const double wanted = slope_along(&m, &batch, tensor, weights + tensor->offset, direction);
        cr_expect(fabs(analytic - wanted) <= 4e-3 * fabs(analytic) + 4e-3,
                  "%s (%s): slope %.8g, gradient says %.8g", tensor->name, tied ? "tied" : "untied", wanted,
                  analytic);
        rpo_free(direction);
    }
    rpo_free(weights);
    rpo_free(gradients);
    rpo_batch_free(&batch);
    test_model_free(&m);
    rpo_context_free(context);
}

Test(model_gradients, directional_derivatives) {
    check_directions(true);
    check_directions(false);
}

/* The first micro-batch overwrites what the gradients held, the others add. Gradients: rpo_free. */
static float *split_into(test_model *m, int64_t size, float logps[8]) {
    test_fill_gradients(m, 0xff);
    for (int64_t first = 0; first < 8; first += size) {
        rpo_batch batch = batch_of(first, first + size < 8 ? first + size : 8);
        MUST(test_record(m, &batch, NULL));
        MUST(test_backward(m, upstream + first, first > 0, logps + first));
        rpo_batch_free(&batch);
    }
    return test_gradients(m);
}

/* Tensor by tensor. */
static void expect_close(const test_model *m, const float *gradients, const float *expected,
                         const char *what) {
    const rpo_tensor_table *tensors = rpo_model_tensors(m->model);
    for (size_t p = 0; p < tensors->count; ++p) {
        const int64_t at = tensors->items[p].slot;
        const double error = relative_error(gradients + at, expected + at, (size_t)tensors->items[p].count);
        cr_expect(error <= 1e-5, "%s, %s: %g", tensors->items[p].name, what, error);
    }
}

/* The gradient of one packed batch is the sum over any split of it; log-probs do not change at all. */
static void check_micro_batches(bool tied) {
    static const int64_t sizes[] = {4, 2, 1, 3};
    rpo_context *context = model_test_context(2);
    const rpo_model_config config = tiny_config(tied);
    test_model m = test_model_create(context, &config, 5);
    float whole_logps[8], logps[8];
    float *whole = split_into(&m, 8, whole_logps);
    for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; ++k) {
        float *gradients = split_into(&m, sizes[k], logps);
        char what[32];
        snprintf(what, sizeof what, "micro-batches of %d", (int)sizes[k]);
        expect_close(&m, gradients, whole, what);
        const double error = relative_error(logps, whole_logps, 8);
        cr_expect(error <= 1e-6, "log-probs, micro-batches of %d: %g", (int)sizes[k], error);
        rpo_free(gradients);
    }
    rpo_free(whole);
    test_model_free(&m);
    rpo_context_free(context);
}

Test(model_gradients, micro_batches_add_up) {
    check_micro_batches(true);
    check_micro_batches(false);
}

/* Two batches on the device at once, each with a tape of its own, go back in the other order than forth. */
Test(model_gradients, batches_wait_for_their_backward) {
    rpo_context *context = model_test_context(2);
    const rpo_model_config config = tiny_config(true);
    test_model m = test_model_create(context, &config, 5);
    rpo_batch batches[2] = {batch_of(0, 5), batch_of(5, 8)};
    rpo_device_batch staged[2];
    rpo_tape tapes[2];
    rpo_bump from = rpo_bump_from(m.memory->tape);
    float logps[8];
    void *seeds[2];
    float *expected = split_into(&m, 5, logps);
    test_fill_gradients(&m, 0xff);
    rpo_staging_reset(m.memory->plan);
    rpo_staging_reset(m.memory->figures);
    for (int k = 0; k < 2; ++k) {
        MUST(rpo_batch_stage(&batches[k], m.memory->plan, &staged[k]));
        (void)rpo_staging_put(m.memory->plan, upstream + 5 * k, k == 0 ? 5 : 3, sizeof *upstream, &seeds[k]);
        rpo_tape_lay_out(&tapes[k], m.model, &from, batches[k].num_rows);
    }
    MUST(rpo_staging_upload(m.memory->plan));
    for (int k = 0; k < 2; ++k) {
        float *device_logps = NULL;
        (void)test_output(&m, batches[k].num_segments, &device_logps);
        MUST(rpo_model_record(m.model, &tapes[k], &staged[k], device_logps));
    }
    for (int k = 1; k >= 0; --k)
        MUST(rpo_model_backward(m.model, &tapes[k], seeds[k], k == 0, NULL));
    float *gradients = test_gradients(&m);
    expect_close(&m, gradients, expected, "in the other order");
    rpo_free(gradients);
    rpo_free(expected);
    for (int k = 0; k < 2; ++k)
        rpo_batch_free(&batches[k]);
    test_model_free(&m);
    rpo_context_free(context);
}

/* Log-probs of nothing are 0, and so is their gradient, with whatever it was before overwritten. */
Test(model_gradients, a_batch_without_labels_has_none) {
    rpo_context *context = model_test_context(2);
    const rpo_model_config config = tiny_config(false);
    test_model m = test_model_create(context, &config, 5);
    rpo_batch batch = {0};
    add_sequence(&batch, 7, 7, config.vocab_size, 1);
    add_sequence(&batch, 1, 1, config.vocab_size, 2);
    for (int with_logps = 0; with_logps < 2; ++with_logps) {
        float logps[2] = {NAN, NAN};
        test_fill_gradients(&m, 0xff);
        MUST(test_record(&m, &batch, with_logps ? logps : NULL));
        MUST(test_backward(&m, upstream, false, with_logps ? NULL : logps));
        cr_expect(logps[0] == 0.0f && logps[1] == 0.0f);
        float *gradients = test_gradients(&m);
        const rpo_tensor_table *tensors = rpo_model_tensors(m.model);
        for (size_t p = 0; p < tensors->count; ++p)
            for (int64_t i = 0; i < tensors->items[p].count; ++i)
                cr_assert_eq(gradients[tensors->items[p].slot + i], 0.0f, "%s", tensors->items[p].name);
        rpo_free(gradients);
    }
    rpo_batch_free(&batch);
    test_model_free(&m);
    rpo_context_free(context);
}

/* A batch of one, whose gradients are exactly doubled by a second pass that adds. */
Test(model_gradients, the_same_batch_again_doubles_them) {
    rpo_context *context = model_test_context(2);
    const rpo_model_config config = tiny_config(true);
    test_model m = test_model_create(context, &config, 5);
    const rpo_tensor_table *tensors = rpo_model_tensors(m.model);
    rpo_batch batch = batch_of(3, 4);
    float *passes[2];
    for (int pass = 0; pass < 2; ++pass) {
        MUST(test_record(&m, &batch, NULL));
        MUST(test_backward(&m, upstream, pass > 0, NULL));
        passes[pass] = test_gradients(&m);
    }
    for (int64_t i = 0; i < tensors->trainable; ++i)
        passes[0][i] *= 2.0f;
    for (size_t p = 0; p < tensors->count; ++p) {
        const int64_t at = tensors->items[p].slot;
        const double error = relative_error(passes[1] + at, passes[0] + at, (size_t)tensors->items[p].count);
        cr_expect(error <= 1e-6, "%s: %g", tensors->items[p].name, error);
    }
    rpo_free(passes[0]);
    rpo_free(passes[1]);
    rpo_batch_free(&batch);
    test_model_free(&m);
    rpo_context_free(context);
}

/* Not a bit of what was in the gradients before is left where they are overwritten. */
static void check_overwritten(bool tied, bool with_logps) {
    rpo_context *context = model_test_context(2);
    const rpo_model_config config = tiny_config(tied);
    test_model m = test_model_create(context, &config, 5);
    const rpo_tensor_table *tensors = rpo_model_tensors(m.model);
    rpo_batch batch = batch_of(0, 8);
    float logps[8];
    float *gradients[2];
    for (int k = 0; k < 2; ++k) {
        test_fill_gradients(&m, k == 0 ? 0 : 0xff);
        MUST(test_record(&m, &batch, with_logps ? logps : NULL));
        MUST(test_backward(&m, upstream, false, NULL));
        gradients[k] = test_gradients(&m);
    }
    for (size_t p = 0; p < tensors->count; ++p) {
        const rpo_tensor *tensor = &tensors->items[p];
        const size_t bytes = (size_t)tensor->count * sizeof(float);
        cr_expect_eq(memcmp(gradients[0] + tensor->slot, gradients[1] + tensor->slot, bytes), 0,
                     "%s (%s): depends on what was there", tensor->name, tied ? "tied" : "untied");
    }
    rpo_free(gradients[0]);
    rpo_free(gradients[1]);
    rpo_batch_free(&batch);
    test_model_free(&m);
    rpo_context_free(context);
}

Test(model_gradients, overwritten_gradients_leave_nothing) {
    for (int k = 0; k < 4; ++k)
        check_overwritten(k % 2 == 0, k / 2 == 0);
}

/* Tensors start on the grid, unless they go on where a product's member before them ended; what lies between is 0. */
Test(model_gradients, padding_between_tensors_stays_zero) {
    rpo_context *context = model_test_context(2);
    const rpo_model_config config = tiny_config(false);
    test_model m = test_model_create(context, &config, 5);
    const rpo_tensor_table *tensors = rpo_model_tensors(m.model);
    rpo_batch batch = batch_of(0, 8);
    int64_t padding = 0;
    MUST(test_record(&m, &batch, NULL));
    MUST(test_backward(&m, upstream, false, NULL));
    float *gradients = test_gradients(&m), *weights = test_weights(&m);
    cr_assert_eq(tensors->weights, tensors->trainable);
    for (size_t p = 0; p < tensors->count; ++p) {
        const rpo_tensor *tensor = &tensors->items[p];
        const int64_t next = p + 1 < tensors->count ? tensors->items[p + 1].slot : tensors->trainable;
        cr_expect_eq(tensor->slot, tensor->offset);
        cr_expect(tensor->slot % RPO_TENSOR_ALIGNMENT == 0 ||
                      (p > 0 && rpo_tensor_is_continued_by(&tensors->items[p - 1], tensor)),
                  "%s", tensor->name);
        for (int64_t i = tensor->slot + tensor->count; i < next; ++i, ++padding)
            cr_expect(gradients[i] == 0.0f && weights[i] == 0.0f);
    }
    cr_expect(padding > 0);
    rpo_free(weights);
    rpo_free(gradients);
    rpo_batch_free(&batch);
    test_model_free(&m);
    rpo_context_free(context);
}

/* One forward and backward on a fresh model: bits of the log-probs and of the gradients. */
static float *run_once(int num_threads, int64_t *total, float logps[8]) {
    rpo_context *context = model_test_context(num_threads);
    const rpo_model_config config = tiny_config(true);
    test_model m = test_model_create(context, &config, 7);
    rpo_batch batch = batch_of(0, 8);
    MUST(test_record(&m, &batch, NULL));
    MUST(test_backward(&m, upstream, false, logps));
    float *gradients = test_gradients(&m);
    *total = rpo_model_tensors(m.model)->trainable;
    rpo_batch_free(&batch);
    test_model_free(&m);
    rpo_context_free(context);
    return gradients;
}

Test(model_gradients, same_bits_from_the_same_run) {
    float first_logps[8];
    float logps[8];
    int64_t total = 0;
    float *first = run_once(2, &total, first_logps);
    for (int repeat = 0; repeat < 3; ++repeat) {
        float *again = run_once(2, &total, logps);
        cr_expect_eq(memcmp(first, again, (size_t)total * sizeof *first), 0);
        cr_expect_eq(memcmp(first_logps, logps, sizeof logps), 0);
        rpo_free(again);
    }
    rpo_free(first);
}

Test(model_gradients, a_backward_needs_its_forward) {
    rpo_context *context = model_test_context(1);
    const rpo_model_config config = tiny_config(true);
    test_model m = test_model_create(context, &config, 7);
    rpo_batch batch = batch_of(0, 4), empty = {0};
    float logps[8];
    expect_error(test_backward(&m, upstream, false, NULL), RPO_ERROR_INVALID_ARGUMENT, "recorded forward");
    MUST(test_score(&m, &batch, logps, NULL));
    expect_error(test_backward(&m, upstream, false, NULL), RPO_ERROR_INVALID_ARGUMENT, "recorded forward");
    MUST(test_record(&m, &batch, logps));
    MUST(test_backward(&m, upstream, false, NULL));
    expect_error(test_backward(&m, upstream, false, NULL), RPO_ERROR_INVALID_ARGUMENT, "recorded forward");
    MUST(test_record(&m, &batch, logps));
    MUST(test_record(&m, &empty, logps)); /* nothing to do is no fault, but then nothing is recorded */
    expect_error(test_backward(&m, upstream, false, NULL), RPO_ERROR_INVALID_ARGUMENT, "recorded forward");
    rpo_batch_free(&batch);
    test_model_free(&m);
    rpo_context_free(context);
}

/* Bytes of a model's memory beyond its weights, for scoring alone, once it has scored a batch. */
static size_t scoring_bytes(int64_t layers) {
    rpo_context *context = model_test_context(1);
    rpo_model_config config = tiny_config(true);
    rpo_batch batch = batch_of(0, 8);
    test_model m = {.context = context};
    float logps[8];
    config.num_hidden_layers = layers;
    MUST(rpo_model_new(&m.model, context, &config));
    rpo_memory_request request = test_memory_request(m.model);
    request.train = false;
    MUST(rpo_memory_create(&m.memory, m.model, &request));
    MUST(rpo_model_initialise(m.model, 7));
    MUST(test_score(&m, &batch, logps, NULL));
    cr_expect(m.memory->gradients == NULL && m.memory->tape == NULL && m.memory->moments[0] == NULL);
    expect_error(test_backward(&m, upstream, false, NULL), RPO_ERROR_INVALID_ARGUMENT, "gradients");
    const size_t bytes = rpo_arena_size(m.memory->arena) -
                         rpo_bump_align((size_t)rpo_model_tensors(m.model)->weights * sizeof(float));
    rpo_batch_free(&batch);
    test_model_free(&m);
    rpo_context_free(context);
    return bytes;
}

/* A forward that keeps nothing needs one layer's memory however many layers there are. */
Test(model_gradients, inference_memory_does_not_grow_with_layers) {
    const size_t one = scoring_bytes(1);
    cr_expect(one > 0);
    cr_expect_eq(one, scoring_bytes(9));
}

/* Token log-probs add up to those of their sequence; the packed result is that of each sequence alone. */
Test(model_gradients, sequences_are_independent) {
    rpo_context *context = model_test_context(2);
    const rpo_model_config config = tiny_config(true);
    test_model m = test_model_create(context, &config, 7);
    rpo_batch batch = batch_of(0, 8);
    float logps[8];
    float *tokens = test_floats((size_t)batch.num_rows);
    MUST(test_score(&m, &batch, logps, tokens));
    for (int64_t s = 0; s < 8; ++s) {
        rpo_batch alone = batch_of(s, s + 1);
        float logp = NAN;
        double sum = 0.0;
        MUST(test_score(&m, &alone, &logp, NULL));
        for (int64_t t = batch.cu_seqlens[s]; t < batch.cu_seqlens[s + 1]; ++t)
            sum += (double)tokens[t];
        cr_expect(relative_error(&logp, &logps[s], 1) <= 1e-6);
        cr_expect(fabs(sum - (double)logp) <= 1e-4);
        cr_expect(logp <= 0.0f && (label_starts[s] < lengths[s] ? logp < -0.1f : logp == 0.0f));
        rpo_batch_free(&alone);
    }
    rpo_free(tokens);
    rpo_batch_free(&batch);
    test_model_free(&m);
    rpo_context_free(context);
}

/* What a forward says does not depend on whether it is recorded, nor on whether the head ran before the backward. */
Test(model_gradients, recorded_or_not_the_log_probs_are_the_same) {
    rpo_context *context = model_test_context(2);
    const rpo_model_config config = tiny_config(false);
    test_model m = test_model_create(context, &config, 7);
    rpo_batch batch = batch_of(0, 8);
    float scored[8], recorded[8], late[8];
    MUST(test_score(&m, &batch, scored, NULL));
    MUST(test_record(&m, &batch, recorded));
    MUST(test_backward(&m, upstream, false, NULL));
    MUST(test_record(&m, &batch, NULL));
    MUST(test_backward(&m, upstream, false, late));
    cr_expect_eq(memcmp(scored, recorded, sizeof scored), 0);
    cr_expect(relative_error(late, scored, 8) <= 1e-6);
    rpo_batch_free(&batch);
    test_model_free(&m);
    rpo_context_free(context);
}
