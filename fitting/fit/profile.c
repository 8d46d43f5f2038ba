/* Fitting, third box, the second way: a fit and its points in, intervals by refits with a value held out. */
#include "fitting/fit/profile.h"
#include "fitting/fit/sorted.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WIDENINGS = 40, HALVINGS = 30 };
#define FAR_EXPONENT 10.0
#define FAR_LOG 14.0  /* a factor of 10^6 */
#define FAR_RAW 200.0 /* a coefficient far from the points */

double profile_student(double level, double degrees)
{
    enum { STEPS = 1000 };
    const double scale = lgamma((degrees + 1) / 2) - lgamma(degrees / 2) - 0.5 * log(degrees * M_PI);
    double low = 0, high = 1e4;
    for (int i = 0; i < 50; i++) { /* in log(1 + t), where the density is smooth far out too */
        double middle = sqrt((1 + low) * (1 + high)) - 1, end = log1p(middle), sum = 0;
        for (int s = 0; s <= STEPS; s++) {
            double u = end * s / STEPS, t = expm1(u);
            sum += (s == 0 || s == STEPS ? 1
                    : s % 2              ? 4
                                         : 2) *
                   exp(scale - (degrees + 1) / 2 * log1p(t * t / degrees)) * (1 + t);
        }
        if (2 * sum * end / STEPS / 3 < level)
            low = middle;
        else
            high = middle;
    }
    return (low + high) / 2;
}

/* mean(psi²) / mean(psi'). With a threshold below most residuals the share within it says little: the density around 0
 * is taken from the nearer three quarters of the residuals that the parameters leave free. */
static double spread(const struct profile *profile, double *sizes)
{
    const struct descent *descent = &profile->descent;
    const size_t n = profile->columns.count, used = profile->columns.law.parameter_count, free = n - used;
    double squares = 0, delta = descent->delta;
    for (size_t i = 0; i < n; i++) {
        sizes[i] = fabs(columns_residual(&profile->columns, descent->log_residuals, profile->theta, i, NULL));
        squares += fmin(sizes[i], delta) * fmin(sizes[i], delta);
    }
    sort_numbers(sizes, n);
    if (isinf(delta)) return squares / (double)free;
    double near = fmax(delta, sizes[used + 3 * free / 4 < n ? used + 3 * free / 4 : n - 1]);
    size_t within = 0;
    while (within < n && sizes[within] <= near)
        within++;
    double slope = (double)(within - used) / (double)free * delta / near;
    return squares / (double)free / slope;
}

int profile_create(const struct fit *fit, const struct fit_data *data, const struct fit_options *options, double level,
                   struct profile *out, struct error *err)
{
    *out = (struct profile){0};
    if (data->count <= fit->law.parameter_count)
        return error_set(err, "%zu points and %zu parameters leave nothing to profile", data->count,
                         fit->law.parameter_count);
    double *sizes = calloc(data->count, sizeof *sizes);
    if (!sizes || columns_create(&fit->law, data, fit->centre, &out->columns) ||
        !(out->weight = columns_weights(&out->columns, data->weight))) {
        free(sizes);
        profile_destroy(out);
        return error_set(err, "out of memory for the profiles of %zu points", data->count);
    }
    struct fit_options again = *options;
    again.only_start = false;
    out->descent = descent_of(&out->columns, out->weight, &again);
    memcpy(out->theta, fit->theta, sizeof out->theta);
    law_shift(&fit->law, out->theta, fit->centre);
    for (size_t axis = 0; axis < LAW_AXES; axis++)
        out->back[axis] = -fit->centre[axis];
    out->least = INFINITY;
    descent_settle(&out->descent, out->theta, &out->least);
    out->tau = spread(out, sizes);
    out->quantile = profile_student(level, (double)(data->count - fit->law.parameter_count));
    free(sizes);
    return 0;
}

void profile_destroy(struct profile *profile)
{
    columns_destroy(&profile->columns);
    free(profile->weight);
    *profile = (struct profile){0};
}

/* The statistic with what `held` holds at `value`; theta: a start, and the end. */
static double statistic(const struct profile *profile, struct descent *held, double value, double *theta)
{
    double objective = INFINITY;
    held->tied = value;
    descent_settle(held, theta, &objective);
    double out = 2 * (objective - profile->least) * held->scale / profile->tau;
    return out > 0 ? out : 0;
}

