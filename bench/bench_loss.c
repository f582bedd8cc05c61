/* bench_loss.c - the contrast loss of all pairs (rpo-unpaired): loss and gradient in one call. */
#include <math.h>

#include "bench/array.h"

typedef struct loss_case {
    rpo_context *context;
    rpo_contrast_inputs inputs;
    rpo_contrast_outputs outputs;
    rpo_loss_options options;
    bench_array logps, chosen, rejected, results, workspace; /* results: gradients of a, of b, the loss */
} loss_case;

static rpo_status loss_case_new(loss_case *one, rpo_context *context, int64_t m, int64_t n, int64_t dim,
                                rpo_dtype dtype) {
    *one = (loss_case){.context = context, .options = RPO_LOSS_OPTIONS_INIT};
    one->options.kind = RPO_LOSS_RPO_UNPAIRED;
    RPO_TRY(bench_array_random(&one->logps, context, 2 * (m + n), RPO_FLOAT32, 30.0f, 11));
    RPO_TRY(bench_array_random(&one->chosen, context, m * dim, dtype, 1.0f, 12));
    RPO_TRY(bench_array_random(&one->rejected, context, n * dim, dtype, 1.0f, 13));
    RPO_TRY(bench_array_output(&one->results, context, m + n + 1, RPO_FLOAT32));
    const float *logps = one->logps.data;
    float *results = one->results.data;
    one->inputs = (rpo_contrast_inputs){.struct_size = sizeof one->inputs,
                                        .policy_chosen_logps = logps,
                                        .policy_rejected_logps = logps + m,
                                        .reference_chosen_logps = logps + m + n,
                                        .reference_rejected_logps = logps + 2 * m + n,
                                        .chosen_embeddings = one->chosen.data,
                                        .rejected_embeddings = one->rejected.data,
                                        .embedding_dtype = dtype,
                                        .m = m,
                                        .n = n,
                                        .dim = dim};
    one->outputs = (rpo_contrast_outputs){.struct_size = sizeof one->outputs,
                                          .loss = results + m + n,
                                          .grad_chosen_logps = results,
                                          .grad_rejected_logps = results + m};
    size_t workspace_size = 0;
    RPO_TRY(rpo_contrast_loss_workspace_size(context, &workspace_size, &one->inputs, &one->options));
    return bench_array_new(&one->workspace, context, workspace_size);
}

static void loss_case_free(loss_case *one) {
    bench_array_free(&one->workspace);
    bench_array_free(&one->results);
    bench_array_free(&one->rejected);
    bench_array_free(&one->chosen);
    bench_array_free(&one->logps);
}

static rpo_status loss_run(void *state) {
    loss_case *one = state;
    return rpo_contrast_loss(one->context, &one->outputs, &one->inputs, &one->options, one->workspace.data,
                             one->workspace.bytes);
}

static double cosine(const double *e, const double *f, int64_t dim) {
    double dot = 0.0, ee = 0.0, ff = 0.0;
    for (int64_t k = 0; k < dim; ++k) {
        dot += e[k] * f[k];
        ee += e[k] * e[k];
        ff += f[k] * f[k];
    }
    return dot / sqrt(ee * ff);
}

/* Everything of a case on the host, and room for the reference's own numbers. */
typedef struct loss_reference {
    double *logps, *chosen, *rejected, *results; /* as the op read and wrote them */
    double *weights, *columns;                   /* [n] one row's weights; gradients of b so far */
} loss_reference;

static rpo_status reference_new(loss_reference *reference, const loss_case *one) {
    *reference = (loss_reference){0};
    RPO_TRY(bench_array_read_all(&one->logps, &reference->logps));
    RPO_TRY(bench_array_read_all(&one->chosen, &reference->chosen));
    RPO_TRY(bench_array_read_all(&one->rejected, &reference->rejected));
    RPO_TRY(bench_array_read_all(&one->results, &reference->results));
    reference->weights = rpo_alloc_array((size_t)one->inputs.n, sizeof(double));
    reference->columns = rpo_calloc_array((size_t)one->inputs.n, sizeof(double));
    return reference->weights != NULL && reference->columns != NULL ? RPO_OK : RPO_ERROR_OUT_OF_MEMORY;
}

