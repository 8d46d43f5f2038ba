/* Learning rates that are tuned at a reference cell: once all candidates of a method have ended, the one with the
 * lowest validation loss gives its rate to the points that wait. What was decided is on disk before a point is handed
 * out, so that a run that goes on decides nothing anew, whatever becomes of a candidate that had failed. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "orchestrator/run/master_internal.h"
#include "orchestrator/run/rates.h"

bool master_rate_known(const struct master *master, uint32_t index)
{
    const struct plan_stage *stage = &master->plan->stages[index];
    return !plan_is_tuned(stage) || master->references[stage->reference].rate > 0;
}

static double candidate_rate(const struct master *master, const struct plan_reference *reference, size_t i)
{
    return plan_stage_rate(master->plan, &master->plan->stages[reference->candidates[i]]);
}

/* Where the file is gone, a result that waited for a rate has it. */
static int read_results(struct master *master, struct error *err)
{
    struct store_result result;
    for (size_t p = 0; p < master->plan->point_count; p++) {
        const struct plan_stage *stage = &master->plan->stages[master->plan->stage_of_point[p]];
        if (!plan_is_tuned(stage) || !master->committed[p] ||
            master_rate_known(master, master->plan->stage_of_point[p]))
            continue;
        if (store_read(master->store, p, &result, NULL, NULL, err) < 0) return -1;
        master->references[stage->reference].rate = rates_allowed(master->plan, stage->reference, result.learning_rate);
    }
    return 0;
}

/* A task of an array has none of the candidates: they ended before it. */
static int check_known(const struct master *master, uint32_t index, struct error *err)
{
    const struct plan_reference *reference = &master->plan->references[index];
    const char *bases = master->options.bases;
    if (master->references[index].rate > 0 || reference->count > 0) return 0;
    bool waits = false;
    for (size_t p = 0; p < master->plan->point_count && !waits; p++) {
        const struct plan_stage *stage = &master->plan->stages[master->plan->stage_of_point[p]];
        waits = plan_is_tuned(stage) && stage->reference == index && !master->committed[p];
    }
    if (!waits) return 0;
    return error_set(err,
                     "the learning rate of method %s, task %s, is tuned by task 0 of the array, and %s%s has none: run "
                     "`tunelaw run FILE --array-task 0/N`, and give its directory with --bases",
                     method_name(master->sweep->methods[reference->method].config.kind),
                     master->sweep->tasks[reference->task].name, bases ? bases : "no other directory",
                     bases ? "/logs/rates" : "");
}

int master_open_references(struct master *master, struct error *err)
{
    size_t count = master->plan->reference_count;
    if (!count) return 0;
    master->references = calloc(count, sizeof *master->references);
    double *rates = calloc(count, sizeof *rates);
    int result = master->references && rates ? 0 : error_set(err, "out of memory");
    if (result == 0 && master->options.bases) result = rates_read(master->options.bases, master->plan, rates, err);
    if (result == 0) result = rates_read(master->options.dir, master->plan, rates, err);
    for (size_t i = 0; i < count && result == 0; i++)
        master->references[i].rate = rates[i] > 0 ? rates[i] : 0;
    if (result == 0) result = read_results(master, err);
    for (uint32_t i = 0; i < count && result == 0; i++) {
        if (rates[i] != RATES_NONE) result = check_known(master, i, err);
        master->references_open += master->references[i].rate <= 0;
    }
    master->candidate_ended = true;
    free(rates);
    return result;
}

static bool have_ended(const struct master *master, const struct plan_reference *reference)
{
    for (size_t i = 0; i < reference->count; i++) {
        uint32_t index = reference->candidates[i];
        unsigned char state = master->stages[index].state;
        if (!master->committed[master->plan->stages[index].point] && state != STAGE_FAILED && state != STAGE_SKIPPED)
            return false;
    }
    return true;
}

