/* Fitting, the inner loop: parameters in, objective and gradient over all points out, eight points at a time. */
#include "fitting/fit/columns.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fitting/fit/vector_math.h"

/* Versions for the generations of x86. Sanitizers instrument the resolver, which runs before they are ready. */
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define CLONES
#endif

#define SMALLEST 1e-300
#define LARGEST_LOG 300.0 /* of a term over the unit; its square, and a sum of such, can be told */
#define ZERO_AXIS -1e300  /* log of an axis of 0: finite, so that a share of 0 times it is 0 */

static void fill_term(const struct columns *columns, const struct law_term *from, struct columns_term *to)
{
    *to = (struct columns_term){.coefficient = from->coefficient, .knee = from->knee};
    for (size_t axis = 0; axis < LAW_AXES; axis++) {
        if (!from->exponent[axis]) continue;
        to->exponent[to->count] = from->exponent[axis];
        to->log_x[to->count++] = columns->log_x[axis];
    }
}

int columns_create(const struct law *law, const struct fit_data *data, const double centre[LAW_AXES],
                   struct columns *out)
{
    size_t columns = 2;
    *out = (struct columns){.law = *law, .count = data->count};
    out->padded = (data->count + LANES - 1) / LANES * LANES;
    for (size_t axis = 0; axis < LAW_AXES; axis++)
        columns += law_uses(law, (enum law_axis)axis);
    out->room = aligned_alloc(sizeof(vector), (out->padded + LANES) * columns * sizeof(double));
    if (!out->room) return -1;
    double *next = out->room;
    out->loss = next;
    out->log_loss = next += out->padded;
    for (size_t axis = 0; axis < LAW_AXES; axis++)
        if (law_uses(law, (enum law_axis)axis)) out->log_x[axis] = next += out->padded;
    for (size_t i = 0; i < out->padded; i++) {
        bool point = i < data->count;
        out->loss[i] = point ? data->loss[i] : 1;
        out->log_loss[i] = point ? log(data->loss[i]) : 0;
        for (size_t axis = 0; axis < LAW_AXES; axis++)
            if (out->log_x[axis])
                out->log_x[axis][i] = point ? fmax(data->log_x[i][axis] - centre[axis], ZERO_AXIS) : 0;
        out->unit += out->log_loss[i] / (double)(data->count ? data->count : 1);
    }
    for (size_t t = 0; t < law->term_count; t++)
        fill_term(out, &law->terms[t], &out->terms[t]);
    return 0;
}

void columns_destroy(struct columns *columns)
{
    free(columns->room);
    *columns = (struct columns){0};
}

void columns_weigh(const struct columns *columns, const double *weight, double *column)
{
    for (size_t i = 0; i < columns->padded; i++)
        column[i] = i >= columns->count ? 0 : weight ? weight[i] : 1;
}

double *columns_weights(const struct columns *columns, const double *weight)
{
    double *column = aligned_alloc(sizeof(vector), (columns->padded + LANES) * sizeof(double));
    if (column) columns_weigh(columns, weight, column);
    return column;
}

VECTOR_INLINE vector load(const double *column, size_t block)
{
    return ((const vector *)column)[block];
}

VECTOR_INLINE double total(vector v)
{
    return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}

/* A term at eight points over exp(unit); *share: how much of its denominator are the powers. Held far from the ends of
 * the numbers, so that a wild step of the line search stays finite. */
VECTOR_INLINE vector term_value(const struct columns_term *term, double unit, const double *theta, size_t block,
                                vector *share)
{
    vector powers = {0}, value = (vector){0} + (theta[term->coefficient] - unit);
    for (size_t k = 0; k < term->count; k++)
        powers += theta[term->exponent[k]] * load(term->log_x[k], block);
    if (!term->knee) {
        *share = (vector){0} + 1.0;
        return vector_exp(vector_min(value - powers, (vector){0} + LARGEST_LOG));
    }
    const vector knee = (vector){0} + theta[term->knee], larger = vector_max(knee, powers);
    const vector part = vector_exp(powers - larger), sum = vector_exp(knee - larger) + part;
    *share = part / sum;
    return vector_exp(vector_min(value - larger - vector_log(sum), (vector){0} + LARGEST_LOG));
}

