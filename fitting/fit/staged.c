/* Fitting: the two-stage procedure, beside the joint fit. Its first stage is one fit of the joint law over points of
 * both axes: an axis that is not a point's own is 0 there, and the log-ratio of the two coefficients is a slope over
 * the indicator of the second axis. */
#include "fitting/fit/staged.h"
#include "fitting/fit/sorted.h"

#include <math.h>
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

enum { VALUES = 2 * STAGED_AXES + 2 };

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
    values[2 * STAGED_AXES] = beta;
    values[2 * STAGED_AXES + 1] = offset;
    for (size_t k = 0; k < STAGED_AXES; first += axes[k].count, k++)
        if (has->has[k] && fit_frozen(&axes[k], room->weight + first, options, beta, offset, warm, &values[2 * k],
                                      &values[2 * k + 1], err))
            return -1;
    return 0;
}

static struct staged_parameter summary(const double *values, double *samples, size_t count, size_t which, double level)
{
    bool logged = which == 2 * STAGED_AXES + 1 || (which < 2 * STAGED_AXES && which % 2 == 0);
    struct staged_parameter out = {logged ? exp(values[which]) : values[which], NAN, NAN};
    double *column = samples + count * VALUES;
    for (size_t r = 0; r < count; r++)
        column[r] = samples[r * VALUES + which];
    if (!count) return out;
    sort_numbers(column, count);
    double low = sorted_at(column, count, (1 - level) / 2);
    double high = sorted_at(column, count, (1 + level) / 2);
    out.low = logged ? exp(low) : low;
    out.high = logged ? exp(high) : high;
    return out;
}

static void describe(struct staged *out, const double *values, double *samples, double level)
{
    for (size_t k = 0; k < STAGED_AXES; k++) {
        out->a[k] = out->alpha[k] = (struct staged_parameter){NAN, NAN, NAN};
        if (!out->has[k]) continue;
        out->a[k] = summary(values, samples, out->resamples, 2 * k, level);
        out->alpha[k] = summary(values, samples, out->resamples, 2 * k + 1, level);
    }
    out->beta = summary(values, samples, out->resamples, 2 * STAGED_AXES, level);
    out->offset = summary(values, samples, out->resamples, 2 * STAGED_AXES + 1, level);
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
    describe(out, values, samples, interval->level);
    out->offset_known = out->offset.value > 1e-4 * room.all.loss[0] &&
                        (isnan(out->offset.low) || out->offset.high <= 100 * out->offset.low);
    result = 0;
done:
    room_free(&room);
    free(samples);
    return result;
}
