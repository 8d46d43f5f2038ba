/* Fitting: from the minimum of Huber's loss to the least sum of absolute residuals nearby. */
#include "fitting/fit/absolute.h"

#include <math.h>
#include <string.h>

enum { SHARPER = 4 };

static double sum_absolute(const struct descent *descent, const double *theta)
{
    double sum = 0;
    for (size_t i = 0; i < descent->columns->count; i++)
        sum += descent->weight[i] * fabs(columns_residual(descent->columns, descent->log_residuals, theta, i, NULL));
    return sum;
}

/* Solve m·x = b in place, partial pivoting. false: singular. */
static bool solve(size_t n, double m[LAW_PARAMETERS][LAW_PARAMETERS], double *b)
{
    for (size_t k = 0; k < n; k++) {
        size_t pivot = k;
        for (size_t r = k + 1; r < n; r++)
            if (fabs(m[r][k]) > fabs(m[pivot][k])) pivot = r;
        if (!(fabs(m[pivot][k]) > 1e-14)) return false;
        for (size_t c = 0; c < n; c++) {
            double swap = m[k][c];
            m[k][c] = m[pivot][c];
            m[pivot][c] = swap;
        }
        double swap = b[k];
        b[k] = b[pivot];
        b[pivot] = swap;
        for (size_t r = k + 1; r < n; r++) {
            double factor = m[r][k] / m[k][k];
            for (size_t c = k; c < n; c++)
                m[r][c] -= factor * m[k][c];
            b[r] -= factor * b[k];
        }
    }
    for (size_t k = n; k-- > 0;) {
        for (size_t c = k + 1; c < n; c++)
            b[k] -= m[k][c] * b[c];
        b[k] /= m[k][k];
    }
    return true;
}

/* The `count` points nearest to the law. */
static void find_nearest(const struct descent *descent, const double *theta, size_t count, size_t *near)
{
    double size[LAW_PARAMETERS];
    for (size_t i = 0, kept = 0; i < descent->columns->count; i++) {
        double r = fabs(columns_residual(descent->columns, descent->log_residuals, theta, i, NULL));
        size_t place = kept;
        while (place > 0 && size[place - 1] > r)
            place--;
        if (place == count) continue;
        if (kept < count) kept++;
        for (size_t k = kept - 1; k > place; k--) {
            size[k] = size[k - 1];
            near[k] = near[k - 1];
        }
        size[place] = r;
        near[place] = i;
    }
}

/* The least sum of absolute residuals runs through as many points as parameters move: Newton's method through the
 * nearest ones, kept where the sum falls. */
static void vertex(const struct descent *descent, double *theta)
{
    size_t n = descent->columns->law.parameter_count, near[LAW_PARAMETERS], moves[LAW_PARAMETERS], count = 0;
    double trial[LAW_PARAMETERS];
    for (size_t p = 0; p < n; p++)
        if (!descent_holds(descent, p)) moves[count++] = p;
    find_nearest(descent, theta, count, near);
    memcpy(trial, theta, n * sizeof *trial);
    for (int step = 0; step < 20; step++) {
        double m[LAW_PARAMETERS][LAW_PARAMETERS] = {{0}}, b[LAW_PARAMETERS], gradient[LAW_PARAMETERS];
        for (size_t k = 0; k < count; k++) {
            b[k] = -columns_residual(descent->columns, descent->log_residuals, trial, near[k], gradient);
            for (size_t c = 0; c < count; c++)
                m[k][c] = gradient[moves[c]] - (descent->tie ? descent->tie[moves[c]] * gradient[descent->slack] : 0);
        }
        if (!solve(count, m, b)) return;
        for (size_t c = 0; c < count; c++)
            trial[moves[c]] += b[c];
        descent_place(descent, trial);
    }
    if (sum_absolute(descent, trial) < sum_absolute(descent, theta)) memcpy(theta, trial, n * sizeof *trial);
}

double absolute_settle(const struct descent *descent, double *theta)
{
    struct descent sharper = *descent;
    for (int step = 0; step < SHARPER; step++) {
        double value = INFINITY;
        sharper.delta /= 10;
        sharper.scale /= 10;
        descent_settle(&sharper, theta, &value);
        vertex(&sharper, theta);
    }
    return sum_absolute(descent, theta);
}
