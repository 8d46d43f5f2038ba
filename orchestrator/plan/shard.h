/* A part of a sweep for one of several independent jobs (several clusters, an array): the points of one shard, and the
 * stages that they need. Pure, the same on every machine, and together the shards are the sweep.
 *
 * Shards that share nothing ("I/N") are split by pretraining trunk: with no more shards than trunks no trunk is trained
 * twice; with more, the costliest ones are cut along their points in the order of the plan (ascending tokens), so that
 * a shard trains its trunk no further than its own points need. Balanced by FLOPs.
 *
 * The tasks of an array see one another's files: a trunk that several tasks need is trained once, before them, as task
 * 0, which also computes the candidates of learning rates that are tuned at a reference cell. A model that alone costs
 * more than an even share is therefore cut, its points are dealt one by one, the costliest first, each to the task with
 * the least to do; another model goes whole, trunk and points, to one task. */
#ifndef TUNELAW_ORCHESTRATOR_PLAN_SHARD_H
#define TUNELAW_ORCHESTRATOR_PLAN_SHARD_H

#include "orchestrator/plan/plan.h"

struct shard {
    uint32_t index, count; /* 1 .. count; count 0: the whole sweep */
    bool array;            /* a task of an array; its index 0: what comes before the others */
};

/* "2/4"; of an array also "0/4". */
int shard_parse(const char *text, bool array, struct shard *out, struct error *err);

/* What a store says of itself: "" for the whole sweep (and where only its trunks are trained), "2/4", "2/4 of an
 * array".
 */
enum { SHARD_LABEL = 48 };
void shard_label(const struct shard *shard, char out[SHARD_LABEL]);

/* The shard of each point, 1..count: of[point_count]. -1: more shards than points, memory. */
int shard_assign(const struct plan *plan, uint32_t count, uint32_t *of, struct error *err);

/* Leave only the shard's points and their stages in the plan; index 0 of an array leaves everything. */
int shard_select(struct plan *plan, const struct shard *shard, struct error *err);

/* How the tasks of an array share a sweep. 10^5 points for 10^3 tasks are dealt in a tenth of a second. */
struct shard_array {
    uint32_t count;
    uint32_t *of;          /* [points] the task, 1..count; every task has some; 0: a candidate */
    unsigned char *shared; /* [stages] 1: task 0's: pretraining that several tasks need, candidates with theirs */
    size_t shared_count;
};
int shard_array_deal(const struct plan *plan, uint32_t count, struct shard_array *out, struct error *err);
void shard_array_free(struct shard_array *array);

/* The plan of one task once the shared trunks are there: they cost nothing. Of index 0: the shared stages alone.
 * NULL with *err. */
struct plan *shard_array_plan(const struct plan *whole, const struct shard_array *array, uint32_t index,
                              struct error *err);

#endif
