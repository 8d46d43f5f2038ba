/* `tunelaw plan --identify`: the plan's points as tables for fitting/preflight, its answer as text. */
#include "orchestrator/plan_identify.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fitting/analysis.h"
#include "fitting/preflight.h"
#include "orchestrator/plan_table.h"

enum { LEVELS = 64, SHOWN = 5 };

struct levels {
    double values[LEVELS];
    size_t count;
};

static void add_level(struct levels *levels, double value)
{
    for (size_t i = 0; i < levels->count; i++)
        if (levels->values[i] == value) return;
    if (levels->count < LEVELS) levels->values[levels->count++] = value;
}

static double extreme(const struct levels *levels, bool largest)
{
    double out = levels->values[0];
    for (size_t i = 1; i < levels->count; i++)
        out = largest ? fmax(out, levels->values[i]) : fmin(out, levels->values[i]);
    return out;
}

/* Points of one method that will be fitted; an axis of one level is 1. */
struct table {
    struct preflight_point *points, *more;
    size_t count, more_count;
    struct levels levels[LAW_AXES];
    bool varies[LAW_AXES];
};

static void fill(const struct plan *plan, const char *method, struct table *table)
{
    for (size_t i = 0; i < plan->point_count; i++) {
        const struct store_point *point = &plan->points[i];
        if (!plan_table_holds(point, method)) continue;
        struct preflight_point *row = &table->points[table->count++];
        plan_table_axes(plan, point, row->x);
        row->seconds = fmax(plan->stages[plan->stage_of_point[i]].seconds, 1e-9);
        for (size_t axis = 0; axis < LAW_AXES; axis++)
            add_level(&table->levels[axis], row->x[axis]);
    }
    for (size_t axis = 0; axis < LAW_AXES; axis++)
        table->varies[axis] = table->levels[axis].count > 1;
}

static bool planned(const struct table *table, const double x[LAW_AXES])
{
    for (size_t i = 0; i < table->count; i++)
        if (!memcmp(table->points[i].x, x, LAW_AXES * sizeof *x)) return true;
    return false;
}

/* Candidates: cells of the full grid that are not in the plan, and of levels twice as large or half as large beyond it,
 * each with the other axes at a planned point's levels. */
static void add_candidates(struct table *table, size_t room)
{
    for (size_t i = 0; i < table->count; i++)
        for (size_t axis = 0; axis < LAW_AXES; axis++) {
            const struct levels *levels = &table->levels[axis];
            bool offered = axis == LAW_X || axis == LAW_D || table->varies[axis];
            for (size_t k = 0; offered && k < levels->count + 2 && table->more_count < room; k++) {
                struct preflight_point point = table->points[i];
                point.x[axis] = k < levels->count    ? levels->values[k]
                                : k == levels->count ? 2 * extreme(levels, true)
                                                     : ceil(extreme(levels, false) / 2);
                bool known = planned(table, point.x);
                for (size_t j = 0; j < table->more_count && !known; j++)
                    known = !memcmp(table->more[j].x, point.x, sizeof point.x);
                if (!known) table->more[table->more_count++] = point;
            }
        }
}

static int compare_gain(const void *a, const void *b)
{
    const struct preflight_point *x = a, *y = b;
    return (x->gain < y->gain) - (x->gain > y->gain);
}

/* Parameters of an earlier fit of the same law, or a guess. Returns which. */
static bool take_theta(const struct analysis *earlier, const char *method, const struct law *law,
                       const struct table *table, double *theta)
{
    preflight_guess(law, table->points, table->count, theta);
    for (size_t i = 0; earlier && i < earlier->fit_count; i++) {
        const struct analysis_fit *fit = &earlier->fits[i];
        bool same = fit->fitted && fit->view == VIEW_JOINT && !strcmp(fit->method, method) &&
                    fit->law.parameter_count == law->parameter_count;
        for (size_t p = 0; same && p < law->parameter_count; p++)
            same = !strcmp(fit->law.parameters[p].name, law->parameters[p].name);
        if (!same) continue;
        memcpy(theta, fit->fit.theta, sizeof fit->fit.theta);
        return true;
    }
    return false;
}

