/* Cells of a plan, each tried by one of its stages. */
#include "orchestrator/run/plan_trials.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "orchestrator/plan/plan_parts.h"
#include "workers/model/cost.h"

static size_t cell_count(const struct plan *plan)
{
    return plan->sweep->model_count * (1 + plan->sweep->method_count);
}

static size_t cell_index(const struct plan *plan, const struct plan_stage *stage)
{
    return stage->model * (1 + plan->sweep->method_count) + plan_class(stage);
}

const char *plan_trials_name(const struct plan *plan, const struct trial_cell *cell)
{
    const struct plan_stage *stage = &plan->stages[cell->measured];
    return stage->kind == STAGE_PRETRAIN ? "pretraining" : method_name(plan->sweep->methods[stage->method].config.kind);
}

/* FLOPs of a training step; of a stage without steps 0. */
static double step_flops(const struct plan_stage *stage)
{
    uint64_t steps = stage->last_step - stage->first_step;
    return steps ? (stage->flops + stage->recompute_flops) / (double)steps : 0.0;
}

/* Sums over the stages of every cell that there could be. */
struct sums {
    size_t stages;
    double flops, steps, predicted;
    uint32_t nearest;
};

static void sum_cells(const struct plan *plan, struct sums *sums)
{
    for (size_t i = 0; i < plan->stage_count; i++) {
        const struct plan_stage *stage = &plan->stages[i];
        struct sums *s = &sums[cell_index(plan, stage)];
        if (s->stages++ == 0) s->nearest = (uint32_t)i;
        s->flops += stage->flops + stage->recompute_flops;
        s->steps += (double)(stage->last_step - stage->first_step);
        s->predicted += stage->seconds * stage->degree;
    }
    for (size_t i = 0; i < plan->stage_count; i++) {
        struct sums *s = &sums[cell_index(plan, &plan->stages[i])];
        double mean = s->steps > 0.0 ? s->flops / s->steps : 0.0;
        double here = fabs(step_flops(&plan->stages[i]) - mean),
               best = fabs(step_flops(&plan->stages[s->nearest]) - mean);
        if (here < best) s->nearest = (uint32_t)i;
    }
}

int plan_trials_find(const struct plan *plan, struct plan_trials *trials, struct error *err)
{
    size_t most = cell_count(plan);
    struct sums *sums = calloc(most + 1, sizeof *sums);
    *trials = (struct plan_trials){calloc(most + 1, sizeof *trials->cells), 0};
    if (!sums || !trials->cells) {
        free(sums);
        plan_trials_free(trials);
        return error_set(err, "out of memory");
    }
    sum_cells(plan, sums);
    for (size_t i = 0; i < most; i++) {
        if (!sums[i].stages) continue;
        trials->cells[trials->count++] = (struct trial_cell){
            .stages = sums[i].stages, .measured = sums[i].nearest, .predicted_device_seconds = sums[i].predicted};
    }
    free(sums);
    return 0;
}

void plan_trials_free(struct plan_trials *trials)
{
    free(trials->cells);
    *trials = (struct plan_trials){NULL, 0};
}

int plan_trials_measure(const struct plan *plan, struct trial_cell *cell, const struct trials_host *host,
                        double seconds, struct error *err)
{
    const struct plan_stage *planned = &plan->stages[cell->measured];
    struct stage stage;
    plan_stage_describe(plan, cell->measured, "/", 1, &stage); /* nothing is written there */
    struct trial_request request = {
        .kind = TRIAL_STAGE, .seconds = seconds, .precision = stage.recipe.precision, .threads = host->threads};
    char *text = stage_encode(&stage);
    if (!text) return error_set(err, "out of memory");
    int result =
        trials_measure(host, host->devices / planned->degree, planned->degree, &request, text, &cell->trial, err);
    free(text);
    return result ? error_prefix(err, "model \"%s\", %s", stage.model.name, plan_trials_name(plan, cell)) : 0;
}

/* Device seconds a FLOP of training: of the steps that were timed, since gradual unfreezing begins with cheap ones. */
static double training_pace(const struct plan *plan, const struct trial_cell *cell, const struct stage *stage)
{
    const struct plan_stage *planned = &plan->stages[cell->measured];
    uint64_t all = stage->last_step - stage->first_step, timed = 1 + (uint64_t)ceil(cell->trial.steps);
    if (!(cell->trial.step_seconds > 0.0) || !all) return 0.0;
    double flops = planned->flops / (double)all;
    if (timed > all) timed = all;
    if (planned->kind != STAGE_PRETRAIN)
        flops = plan_finetune_flops(&plan->sweep->tasks[planned->task], &stage->model, &stage->method, &stage->recipe,
                                    stage->first_step, stage->first_step + timed) /
                (double)timed;
    flops += planned->recompute_flops / (double)all;
    return cell->trial.step_seconds * planned->degree / flops;
}

/* Device seconds a FLOP of evaluation, as plan_evaluation_flops counts them. */
static double evaluation_pace(const struct trial_cell *cell, const struct stage *stage)
{
    const struct trial *t = &cell->trial;
    if (!(t->evaluation_sequences > 0.0)) return 0.0;
    double flops = cost_flops(&stage->model, &stage->method, false, t->evaluation_tokens, t->evaluation_targets,
                              t->evaluation_tokens / t->evaluation_sequences);
    return flops > 0.0 ? t->evaluation_seconds * stage->degree / flops : 0.0;
}

/* What is read, not written: texts that are generated token by token go at another pace. */
static double read_flops(const struct plan *plan, size_t index)
{
    const struct plan_stage *planned = &plan->stages[index];
    const struct sweep *sweep = plan->sweep;
    struct stage stage;
    if (!sweep->generate.max_new_tokens || planned->kind != STAGE_FINETUNE) return planned->evaluation_flops;
    plan_stage_describe(plan, index, "/", 1, &stage);
    double written =
        plan_generation_flops(sweep, &sweep->tasks[planned->task], &stage.model, &stage.method, &stage.recipe);
    return written < planned->evaluation_flops ? planned->evaluation_flops - written : 0.0;
}

int plan_trials_apply(struct plan *plan, struct plan_trials *trials, struct error *err)
{
    struct trial_cell **cells = calloc(cell_count(plan) + 1, sizeof *cells);
    if (!cells) return error_set(err, "out of memory");
    for (size_t i = 0; i < trials->count; i++) {
        struct trial_cell *cell = &trials->cells[i];
        struct stage stage;
        plan_stage_describe(plan, cell->measured, "/", 1, &stage); /* nothing is written there */
        cells[cell_index(plan, &plan->stages[cell->measured])] = cell;
        cell->device_seconds = 0;
        cell->training_pace = training_pace(plan, cell, &stage);
        cell->evaluation_pace = evaluation_pace(cell, &stage);
    }
    for (size_t i = 0; i < plan->stage_count; i++) {
        struct plan_stage *stage = &plan->stages[i];
        struct trial_cell *cell = cells[cell_index(plan, stage)];
        double seconds =
            (stage->flops + stage->recompute_flops) * cell->training_pace + read_flops(plan, i) * cell->evaluation_pace;
        cell->device_seconds += seconds;
        stage->seconds = seconds / stage->degree;
    }
    free(cells);
    return plan_finish(plan, err);
}
