/* `tunelaw plan --identify`: the plan's points as tables for fitting/preflight, its answer in identified structs. */
#include "orchestrator/plan/plan_identify.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fitting/analysis/analysis.h"
#include "fitting/analysis/preflight.h"
#include "orchestrator/plan/plan_identify_parts.h"
#include "orchestrator/plan/plan_table.h"

enum { LEVELS = 64, ROOM = 2000 };

struct levels {
    double values[LEVELS];
    size_t points[LEVELS], count;
};

/* One loss that will be fitted: of several learning rates one is kept, and all of them are paid for. */
struct cell {
    double x[LAW_AXES];
    uint64_t seed;
    double seconds;
};

/* The losses of one method of one task. */
struct cells {
    struct cell *items; /* in order */
    size_t count;
};

/* Points that one law will be fitted to, and those that could be added. */
struct table {
    struct preflight_point *points, *more; /* points in order of their axes */
    size_t count, more_count;
    struct levels levels[LAW_AXES];
};

static int compare_axes(const double *a, const double *b)
{
    for (size_t axis = 0; axis < LAW_AXES; axis++)
        if (a[axis] != b[axis]) return a[axis] < b[axis] ? -1 : 1;
    return 0;
}

static int compare_cells(const void *a, const void *b)
{
    const struct cell *x = a, *y = b;
    int axes = compare_axes(x->x, y->x);
    return axes ? axes : (x->seed > y->seed) - (x->seed < y->seed);
}

static int compare_points(const void *a, const void *b)
{
    return compare_axes(((const struct preflight_point *)a)->x, ((const struct preflight_point *)b)->x);
}

static int compare_gain(const void *a, const void *b)
{
    const struct preflight_point *x = a, *y = b;
    return (x->gain < y->gain) - (x->gain > y->gain);
}

static void collect(const struct plan *plan, const double *seconds, const struct store_point *like, const char *method,
                    struct cells *cells)
{
    cells->count = 0;
    for (size_t i = 0; i < plan->point_count; i++) {
        const struct store_point *point = &plan->points[i];
        if (!plan_table_holds(point, method) || strncmp(point->task, like->task, sizeof like->task)) continue;
        struct cell *cell = &cells->items[cells->count++];
        *cell = (struct cell){.seed = point->seed, .seconds = seconds[i]};
        plan_table_axes(plan, point, cell->x);
    }
    qsort(cells->items, cells->count, sizeof *cells->items, compare_cells);
    size_t kept = 0;
    for (size_t i = 0; i < cells->count; i++)
        if (kept && !compare_cells(&cells->items[kept - 1], &cells->items[i]))
            cells->items[kept - 1].seconds += cells->items[i].seconds;
        else
            cells->items[kept++] = cells->items[i];
    cells->count = kept;
}

static void count_levels(const struct table *table, size_t axis, struct levels *levels)
{
    levels->count = 0;
    for (size_t i = 0; i < table->count; i++) {
        size_t k = 0;
        while (k < levels->count && levels->values[k] != table->points[i].x[axis])
            k++;
        if (k == LEVELS) continue;
        if (k == levels->count) {
            levels->values[levels->count++] = table->points[i].x[axis];
            levels->points[k] = 0;
        }
        levels->points[k]++;
    }
}

/* Keep the points of the level of an axis that has most of them, the largest of several. */
static void narrow(struct table *table, size_t axis)
{
    struct levels levels;
    size_t best = 0, kept = 0;
    count_levels(table, axis, &levels);
    for (size_t k = 1; k < levels.count; k++)
        if (levels.points[k] > levels.points[best] ||
            (levels.points[k] == levels.points[best] && levels.values[k] > levels.values[best]))
            best = k;
    for (size_t i = 0; i < table->count; i++)
        if (table->points[i].x[axis] == levels.values[best]) table->points[kept++] = table->points[i];
    table->count = kept;
}

/* The points that a law is fitted to: all of a method, or, of a law of the sweep file that belongs to a view with fewer
 * axes, those of the fullest level of each axis that it does not have. */
