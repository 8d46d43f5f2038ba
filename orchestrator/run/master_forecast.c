/* When the sweep will end: what is left of each stage, in seconds as measured so far, on the simulated clock. And which
 * order of the scheduler fills these nodes best. */
#include <math.h>
#include <stdlib.h>

#include "io/log.h"
#include "orchestrator/plan/simulate.h"
#include "orchestrator/run/master_internal.h"

#define INTERVAL 1.0    /* seconds between forecasts */
#define COST 50.0       /* and at least so many times what one takes */
#define RUNNING_LEAST 1 /* seconds of a stage's progress before it tells of its speed */

static bool needs_no_work(const struct master_stage *stage)
{
    return stage->state == STAGE_UNNEEDED || stage->state >= STAGE_COMMITTING;
}

static double fraction(const struct running *running)
{
    const struct stage_progress *p = &running->progress;
    return p->steps > 0 ? (double)p->step / (double)p->steps : 0.0;
}

/* Seconds left of each stage; negative: none. The caller frees. */
static double *seconds_left(const struct master *master, const struct calibration *calibration)
{
    double *left = calloc(master->plan->stage_count + 1, sizeof *left);
    if (!left) return NULL;
    for (size_t i = 0; i < master->plan->stage_count; i++)
        left[i] = needs_no_work(&master->stages[i]) ? -1.0 : calibration_seconds(calibration, &master->plan->stages[i]);
    for (size_t i = 0; i < master->running_count; i++)
        left[master->running[i].stage] *= 1.0 - fraction(&master->running[i]);
    return left;
}

static int simulate_left(const struct master *master, const struct calibration *calibration, bool best,
                         struct simulate_result *result, struct error *err)
{
    double *left = seconds_left(master, calibration);
    if (!left) return error_set(err, "out of memory for %zu stages", master->plan->stage_count);
    struct simulate_options options = {.nodes = (size_t)master->transport->size,
                                       .cluster = master->nodes,
                                       .seconds = left,
                                       .order = master->schedule.order};
    int rc = best ? simulate_best(master->plan, &options, result, err) : simulate(master->plan, &options, result, err);
    free(left);
    return rc;
}

int master_choose_order(struct master *master, struct error *err)
{
    struct simulate_result result;
    if (simulate_left(master, &master->calibration, true, &result, err)) return -1;
    master->schedule.order = result.order;
    LOG("simulated: %.0f s for what is left, at least %.0f s, utilisation %.0f %%", result.makespan_seconds,
        result.tight_bound_seconds, 100.0 * result.utilisation);
    return 0;
}

void master_progress(struct running *running, const struct stage_progress *progress)
{
    running->progress = *progress;
    running->progressed = clock_elapsed();
    if (running->first_progressed > 0.0) return;
    running->first_progressed = running->progressed;
    running->first_fraction = fraction(running);
}

void master_observe(struct master *master, const struct plan_stage *stage, const struct stage_outcome *outcome)
{
    double steps = (double)(stage->last_step - stage->first_step);
    double trained = (double)(outcome->end_step - outcome->resumed_step);
    double part = steps > 0.0 ? trained / steps : 1.0;
    calibration_add(&master->calibration, stage, 1.0, part * stage->seconds, outcome->seconds);
    calibration_fit(&master->calibration);
}

/* What has ended, and what the running ones show. */
static int calibrate_now(const struct master *master, struct calibration *calibration, struct error *err)
{
    if (calibration_copy(calibration, &master->calibration, err)) return -1;
    for (size_t i = 0; i < master->running_count; i++) {
        const struct running *running = &master->running[i];
        const struct plan_stage *stage = &master->plan->stages[running->stage];
        double elapsed = (running->progressed - running->first_progressed) / running->packed; /* its share */
        double part = fraction(running) - running->first_fraction;
        if (elapsed > RUNNING_LEAST) calibration_add(calibration, stage, part, part * stage->seconds, elapsed);
    }
    return 0;
}

double master_eta(struct master *master)
{
    struct master_forecast *forecast = &master->forecast;
    double now = clock_elapsed();
    if (master->nodes_present < (size_t)master->transport->size) return -1.0;
    if (now < forecast->next) return forecast->end >= 0.0 ? fmax(forecast->end - now, 0.0) : -1.0;
    struct calibration calibration;
    struct simulate_result result;
    struct error err;
    forecast->end = -1.0;
    if (calibrate_now(master, &calibration, &err)) return -1.0;
    if (calibration_fit(&calibration) && !simulate_left(master, &calibration, false, &result, &err))
        forecast->end = now + result.makespan_seconds;
    calibration_free(&calibration);
    forecast->next = now + fmax(INTERVAL, COST * (clock_elapsed() - now));
    return forecast->end >= 0.0 ? forecast->end - now : -1.0;
}