static void print(const struct law *law, const struct table *table, const double *theta, const struct preflight *got,
                  const char *method, bool fitted, FILE *out)
{
    char formula[128];
    law_formula(law, "N", formula, sizeof formula);
    fprintf(out, "\n%s: L = %s, %zu points, parameters %s\n", method, formula, table->count,
            fitted ? "of the earlier fit" : "guessed");
    for (size_t i = 0; i < law->parameter_count; i++) {
        bool exponent = law->parameters[i].role == LAW_EXPONENT;
        fprintf(out, "  %s ", law->parameters[i].symbol);
        if (!got->identified[i])
            fprintf(out, "not identified by this grid\n");
        else if (exponent)
            fprintf(out, "%.4g, expected standard error %.2g\n", theta[i], got->error[i]);
        else
            fprintf(out, "%.4g, expected standard error a factor of %.3g\n", exp(theta[i]), exp(got->error[i]));
    }
    if (table->more_count) fprintf(out, "  points that would add most per second of training:\n");
    for (size_t i = 0; i < table->more_count && i < SHOWN; i++) {
        const struct preflight_point *point = &table->more[i];
        fprintf(out, "    N %.0f, P %.0f, T %.0f, D %.0f: %.3g s, gain %.3g a second\n", point->x[LAW_X],
                point->x[LAW_P], point->x[LAW_T], point->x[LAW_D], point->seconds, point->gain);
    }
}

static int identify_method(const struct plan *plan, const char *method, const struct analysis *earlier, double noise,
                           FILE *out, struct error *err)
{
    enum { ROOM = 2000 };
    struct table table = {0};
    double theta[LAW_PARAMETERS];
    struct preflight got;
    int result = -1;
    table.points = calloc(plan->point_count + 1, sizeof *table.points);
    table.more = calloc(ROOM, sizeof *table.more);
    if (!table.points || !table.more) {
        error_set(err, "out of memory for the preflight of %zu points", plan->point_count);
        goto done;
    }
    fill(plan, method, &table);
    struct law law = law_restrict(law_find("joint", NULL), table.varies);
    if (table.count) {
        add_candidates(&table, ROOM);
        preflight_seconds(table.points, table.count, table.more, table.more_count);
        bool fitted = take_theta(earlier, method, &law, &table, theta);
        preflight_errors(&law, theta, noise, table.points, table.count, table.more, table.more_count, &got);
        qsort(table.more, table.more_count, sizeof *table.more, compare_gain);
        print(&law, &table, theta, &got, method, fitted, out);
    }
    result = 0;
done:
    free(table.points);
    free(table.more);
    return result;
}

int plan_identify(const struct plan *plan, const char *laws, double noise, FILE *out, struct error *err)
{
    struct analysis earlier;
    struct analysis_options options = analysis_defaults();
    options.resamples = 0;
    if (laws && fitting_fit_store(laws, &options, &earlier, err)) return -1;
    fprintf(out,
            "what this grid will tell of the joint law of each method, if a loss is known to %g %%\n"
            "gain: growth of the log determinant of the Fisher information; seconds: the finetuning alone\n",
            100 * noise);
    int failed = 0;
    for (size_t i = 0; i < plan->point_count && !failed; i++) {
        const char *method = plan->points[i].method;
        bool seen = false;
        for (size_t j = 0; j < i && !seen; j++)
            seen = !strncmp(plan->points[j].method, method, sizeof plan->points[j].method);
        char name[sizeof plan->points[i].method + 1];
        store_text(name, sizeof name, method, sizeof plan->points[i].method);
        if (!seen) failed = identify_method(plan, name, laws ? &earlier : NULL, noise, out, err);
    }
    if (laws) analysis_destroy(&earlier);
    return failed;
}
