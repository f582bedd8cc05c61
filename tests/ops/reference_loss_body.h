/*
 * reference_loss_body.h - the losses of rpo/loss.h as plain loops over REAL; included by reference_loss.h
 * once for double (the oracle) and once for float (what a framework's float32 evaluation of the same formula
 * gives). Each element is computed in REAL; long sums are exact enough in double either way.
 */

/* Eight running sums, as vector units keep them. */
static inline REAL REF(dot)(const float *x, const float *y, int64_t dim) {
    REAL lanes[8] = {0};
    for (int64_t k = 0; k < dim; ++k)
        lanes[k % 8] += (REAL)x[k] * (REAL)y[k];
    return ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
}

static inline void REF(similarity)(double *similarity, const float *e, const float *f, int64_t m, int64_t n,
                                   int64_t dim) {
    for (int64_t i = 0; i < m; ++i)
        for (int64_t j = 0; j < n; ++j) {
            const REAL product = REF(dot)(e + i * dim, f + j * dim, dim);
            const REAL norms = FN(sqrt)(REF(dot)(e + i * dim, e + i * dim, dim)) *
                               FN(sqrt)(REF(dot)(f + j * dim, f + j * dim, dim));
            similarity[i * n + j] = norms == 0 ? 0.0 : (double)(product / norms);
        }
}

static inline void REF(weights)(double *weights, const float *e, const float *f, int64_t m, int64_t n,
                                int64_t dim, float tau, rpo_weight_scale scale) {
    REF(similarity)(weights, e, f, m, n, dim);
    for (int64_t i = 0; i < m; ++i) {
        double *row = weights + i * n, largest = -INFINITY, sum = 0.0;
        for (int64_t j = 0; j < n; ++j) {
            row[j] = (double)(-((REAL)1 - (REAL)row[j]) / (REAL)tau);
            largest = fmax(largest, row[j]);
        }
        for (int64_t j = 0; j < n; ++j) {
            row[j] = (double)FN(exp)((REAL)row[j] - (REAL)largest);
            sum += row[j];
        }
        for (int64_t j = 0; j < n; ++j)
            row[j] =
                (double)((REAL)row[j] / (REAL)sum * (scale == RPO_WEIGHT_SCALE_BLOCK ? (REAL)n : (REAL)1));
    }
}

/* -log sigmoid(x) and sigmoid(-x). */
static inline REAL REF(softplus)(REAL x, REAL *slope) {
    const REAL t = FN(exp)(-FN(fabs)(x));
    *slope = (x < 0 ? (REAL)1 : t) / (1 + t);
    return (x < 0 ? -x : 0) + FN(log1p)(t);
}

/* Row i of a kind that reads pairs: coefficient of l(beta w_ij s_ij). */
static inline double REF(coefficient)(const rpo_loss_options *options, int64_t i, int64_t j, int64_t n) {
    if (options->kind != RPO_LOSS_RPO_DIAGONAL)
        return 1.0 / (double)n;
    if (n == 1)
        return 1.0;
    const double d = (double)options->diagonal_weight;
    return i == j ? d : (1.0 - d) / (double)(n - 1);
}

static inline void REF(pairs)(reference_result *out, const double *a, const double *b, const double *weights,
                              int64_t m, int64_t n, const rpo_loss_options *options) {
    const REAL beta = (REAL)options->beta;
    for (int64_t i = 0; i < m; ++i)
        for (int64_t j = 0; j < n; ++j) {
            const REAL weight = weights != NULL ? (REAL)weights[i * n + j] : (REAL)1;
            REAL slope;
            const REAL loss = REF(softplus)(beta * (weight * ((REAL)a[i] - (REAL)b[j])), &slope);
            const double c = REF(coefficient)(options, i, j, n);
            out->row_losses[i] += c * (double)loss;
            out->grad_chosen[i] -= c * (double)(beta * weight * slope) / (double)m;
            out->grad_rejected[j] += c * (double)(beta * weight * slope) / (double)m;
        }
}

