/* The plan of a run directory, made again from the sweep file that its store keeps: for commands that compute something
 * of a finished point. */
#ifndef TUNELAW_ORCHESTRATOR_RUN_REBUILT_H
#define TUNELAW_ORCHESTRATOR_RUN_REBUILT_H

#include "orchestrator/plan/plan.h"
#include "orchestrator/run/view.h"

struct rebuilt {
    struct sweep *sweep;
    struct plan *plan;
};

/* 0, or -1: the data set or the text is not what it was. Destroy also after a failure. */
int rebuilt_create(struct rebuilt *rebuilt, const struct view *view, struct error *err);
void rebuilt_destroy(struct rebuilt *rebuilt); /* what it holds */

/* Put the row before an error that came of its stage; where that tells of a missing checkpoint, add that rows of other
 * stores (a merge, a salvage) come without. Returns -1. */
int rebuilt_failed(const struct view *view, const struct view_row *row, struct error *err);

/* The stage of a point of the store (malloc, the caller frees); NULL where the sweep no longer has it. */
struct stage *rebuilt_stage(const struct rebuilt *rebuilt, const struct view *view, const struct store_point *point,
                            struct error *err);

#endif
