/* Fitting, third box: a fit and its points in, intervals and "not identified" out. */
#include "fitting/fit/interval.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fitting/fit/absolute.h"
#include "fitting/fit/eigen.h"
#include "fitting/fit/random.h"
#include "fitting/fit/sorted.h"

#define SINGULAR 1e-6
#define MOVES 1e-4
#define WIDEST_RATIO 100.0
#define WIDEST_EXPONENT 1.0
enum { FEW_CLUSTERS = 8 };

const char *interval_kind_name(enum interval_kind kind)
{
    static const char *const names[INTERVAL_KINDS] = {"bootstrap", "profile", "both"};
    return names[kind];
}

enum interval_kind interval_kind_find(const char *name)
{
    size_t kind = 0;
    while (kind < INTERVAL_KINDS && strcmp(name, interval_kind_name((enum interval_kind)kind)))
        kind++;
    return (enum interval_kind)kind;
}

static size_t count_clusters(const struct fit_data *data)
{
    if (!data->cluster) return data->count;
    size_t count = 0;
    for (size_t i = 0; i < data->count; i++) {
        bool seen = false;
        for (size_t j = 0; j < i && !seen; j++)
            seen = data->cluster[i] == data->cluster[j];
        count += !seen;
    }
    return count;
}

/* Weights of one resample. Points of a cluster share a factor; with few clusters each point has one of its own too. */
static void draw_weights(const struct fit_data *data, size_t clusters, size_t resample, uint64_t seed, double *weight)
{
    const bool alone = clusters == data->count || clusters == 1, both = !alone && clusters < FEW_CLUSTERS;
    uint64_t state = seed;
    random_skip(&state, resample * ((clusters == 1 ? data->count : clusters) + (both ? data->count : 0)));
    for (size_t i = 0; i < data->count; i++) {
        size_t first = i;
        if (data->cluster && clusters > 1)
            for (first = 0; data->cluster[first] != data->cluster[i];)
                first++;
        weight[i] = first == i ? random_exponential(&state) : weight[first];
    }
    for (size_t i = 0; both && i < data->count; i++)
        weight[i] *= random_exponential(&state);
}

void interval_draw(const struct fit_data *data, size_t resample, uint64_t seed, double *weight)
{
    draw_weights(data, count_clusters(data), resample, seed, weight);
}

bool interval_is_singular(double value, double largest)
{
    return value <= SINGULAR * SINGULAR * largest;
}

bool interval_moves(double move, double largest)
{
    return fabs(move) > MOVES * largest;
}

/* Parameters that a direction of the centred coordinates moves, in centred or in raw coordinates. */
static void mark_moved(const struct fit *fit, const double *direction, bool raw, struct interval *out)
{
    double moved[LAW_PARAMETERS], largest = 0;
    double back[LAW_AXES];
    for (size_t axis = 0; axis < LAW_AXES; axis++)
        back[axis] = -fit->centre[axis];
    memcpy(moved, direction, sizeof moved);
    if (raw) law_shift(&fit->law, moved, back);
    for (size_t i = 0; i < fit->law.parameter_count; i++)
        largest = fmax(largest, fabs(moved[i]));
    for (size_t i = 0; i < fit->law.parameter_count; i++)
        if (interval_moves(moved[i], largest)) out[i].identified = false;
}

static enum law_axis exponent_axis(const struct law *law, size_t parameter)
{
    for (size_t t = 0; t < law->term_count; t++)
        for (size_t axis = 0; axis < LAW_AXES; axis++)
            if (law->terms[t].exponent[axis] == parameter) return (enum law_axis)axis;
    return LAW_D;
}

static void explain_singular(const struct fit *fit, const struct fit_data *data, size_t i, struct interval *out)
{
    const struct law *law = &fit->law;
    if (out->identified) return;
    if (!law->user && law->parameters[i].role == LAW_EXPONENT) {
        enum law_axis axis = exponent_axis(law, i);
        size_t levels = fit_levels(data, axis);
        snprintf(out->reason, sizeof out->reason, "%zu level%s of %s cannot tell it", levels, levels == 1 ? "" : "s",
                 law_axis_name(axis));
    } else if (law->parameters[i].role == LAW_OFFSET &&
               law_parameter_value(law, fit->theta, i) < 1e-4 * data->loss[0]) {
        snprintf(out->reason, sizeof out->reason, "the fit drives it to 0");
    } else {
        snprintf(out->reason, sizeof out->reason, "the grid cannot tell it from the other parameters");
    }
}

