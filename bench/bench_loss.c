/* bench_loss.c - the contrast loss of all pairs (rpo-unpaired): loss and gradient in one call. */
#include <math.h>

#include "bench/bench.h"

typedef struct loss_case {
    rpo_context *context;
    rpo_contrast_inputs inputs;
    rpo_contrast_outputs outputs;
    rpo_loss_options options;
    float *logps, *embeddings, *results;
    void *workspace;
    size_t workspace_size;
    float loss;
} loss_case;

static rpo_status loss_case_new(loss_case *one, rpo_context *context, int64_t m, int64_t n, int64_t dim) {
    *one = (loss_case){.context = context, .options = RPO_LOSS_OPTIONS_INIT};
    one->options.kind = RPO_LOSS_RPO_UNPAIRED;
    one->logps = bench_random(2 * (m + n), 30.0f, 11);
    one->embeddings = bench_random((m + n) * dim, 1.0f, 12);
    one->results = rpo_calloc_array((size_t)(m + n), sizeof *one->results);
    if (one->logps == NULL || one->embeddings == NULL || one->results == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    one->inputs = (rpo_contrast_inputs){.struct_size = sizeof one->inputs,
                                        .policy_chosen_logps = one->logps,
                                        .policy_rejected_logps = one->logps + m,
                                        .reference_chosen_logps = one->logps + m + n,
                                        .reference_rejected_logps = one->logps + 2 * m + n,
                                        .chosen_embeddings = one->embeddings,
                                        .rejected_embeddings = one->embeddings + m * dim,
                                        .embedding_dtype = RPO_FLOAT32,
                                        .m = m,
                                        .n = n,
                                        .dim = dim};
    one->outputs = (rpo_contrast_outputs){.struct_size = sizeof one->outputs,
                                          .loss = &one->loss,
                                          .grad_chosen_logps = one->results,
                                          .grad_rejected_logps = one->results + m};
    RPO_TRY(rpo_contrast_loss_workspace_size(context, &one->workspace_size, &one->inputs, &one->options));
    one->workspace = rpo_alloc_array(one->workspace_size, 1);
    return one->workspace != NULL ? RPO_OK : RPO_ERROR_OUT_OF_MEMORY;
}

static void loss_case_free(loss_case *one) {
    rpo_free(one->workspace);
    rpo_free(one->results);
    rpo_free(one->embeddings);
    rpo_free(one->logps);
}

static rpo_status loss_run(void *state) {
    loss_case *one = state;
    return rpo_contrast_loss(one->context, &one->outputs, &one->inputs, &one->options, one->workspace,
                             one->workspace_size);
}

static double cosine(const float *e, const float *f, int64_t dim) {
    double dot = 0.0, ee = 0.0, ff = 0.0;
    for (int64_t k = 0; k < dim; ++k) {
        dot += (double)e[k] * (double)f[k];
        ee += (double)e[k] * (double)e[k];
        ff += (double)f[k] * (double)f[k];
    }
    return dot / sqrt(ee * ff);
}

/* The published formula in double: largest error of loss and gradients. */
static rpo_status loss_error(const loss_case *one, double *error) {
    const rpo_contrast_inputs *in = &one->inputs;
    const double beta = (double)one->options.beta, tau = (double)one->options.tau,
                 pairs = (double)(in->m * in->n);
    double *weights = rpo_alloc_array((size_t)in->n, sizeof *weights);
    double *columns = rpo_calloc_array((size_t)in->n, sizeof *columns);
    if (weights == NULL || columns == NULL) {
        rpo_free(columns);
        rpo_free(weights);
        return RPO_ERROR_OUT_OF_MEMORY;
    }
    double loss = 0.0;
    const double floor =
        0.1 / (double)(in->m > in->n ? in->m : in->n) * beta; /* gradients are about beta / m */
    for (int64_t i = 0; i < in->m; ++i) {
        double sum = 0.0, row_gradient = 0.0;
        for (int64_t j = 0; j < in->n; ++j) {
            const float *e = (const float *)in->chosen_embeddings + i * in->dim;
            const float *f = (const float *)in->rejected_embeddings + j * in->dim;
            weights[j] = exp((cosine(e, f, in->dim) - 1.0) / tau);
            sum += weights[j];
        }
        for (int64_t j = 0; j < in->n; ++j) {
            const double a = (double)in->policy_chosen_logps[i] - (double)in->reference_chosen_logps[i];
            const double b = (double)in->policy_rejected_logps[j] - (double)in->reference_rejected_logps[j];
            const double scale = beta * weights[j] / sum, x = scale * (a - b);
            loss += (fmax(-x, 0.0) + log1p(exp(-fabs(x)))) / pairs;
            row_gradient -= scale / (1.0 + exp(x)) / pairs;
            columns[j] += scale / (1.0 + exp(x)) / pairs;
        }
        *error = bench_worse(*error, (double)one->outputs.grad_chosen_logps[i], row_gradient, floor);
    }
    for (int64_t j = 0; j < in->n; ++j)
        *error = bench_worse(*error, (double)one->outputs.grad_rejected_logps[j], columns[j], floor);
    *error = bench_worse(*error, (double)one->loss, loss, 1e-3);
    rpo_free(columns);
    rpo_free(weights);
    return RPO_OK;
}

static rpo_status check_twin(bench_run *run) {
    loss_case twin;
    rpo_status status = loss_case_new(&twin, run->context, 67, 53, 97);
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
    row->bytes = sizeof(float) * ((double)(m + n) * (double)dim + 3.0 * (double)(m + n));
    RPO_TRY(check_twin(run));

    loss_case one;
    rpo_status status = loss_case_new(&one, run->context, m, n, dim);
    if (status == RPO_OK) {
        row->workspace_bytes = one.workspace_size;
        status = bench_time(run, loss_run, &one);
    }
    loss_case_free(&one);
    return status;
}