/* A value that moves away from the best one, `from`: root of the statistic as a function, which is nearly a line. */
typedef double rooted(void *context, double value);

/* Where the function reaches `quantile`, from `from` towards `from + direction · far`; *open: nowhere. */
static double find_end(rooted *function, void *context, double from, double direction, double far, double quantile,
                       bool *open)
{
    double inside = 0, inside_root = 0, outside = 1e-3, outside_root = 0;
    for (int i = 0; i < WIDENINGS; i++) {
        outside = fmin(outside, far);
        outside_root = function(context, from + direction * outside);
        if (outside_root >= quantile || outside >= far) break;
        inside = outside;
        inside_root = outside_root;
        outside *= fmin(fmax(1.1 * quantile / fmax(outside_root, 1e-300), 1.2), 6);
    }
    *open = !(outside_root >= quantile);
    for (int i = 0; i < HALVINGS && !*open && outside - inside > 1e-3 * outside; i++) {
        double share = (quantile - inside_root) / (outside_root - inside_root); /* where a line would be */
        if (i % 3 == 2) share = 0.5;
        double middle = inside + fmin(fmax(share, 0.02), 0.98) * (outside - inside);
        double root = function(context, from + direction * middle);
        if (fabs(root - quantile) < 1e-3 * quantile) return from + direction * middle;
        if (root < quantile) {
            inside = middle;
            inside_root = root;
        } else {
            outside = middle;
            outside_root = root;
        }
    }
    return from + direction * outside;
}

struct held {
    const struct profile *profile;
    struct descent descent;
    double theta[LAW_PARAMETERS];
};

static double held_root(void *context, double value)
{
    struct held *held = context;
    return sqrt(statistic(held->profile, &held->descent, value, held->theta));
}

static struct span both_ends(const struct profile *profile, const struct descent *descent, double best,
                             const double far[2])
{
    struct span out;
    for (int side = 0; side < 2; side++) {
        struct held held = {profile, *descent, {0}};
        memcpy(held.theta, profile->theta, sizeof held.theta);
        *(side ? &out.high : &out.low) = find_end(held_root, &held, best, side ? 1 : -1, far[side], profile->quantile,
                                                  side ? &out.high_open : &out.low_open);
    }
    return out;
}

/* The raw parameter i as a sum over the centred ones: a shift of the origin is linear. */
static void raw_row(const struct profile *profile, size_t i, double row[LAW_PARAMETERS])
{
    for (size_t j = 0; j < profile->columns.law.parameter_count; j++) {
        double unit[LAW_PARAMETERS] = {0};
        unit[j] = 1;
        law_shift(&profile->columns.law, unit, profile->back);
        row[j] = unit[i];
    }
}

/* The struct may have moved since it was made. */
static struct descent descent_here(const struct profile *profile)
{
    struct descent out = profile->descent;
    out.columns = &profile->columns;
    return out;
}

struct span profile_parameter(struct profile *profile, size_t i, bool raw)
{
    const struct law *law = &profile->columns.law;
    const bool exponent = law_is_shape(law, i);
    double row[LAW_PARAMETERS] = {0}, best = 0;
    struct descent descent = descent_here(profile);
    row[i] = 1;
    if (raw) raw_row(profile, i, row);
    for (size_t j = 0; j < law->parameter_count; j++) {
        best += row[j] * profile->theta[j];
        if (fabs(row[j]) > fabs(row[descent.slack])) descent.slack = j;
    }
    double unit = row[descent.slack]; /* the slack's own factor is 1 */
    for (size_t j = 0; j < law->parameter_count; j++)
        row[j] /= unit;
    descent.tie = row;
    double far = exponent ? FAR_EXPONENT : raw && law->parameters[i].role != LAW_OFFSET ? FAR_RAW : FAR_LOG;
    double reach[2] = {far / fabs(unit), far / fabs(unit)};
    if (law->parameters[i].role == LAW_OFFSET) /* an E that was driven to 0 may lie far below the losses */
        reach[1] = fmax(FAR_LOG, profile->columns.unit + 1 - best);
    struct span out = both_ends(profile, &descent, best / unit, reach);
    double low = unit > 0 ? out.low * unit : out.high * unit, high = unit > 0 ? out.high * unit : out.low * unit;
    if (unit < 0) out = (struct span){out.low, out.high, out.high_open, out.low_open};
    out.low = out.low_open ? (exponent ? -INFINITY : 0) : exponent ? low : exp(low);
    out.high = out.high_open ? INFINITY : exponent ? high : exp(high);
    return out;
}