static inline void REF(diagonal)(reference_result *out, const double *a, const double *b, int64_t m,
                                 const rpo_loss_options *options) {
    const REAL beta = (REAL)options->beta;
    const REAL epsilon = options->kind == RPO_LOSS_CDPO ? (REAL)options->epsilon : 0;
    for (int64_t i = 0; i < m; ++i) {
        const REAL s = (REAL)a[i] - (REAL)b[i];
        REAL loss, derivative;
        if (options->kind == RPO_LOSS_IPO) {
            loss = (s - 1 / (2 * beta)) * (s - 1 / (2 * beta));
            derivative = 2 * (s - 1 / (2 * beta));
        } else {
            REAL slope, flipped;
            loss = (1 - epsilon) * REF(softplus)(beta * s, &slope);
            loss += epsilon * REF(softplus)(-beta * s, &flipped);
            derivative = beta * (epsilon * flipped - (1 - epsilon) * slope);
        }
        out->row_losses[i] = (double)loss;
        out->grad_chosen[i] = (double)derivative / (double)m;
        out->grad_rejected[i] = -(double)derivative / (double)m;
    }
}

static inline void REF(kto)(reference_result *out, const double *a, const double *b, int64_t m, int64_t n,
                            const rpo_loss_options *options) {
    const REAL beta = (REAL)options->beta;
    double mean_a = 0.0, mean_b = 0.0;
    for (int64_t i = 0; i < m; ++i)
        mean_a += a[i] / (double)m;
    for (int64_t j = 0; j < n; ++j)
        mean_b += b[j] / (double)n;
    const REAL origin_a = mean_a < 0 ? 0 : (REAL)mean_a, origin_b = mean_b < 0 ? 0 : (REAL)mean_b;
    for (int64_t row = 0; row < m + n; ++row) {
        const bool chosen = row < m;
        const REAL x = beta * (chosen ? (REAL)a[row] - origin_b : origin_a - (REAL)b[row - m]);
        REAL rise, fall;
        REF(softplus)(x, &fall);  /* sigmoid(-x) */
        REF(softplus)(-x, &rise); /* sigmoid(x) */
        out->row_losses[row] = (double)fall;
        const double slope = (double)(beta * rise * fall) / (double)(m + n);
        if (chosen) {
            out->grad_chosen[row] -= slope;
            for (int64_t j = 0; j < n && mean_b >= 0; ++j)
                out->grad_rejected[j] += slope / (double)n;
        } else {
            out->grad_rejected[row - m] += slope;
            for (int64_t i = 0; i < m && mean_a >= 0; ++i)
                out->grad_chosen[i] -= slope / (double)m;
        }
    }
}

/*
 * Loss, row losses and gradients of log-ratios a [m] and b [n]; for sft a holds the chosen log-probs
 * themselves. `weights` [m][n] or NULL.
 */
static inline void REF(loss)(reference_result *out, const double *a, const double *b, const double *weights,
                             int64_t m, int64_t n, const rpo_loss_options *options) {
    const int64_t rows = options->kind == RPO_LOSS_KTO_SIMPLE ? m + n : m;
    for (int64_t i = 0; i < m + n; ++i)
        out->row_losses[i] = 0.0;
    for (int64_t i = 0; i < m; ++i)
        out->grad_chosen[i] = 0.0;
    for (int64_t j = 0; j < n; ++j)
        out->grad_rejected[j] = 0.0;
    out->loss = 0.0;
    if (m == 0 || (n == 0 && options->kind != RPO_LOSS_SFT))
        return;
    switch (options->kind) {
    case RPO_LOSS_DPO:
    case RPO_LOSS_CDPO:
    case RPO_LOSS_IPO:
        REF(diagonal)(out, a, b, m, options);
        break;
    case RPO_LOSS_KTO_SIMPLE:
        REF(kto)(out, a, b, m, n, options);
        break;
    case RPO_LOSS_SFT:
        for (int64_t i = 0; i < m; ++i) {
            out->row_losses[i] = -a[i];
            out->grad_chosen[i] = -1.0 / (double)m;
        }
        break;
    default:
        REF(pairs)(out, a, b, weights, m, n, options);
        break;
    }
    for (int64_t i = 0; i < rows; ++i)
        out->loss += out->row_losses[i] / (double)rows;
}