static void fill(const struct cells *cells, const struct law *law, struct table *table)
{
    bool whole = !law->user || law_uses(law, LAW_T) || (law_uses(law, LAW_X) && law_uses(law, LAW_P));
    table->count = table->more_count = 0;
    for (size_t i = 0; i < cells->count; i++) {
        struct preflight_point *point = &table->points[table->count++];
        *point = (struct preflight_point){.seconds = cells->items[i].seconds};
        memcpy(point->x, cells->items[i].x, sizeof point->x);
    }
    for (size_t axis = 0; axis < LAW_AXES && !whole; axis++)
        if (!law_uses(law, (enum law_axis)axis)) narrow(table, axis);
    for (size_t axis = 0; axis < LAW_AXES; axis++)
        count_levels(table, axis, &table->levels[axis]);
}

static double extreme(const struct levels *levels, bool largest)
{
    double out = levels->values[0];
    for (size_t i = 1; i < levels->count; i++)
        out = largest ? fmax(out, levels->values[i]) : fmin(out, levels->values[i]);
    return out;
}

static bool known(const struct table *table, const struct preflight_point *point)
{
    if (bsearch(point, table->points, table->count, sizeof *point, compare_points)) return true;
    for (size_t i = 0; i < table->more_count; i++)
        if (!compare_points(&table->more[i], point)) return true;
    return false;
}

/* Candidates: cells of the full grid that are not in the plan, and of levels twice as large or half as large beyond it,
 * each with the other axes at a planned point's levels. */
static void add_candidates(struct table *table, const struct law *law)
{
    for (size_t i = 0; i < table->count; i++)
        for (size_t axis = 0; axis < LAW_AXES; axis++) {
            const struct levels *levels = &table->levels[axis];
            bool offered = law_uses(law, (enum law_axis)axis) || (!law->user && (axis == LAW_X || axis == LAW_D));
            for (size_t k = 0; offered && k < levels->count + 2 && table->more_count < ROOM; k++) {
                struct preflight_point point = table->points[i];
                point.x[axis] = k < levels->count    ? levels->values[k]
                                : k == levels->count ? 2 * extreme(levels, true)
                                                     : ceil(extreme(levels, false) / 2);
                if (!known(table, &point)) table->more[table->more_count++] = point;
            }
        }
}

static bool same_parameters(const struct law *a, const struct law *b)
{
    bool same = a->parameter_count == b->parameter_count && !a->user == !b->user;
    if (same && a->user) same = !strcmp(a->name, b->name);
    for (size_t p = 0; same && p < a->parameter_count; p++)
        same = !strcmp(a->parameters[p].name, b->parameters[p].name) && law_is_log(a, p) == law_is_log(b, p);
    return same;
}

/* Parameters of an earlier fit of the same law, or a guess. */
static void take_theta(const struct analysis *earlier, const struct table *table, struct identified *out)
{
    preflight_guess(&out->law, table->points, table->count, out->theta);
    for (size_t i = 0; earlier && i < earlier->fit_count && !out->fitted; i++) {
        const struct analysis_fit *fit = &earlier->fits[i];
        out->fitted = fit->fitted && (out->law.user || fit->view == VIEW_JOINT) && !strcmp(fit->method, out->method) &&
                      same_parameters(&fit->law, &out->law);
        if (out->fitted) memcpy(out->theta, fit->fit.theta, sizeof fit->fit.theta);
    }
}

static size_t count_cells(const struct table *table, const struct law *law)
{
    struct fit_data data = {.count = table->count, .log_x = calloc(table->count + 1, sizeof *data.log_x)};
    if (!data.log_x) return table->count;
    for (size_t i = 0; i < table->count; i++)
        memcpy(data.log_x[i], table->points[i].x, sizeof data.log_x[i]);
    size_t cells = fit_cells(law, &data);
    free(data.log_x);
    return cells;
}

/* What the questions of one call share. */
struct asking {
    const struct plan *plan;
    const struct identify_options *options;
    const struct analysis *earlier; /* NULL: none */
    double *seconds;                /* [points] */
    struct cells cells;
    struct table table;
    bool several_tasks;
    FILE *out;
    json_t *answers; /* NULL: text is printed */
};