/* What holds the prediction at a point: the sum of the terms there. */
static struct descent at_point(const struct profile *profile, const double *at)
{
    struct descent out = descent_here(profile);
    const struct law *law = &profile->columns.law;
    out.at = at;
    while (out.slack + 1 < law->parameter_count && law->parameters[out.slack].role != LAW_COEFFICIENT)
        out.slack++;
    return out;
}

static void centre(const struct profile *profile, const double raw[LAW_AXES], double out[LAW_AXES])
{
    for (size_t axis = 0; axis < LAW_AXES; axis++)
        out[axis] = raw[axis] + profile->back[axis];
}

struct span profile_prediction(struct profile *profile, const double log_x[LAW_AXES])
{
    double at[LAW_AXES];
    centre(profile, log_x, at);
    struct descent descent = at_point(profile, at);
    double best = law_log_value(&profile->columns.law, profile->theta, at, NULL);
    struct span out = both_ends(profile, &descent, best, (double[]){FAR_LOG, FAR_LOG});
    out.low = out.low_open ? 0 : exp(out.low);
    out.high = out.high_open ? INFINITY : exp(out.high);
    return out;
}

struct meeting {
    struct profile *profile[2];
    double log_x[2][LAW_AXES];
};

/* The statistic of the hypothesis that the two laws are equal at D: least, over the loss that they share there, of the
 * sum of both. */
static double meeting_root(void *context, double log_examples)
{
    const double golden = 0.6180339887498949;
    const struct meeting *meeting = context;
    double at[2][LAW_AXES], best[2], theta[2][LAW_PARAMETERS];
    struct descent held[2];
    for (size_t i = 0; i < 2; i++) {
        memcpy(at[i], meeting->log_x[i], sizeof at[i]);
        at[i][LAW_D] = log_examples + meeting->profile[i]->back[LAW_D];
        held[i] = at_point(meeting->profile[i], at[i]);
        memcpy(theta[i], meeting->profile[i]->theta, sizeof theta[i]);
        best[i] = law_log_value(&meeting->profile[i]->columns.law, theta[i], at[i], NULL);
    }
    double low = fmin(best[0], best[1]), high = fmax(best[0], best[1]), least = INFINITY;
    double points[2] = {high - golden * (high - low), low + golden * (high - low)}, values[2] = {NAN, NAN};
    for (int i = 0; i < HALVINGS && high - low > 1e-9; i++) {
        for (int k = 0; k < 2; k++)
            if (isnan(values[k]))
                values[k] = statistic(meeting->profile[0], &held[0], points[k], theta[0]) +
                            statistic(meeting->profile[1], &held[1], points[k], theta[1]);
        least = fmin(least, fmin(values[0], values[1]));
        if (fabs(values[0] - values[1]) < 1e-4 * least) break;
        if (values[0] < values[1]) {
            high = points[1];
            points[1] = points[0];
            values[1] = values[0];
            points[0] = high - golden * (high - low);
            values[0] = NAN;
        } else {
            low = points[0];
            points[0] = points[1];
            values[0] = values[1];
            points[1] = low + golden * (high - low);
            values[1] = NAN;
        }
    }
    return isinf(least) ? 0 : sqrt(least);
}

struct span profile_crossing(struct profile *first, const double first_log_x[LAW_AXES], struct profile *second,
                             const double second_log_x[LAW_AXES], double root, double low, double high)
{
    struct meeting meeting = {{first, second}, {{0}, {0}}};
    struct span out;
    double quantile = fmax(first->quantile, second->quantile);
    centre(first, first_log_x, meeting.log_x[0]);
    centre(second, second_log_x, meeting.log_x[1]);
    out.low = exp(find_end(meeting_root, &meeting, log(root), -1, log(root / low), quantile, &out.low_open));
    out.high = exp(find_end(meeting_root, &meeting, log(root), 1, log(high / root), quantile, &out.high_open));
    if (out.low_open) out.low = 0;
    if (out.high_open) out.high = INFINITY;
    return out;
}
