/* Actual over predicted seconds, by model and method: between the stages that have run and the forecast of the rest. */
#include "orchestrator/plan/calibration.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "workers/model/config.h"

/* Stages that it takes to believe half of what they say against what is said by the others. */
#define SLOPE_STAGES 0.25
#define METHOD_STAGES 1.0
#define CELL_STAGES 0.5

static int allocate(struct calibration *c, size_t models, size_t classes, struct error *err)
{
    *c = (struct calibration){.models = models, .classes = classes, .mean = 1.0};
    c->size = calloc(models + 1, sizeof *c->size);
    c->cells = calloc(models * classes + 1, sizeof *c->cells);
    c->ratio = calloc(models * classes + 1, sizeof *c->ratio);
    if (c->size && c->cells && c->ratio) return 0;
    calibration_free(c);
    return error_set(err, "out of memory");
}

int calibration_init(struct calibration *c, const struct sweep *sweep, struct error *err)
{
    if (allocate(c, sweep->model_count, 1 + sweep->method_count, err)) return -1;
    for (size_t i = 0; i < c->models; i++)
        c->size[i] = log((double)model_parameters(&sweep->models[i]));
    calibration_fit(c);
    return 0;
}

int calibration_copy(struct calibration *to, const struct calibration *from, struct error *err)
{
    if (allocate(to, from->models, from->classes, err)) return -1;
    memcpy(to->size, from->size, from->models * sizeof *to->size);
    memcpy(to->cells, from->cells, from->models * from->classes * sizeof *to->cells);
    calibration_fit(to);
    return 0;
}

void calibration_free(struct calibration *c)
{
    free(c->size);
    free(c->cells);
    free(c->ratio);
    memset(c, 0, sizeof *c);
}

static size_t cell_index(const struct calibration *c, const struct plan_stage *stage)
{
    return stage->model * c->classes + plan_class(stage);
}

struct calibration_cell *calibration_cell(struct calibration *c, const struct plan_stage *stage)
{
    return &c->cells[cell_index(c, stage)];
}

void calibration_add(struct calibration *c, const struct plan_stage *stage, double stages, double predicted,
                     double actual)
{
    if (!(stages > 0.0 && predicted > 0.0 && actual > 0.0)) return;
    struct calibration_cell *cell = calibration_cell(c, stage);
    cell->stages += stages;
    cell->predicted_seconds += predicted;
    cell->actual_seconds += actual;
}

static double residual(const struct calibration *c, size_t index)
{
    return log(c->cells[index].actual_seconds / c->cells[index].predicted_seconds) - c->ratio[index];
}

/* Mean and slope over all cells, into every cell of `ratio`, as logarithms. */
static void fit_line(struct calibration *c, double stages)
{
    double size = 0.0, level = 0.0, covariance = 0.0, variance = 0.0;
    for (size_t i = 0; i < c->models * c->classes; i++) {
        if (!(c->cells[i].stages > 0.0)) continue;
        size += c->cells[i].stages * c->size[i / c->classes] / stages;
        level += c->cells[i].stages * residual(c, i) / stages;
    }
    for (size_t i = 0; i < c->models * c->classes; i++) {
        if (!(c->cells[i].stages > 0.0)) continue;
        double x = c->size[i / c->classes] - size;
        covariance += c->cells[i].stages * x * (residual(c, i) - level);
        variance += c->cells[i].stages * x * x;
    }
    for (size_t i = 0; i < c->models * c->classes; i++)
        c->ratio[i] = level + covariance / (variance + SLOPE_STAGES) * (c->size[i / c->classes] - size);
}

static void fit_methods(struct calibration *c)
{
    for (size_t class = 0; class < c->classes; class ++) {
        double sum = 0.0, stages = METHOD_STAGES;
        for (size_t i = class; i < c->models * c->classes; i += c->classes) {
            if (!(c->cells[i].stages > 0.0)) continue;
            sum += c->cells[i].stages * residual(c, i);
            stages += c->cells[i].stages;
        }
        for (size_t i = class; i < c->models * c->classes; i += c->classes)
            c->ratio[i] += sum / stages;
    }
}

static void fit_cells(struct calibration *c)
{
    for (size_t i = 0; i < c->models * c->classes; i++) {
        double stages = c->cells[i].stages;
        if (stages > 0.0) c->ratio[i] += stages * residual(c, i) / (stages + CELL_STAGES);
        c->ratio[i] = exp(c->ratio[i]);
    }
}

bool calibration_fit(struct calibration *c)
{
    double stages = 0.0, predicted = 0.0, actual = 0.0;
    memset(c->ratio, 0, c->models * c->classes * sizeof *c->ratio);
    for (size_t i = 0; i < c->models * c->classes; i++) {
        stages += c->cells[i].stages;
        predicted += c->cells[i].predicted_seconds;
        actual += c->cells[i].actual_seconds;
    }
    c->mean = predicted > 0.0 ? actual / predicted : 1.0;
    if (stages > 0.0) {
        fit_line(c, stages);
        fit_methods(c);
    }
    fit_cells(c);
    return stages > 0.0;
}

double calibration_seconds(const struct calibration *c, const struct plan_stage *stage)
{
    return stage->seconds * c->ratio[cell_index(c, stage)];
}
