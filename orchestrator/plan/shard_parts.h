/* What the files of a shard share: shard.c (shards that share nothing), shard_array.c (tasks that share trunks). */
#ifndef TUNELAW_ORCHESTRATOR_PLAN_SHARD_PARTS_H
#define TUNELAW_ORCHESTRATOR_PLAN_SHARD_PARTS_H

#include "orchestrator/plan/shard.h"

/* keep[stages] = 1 for those that the points of shard `index` need. */
void shard_mark_stages(const struct plan *plan, const uint32_t *of, uint32_t index, unsigned char *keep);

/* The kept stages and the points of shard `index` into `to`, which has room for them or is `from` itself; plan_finish
 * comes after. */
int shard_compact(const struct plan *from, const uint32_t *of, uint32_t index, const unsigned char *keep,
                  struct plan *to, struct error *err);

#endif