VECTOR_INLINE vector huber(vector r, double delta, vector *slope)
{
    const vector size = vector_abs(r);
    const vector_mask small = size <= delta;
    *slope = vector_choose(small, r, vector_choose(r > 0, (vector){0} + delta, (vector){0} - delta));
    return vector_choose(small, r * r * 0.5, delta * (size - 0.5 * delta));
}

/* Adds slope · d(log term)/d(theta) to the sums of the gradient. */
VECTOR_INLINE void add_slopes(const struct columns_term *term, size_t block, vector slope, vector share,
                              vector sums[LAW_PARAMETERS])
{
    sums[term->coefficient] += slope;
    if (term->knee) sums[term->knee] -= slope * (1.0 - share);
    for (size_t k = 0; k < term->count; k++)
        sums[term->exponent[k]] -= slope * share * load(term->log_x[k], block);
}

/* The terms at a block over exp(unit), and their sum. */
VECTOR_INLINE vector term_values(const struct columns *columns, const double *theta, size_t block,
                                 vector values[LAW_TERMS], vector shares[LAW_TERMS])
{
    vector loss = (vector){0} + SMALLEST;
    for (size_t t = 0; t < columns->law.term_count; t++) {
        if (columns->terms[t].count || !block) /* E is the same at all points */
            values[t] = term_value(&columns->terms[t], columns->unit, theta, block, &shares[t]);
        loss += values[t];
    }
    return loss;
}

/* Loss of the residuals of a block. *slope: its derivative by log L; *within: derivative of huber' by the residual;
 * *scale: derivative of the residual by log L; weights not in them. */
VECTOR_INLINE vector loss_of(const struct columns *columns, size_t block, double delta, bool log_residuals, vector loss,
                             vector *residual, vector *slope, vector *scale)
{
    const vector predicted = vector_log(loss) + columns->unit;
    *scale = log_residuals ? (vector){0} + 1.0 : vector_exp(predicted);
    *residual = log_residuals ? predicted - load(columns->log_loss, block) : *scale - load(columns->loss, block);
    return huber(*residual, delta, slope);
}

/* The objective of a user's law: point by point. */
static double objective_of_text(const struct columns *columns, const double *weight, double delta, bool log_residuals,
                                const double *theta, double *gradient)
{
    const size_t n = columns->law.parameter_count;
    double sum = 0, point[LAW_PARAMETERS];
    memset(gradient, 0, n * sizeof *gradient);
    for (size_t i = 0; i < columns->count; i++) {
        double r = columns_residual(columns, log_residuals, theta, i, point), size = fabs(r);
        double slope = size <= delta ? r : copysign(delta, r);
        sum += weight[i] * (size <= delta ? 0.5 * r * r : delta * (size - 0.5 * delta));
        for (size_t p = 0; p < n; p++)
            gradient[p] += weight[i] * slope * point[p];
    }
    return sum;
}

CLONES double columns_objective(const struct columns *columns, const double *weight, double delta, bool log_residuals,
                                const double *theta, double *gradient)
{
    const size_t terms = columns->law.term_count;
    vector sum = {0}, sums[LAW_PARAMETERS] = {{0}}, values[LAW_TERMS], shares[LAW_TERMS], residual, slope, scale;
    if (columns->law.user) return objective_of_text(columns, weight, delta, log_residuals, theta, gradient);
    for (size_t block = 0; block < columns->padded / LANES; block++) {
        const vector loss = term_values(columns, theta, block, values, shares), weights = load(weight, block);
        sum += weights * loss_of(columns, block, delta, log_residuals, loss, &residual, &slope, &scale);
        slope *= weights * scale / loss;
        for (size_t t = 0; t < terms; t++)
            add_slopes(&columns->terms[t], block, slope * values[t], shares[t], sums);
    }
    for (size_t p = 0; p < columns->law.parameter_count; p++)
        gradient[p] = total(sums[p]);
    return total(sum);
}

