/* A part of a sweep for one of several independent jobs (an array, several clusters): the points of one shard, and the
 * stages that they need.
 *
 * Split by pretraining trunk: with no more shards than trunks no trunk is trained twice; with more, the costliest ones
 * are cut along their points in the order of the plan (ascending tokens), so that a shard trains its trunk no further
 * than its own points need. Balanced by FLOPs. Pure, the same on every machine, and together the shards are the sweep.
 */
#ifndef TUNELAW_ORCHESTRATOR_SHARD_H
#define TUNELAW_ORCHESTRATOR_SHARD_H

#include "orchestrator/plan.h"

struct shard {
    uint32_t index, count; /* 1 .. count; count 0: the whole sweep */
};

/* "2/4". */
int shard_parse(const char *text, struct shard *out, struct error *err);

/* The shard of each point, 1..count: of[point_count]. -1: more shards than points, memory. */
int shard_assign(const struct plan *plan, uint32_t count, uint32_t *of, struct error *err);

/* Leave only the shard's points and their stages in the plan. */
int shard_select(struct plan *plan, const struct shard *shard, struct error *err);

#endif
