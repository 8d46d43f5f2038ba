/* Fitting: two laws in, the examples at which they meet out: bracketed on a grid in log D, then bisected. */
#include "fitting/analysis/crossing.h"

#include <math.h>
#include <string.h>

enum { STEPS = 400, HALVINGS = 80 };

struct pair {
    const struct law *law[2];
    const double *theta[2];
    double x[2][LAW_AXES];
};

static double difference(struct pair *pair, double log_examples)
{
    double value[2];
    for (size_t i = 0; i < 2; i++) {
        pair->x[i][LAW_D] = exp(log_examples);
        value[i] = law_value(pair->law[i], pair->theta[i], pair->x[i]);
    }
    return value[0] - value[1];
}

static double bisect(struct pair *pair, double low, double high)
{
    bool below = difference(pair, low) < 0;
    for (int i = 0; i < HALVINGS; i++) {
        double middle = (low + high) / 2;
        if ((difference(pair, middle) < 0) == below)
            low = middle;
        else
            high = middle;
    }
    return exp((low + high) / 2);
}

/* The place in [low, high] where sign · difference is least, by golden section. */
static double least(struct pair *pair, double low, double high, double sign)
{
    const double golden = 0.6180339887498949;
    for (int i = 0; i < HALVINGS; i++) {
        double a = high - golden * (high - low), b = low + golden * (high - low);
        if (sign * difference(pair, a) < sign * difference(pair, b))
            high = b;
        else
            low = a;
    }
    return (low + high) / 2;
}

size_t crossing_find(const struct law *first, const double *theta_first, const double x_first[LAW_AXES],
                     const struct law *second, const double *theta_second, const double x_second[LAW_AXES], double low,
                     double high, double roots[CROSSING_LARGEST])
{
    struct pair pair = {{first, second}, {theta_first, theta_second}, {{0}, {0}}};
    memcpy(pair.x[0], x_first, sizeof pair.x[0]);
    memcpy(pair.x[1], x_second, sizeof pair.x[1]);
    double step = log(high / low) / STEPS, before = NAN, last = difference(&pair, log(low));
    size_t count = 0;
    for (int i = 1; i <= STEPS && count < CROSSING_LARGEST; i++) {
        double at = log(low) + step * i, value = difference(&pair, at);
        if ((last < 0) != (value < 0)) {
            roots[count++] = bisect(&pair, at - step, at);
        } else if (fabs(last) < fabs(value) && fabs(last) < fabs(before) && count + 2 <= CROSSING_LARGEST &&
                   (before < 0) == (last < 0)) {
            double sign = last < 0 ? -1 : 1, turn = least(&pair, at - 2 * step, at, sign);
            if (sign * difference(&pair, turn) < 0) { /* two roots between neighbours of the grid */
                roots[count++] = bisect(&pair, at - 2 * step, turn);
                roots[count++] = bisect(&pair, turn, at);
            }
        }
        before = last;
        last = value;
    }
    return count;
}
