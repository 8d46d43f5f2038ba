/* The priorities of the stages by what their points tell of the laws. */
#include "orchestrator/plan/plan_order.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fitting/analysis/preflight.h"
#include "orchestrator/plan/plan_table.h"

#define NOISE 0.005 /* of a loss between seeds, as `plan --identify` takes it */

struct method_points {
    const double *seconds; /* [of the plan's points] */
    struct preflight_point *points;
    uint32_t *indices; /* of the points in the plan */
    size_t *order;
    size_t count;
    bool varies[LAW_AXES];
};

static void collect(const struct plan *plan, const char *task, const char *method, struct method_points *table)
{
    table->count = 0;
    memset(table->varies, 0, sizeof table->varies);
    for (size_t i = 0; i < plan->point_count; i++) {
        const struct store_point *point = &plan->points[i];
        if (!plan_table_holds(point, method) || strncmp(point->task, task, sizeof point->task) != 0) continue;
        struct preflight_point *row = &table->points[table->count];
        *row = (struct preflight_point){.seconds = table->seconds[i]};
        plan_table_axes(plan, point, row->x);
        for (size_t axis = 0; axis < LAW_AXES; axis++)
            if (row->x[axis] != table->points[0].x[axis]) table->varies[axis] = true;
        table->indices[table->count++] = (uint32_t)i;
    }
}

/* Priorities from 2 (first) down to 1 in each task and method: they take turns. */
static int order_method(struct plan *plan, const char *task, const char *method, struct method_points *table,
                        struct error *err)
{
    double theta[LAW_PARAMETERS];
    collect(plan, task, method, table);
    if (!table->count) return 0;
    struct law law = law_restrict(law_find("joint", NULL), table->varies);
    preflight_guess(&law, table->points, table->count, theta);
    if (preflight_order(&law, theta, NOISE, table->points, table->count, table->order))
        return error_set(err, "out of memory for the order of %zu points", table->count);
    for (size_t rank = 0; rank < table->count; rank++) {
        uint32_t stage = plan->stage_of_point[table->indices[table->order[rank]]];
        plan->stages[stage].priority = 2.0 - (double)rank / (double)table->count;
    }
    return 0;
}

int plan_order_by_information(struct plan *plan, struct error *err)
{
    double *seconds = plan_table_seconds(plan);
    struct method_points table = {.seconds = seconds,
                                  .points = calloc(plan->point_count + 1, sizeof *table.points),
                                  .indices = calloc(plan->point_count + 1, sizeof *table.indices),
                                  .order = calloc(plan->point_count + 1, sizeof *table.order)};
    int rc = seconds && table.points && table.indices && table.order ? 0 : error_set(err, "out of memory");
    for (size_t i = 0; i < plan->stage_count; i++)
        plan->stages[i].priority = 0.0;
    const struct sweep *sweep = plan->sweep;
    for (size_t task = 0; task < sweep->task_count; task++)
        for (size_t m = 0; m < sweep->method_count && !rc; m++) {
            enum method_kind kind = sweep->methods[m].config.kind;
            if (kind != METHOD_NONE && sweep->methods[m].tasks >> task & 1)
                rc = order_method(plan, sweep->tasks[task].name, method_name(kind), &table, err);
        }
    double *tails = calloc(plan->reference_count + 1, sizeof *tails); /* of what waits for a reference */
    if (!tails) rc = error_set(err, "out of memory");
    for (size_t i = plan->stage_count; i-- > 0 && !rc;) {
        struct plan_stage *stage = &plan->stages[i];
        double *tail = stage->reference == PLAN_NONE ? NULL : &tails[stage->reference];
        if (tail && plan_is_tuned(stage))
            *tail = fmax(*tail, stage->priority);
        else if (tail)
            stage->priority = fmax(stage->priority, *tail);
        if (stage->parent != PLAN_NONE)
            plan->stages[stage->parent].priority = fmax(plan->stages[stage->parent].priority, stage->priority);
    }
    free(tails);
    free(seconds);
    free(table.points);
    free(table.indices);
    free(table.order);
    return rc;
}
