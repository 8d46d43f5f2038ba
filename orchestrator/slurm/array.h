/* The run directory of an array. It is a run directory of the whole sweep, and beside that holds
 *
 *   checkpoints/       of the trunks that several tasks need; a task links them into its own folder
 *   shards/I/          run directory of task I, written by that task alone
 *   slurm/array        what was submitted: the lines of struct array_record
 *   results.h5         every point from the beginning; the merge fills in what the tasks have computed */
#ifndef TUNELAW_ORCHESTRATOR_SLURM_ARRAY_H
#define TUNELAW_ORCHESTRATOR_SLURM_ARRAY_H

#include <limits.h>

#include "orchestrator/plan/shard.h"
#include "orchestrator/slurm/slurm.h"

#define ARRAY_TASKS 1000 /* Slurm's own limit is 1001 by default */

struct array_record {
    uint32_t tasks;
    struct digest plan; /* of the whole sweep: another one would be dealt otherwise */
    char trunks[SLURM_ID], array[SLURM_ID], merge[SLURM_ID]; /* ids of the last jobs; "" where none was needed */
};

/* 1: read; 0: the directory is none of an array; -1 with *err. */
int array_read(const char *dir, struct array_record *record, struct error *err);
int array_write(const char *dir, const struct array_record *record, struct error *err);
/* From now on the directory is one job's; what the tasks have computed stays, and is merged by hand where it was not.
 */
int array_forget(const char *dir, struct error *err);

void array_task_dir(const char *dir, uint32_t task, char out[PATH_MAX]);

/* Which tasks have points without a result: left[tasks] (from task 1), their number in *count. */
int array_tasks_left(const char *dir, uint32_t tasks, unsigned char *left, size_t *count, struct error *err);

/* Whether a shared pretraining stage has no end state in the directory yet; whether a candidate has no result there, or
 * none was chosen. */
bool array_trunks_left(const char *dir, const struct plan *plan, const struct shard_array *array);
bool array_candidates_left(const char *dir, const struct plan *plan);

/* "1-3,7" of left[tasks]; out: 8 bytes a task. */
void array_list(const unsigned char *left, uint32_t tasks, char *out);

#endif