/* Of the candidates with a result the one with the lowest validation loss, of equal ones the lowest rate; 0: none. */
static int choose(struct master *master, const struct plan_reference *reference, double *rate, double *loss,
                  struct error *err)
{
    *rate = 0;
    *loss = INFINITY;
    for (size_t i = 0; i < reference->count; i++) {
        uint32_t point = master->plan->stages[reference->candidates[i]].point;
        struct store_result result;
        if (!master->committed[point]) continue;
        if (store_read(master->store, point, &result, NULL, NULL, err) < 0) return -1;
        if (result.status != STORE_DONE || !(result.valid_loss < *loss)) continue;
        *loss = result.valid_loss;
        *rate = candidate_rate(master, reference, i);
    }
    return 0;
}

static int release(struct master *master, uint32_t index, struct error *err)
{
    for (uint32_t i = 0; i < master->plan->stage_count; i++) {
        const struct plan_stage *stage = &master->plan->stages[i];
        if (plan_is_tuned(stage) && stage->reference == index && master->stages[i].state == STAGE_WAITING &&
            master_parent_complete(master, i) && master_make_ready(master, i, err) != 0)
            return -1;
    }
    return 0;
}

/* In a task of an array they are those that task 0 had. */
static size_t candidate_count(const struct master *master, const struct plan_reference *reference)
{
    return reference->count ? reference->count : master->sweep->methods[reference->method].learning_rate_count;
}

static int skip(struct master *master, uint32_t index, struct error *err)
{
    char message[STORE_MESSAGE];
    snprintf(message, sizeof message, "none of the %zu learning rates at its method's reference cell has a result",
             candidate_count(master, &master->plan->references[index]));
    for (uint32_t i = 0; i < master->plan->stage_count; i++) {
        const struct plan_stage *stage = &master->plan->stages[i];
        if (!plan_is_tuned(stage) || stage->reference != index || master->stages[i].state != STAGE_WAITING) continue;
        master->stages[i].state = STAGE_SKIPPED;
        if (stage->point != PLAN_NONE) {
            master->summary.skipped++;
            if (master_set_state(master, stage->point, STORE_SKIPPED, 0, false, message, err) != 0) return -1;
        }
        if (master_skip_below(master, i, err) != 0) return -1;
    }
    return 0;
}

static void tell(const struct master *master, const struct plan_reference *reference, double rate, double loss)
{
    const struct sweep *sweep = master->sweep;
    const char *method = method_name(sweep->methods[reference->method].config.kind);
    const char *task = sweep->tasks[reference->task].name;
    if (!(rate > 0)) {
        master_say(master,
                   "%s, task %s: none of the %zu learning rates at the reference cell has a result; what waits for "
                   "them is skipped",
                   method, task, candidate_count(master, reference));
        return;
    }
    bool end =
        candidate_rate(master, reference, 0) == rate || candidate_rate(master, reference, reference->count - 1) == rate;
    master_say(master, "%s, task %s: learning rate %g, the best of %zu at the reference cell (validation loss %.6g)%s",
               method, task, rate, reference->count, loss,
               end ? "; it is at the end of the candidates, one beyond it may be better" : "");
}

int master_resolve_references(struct master *master, struct error *err)
{
    if (!master->references_open || !master->candidate_ended) return 0;
    master->candidate_ended = false;
    for (uint32_t i = 0; i < master->plan->reference_count; i++) {
        struct master_reference *known = &master->references[i];
        const struct plan_reference *reference = &master->plan->references[i];
        double rate, loss;
        if (known->rate > 0 || known->hopeless || !have_ended(master, reference)) continue;
        if (choose(master, reference, &rate, &loss, err) != 0) return -1;
        master->references_open--;
        tell(master, reference, rate, loss);
        if ((rate > 0 || master->options.only) && rates_write(master->options.dir, reference, rate, loss, err) != 0)
            return -1;
        known->rate = rate;
        known->hopeless = !(rate > 0);
        if ((known->hopeless ? skip(master, i, err) : release(master, i, err)) != 0) return -1;
    }
    return 0;
}
