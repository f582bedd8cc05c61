/*
 * test_model_gradients.c - the whole model's gradient: directional derivatives, micro-batches, threads, and
 * what a forward without a backward must leave alone.
 */
#include "tests/model_testing.h"

#include "host/model/model_internal.h"

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
static double objective(rpo_model *model, const rpo_batch *batch) {
    float logps[8];
    double sum = 0.0;
    MUST(rpo_model_forward(model, batch, false, logps, NULL));
    for (int64_t s = 0; s < batch->num_sequences; ++s)
        sum += (double)upstream[s] * (double)logps[s];
    return sum;
}

static void check_directions(bool tied) {
    rpo_context *context = model_test_context(2);
    const rpo_model_config config = tiny_config(tied);
    rpo_model *model = NULL;
    rpo_batch batch = batch_of(0, 8);
    float *gradients = NULL;
    int64_t total = 0;
    size_t count = 0;
    MUST(rpo_model_create(&model, context, &config, 3));
    MUST(rpo_model_forward(model, &batch, true, NULL, NULL));
    MUST(rpo_model_backward(model, &batch, upstream, NULL));
    MUST(rpo_model_gradients(model, &gradients, &total));
    float *weights = rpo_model_weights(model, &total);
    const rpo_parameter *parameters = rpo_model_parameters(model, &count);
    /*
     * Parameter by parameter, so that a wrong small one cannot hide behind the large ones. Along a direction
     * d of length 1 the objective is differentiated twice, with steps h and h/2, and extrapolated
     * (Richardson), which leaves room for a step large enough for float32.
     */
    for (size_t p = 0; p < count; ++p) {
        const int64_t n = parameters[p].count;
        float *at = weights + parameters[p].offset;
        float *start = test_floats((size_t)n);
        double slopes[2];
        double length = 0.0;
        double analytic = 0.0;
        memcpy(start, at, (size_t)n * sizeof *at);
        /* Half along the gradient, half random: the derivative is then far from zero. */
        float *direction = test_normals((size_t)n, 40 + p, 1.0);
        double gradient_length = 0.0;
        for (int64_t i = 0; i < n; ++i)
            gradient_length += pow((double)gradients[parameters[p].offset + i], 2.0);
        cr_assert(gradient_length > 0.0, "%s: its gradient is zero", parameters[p].name);
        for (int64_t i = 0; i < n; ++i) {
            direction[i] +=
                (float)(sqrt((double)n / gradient_length) * (double)gradients[parameters[p].offset + i]);
            length += pow((double)direction[i], 2.0);
        }
        length = sqrt(length);
        for (int64_t i = 0; i < n; ++i)
            analytic += (double)gradients[parameters[p].offset + i] * (double)direction[i] / length;
        for (int k = 0; k < 2; ++k) {
            const double h = 0.02 / (1 << k);
            double values[2];
            for (int side = 0; side < 2; ++side) {
                for (int64_t i = 0; i < n; ++i)
                    at[i] = (float)((double)start[i] + (side == 0 ? h : -h) * (double)direction[i] / length);
                values[side] = objective(model, &batch);
            }
            slopes[k] = (values[0] - values[1]) / (2.0 * h);
        }
        const double wanted = (4.0 * slopes[1] - slopes[0]) / 3.0;
        cr_expect(fabs(analytic - wanted) <= 4e-3 * fabs(analytic) + 4e-3,
                  "%s (%s): slope %.8g, gradient says %.8g", parameters[p].name, tied ? "tied" : "untied",
                  wanted, analytic);
        memcpy(at, start, (size_t)n * sizeof *at);
        rpo_free(direction);
        rpo_free(start);
    }
    rpo_batch_free(&batch);
    rpo_model_free(model);
    rpo_context_free(context);
}

Test(model_gradients, directional_derivatives) {
    check_directions(true);
    check_directions(false);
}

/* The gradient of one packed batch is the sum over any split of it; log-probs do not change at all. */
Test(model_gradients, micro_batches_add_up) {
    static const int64_t sizes[] = {8, 4, 2, 1, 3};
    rpo_context *context = model_test_context(2);
    const rpo_model_config config = tiny_config(false);
    rpo_model *model = NULL;
    float *gradients = NULL;
    float *whole = NULL;
    float whole_logps[8];
    int64_t total = 0;
    MUST(rpo_model_create(&model, context, &config, 5));
    MUST(rpo_model_gradients(model, &gradients, &total));
    for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; ++k) {
        float logps[8];
        MUST(rpo_model_zero_gradients(model));
        for (int64_t first = 0; first < 8; first += sizes[k]) {
            rpo_batch batch = batch_of(first, first + sizes[k] < 8 ? first + sizes[k] : 8);
            MUST(rpo_model_forward(model, &batch, true, NULL, NULL));
            MUST(rpo_model_backward(model, &batch, upstream + first, logps + first));
            rpo_batch_free(&batch);
        }
        if (k == 0) {
            whole = test_floats((size_t)total);
            memcpy(whole, gradients, (size_t)total * sizeof *whole);
            memcpy(whole_logps, logps, sizeof logps);
            continue;
        }
        size_t count = 0;
        const rpo_parameter *parameters = rpo_model_parameters(model, &count);
        for (size_t p = 0; p < count; ++p) {
            const int64_t at = parameters[p].offset;
            const double error = relative_error(gradients + at, whole + at, (size_t)parameters[p].count);
            cr_expect(error <= 1e-5, "%s, micro-batches of %d: %g", parameters[p].name, (int)sizes[k], error);
        }
        const double error = relative_error(logps, whole_logps, 8);
        cr_expect(error <= 1e-6, "log-probs, micro-batches of %d: %g", (int)sizes[k], error);
    }
    rpo_free(whole);
    rpo_model_free(model);
    rpo_context_free(context);
}

