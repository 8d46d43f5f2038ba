/* Fitting: the two-stage procedure, beside the joint fit. Its first stage is one fit of the joint law over points of
 * both axes: an axis that is not a point's own is 0 there, and the log-ratio of the two coefficients is a slope over
 * the indicator of the second axis. */
#include "fitting/fit/staged.h"
#include "fitting/fit/eigen.h"
#include "fitting/fit/sorted.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { A = 0, ALPHA, GAMMA, TAU, BETA, OFFSET, SHARED }; /* of the law joint */

const char *staged_axis_name(enum staged_axis axis)
{
    static const char *const names[STAGED_AXES] = {"model", "pretrain", "pet"};
    return names[axis];
}

/* Room for the points of all axes, with the origin of each axis's sizes. */
struct room {
    struct fit_data all; /* both shared axes */
    double origin[STAGED_AXES];
    double *weight; /* of every point, axis after axis */
    size_t *cluster;
};

static void room_free(struct room *room)
{
    free(room->all.log_x);
    free(room->all.loss);
    free(room->weight);
    free(room->cluster);
}

static int room_create(const struct fit_data axes[STAGED_AXES], struct room *room)
{
    size_t total = axes[0].count + axes[1].count + axes[2].count, i = 0;
    *room = (struct room){0};
    room->all.log_x = calloc(total + 1, sizeof *room->all.log_x);
    room->all.loss = calloc(total + 1, sizeof *room->all.loss);
    room->weight = calloc(total + 1, sizeof *room->weight);
    room->cluster = calloc(total + 1, sizeof *room->cluster);
    if (!room->all.log_x || !room->all.loss || !room->weight || !room->cluster) return -1;
    for (size_t k = 0; k < STAGED_AXES; k++) {
        for (size_t p = 0; p < axes[k].count; p++)
            room->origin[k] += axes[k].log_x[p][LAW_X] / (double)axes[k].count;
        for (size_t p = 0; p < axes[k].count; p++, i++) {
            room->weight[i] = 1;
            room->cluster[i] = axes[k].cluster ? axes[k].cluster[p] : i;
            room->all.loss[i] = axes[k].loss[p];
            if (k == STAGED_PET) continue;
            room->all.log_x[i][k == STAGED_MODEL ? LAW_X : LAW_P] = axes[k].log_x[p][LAW_X] - room->origin[k];
            room->all.log_x[i][LAW_T] = k == STAGED_PRETRAIN;
            room->all.log_x[i][LAW_D] = axes[k].log_x[p][LAW_D];
        }
    }
    room->all.count = axes[0].count + axes[1].count;
    room->all.weight = room->weight;
    room->all.cluster = room->cluster;
    return 0;
}

/* Where the parameters of the joint law are in its restriction to the axes that are there. */
static void place(const struct staged *out, struct law *law, size_t at[SHARED])
{
    const bool both = out->has[STAGED_MODEL] && out->has[STAGED_PRETRAIN];
    const bool varies[LAW_AXES] = {out->has[STAGED_MODEL], out->has[STAGED_PRETRAIN], both, true};
    size_t next = 0;
    *law = law_restrict(law_find("joint", NULL), varies);
    at[A] = next++;
    for (size_t axis = 0; axis < LAW_AXES; axis++)
        at[ALPHA + axis] = varies[axis] ? next++ : SIZE_MAX;
    at[OFFSET] = next;
}

/* Fit an axis with β and E frozen: its own A (a log) and α, which are the start where it is warm. */
static int fit_frozen(const struct fit_data *axis, const double *weight, const struct fit_options *options, double beta,
                      double offset, bool warm, double *a, double *alpha, struct error *err)
{
    static const bool frozen[LAW_PARAMETERS] = {false, false, true, true};
    const double start[LAW_PARAMETERS] = {*a, *alpha, beta, offset};
    struct fit_options how = *options;
    struct fit_data data = *axis;
    struct fit fit;
    data.weight = weight;
    how.start = start;
    how.frozen = frozen;
    how.only_start = warm;
    if (fit_law(law_find("multiplicative", NULL), &data, &how, &fit, err)) return -1;
    *a = fit.theta[0];
    *alpha = fit.theta[1];
    return 0;
}

/* Places in the values of both stages: of axis k log A at 2k and α at 2k + 1, then β and log E. */
enum { VALUE_BETA = 2 * STAGED_AXES, VALUE_OFFSET, VALUES };

