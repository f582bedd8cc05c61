/*
 * contrast_baseline.c - the losses that read no pair but (i, i), or only the two vectors: O(m + n) work, done
 * in double. Equations: include/rpo/loss.h.
 */
#include "kernels/cpu/contrast.h"
#include "kernels/cpu/vector_math.h"

static double chosen_ratio(const rpo_contrast_inputs *inputs, int64_t i) {
    return rpo_cpu_finite_or_nan(
        rpo_cpu_log_ratio(inputs->policy_chosen_logps, inputs->reference_chosen_logps, i));
}

static double rejected_ratio(const rpo_contrast_inputs *inputs, int64_t j) {
    return rpo_cpu_finite_or_nan(
        rpo_cpu_log_ratio(inputs->policy_rejected_logps, inputs->reference_rejected_logps, j));
}

static void store(float *values, int64_t index, double value) {
    if (values != NULL)
        values[index] = (float)value;
}

/* *loss and its derivative by the margin s. */
static void diagonal_term(const rpo_loss_options *options, double s, double *loss, double *derivative) {
    const double beta = (double)options->beta;
    if (options->kind == RPO_LOSS_IPO) {
        const double distance = s - 1.0 / (2.0 * beta);
        *loss = distance * distance;
        *derivative = 2.0 * distance;
        return;
    }
    const double epsilon = options->kind == RPO_LOSS_CDPO ? (double)options->epsilon : 0.0;
    double slope, flipped_loss, flipped_slope;
    rpo_log_sigmoid_loss_double(beta * s, loss, &slope);
    *derivative = -beta * slope;
    if (epsilon > 0.0) {
        rpo_log_sigmoid_loss_double(-beta * s, &flipped_loss, &flipped_slope);
        *loss = (1.0 - epsilon) * *loss + epsilon * flipped_loss;
        *derivative = beta * (epsilon * flipped_slope - (1.0 - epsilon) * slope);
    }
}

/* Each of the losses below is the mean of its row losses; the gradients are those of weight times it. */

static double diagonal_loss(const rpo_cpu_contrast_block *block, const rpo_loss_options *options) {
    const rpo_contrast_inputs *inputs = &block->inputs;
    const rpo_contrast_outputs *outputs = &block->outputs;
    const double share = 1.0 / (double)inputs->m, gradient = block->weight * share;
    double sum = 0.0;
    for (int64_t i = 0; i < inputs->m; ++i) {
        double loss, derivative;
        diagonal_term(options, chosen_ratio(inputs, i) - rejected_ratio(inputs, i), &loss, &derivative);
        sum += loss;
        store(outputs->row_losses, i, loss);
        store(outputs->grad_chosen_logps, i, gradient * derivative);
        store(outputs->grad_rejected_logps, i, -gradient * derivative);
    }
    return share * sum;
}

/* max(x, 0), which a NaN passes through. */
static double clamp_mean(double x) {
    return x < 0.0 ? 0.0 : x;
}

/* One row of kto-simple: 1 - sigmoid(x) = sigmoid(-x), and *slope = minus its derivative. */
static double kto_term(double x, double *slope) {
    double unused, loss, complement;
    rpo_log_sigmoid_loss_double(x, &unused, &loss);
    rpo_log_sigmoid_loss_double(-x, &unused, &complement);
    *slope = loss * complement;
    return loss;
}

/*
 * Each side is measured from the other side's clamped mean, so the slopes of one side flow back to every
 * score of the other unless the clamp holds. At a mean of exactly 0, where a run starts, the derivative of
 * the clamp is 1, as that of torch.clamp.
 */
static double kto_loss(const rpo_cpu_contrast_block *block, const rpo_loss_options *options) {
    const rpo_contrast_inputs *inputs = &block->inputs;
    const rpo_contrast_outputs *outputs = &block->outputs;
    const int64_t m = inputs->m, n = inputs->n;
    const double beta = (double)options->beta;
    const double share = 1.0 / ((double)m + (double)n), gradient = block->weight * share;
    double chosen_mean = 0.0, rejected_mean = 0.0;
    for (int64_t i = 0; i < m; ++i)
        chosen_mean += chosen_ratio(inputs, i) / (double)m;
    for (int64_t j = 0; j < n; ++j)
        rejected_mean += rejected_ratio(inputs, j) / (double)n;
    const double chosen_origin = clamp_mean(rejected_mean), rejected_origin = clamp_mean(chosen_mean);

    double sum = 0.0, chosen_slopes = 0.0, rejected_slopes = 0.0, slope;
    for (int64_t i = 0; i < m; ++i) {
        const double loss = kto_term(beta * (chosen_ratio(inputs, i) - chosen_origin), &slope);
        sum += loss;
        chosen_slopes += slope;
        store(outputs->row_losses, i, loss);
    }
    for (int64_t j = 0; j < n; ++j) {
        const double loss = kto_term(beta * (rejected_origin - rejected_ratio(inputs, j)), &slope);
        sum += loss;
        rejected_slopes += slope;
        store(block->rejected_row_losses, j, loss);
    }

    const double to_chosen = chosen_mean < 0.0 ? 0.0 : rejected_slopes / (double)m;
    const double to_rejected = rejected_mean < 0.0 ? 0.0 : chosen_slopes / (double)n;
    for (int64_t i = 0; i < m; ++i) {
        kto_term(beta * (chosen_ratio(inputs, i) - chosen_origin), &slope);
        store(outputs->grad_chosen_logps, i, -gradient * beta * (slope + to_chosen));
    }
    for (int64_t j = 0; j < n; ++j) {
        kto_term(beta * (rejected_origin - rejected_ratio(inputs, j)), &slope);
        store(outputs->grad_rejected_logps, j, gradient * beta * (slope + to_rejected));
    }
    return share * sum;
}

static double sft_loss(const rpo_cpu_contrast_block *block) {
    const rpo_contrast_inputs *inputs = &block->inputs;
    const rpo_contrast_outputs *outputs = &block->outputs;
    const double share = 1.0 / (double)inputs->m;
    double sum = 0.0;
    for (int64_t i = 0; i < inputs->m; ++i) {
        const double loss = -rpo_cpu_finite_or_nan((double)inputs->policy_chosen_logps[i]);
        sum += loss;
        store(outputs->row_losses, i, loss);
        store(outputs->grad_chosen_logps, i, -block->weight * share);
    }
    for (int64_t j = 0; j < inputs->n; ++j)
        store(outputs->grad_rejected_logps, j, 0.0);
    return share * sum;
}

double rpo_cpu_contrast_baseline(const rpo_cpu_contrast_block *block, const rpo_loss_options *options) {
    switch (options->kind) {
    case RPO_LOSS_SFT:
        return sft_loss(block);
    case RPO_LOSS_KTO_SIMPLE:
        return kto_loss(block, options);
    default:
        return diagonal_loss(block, options);
    }
}
