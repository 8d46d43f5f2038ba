/* An array as `tunelaw status` sees it: the parent's points with what the tasks' stores have of them so far, and what
 * Slurm says of every job. */
#ifndef TUNELAW_ORCHESTRATOR_SLURM_ARRAY_VIEW_H
#define TUNELAW_ORCHESTRATOR_SLURM_ARRAY_VIEW_H

#include <jansson.h>

#include "orchestrator/run/view.h"
#include "orchestrator/slurm/array.h"

struct array_task {
    struct view view; /* view.store NULL: nothing has run yet */
    size_t points, committed;
};

struct array_view {
    struct array_record record; /* tasks 0: no array, everything else is empty */
    struct array_task *tasks;   /* [record.tasks] */
    uint32_t *task_of_row;      /* [rows of the parent] from 1; 0: in no store of a task */
    size_t *row_in_task;
    struct slurm_state *states; /* of all jobs of the directory, where Slurm can be asked */
    size_t state_count;
};

/* parent->dir is known; without parent->store only the jobs are. */
int array_view_open(struct array_view *array, const struct view *parent, struct error *err);
void array_view_close(struct array_view *array);

/* Row of the parent as the task's store has it, where the parent itself has no result yet. */
int array_view_outcome(const struct array_view *array, const struct view *parent, size_t index, struct view_row *row,
                       struct error *err);

/* Whether a job of the directory waits or runs. */
bool array_view_queued(const struct array_view *array);

void array_view_print(const struct array_view *array, FILE *out);
json_t *array_view_json(const struct array_view *array); /* NULL: no array */

#endif