/* Rule 1. */
static void check_jacobian(const struct fit *fit, const struct fit_data *data, struct intervals *out)
{
    const struct law *law = &fit->law;
    size_t n = law->parameter_count;
    double theta[LAW_PARAMETERS], normal[EIGEN_LARGEST][EIGEN_LARGEST] = {{0}};
    memcpy(theta, fit->theta, sizeof theta);
    law_shift(law, theta, fit->centre);
    for (size_t i = 0; i < data->count; i++) {
        double gradient[LAW_PARAMETERS], log_x[LAW_AXES];
        for (size_t axis = 0; axis < LAW_AXES; axis++)
            log_x[axis] = data->log_x[i][axis] - fit->centre[axis];
        law_log_value(law, theta, log_x, gradient);
        for (size_t a = 0; a < n; a++)
            for (size_t b = 0; b < n; b++)
                normal[a][b] += gradient[a] * gradient[b];
    }
    double values[EIGEN_LARGEST], vectors[EIGEN_LARGEST][EIGEN_LARGEST];
    eigen_symmetric(n, normal, values, vectors);
    double largest = 0;
    for (size_t k = 0; k < n; k++)
        largest = fmax(largest, values[k]);
    for (size_t k = 0; k < n; k++) {
        if (!interval_is_singular(values[k], largest)) continue;
        mark_moved(fit, vectors[k], true, out->raw);
        mark_moved(fit, vectors[k], false, out->centred);
    }
    for (size_t i = 0; i < n; i++) {
        out->singular = out->singular || (law_is_shape(law, i) && !out->raw[i].identified);
        explain_singular(fit, data, i, &out->raw[i]);
        explain_singular(fit, data, i, &out->centred[i]);
    }
}

/* Rule 2. */
static void check_width(enum law_role role, struct interval *interval)
{
    if (!interval->identified) return;
    if (role == LAW_EXPONENT && interval->high - interval->low > WIDEST_EXPONENT)
        snprintf(interval->reason, sizeof interval->reason, "the interval is wider than %g", WIDEST_EXPONENT);
    else if (role != LAW_EXPONENT && role != LAW_FREE && interval->high > WIDEST_RATIO * interval->low)
        snprintf(interval->reason, sizeof interval->reason, "the interval spans more than a factor of %g",
                 WIDEST_RATIO);
    else
        return;
    interval->identified = false;
}

/* Rule 3; some slack for points without noise, whose resamples differ by rounding. */
static void check_place(double value, struct interval *interval)
{
    double slack = 1e-3 * (interval->high - interval->low) + 1e-6 * fabs(value);
    if (!interval->identified || (value >= interval->low - slack && value <= interval->high + slack)) return;
    snprintf(interval->reason, sizeof interval->reason, "it lies outside of its own interval");
    interval->identified = false;
}

void interval_judge(enum law_role role, double value, struct interval *interval)
{
    check_width(role, interval);
    check_place(value, interval);
}

static double percentile(const double *sorted, size_t count, double p)
{
    double place = p * (double)(count - 1);
    size_t below = (size_t)place;
    if (below + 1 >= count) return sorted[count - 1];
    return sorted[below] + (place - (double)below) * (sorted[below + 1] - sorted[below]);
}

static double deviation(const double *values, size_t count)
{
    double mean = 0, sum = 0;
    for (size_t i = 0; i < count; i++)
        mean += values[i] / (double)count;
    for (size_t i = 0; i < count; i++)
        sum += (values[i] - mean) * (values[i] - mean);
    return count > 1 ? sqrt(sum / (double)(count - 1)) : NAN;
}

static void correlate(size_t n, const double *samples, size_t count, double out[LAW_PARAMETERS][LAW_PARAMETERS])
{
    double mean[LAW_PARAMETERS] = {0}, products[LAW_PARAMETERS][LAW_PARAMETERS] = {{0}};
    for (size_t r = 0; r < count; r++)
        for (size_t a = 0; a < n; a++)
            mean[a] += samples[r * n + a] / (double)count;
    for (size_t r = 0; r < count; r++)
        for (size_t a = 0; a < n; a++)
            for (size_t b = 0; b <= a; b++)
                products[a][b] += (samples[r * n + a] - mean[a]) * (samples[r * n + b] - mean[b]);
    for (size_t a = 0; a < n; a++)
        for (size_t b = 0; b <= a; b++)
            out[a][b] = out[b][a] = a == b ? 1 : products[a][b] / sqrt(products[a][a] * products[b][b]);
}

