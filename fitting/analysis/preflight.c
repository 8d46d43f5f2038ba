/* Fitting before the sweep: a table of planned points in, expected standard errors and the worth of more points out. */
#include "fitting/analysis/preflight.h"

#include <math.h>
#include <string.h>

#include "fitting/analysis/preflight_parts.h"
#include "fitting/fit/eigen.h"
#include "fitting/fit/starts.h"

#define SINGULAR 1e-12 /* of the information: the square of the fits' rule */
#define MOVES 1e-4

void preflight_middle(const struct preflight_point *points, size_t count, double centre[LAW_AXES])
{
    for (size_t axis = 0; axis < LAW_AXES; axis++) {
        centre[axis] = 0;
        for (size_t i = 0; i < count; i++)
            centre[axis] += log(points[i].x[axis]) / (double)count;
    }
}

void preflight_slope(const struct law *law, const double *theta, const double centre[LAW_AXES],
                     const struct preflight_point *point, double gradient[LAW_PARAMETERS])
{
    double log_x[LAW_AXES];
    for (size_t axis = 0; axis < LAW_AXES; axis++)
        log_x[axis] = log(point->x[axis]) - centre[axis];
    law_log_value(law, theta, log_x, gradient);
}

/* Variance of the combination `weights` of the centred parameters; INFINITY where a direction that the points cannot
 * tell is in it. */
static double variance(size_t n, const double *values, double vectors[EIGEN_LARGEST][EIGEN_LARGEST], double largest,
                       const double *weights)
{
    double sum = 0, size = 0;
    for (size_t i = 0; i < n; i++)
        size = fmax(size, fabs(weights[i]));
    for (size_t k = 0; k < n; k++) {
        double part = 0;
        for (size_t i = 0; i < n; i++)
            part += vectors[k][i] * weights[i];
        if (values[k] > SINGULAR * largest)
            sum += part * part / values[k];
        else if (fabs(part) > MOVES * size)
            return INFINITY;
    }
    return sum;
}

/* Row of d(raw theta i)/d(centred theta): a shift of the origin moves the coefficients by their exponents. */
static void raw_row(const struct law *law, const double centre[LAW_AXES], size_t i, double row[LAW_PARAMETERS])
{
    memset(row, 0, LAW_PARAMETERS * sizeof *row);
    row[i] = 1;
    for (size_t t = 0; t < law->term_count; t++)
        for (size_t axis = 0; axis < LAW_AXES; axis++)
            if (law->terms[t].exponent[axis] &&
                (law->terms[t].coefficient == i || (law->terms[t].knee && law->terms[t].knee == i)))
                row[law->terms[t].exponent[axis]] += centre[axis];
}

void preflight_errors(const struct law *law, const double *theta, double noise, const struct preflight_point *points,
                      size_t count, struct preflight_point *candidates, size_t candidate_count, struct preflight *out)
{
    size_t n = law->parameter_count;
    double centre[LAW_AXES] = {0}, at[LAW_PARAMETERS], gradient[LAW_PARAMETERS];
    double information[EIGEN_LARGEST][EIGEN_LARGEST] = {{0}}, values[EIGEN_LARGEST];
    double vectors[EIGEN_LARGEST][EIGEN_LARGEST], largest = 0, row[LAW_PARAMETERS];
    *out = (struct preflight){0};
    if (law_can_shift(law)) preflight_middle(points, count, centre);
    memcpy(at, theta, n * sizeof *at);
    law_shift(law, at, centre);
    for (size_t i = 0; i < count; i++) {
        preflight_slope(law, at, centre, &points[i], gradient);
        for (size_t a = 0; a < n; a++)
            for (size_t b = 0; b < n; b++)
                information[a][b] += gradient[a] * gradient[b] / (noise * noise);
    }
    eigen_symmetric(n, information, values, vectors);
    for (size_t k = 0; k < n; k++)
        largest = fmax(largest, values[k]);
    for (size_t i = 0; i < n; i++) {
        raw_row(law, centre, i, row);
        out->error[i] = sqrt(variance(n, values, vectors, largest, row));
        memset(row, 0, sizeof row);
        row[i] = 1;
        out->centred[i] = sqrt(variance(n, values, vectors, largest, row));
        out->identified[i] = isfinite(out->error[i]);
    }
    for (size_t c = 0; c < candidate_count; c++) {
        preflight_slope(law, at, centre, &candidates[c], gradient);
        double sum = 0; /* gᵀ·F⁻¹·g, a direction without information counts as one with very little */
        for (size_t k = 0; k < n; k++) {
            double part = 0;
            for (size_t i = 0; i < n; i++)
                part += vectors[k][i] * gradient[i];
            sum += part * part / fmax(values[k], SINGULAR * largest);
        }
        candidates[c].gain = log1p(sum / (noise * noise)) / candidates[c].seconds;
    }
}

void preflight_guess(const struct law *law, const struct preflight_point *points, size_t count, double *theta)
{
    double centre[LAW_AXES];
    preflight_middle(points, count, centre);
    if (law->user) {
        starts_user_guess(law, centre, 3, theta);
        return;
    }
    for (size_t axis = 0; axis < LAW_AXES; axis++)
        centre[axis] = -centre[axis];
    for (size_t i = 0; i < law->parameter_count; i++)
        theta[i] = law->parameters[i].role == LAW_EXPONENT ? 0.1 : law->parameters[i].role == LAW_OFFSET ? 0 : log(2);
    for (size_t t = 0; t < law->term_count; t++)
        if (law->terms[t].exponent[LAW_T]) theta[law->terms[t].exponent[LAW_T]] = 0.01;
    law_shift(law, theta, centre); /* the guess is made in the middle of the points */
}

void preflight_seconds(const struct preflight_point *points, size_t count, struct preflight_point *candidates,
                       size_t candidate_count)
{
    enum { N = LAW_AXES + 1 };
    for (size_t c = 0; c < candidate_count; c++) {
        double m[N][N + 1] = {{0}};
        for (size_t k = 1; k < N; k++)
            m[k][k] = 1e-6; /* an axis of one level gets slope 0 */
        for (size_t i = 0; i < count; i++) {
            double x[N + 1] = {1};
            for (size_t axis = 0; axis < LAW_AXES; axis++)
                x[axis + 1] = log(points[i].x[axis] / candidates[c].x[axis]);
            x[N] = log(points[i].seconds);
            for (size_t a = 0; a < N; a++)
                for (size_t b = 0; b <= N; b++)
                    m[a][b] += x[a] * x[b];
        }
        for (size_t k = 0; k < N; k++)
            for (size_t r = 0; r < N; r++) {
                double factor = r == k ? 0 : m[r][k] / m[k][k];
                for (size_t b = 0; b <= N && r != k; b++)
                    m[r][b] -= factor * m[k][b];
            }
        candidates[c].seconds = exp(m[0][N] / m[0][0]);
    }
}