static void identify_law(struct asking *asking, const struct store_point *like, const char *method,
                         const struct law *law)
{
    struct identified found = {.law = *law};
    struct table *table = &asking->table;
    store_text(found.task, sizeof found.task, like->task, sizeof like->task);
    snprintf(found.method, sizeof found.method, "%s", method);
    fill(&asking->cells, law, table);
    if (!law->user) {
        bool varies[LAW_AXES];
        for (size_t axis = 0; axis < LAW_AXES; axis++)
            varies[axis] = table->levels[axis].count > 1;
        found.law = law_restrict(law, varies);
    }
    add_candidates(table, &found.law);
    preflight_seconds(table->points, table->count, table->more, table->more_count);
    take_theta(asking->earlier, table, &found);
    preflight_errors(&found.law, found.theta, asking->options->noise, table->points, table->count, table->more,
                     table->more_count, &found.errors);
    qsort(table->more, table->more_count, sizeof *table->more, compare_gain);
    found.points = table->count;
    found.cells = count_cells(table, &found.law);
    found.more = table->more;
    found.more_count = table->more_count < IDENTIFY_SHOWN ? table->more_count : IDENTIFY_SHOWN;
    if (asking->answers)
        json_array_append_new(asking->answers, identified_json(&found));
    else
        identified_print(&found, asking->several_tasks, asking->out);
}

static void identify_methods(struct asking *asking)
{
    const struct plan *plan = asking->plan;
    const struct fit_settings *fit = &plan->sweep->fit;
    const size_t task_bytes = sizeof plan->points->task, method_bytes = sizeof plan->points->method;
    const struct store_point *last = NULL;
    for (size_t i = 0; i < plan->point_count; i++)
        if (strncmp(plan->points[i].task, plan->points[0].task, task_bytes)) asking->several_tasks = true;
    for (size_t i = 0; i < plan->point_count; i++) {
        const struct store_point *point = &plan->points[i];
        char method[sizeof point->method + 1];
        bool seen = false;
        if (last && !strncmp(last->task, point->task, task_bytes) &&
            !strncmp(last->method, point->method, method_bytes))
            continue;
        last = point;
        for (size_t j = 0; j < i && !seen; j++)
            seen = !strncmp(plan->points[j].task, point->task, task_bytes) &&
                   !strncmp(plan->points[j].method, point->method, method_bytes);
        if (seen) continue;
        store_text(method, sizeof method, point->method, sizeof point->method);
        collect(plan, asking->seconds, point, method, &asking->cells);
        if (!asking->cells.count) continue;
        identify_law(asking, point, method, law_find("joint", NULL));
        for (size_t k = 0; k < fit->law_count; k++)
            identify_law(asking, point, method, &fit->laws[k]->law);
    }
}

static int ask(struct asking *asking, struct error *err)
{
    const struct identify_options *options = asking->options;
    if (!options->json) {
        fprintf(asking->out,
                "what this grid will tell of the joint law of each method%s, if a loss is known to %g %%\n"
                "gain: growth of the log determinant of the Fisher information; seconds: the finetuning, of what is "
                "shared a part\n",
                asking->plan->sweep->fit.law_count ? " and of the sweep file's laws" : "", 100 * options->noise);
        identify_methods(asking);
        return fflush(asking->out) || ferror(asking->out) ? error_set_errno(err, "standard output") : 0;
    }
    asking->answers = json_array();
    identify_methods(asking);
    json_t *all = json_pack("{s:s, s:i, s:f, s:o}", "format", "tunelaw-identify", "version", 1, "noise", options->noise,
                            "laws", asking->answers);
    int failed = !all || json_dumpf(all, asking->out, JSON_INDENT(1) | JSON_REAL_PRECISION(17)) ||
                 fputc('\n', asking->out) == EOF || fflush(asking->out);
    json_decref(all);
    return failed ? error_set_errno(err, "cannot write JSON") : 0;
}

int plan_identify(const struct plan *plan, const struct identify_options *options, FILE *out, struct error *err)
{
    struct analysis earlier = {0};
    struct analysis_options how = analysis_defaults();
    struct asking asking = {.plan = plan, .options = options, .out = out};
    how.resamples = 0;
    if (options->laws && fitting_fit_store(options->laws, &how, &earlier, err)) return -1;
    asking.earlier = options->laws ? &earlier : NULL;
    asking.cells.items = calloc(plan->point_count + 1, sizeof *asking.cells.items);
    asking.table.points = calloc(plan->point_count + 1, sizeof *asking.table.points);
    asking.table.more = calloc(ROOM, sizeof *asking.table.more);
    asking.seconds = plan_table_seconds(plan);
    int result = asking.seconds && asking.cells.items && asking.table.points && asking.table.more
                     ? ask(&asking, err)
                     : error_set(err, "out of memory for the preflight of %zu points", plan->point_count);
    free(asking.seconds);
    free(asking.cells.items);
    free(asking.table.points);
    free(asking.table.more);
    analysis_destroy(&earlier);
    return result;
}