Test(model_gradients, padding_between_parameters_stays_zero) {
    rpo_context *context = model_test_context(2);
    const rpo_model_config config = tiny_config(false);
    rpo_model *model = NULL;
    rpo_batch batch = batch_of(0, 8);
    float *gradients = NULL;
    int64_t total = 0;
    size_t count = 0;
    MUST(rpo_model_create(&model, context, &config, 5));
    MUST(rpo_model_forward(model, &batch, true, NULL, NULL));
    MUST(rpo_model_backward(model, &batch, upstream, NULL));
    MUST(rpo_model_gradients(model, &gradients, &total));
    const float *weights = rpo_model_weights(model, &total);
    const rpo_parameter *parameters = rpo_model_parameters(model, &count);
    int64_t padding = 0;
    for (size_t p = 0; p < count; ++p) {
        const int64_t next = p + 1 < count ? parameters[p + 1].offset : total;
        cr_expect_eq(parameters[p].offset % RPO_PARAMETER_ALIGNMENT, 0);
        for (int64_t i = parameters[p].offset + parameters[p].count; i < next; ++i, ++padding)
            cr_expect(gradients[i] == 0.0f && weights[i] == 0.0f);
    }
    cr_expect(padding > 0);
    rpo_batch_free(&batch);
    rpo_model_free(model);
    rpo_context_free(context);
}

/* One forward and backward on a fresh model: bits of the log-probs and of the gradients. */
static float *run_once(int num_threads, int64_t *total, float logps[8]) {
    rpo_context *context = model_test_context(num_threads);
    const rpo_model_config config = tiny_config(true);
    rpo_model *model = NULL;
    rpo_batch batch = batch_of(0, 8);
    float *gradients = NULL;
    MUST(rpo_model_create(&model, context, &config, 7));
    MUST(rpo_model_forward(model, &batch, true, NULL, NULL));
    MUST(rpo_model_backward(model, &batch, upstream, logps));
    MUST(rpo_model_gradients(model, &gradients, total));
    float *copy = test_floats((size_t)*total);
    memcpy(copy, gradients, (size_t)*total * sizeof *copy);
    rpo_batch_free(&batch);
    rpo_model_free(model);
    rpo_context_free(context);
    return copy;
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
    rpo_model *model = NULL;
    rpo_batch batch = batch_of(0, 4);
    rpo_batch other = batch_of(0, 3);
    float logps[8];
    MUST(rpo_model_create(&model, context, &config, 7));
    expect_error(rpo_model_backward(model, &batch, upstream, NULL), RPO_ERROR_INVALID_ARGUMENT, "forward");
    MUST(rpo_model_forward(model, &batch, false, logps, NULL));
    expect_error(rpo_model_backward(model, &batch, upstream, NULL), RPO_ERROR_INVALID_ARGUMENT, "forward");
    MUST(rpo_model_forward(model, &batch, true, logps, NULL));
    expect_error(rpo_model_backward(model, &other, upstream, NULL), RPO_ERROR_INVALID_ARGUMENT, "forward");
    MUST(rpo_model_backward(model, &batch, upstream, NULL));
    expect_error(rpo_model_backward(model, &batch, upstream, NULL), RPO_ERROR_INVALID_ARGUMENT, "forward");
    rpo_batch_free(&other);
    rpo_batch_free(&batch);
    rpo_model_free(model);
    rpo_context_free(context);
}

/* A forward that keeps nothing needs one layer's memory however many layers there are. */
Test(model_gradients, inference_memory_does_not_grow_with_layers) {
    size_t floats[2];
    for (int k = 0; k < 2; ++k) {
        rpo_context *context = model_test_context(1);
        rpo_model_config config = tiny_config(true);
        rpo_model *model = NULL;
        rpo_batch batch = batch_of(0, 8);
        float logps[8];
        config.num_hidden_layers = k == 0 ? 1 : 9;
        MUST(rpo_model_create(&model, context, &config, 7));
        MUST(rpo_model_forward(model, &batch, false, logps, NULL));
        floats[k] = model->activations.capacity;
        rpo_batch_free(&batch);
        rpo_model_free(model);
        rpo_context_free(context);
    }
    cr_expect_eq(floats[0], floats[1]);
}

/* Token log-probs add up to those of their sequence; the packed result is that of each sequence alone. */
Test(model_gradients, sequences_are_independent) {
    rpo_context *context = model_test_context(2);
    const rpo_model_config config = tiny_config(true);
    rpo_model *model = NULL;
    rpo_batch batch = batch_of(0, 8);
    float logps[8];
    float *tokens = test_floats((size_t)batch.num_tokens);
    MUST(rpo_model_create(&model, context, &config, 7));
    MUST(rpo_model_forward(model, &batch, false, logps, tokens));
    for (int64_t s = 0; s < 8; ++s) {
        rpo_batch alone = batch_of(s, s + 1);
        float logp = NAN;
        double sum = 0.0;
        MUST(rpo_model_forward(model, &alone, false, &logp, NULL));
        for (int64_t t = batch.cu_seqlens[s]; t < batch.cu_seqlens[s + 1]; ++t)
            sum += (double)tokens[t];
        cr_expect(relative_error(&logp, &logps[s], 1) <= 1e-6);
        cr_expect(fabs(sum - (double)logp) <= 1e-4);
        cr_expect(logp <= 0.0f && (label_starts[s] < lengths[s] ? logp < -0.1f : logp == 0.0f));
        rpo_batch_free(&alone);
    }
    rpo_free(tokens);
    rpo_batch_free(&batch);
    rpo_model_free(model);
    rpo_context_free(context);
}