/* theta: what the interval is about. */
static void summarise(const struct law *law, const double *theta, double *samples, size_t count, double level,
                      struct interval *intervals)
{
    double *column = samples + count * law->parameter_count; /* scratch behind the samples */
    for (size_t p = 0; p < law->parameter_count; p++) {
        for (size_t r = 0; r < count; r++)
            column[r] = law_parameter_value(law, samples + r * law->parameter_count, p);
        intervals[p].error = deviation(column, count);
        sort_numbers(column, count);
        intervals[p].low = percentile(column, count, (1 - level) / 2);
        intervals[p].high = percentile(column, count, (1 + level) / 2);
        interval_judge(law->parameters[p].role, law_parameter_value(law, theta, p), &intervals[p]);
    }
}

/* A start with E in the middle of what it can be: where a fit has driven E to 0, the slope of log E is lost and a
 * resample that wants an E would not find it. The coefficients take the rest. */
static void lift_offset(const struct fit *fit, const struct fit_data *data, double *theta)
{
    const struct law *law = &fit->law;
    double smallest = INFINITY;
    for (size_t i = 0; i < data->count; i++)
        smallest = fmin(smallest, data->loss[i]);
    memcpy(theta, fit->theta, law->parameter_count * sizeof *theta);
    for (size_t i = 0; i < law->parameter_count; i++) {
        if (law->parameters[i].role == LAW_COEFFICIENT) theta[i] -= log(2);
        if (law->parameters[i].role == LAW_OFFSET) theta[i] = log(smallest / 2);
    }
}

static bool offset_is_lost(const struct fit *fit, const struct fit_data *data)
{
    for (size_t i = 0; i < fit->law.parameter_count; i++)
        if (fit->law.parameters[i].role == LAW_OFFSET) return exp(fit->theta[i]) < 1e-2 * data->loss[0];
    return false;
}

/* What the refits of one fit share. */
struct resampling {
    const struct fit *fit;
    const struct fit_data *data;
    const struct fit_options *options;
    uint64_t seed;
    size_t clusters;
    struct columns columns;
    double starts[2][LAW_PARAMETERS]; /* centred axes */
    size_t start_count;
};

/* One refit into theta of raw axes; weight[count], column[padded]: room. false: it has no minimum. */
static bool refit(const struct resampling *all, size_t resample, double *weight, double *column, double *theta)
{
    double best = INFINITY, back[LAW_AXES];
    draw_weights(all->data, all->clusters, resample, all->seed, weight);
    columns_weigh(&all->columns, weight, column);
    struct descent descent = descent_of(&all->columns, column, all->options);
    descent.coarse = true;
    for (size_t s = 0; s < all->start_count; s++) {
        double at[LAW_PARAMETERS], value = INFINITY;
        memcpy(at, all->starts[s], sizeof at);
        descent_settle(&descent, at, &value);
        if (all->options->absolute) value = absolute_settle(&descent, at);
        if (!(value < best)) continue;
        best = value;
        memcpy(theta, at, all->columns.law.parameter_count * sizeof *theta);
    }
    for (size_t axis = 0; axis < LAW_AXES; axis++)
        back[axis] = -all->fit->centre[axis];
    law_shift(&all->columns.law, theta, back);
    return isfinite(best);
}

/* Refit under random weights; samples hold theta of raw axes, one row a resample. Returns the number of rows, 0 also
 * out of memory. The resamples are independent of each other and of who makes them. */
static size_t resample(struct resampling *all, size_t count, double *samples)
{
    const size_t n = all->fit->law.parameter_count;
    bool *kept = calloc(count, sizeof *kept);
    size_t rows = 0;
    if (!kept || columns_create(&all->fit->law, all->data, all->fit->centre, &all->columns)) {
        free(kept);
        return 0;
    }
#pragma omp parallel
    {
        double *weight = calloc(all->data->count, sizeof *weight), *column = columns_weights(&all->columns, NULL);
#pragma omp for schedule(dynamic, 8)
        for (size_t r = 0; r < count; r++)
            kept[r] = weight && column && refit(all, r, weight, column, samples + r * n);
        free(weight);
        free(column);
    }
    for (size_t r = 0; r < count; r++)
        if (kept[r]) memmove(samples + rows++ * n, samples + r * n, n * sizeof *samples);
    columns_destroy(&all->columns);
    free(kept);
    return rows;
}