/* Both stages under the weights of the room; values: log A and α of each axis, β, log E. theta: the first stage's start
 * where it is warm. */
static int run(const struct fit_data axes[STAGED_AXES], const struct staged *has, const struct room *room,
               const struct fit_options *options, double theta[LAW_PARAMETERS], bool warm, double values[VALUES],
               double *objective, struct error *err)
{
    struct law law;
    size_t at[SHARED], first = 0;
    struct fit fit;
    struct fit_options how = *options;
    place(has, &law, at);
    how.start = warm ? theta : NULL;
    how.only_start = warm;
    if (fit_law(&law, &room->all, &how, &fit, err)) return -1;
    memcpy(theta, fit.theta, sizeof fit.theta);
    *objective = fit.objective;
    double beta = fit.theta[at[BETA]], offset = fit.theta[at[OFFSET]];
    values[VALUE_BETA] = beta;
    values[VALUE_OFFSET] = offset;
    for (size_t k = 0; k < STAGED_AXES; first += axes[k].count, k++)
        if (has->has[k] && fit_frozen(&axes[k], room->weight + first, options, beta, offset, warm, &values[2 * k],
                                      &values[2 * k + 1], err))
            return -1;
    return 0;
}

static enum law_role role_of(size_t which)
{
    return which == VALUE_OFFSET ? LAW_OFFSET : which == VALUE_BETA || which % 2 == 1 ? LAW_EXPONENT : LAW_COEFFICIENT;
}

/* Mean log of the examples over the points that β and E are fitted to. */
static double middle_examples(const struct room *room)
{
    double sum = 0;
    for (size_t i = 0; i < room->all.count; i++)
        sum += room->all.log_x[i][LAW_D] / (double)room->all.count;
    return sum;
}

/* Adds what the points of axis k say of the values, axes centred. Of PET sizes β and E are given, not told. */
static void add_normal(const struct fit_data *axis, size_t k, const double values[VALUES],
                       const double centre[LAW_AXES], double normal[EIGEN_LARGEST][EIGEN_LARGEST])
{
    const struct law *law = law_find("multiplicative", NULL);
    const size_t at[] = {2 * k, 2 * k + 1, VALUE_BETA, VALUE_OFFSET}, told = k == STAGED_PET ? 2 : 4;
    double theta[LAW_PARAMETERS] = {values[at[0]], values[at[1]], values[at[2]], values[at[3]]};
    law_shift(law, theta, centre);
    for (size_t i = 0; i < axis->count; i++) {
        double gradient[LAW_PARAMETERS], log_x[LAW_AXES] = {0};
        log_x[LAW_X] = axis->log_x[i][LAW_X] - centre[LAW_X];
        log_x[LAW_D] = axis->log_x[i][LAW_D] - centre[LAW_D];
        law_log_value(law, theta, log_x, gradient);
        for (size_t a = 0; a < told; a++)
            for (size_t b = 0; b < told; b++)
                normal[at[a]][at[b]] += gradient[a] * gradient[b];
    }
}

/* Rule 1 of fitting/fit/interval.h over both stages: known[which] false where a singular direction moves a value. */
static void mark_known(const struct fit_data axes[STAGED_AXES], const struct staged *has, const struct room *room,
                       const double values[VALUES], bool known[VALUES])
{
    double normal[EIGEN_LARGEST][EIGEN_LARGEST] = {{0}}, sizes[EIGEN_LARGEST], vectors[EIGEN_LARGEST][EIGEN_LARGEST];
    const double examples = middle_examples(room);
    double greatest = 0;
    for (size_t which = 0; which < VALUES; which++)
        known[which] = true;
    for (size_t k = 0; k < STAGED_AXES; k++) {
        const double centre[LAW_AXES] = {[LAW_X] = room->origin[k], [LAW_D] = examples};
        if (has->has[k]) add_normal(&axes[k], k, values, centre, normal);
    }
    eigen_symmetric(VALUES, normal, sizes, vectors);
    for (size_t i = 0; i < VALUES; i++)
        greatest = fmax(greatest, sizes[i]);
    for (size_t i = 0; i < VALUES; i++) {
        double *move = vectors[i], largest = 0;
        if (!interval_is_singular(sizes[i], greatest)) continue;
        for (size_t k = 0; k < STAGED_AXES; k++) /* coefficients as they are: at size 1 and example 1 */
            move[2 * k] += has->has[k] ? move[2 * k + 1] * room->origin[k] + move[VALUE_BETA] * examples : 0;
        for (size_t which = 0; which < VALUES; which++)
            largest = fmax(largest, fabs(move[which]));
        for (size_t which = 0; which < VALUES; which++)
            known[which] = known[which] && !interval_moves(move[which], largest);
    }
}

