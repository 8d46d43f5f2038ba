/* Fitting: where fits of a user's law start. Exponents and offsets over a few values, other parameters at the scale
 * that they have in the middle of the points: what stands beside them, or what is left of the median loss. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "fitting/fit/random.h"
#include "fitting/fit/starts.h"
#include "fitting/laws/law_user.h"

static const double exponents_few[] = {0.03, 0.1, 0.25, 0.5, 1.0};
static const double exponents_many[] = {0.05, 0.2, 0.6};
static const double offsets[] = {0.02, 0.3, 0.6, 0.8, 0.95}; /* of the smallest loss */
static const double others[] = {0.03, 1, 30};                /* of what stands beside it */
static const double nothing[] = {0};
enum { FEW = 3 }; /* exponents with the longer list */

/* The values that parameter p starts at; NULL: one that follows from the others. */
static const double *values_of(const struct user_law *user, size_t p, size_t *count)
{
    size_t exponents = 0;
    for (size_t i = 0; i < user->law.parameter_count; i++)
        exponents += user->places[i] == USER_EXPONENT;
    *count = user->start_count[p];
    if (*count) return user->starts[p];
    if (user->places[p] == USER_EXPONENT) {
        *count = exponents <= FEW ? sizeof exponents_few / sizeof *exponents_few : 3;
        return exponents <= FEW ? exponents_few : exponents_many;
    }
    if (user->law.parameters[p].role == LAW_OFFSET) {
        *count = sizeof offsets / sizeof *offsets;
        return offsets;
    }
    if (user->law.parameters[p].role == LAW_KNEE) {
        *count = sizeof others / sizeof *others;
        return others;
    }
    *count = 1;
    return user->law.parameters[p].role == LAW_FREE ? nothing : NULL;
}

static double combinations(const struct user_law *user)
{
    double product = 1;
    for (size_t p = 0; p < user->law.parameter_count; p++) {
        size_t count;
        values_of(user, p, &count);
        product *= (double)count;
    }
    return product;
}

size_t starts_user_count(const struct law *law)
{
    return (size_t)fmin(combinations(law->user), STARTS_USER_LARGEST);
}

/* The loss falls where an exponent grows from 0: its starts have the sign for which that is so. */
static double falling_sign(const struct user_law *user, const double *values, const double log_x[LAW_AXES], size_t p)
{
    double gradient[LAW_PARAMETERS];
    expression_value(&user->expression, values, log_x, gradient, NULL);
    return gradient[p] > 0 && !law_is_log(&user->law, p) ? -1 : 1;
}

/* What is added to a parameter, or taken from it: its natural scale. */
static double beside(const struct user_law *user, const double *values, const double log_x[LAW_AXES], size_t p)
{
    const struct expression_node *nodes = user->expression.nodes;
    double at[EXPRESSION_NODES], scale = 1;
    expression_value(&user->expression, values, log_x, NULL, at);
    for (size_t i = 0; i < user->expression.node_count; i++) {
        if (nodes[i].kind != EXPRESSION_ADD && nodes[i].kind != EXPRESSION_SUBTRACT) continue;
        const size_t pair[2] = {nodes[i].first, nodes[i].second};
        for (size_t side = 0; side < 2; side++)
            if (nodes[pair[side]].kind == EXPRESSION_PARAMETER && nodes[pair[side]].first == p)
                scale = fabs(at[pair[!side]]);
    }
    return scale > 0 && isfinite(scale) ? scale : 1;
}

/* Coefficients: each term gets its share of what the offset leaves of the median loss. */
static void set_coefficients(const struct user_law *user, const double log_x[LAW_AXES], double rest, double *values)
{
    double gradient[LAW_PARAMETERS];
    size_t terms = 0;
    for (size_t p = 0; p < user->law.parameter_count; p++)
        terms += user->law.parameters[p].role == LAW_COEFFICIENT;
    expression_value(&user->expression, values, log_x, gradient, NULL);
    for (size_t p = 0; p < user->law.parameter_count; p++) {
        double size = fabs(gradient[p]);
        if (user->law.parameters[p].role != LAW_COEFFICIENT || user->start_count[p]) continue;
        values[p] = size > 0 && isfinite(size) ? rest / (double)terms / size : 1;
        if (!(values[p] > 0) || !isfinite(values[p])) values[p] = 1;
    }
}

static void middle(const struct law *law, const struct fit_data *data, double log_x[LAW_AXES])
{
    for (size_t axis = 0; axis < LAW_AXES; axis++) {
        size_t finite = 0; /* an axis of a knee may be 0 */
        double sum = 0;
        for (size_t i = 0; law_uses(law, (enum law_axis)axis) && i < data->count; i++) {
            if (!isfinite(data->log_x[i][axis])) continue;
            sum += data->log_x[i][axis];
            finite++;
        }
        log_x[axis] = finite ? sum / (double)finite : 0;
    }
}

/* Start every parameter at entry which[p] of its list. */
static void start_at(const struct user_law *user, const double log_x[LAW_AXES], double smallest, double median,
                     const size_t *which, double *theta)
{
    size_t n = user->law.parameter_count, ignored;
    double values[LAW_PARAMETERS] = {0}, chosen[LAW_PARAMETERS] = {0}, offset = 0;
    for (size_t p = 0; p < n; p++) {
        const double *list = values_of(user, p, &ignored);
        chosen[p] = list ? list[which[p]] : 1;
        values[p] = user->places[p] == USER_EXPONENT ? 0.1 : 1;
    }
    for (size_t p = 0; p < n; p++) {
        bool own = user->start_count[p] > 0;
        if (user->places[p] == USER_EXPONENT && !own) chosen[p] *= falling_sign(user, values, log_x, p);
        if (user->law.parameters[p].role == LAW_OFFSET) offset += chosen[p] *= own ? 1 : smallest;
    }
    for (size_t p = 0; p < n; p++)
        if (user->places[p] == USER_EXPONENT || user->start_count[p] || user->law.parameters[p].role != LAW_KNEE)
            values[p] = chosen[p];
    for (size_t p = 0; p < n; p++)
        if (user->law.parameters[p].role == LAW_KNEE && user->places[p] != USER_EXPONENT && !user->start_count[p])
            values[p] = chosen[p] * beside(user, values, log_x, p);
    set_coefficients(user, log_x, fmax(median - offset, 0.01 * median), values);
    for (size_t p = 0; p < n; p++)
        theta[p] = law_is_log(&user->law, p) ? log(values[p]) : values[p];
}

void starts_user_get(const struct law *law, const struct fit_data *data, double smallest, double median, size_t i,
                     double *theta)
{
    bool all = combinations(law->user) <= STARTS_USER_LARGEST;
    double log_x[LAW_AXES];
    size_t which[LAW_PARAMETERS], count;
    uint64_t state = i;
    middle(law, data, log_x);
    for (size_t p = 0; p < law->parameter_count; p++) {
        values_of(law->user, p, &count);
        which[p] = all ? i % count : (size_t)(random_uniform(&state) * (double)count);
        i = all ? i / count : i;
    }
    start_at(law->user, log_x, smallest, median, which, theta);
}

void starts_user_guess(const struct law *law, const double log_x[LAW_AXES], double loss, double *theta)
{
    size_t which[LAW_PARAMETERS], count;
    for (size_t p = 0; p < law->parameter_count; p++) {
        values_of(law->user, p, &count);
        which[p] = count / 2;
    }
    start_at(law->user, log_x, loss, loss, which, theta);
}