static void begin(size_t parameters, struct intervals *out)
{
    for (size_t i = 0; i < parameters; i++) {
        out->raw[i] = (struct interval){
            .low = NAN, .high = NAN, .error = NAN, .identified = true, .profile = {NAN, NAN, false, false}};
        out->centred[i] = out->raw[i];
    }
}

bool interval_shape_is_unknown(const struct fit *fit, const struct fit_data *data)
{
    struct intervals intervals = {.samples = NULL};
    begin(fit->law.parameter_count, &intervals);
    check_jacobian(fit, data, &intervals);
    return intervals.singular;
}

static struct resampling resampling_of(const struct fit *fit, const struct fit_data *data,
                                       const struct fit_options *options, uint64_t seed, size_t clusters)
{
    struct resampling out = {.fit = fit, .data = data, .options = options, .seed = seed, .clusters = clusters};
    memcpy(out.starts[out.start_count++], fit->theta, sizeof fit->theta);
    if (offset_is_lost(fit, data)) lift_offset(fit, data, out.starts[out.start_count++]);
    for (size_t s = 0; s < out.start_count; s++)
        law_shift(&fit->law, out.starts[s], fit->centre);
    return out;
}

int interval_bootstrap(const struct fit *fit, const struct fit_data *data, const struct fit_options *options,
                       const struct interval_options *interval, struct intervals *out, struct error *err)
{
    size_t n = fit->law.parameter_count;
    *out = (struct intervals){.level = interval->level, .clusters = count_clusters(data)};
    begin(n, out);
    check_jacobian(fit, data, out);
    out->vague = out->singular;
    if (interval->resamples == 0) return 0;

    double *samples = calloc(interval->resamples * (n + 1), sizeof *samples);
    if (!samples) return error_set(err, "out of memory for %zu resamples", interval->resamples);
    struct resampling all = resampling_of(fit, data, options, interval->seed, out->clusters);
    out->resamples = resample(&all, interval->resamples, samples);
    if (out->resamples) {
        double centred[LAW_PARAMETERS];
        summarise(&fit->law, fit->theta, samples, out->resamples, interval->level, out->raw);
        correlate(n, samples, out->resamples, out->correlation);
        for (size_t i = 0; i < n; i++)
            out->vague = out->vague || (law_is_shape(&fit->law, i) && !out->raw[i].identified);
        if (interval->keep && (out->samples = calloc(out->resamples * n, sizeof *samples)))
            memcpy(out->samples, samples, out->resamples * n * sizeof *samples);
        for (size_t r = 0; r < out->resamples; r++)
            law_shift(&fit->law, samples + r * n, fit->centre);
        memcpy(centred, fit->theta, sizeof centred);
        law_shift(&fit->law, centred, fit->centre);
        summarise(&fit->law, centred, samples, out->resamples, interval->level, out->centred);
    }
    free(samples);
    return 0;
}

/* An interval that is the profile's: an end that the points do not give, or rule 2. */
static void take_profile(enum law_role role, struct interval *interval)
{
    const struct span *span = &interval->profile;
    interval->low = span->low;
    interval->high = span->high;
    if (interval->identified && (span->low_open || span->high_open)) {
        interval->identified = false;
        snprintf(interval->reason, sizeof interval->reason, "its profile has no %s end",
                 !span->high_open  ? "lower"
                 : !span->low_open ? "upper"
                                   : "lower and no upper");
    }
    check_width(role, interval);
}

int interval_profile(const struct fit *fit, const struct fit_data *data, const struct fit_options *options, bool alone,
                     struct intervals *out, struct error *err)
{
    const struct law *law = &fit->law;
    struct profile profile;
    if (profile_create(fit, data, options, out->level, &profile, err)) return -1;
    for (size_t i = 0; i < law->parameter_count; i++) {
        out->raw[i].profile = profile_parameter(&profile, i, true);
        out->centred[i].profile = law_is_shape(law, i) || law->parameters[i].role == LAW_OFFSET
                                      ? out->raw[i].profile
                                      : profile_parameter(&profile, i, false);
        if (!alone) continue;
        take_profile(law->parameters[i].role, &out->raw[i]);
        take_profile(law->parameters[i].role, &out->centred[i]);
        out->vague = out->vague || (law_is_shape(law, i) && !out->raw[i].identified);
    }
    profile_destroy(&profile);
    return 0;
}