static void reference_free(loss_reference *reference) {
    rpo_free(reference->columns);
    rpo_free(reference->weights);
    rpo_free(reference->results);
    rpo_free(reference->rejected);
    rpo_free(reference->chosen);
    rpo_free(reference->logps);
}

/* Fills the row of weights, before their normalisation; returns its sum. */
static double reference_weights(const loss_reference *reference, const loss_case *one, int64_t i) {
    const int64_t dim = one->inputs.dim;
    double sum = 0.0;
    for (int64_t j = 0; j < one->inputs.n; ++j) {
        const double similarity = cosine(reference->chosen + i * dim, reference->rejected + j * dim, dim);
        reference->weights[j] = exp((similarity - 1.0) / (double)one->options.tau);
        sum += reference->weights[j];
    }
    return sum;
}

/* The published formula in double: largest error of loss and gradients. */
static void compare(const loss_reference *reference, const loss_case *one, double *error) {
    const int64_t m = one->inputs.m, n = one->inputs.n;
    const double beta = (double)one->options.beta, pairs = (double)(m * n);
    const double floor = 0.1 * beta / (double)(m > n ? m : n); /* gradients are about beta / m */
    const double *logps = reference->logps;
    double loss = 0.0;
    for (int64_t i = 0; i < m; ++i) {
        const double sum = reference_weights(reference, one, i), a = logps[i] - logps[m + n + i];
        double row_gradient = 0.0;
        for (int64_t j = 0; j < n; ++j) {
            const double b = logps[m + j] - logps[2 * m + n + j];
            const double scale = beta * reference->weights[j] / sum, x = scale * (a - b);
            loss += (fmax(-x, 0.0) + log1p(exp(-fabs(x)))) / pairs;
            row_gradient -= scale / (1.0 + exp(x)) / pairs;
            reference->columns[j] += scale / (1.0 + exp(x)) / pairs;
        }
        *error = bench_worse(*error, reference->results[i], row_gradient, floor);
    }
    for (int64_t j = 0; j < n; ++j)
        *error = bench_worse(*error, reference->results[m + j], reference->columns[j], floor);
    *error = bench_worse(*error, reference->results[m + n], loss, 1e-3);
}

static rpo_status loss_error(const loss_case *one, double *error) {
    loss_reference reference;
    const rpo_status status = reference_new(&reference, one);
    if (status == RPO_OK)
        compare(&reference, one, error);
    reference_free(&reference);
    return status;
}

static rpo_status check_twin(bench_run *run) {
    loss_case twin;
    rpo_status status = loss_case_new(&twin, run->context, 67, 53, 97, run->row->dtype);
    if (status == RPO_OK)
        status = loss_run(&twin);
    if (status == RPO_OK)
        status = loss_error(&twin, &run->row->error);
    loss_case_free(&twin);
    return status;
}

rpo_status bench_contrast_loss(bench_run *run) {
    bench_row *row = run->row;
    const int64_t m = bench_size(run, "m", 1024), n = bench_size(run, "n", 1024);
    const int64_t dim = bench_size(run, "dim", 384);
    RPO_TRY(bench_sizes_check(run));
    row->tolerance = 1e-5;
    row->checked = "loss and gradients of a 67 x 53 x 97 twin";
    row->limit = BENCH_LIMIT_MATMUL;
    row->flops = 2.0 * (double)m * (double)n * (double)dim;
    row->bytes = (double)(m + n) * ((double)dim * (double)rpo_dtype_size(row->dtype) + 3.0 * sizeof(float));
    RPO_TRY(check_twin(run));

    loss_case one;
    rpo_status status = loss_case_new(&one, run->context, m, n, dim, row->dtype);
    if (status == RPO_OK) {
        row->workspace_bytes = one.workspace.bytes;
        status = bench_time(run, loss_run, &one);
    }
    loss_case_free(&one);
    return status;
}
