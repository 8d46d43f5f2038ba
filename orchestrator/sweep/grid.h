/* The grid: the sweep's axes multiplied out, minus exclusions, with the held-out cells marked.
 *
 * At full size 10^5 points, so a point is a row of indices. The method "none" (the untuned model) has no finetuning: it
 * is there once for a task, model and token count, and conditions on examples, size or seed never hold for it. A method
 * whose learning rates are tuned at a reference cell has all of them there, and elsewhere one point with GRID_TUNED.
 * Order: task, model, tokens, method, size, learning rate, examples, seed, each as the sweep holds it. Pure. */
#ifndef TUNELAW_ORCHESTRATOR_SWEEP_GRID_H
#define TUNELAW_ORCHESTRATOR_SWEEP_GRID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "orchestrator/sweep/sweep.h"

#define GRID_LIMIT 1000000 /* points before exclusions */

#define GRID_TUNED ((uint32_t)-1) /* rate of a point: the best of its method's reference cell */

struct grid_point { /* indices into the sweep's axes */
    uint32_t task, model, tokens, method, size, rate, examples, seed;
    bool held_out;
};

struct grid {
    struct grid_point *points;
    size_t count, excluded, held_out;
};

/* Points before exclusions; GRID_LIMIT + 1 where there are more than that. */
size_t grid_size(const struct sweep *sweep);
/* 0, or -1: too many points, memory. */
int grid_build(const struct sweep *sweep, struct grid *grid, struct error *err);
void grid_destroy(struct grid *grid); /* of the points; the struct is the caller's */

/* Whether a point of the cell's task is one of the reference cell (whatever its rate). */
bool grid_at_reference(const struct sweep_reference *cell, const struct grid_point *point);

/* Whether a point belongs to a set of cells. */
bool grid_holds(const struct sweep *sweep, const struct sweep_cells *cells, const struct grid_point *point);

#endif