/* d(log L)/d(theta) of the parameters of a term. */
VECTOR_INLINE void term_gradient(const struct columns_term *term, size_t block, vector share, vector *out)
{
    out[term->coefficient] = share;
    for (size_t k = 0; k < term->count; k++)
        out[term->exponent[k]] = -share * load(term->log_x[k], block);
}

/* Adds factor · the second derivatives of a term over the term: its parameters in order, coefficient first. */
VECTOR_INLINE void add_term_curvature(const struct columns_term *term, size_t block, vector factor,
                                      vector sums[LAW_PARAMETERS][LAW_PARAMETERS])
{
    sums[term->coefficient][term->coefficient] += factor;
    for (size_t k = 0; k < term->count; k++) {
        const vector part = factor * load(term->log_x[k], block);
        sums[term->exponent[k]][term->coefficient] -= part;
        for (size_t j = 0; j <= k; j++)
            sums[term->exponent[k]][term->exponent[j]] += part * load(term->log_x[j], block);
    }
}

CLONES double columns_curvature(const struct columns *columns, const double *weight, double delta, bool log_residuals,
                                const double *theta, double *gradient, double hessian[LAW_PARAMETERS][LAW_PARAMETERS],
                                double *measure)
{
    const size_t terms = columns->law.term_count, n = columns->law.parameter_count;
    vector sum = {0}, first[LAW_PARAMETERS] = {{0}}, second[LAW_PARAMETERS][LAW_PARAMETERS],
           bound[LAW_PARAMETERS] = {{0}};
    vector values[LAW_TERMS], shares[LAW_TERMS], residual, slope, scale, point[LAW_PARAMETERS];
    for (size_t a = 0; a < n; a++)
        for (size_t b = 0; b <= a; b++)
            second[a][b] = (vector){0};
    for (size_t block = 0; block < columns->padded / LANES; block++) {
        const vector loss = term_values(columns, theta, block, values, shares), weights = load(weight, block);
        sum += weights * loss_of(columns, block, delta, log_residuals, loss, &residual, &slope, &scale);
        const vector_mask within = vector_abs(residual) <= delta;
        const vector square = weights * scale * scale, curve = vector_choose(within, square, (vector){0});
        const vector tilt = weights * slope * scale; /* of log L */
        const vector outer = log_residuals ? curve - tilt : curve;
        const vector ratio = square * vector_choose(within, (vector){0} + 1.0, slope / residual);
        for (size_t t = 0; t < terms; t++) {
            const vector share = values[t] / loss;
            term_gradient(&columns->terms[t], block, share, point);
            add_term_curvature(&columns->terms[t], block, tilt * share, second);
        }
        for (size_t a = 0; a < n; a++) {
            const vector part = outer * point[a];
            first[a] += tilt * point[a];
            bound[a] += ratio * point[a] * point[a];
            for (size_t b = 0; b <= a; b++)
                second[a][b] += part * point[b];
        }
    }
    for (size_t a = 0; a < n; a++) {
        gradient[a] = total(first[a]);
        measure[a] = total(bound[a]);
        for (size_t b = 0; b <= a; b++)
            hessian[a][b] = hessian[b][a] = total(second[a][b]);
    }
    return total(sum);
}

double columns_residual(const struct columns *columns, bool log_residuals, const double *theta, size_t i,
                        double *gradient)
{
    double log_x[LAW_AXES];
    for (size_t axis = 0; axis < LAW_AXES; axis++)
        log_x[axis] = columns->log_x[axis] ? columns->log_x[axis][i] : 0;
    double predicted = law_log_value(&columns->law, theta, log_x, gradient);
    if (log_residuals) return predicted - columns->log_loss[i];
    double value = exp(fmin(predicted, 600));
    for (size_t p = 0; gradient && p < columns->law.parameter_count; p++)
        gradient[p] *= value;
    return value - columns->loss[i];
}
