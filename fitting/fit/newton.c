/* Fitting, the optimiser of most laws: a handful of parameters and exact second derivatives. Huber's loss has a kink in
 * its slope at the threshold, so the step is bounded by how well the last one was foreseen. */
#include "fitting/fit/newton.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* What is known at a point: objective over the scale, slopes, curvature. Parameters that are held have no slope. */
struct place {
    double theta[LAW_PARAMETERS], value, gradient[LAW_PARAMETERS];
    double hessian[LAW_PARAMETERS][LAW_PARAMETERS], measure[LAW_PARAMETERS];
};

/* The slack follows the others: its slopes go over to them. */
static void fold_slack(const struct descent *descent, size_t n, struct place *place)
{
    const size_t k = descent->slack;
    const double *tie = descent->tie;
    double row[LAW_PARAMETERS];
    memcpy(row, place->hessian[k], sizeof row);
    for (size_t a = 0; a < n; a++) {
        if (a == k) continue;
        place->gradient[a] -= tie[a] * place->gradient[k];
        place->measure[a] += tie[a] * tie[a] * place->measure[k];
        for (size_t b = 0; b < n; b++)
            if (b != k) place->hessian[a][b] += tie[a] * tie[b] * row[k] - tie[a] * row[b] - tie[b] * row[a];
    }
}

/* The prediction at a point is held: every step comes with a factor on all terms. Second derivatives of log L there
 * follow from the first, as a parameter is in one term alone. */
static void fold_point(const struct descent *descent, size_t n, struct place *place)
{
    const struct law *law = &descent->columns->law;
    double at[LAW_PARAMETERS], row[LAW_PARAMETERS] = {0}, all = 0, corner = 0;
    size_t term[LAW_PARAMETERS] = {0};
    law_log_value(law, place->theta, descent->at, at);
    for (size_t t = 0; t < law->term_count; t++)
        for (size_t axis = 0; axis < LAW_AXES; axis++)
            if (law->terms[t].exponent[axis]) term[law->terms[t].exponent[axis]] = law->terms[t].coefficient;
    for (size_t a = 0; a < n; a++) {
        if (law->parameters[a].role == LAW_EXPONENT) continue;
        term[a] = a;
        all += place->gradient[a];
        for (size_t b = 0; b < n; b++) {
            row[b] += place->hessian[a][b];
            if (law->parameters[b].role != LAW_EXPONENT) corner += place->hessian[a][b];
        }
    }
    for (size_t a = 0; a < n; a++) {
        place->gradient[a] -= all * at[a];
        place->measure[a] += at[a] * at[a] * fabs(corner);
        for (size_t b = 0; b < n; b++) {
            double within = term[a] == term[b] && at[term[a]] > 0 ? at[a] * at[b] / at[term[a]] : 0;
            place->hessian[a][b] +=
                corner * at[a] * at[b] - at[a] * row[b] - row[a] * at[b] - all * (within - at[a] * at[b]);
        }
    }
}

static void look(const struct descent *descent, struct place *place)
{
    const size_t n = descent->columns->law.parameter_count;
    descent_place(descent, place->theta);
    place->value = columns_curvature(descent->columns, descent->weight, descent->delta, descent->log_residuals,
                                     place->theta, place->gradient, place->hessian, place->measure) /
                   descent->scale;
    if (descent->tie) fold_slack(descent, n, place);
    if (descent->at) fold_point(descent, n, place);
    for (size_t a = 0; a < n; a++) {
        place->gradient[a] /= descent->scale;
        place->measure[a] /= descent->scale;
        for (size_t b = 0; b < n; b++)
            place->hessian[a][b] /= descent->scale;
    }
    for (size_t a = 0; a < n; a++) {
        if (!descent_holds(descent, a)) continue;
        place->gradient[a] = 0;
        for (size_t b = 0; b < n; b++)
            place->hessian[a][b] = place->hessian[b][a] = a == b;
    }
}

/* step = -(hessian + damping · measure)⁻¹ · gradient by Cholesky; *foreseen: the fall that it promises. false: not
 * positive definite. */
static bool solve(size_t n, const struct place *place, double damping, double *step, double *foreseen)
{
    double l[LAW_PARAMETERS][LAW_PARAMETERS], y[LAW_PARAMETERS], largest = 0;
    for (size_t a = 0; a < n; a++)
        largest = fmax(largest, place->measure[a]);
    for (size_t a = 0; a < n; a++)
        for (size_t b = 0; b <= a; b++) {
            double sum = place->hessian[a][b];
            if (a == b) sum += damping * (place->measure[a] + 1e-10 * largest);
            for (size_t k = 0; k < b; k++)
                sum -= l[a][k] * l[b][k];
            if (a == b && !(sum > 1e-14 * place->measure[a])) return false;
            l[a][b] = a == b ? sqrt(sum) : sum / l[b][b];
        }
    for (size_t a = 0; a < n; a++) {
        y[a] = -place->gradient[a];
        for (size_t k = 0; k < a; k++)
            y[a] -= l[a][k] * y[k];
        y[a] /= l[a][a];
    }
    *foreseen = 0;
    for (size_t a = 0; a < n; a++)
        *foreseen += 0.5 * y[a] * y[a];
    for (size_t a = n; a-- > 0;) {
        step[a] = y[a];
        for (size_t k = a + 1; k < n; k++)
            step[a] -= l[k][a] * step[k];
        step[a] /= l[a][a];
    }
    for (size_t a = 0; a < n; a++) /* the damping's share is no fall of the objective */
        *foreseen += 0.5 * damping * (place->measure[a] + 1e-10 * largest) * step[a] * step[a];
    return true;
}

double newton_run(struct descent *descent, double *theta, int iterations)
{
    const size_t n = descent->columns->law.parameter_count;
    const double enough = descent->coarse ? 1e-9 : 1e-15; /* fall of the objective that ends the search, relative */
    struct place places[2], *at = &places[0], *next = &places[1];
    double damping = 1e-3, growth = 2, step[LAW_PARAMETERS], foreseen;
    memcpy(at->theta, theta, n * sizeof *theta);
    look(descent, at);
    for (int i = 0; i < iterations && isfinite(at->value) && damping < 1e12; i++) {
        descent->iterations++;
        if (!solve(n, at, damping, step, &foreseen)) {
            damping *= 4;
            continue;
        }
        if (!(foreseen > enough * fabs(at->value))) break;
        for (size_t a = 0; a < n; a++)
            next->theta[a] = at->theta[a] + step[a];
        look(descent, next);
        double ratio = (at->value - next->value) / foreseen;
        if (!(ratio > 1e-4)) {
            damping *= growth;
            growth *= 2;
            continue;
        }
        struct place *before = at;
        at = next;
        next = before;
        damping = fmax(damping * fmax(1.0 / 5, 1 - pow(2 * ratio - 1, 3)), 1e-10);
        growth = 2;
    }
    memcpy(theta, at->theta, n * sizeof *theta);
    return at->value;
}