/* Value, interval and verdict. */
static struct staged_parameter summary(const double *values, double *samples, size_t count, size_t which, double level,
                                       bool known)
{
    const enum law_role role = role_of(which);
    const bool logged = role != LAW_EXPONENT;
    const double value = logged ? exp(values[which]) : values[which];
    struct interval interval = {.low = NAN, .high = NAN, .identified = known};
    double *column = samples + count * VALUES;
    if (!known) snprintf(interval.reason, sizeof interval.reason, "the points cannot tell it from the others");
    for (size_t r = 0; r < count; r++)
        column[r] = samples[r * VALUES + which];
    if (count) {
        sort_numbers(column, count);
        interval.low = sorted_at(column, count, (1 - level) / 2);
        interval.high = sorted_at(column, count, (1 + level) / 2);
        if (logged) interval.low = exp(interval.low);
        if (logged) interval.high = exp(interval.high);
        interval_judge(role, value, &interval);
    }
    struct staged_parameter out = {
        .value = value, .low = interval.low, .high = interval.high, .identified = interval.identified};
    memcpy(out.reason, interval.reason, sizeof out.reason);
    return out;
}

static void describe(struct staged *out, const double *values, double *samples, double level, const bool known[VALUES])
{
    const size_t count = out->resamples;
    for (size_t k = 0; k < STAGED_AXES; k++) {
        out->a[k] = out->alpha[k] = (struct staged_parameter){.value = NAN, .low = NAN, .high = NAN};
        if (!out->has[k]) continue;
        out->a[k] = summary(values, samples, count, 2 * k, level, known[2 * k]);
        out->alpha[k] = summary(values, samples, count, 2 * k + 1, level, known[2 * k + 1]);
    }
    out->beta = summary(values, samples, count, VALUE_BETA, level, known[VALUE_BETA]);
    out->offset = summary(values, samples, count, VALUE_OFFSET, level, known[VALUE_OFFSET]);
}

int staged_fit(const struct fit_data axes[STAGED_AXES], const struct fit_options *options,
               const struct interval_options *interval, struct staged *out, struct error *err)
{
    struct room room;
    double theta[LAW_PARAMETERS] = {0}, values[VALUES] = {0}, ignored;
    double *samples = calloc((interval->resamples + 1) * (VALUES + 1), sizeof *samples);
    int result = -1;
    *out = (struct staged){0};
    for (size_t k = 0; k < STAGED_AXES; k++) {
        out->points[k] = axes[k].count;
        out->has[k] = axes[k].count && fit_levels(&axes[k], LAW_X) > 1;
    }
    if (room_create(axes, &room) || !samples) {
        error_set(err, "out of memory for the two stages");
        goto done;
    }
    if (!out->has[STAGED_MODEL] && !out->has[STAGED_PRETRAIN]) {
        error_set(err, "neither model size nor pretraining tokens have two levels");
        goto done;
    }
    if (run(axes, out, &room, options, theta, false, values, &out->objective, err)) goto done;
    struct fit_data all = room.all;
    all.count += axes[STAGED_PET].count;
    for (size_t r = 0; r < interval->resamples; r++) {
        double warm[LAW_PARAMETERS];
        memcpy(warm, theta, sizeof warm);
        memcpy(samples + out->resamples * VALUES, values, sizeof values);
        interval_draw(&all, r, interval->seed, room.weight);
        if (!run(axes, out, &room, options, warm, true, samples + out->resamples * VALUES, &ignored, NULL))
            out->resamples++;
    }
    bool known[VALUES];
    mark_known(axes, out, &room, values, known);
    describe(out, values, samples, interval->level, known);
    if (out->offset.value < 1e-4 * room.all.loss[0]) {
        out->offset.identified = false;
        snprintf(out->offset.reason, sizeof out->offset.reason, "the fit drives it to 0");
    }
    result = 0;
done:
    room_free(&room);
    free(samples);
    return result;
}
