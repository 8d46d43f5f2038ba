/* The base that stays on a worker's devices between stages: a method that leaves it as it is (LoRA, prompts, ..., no
 * tuning at all) has its own tensors made beside it, and the next stage on the same base neither allocates nor reads
 * it.
 *
 * At full size: 16B weights over 8 devices are 32 GB that a stage of minutes need not read again. What is resident is
 * the base's arena of workers/model/parameters.h and nothing else; the plan's bytes of a stage hold it as before. A
 * stage on another base, or one that trains it, removes it before it allocates anything; so does a stage that fails,
 * since what a failed device holds is not to be trusted. Where it cannot be released, since no device can be made, the
 * next stage tries that again, and does without what is there. */
#ifndef TUNELAW_WORKERS_STAGE_RESIDENCE_H
#define TUNELAW_WORKERS_STAGE_RESIDENCE_H

#include <stdbool.h>

#include "kernels/collective.h"
#include "workers/model/parameters.h"
#include "workers/stage/stage.h"

struct residence;

/* NULL: memory. destroy: also what is resident; NULL: nothing. */
struct residence *residence_create(void);
void residence_destroy(struct residence *residence);

/* Before the ranks of a stage start: what is there and is not its base goes. -1: memory. */
int residence_enter(struct residence *residence, const struct stage *stage, const struct kernels *kernels,
                    struct error *err);
/* After they have ended: the base is there, whole, for the next one; or, where the stage has failed, it goes. */
void residence_leave(struct residence *residence, bool failed);

/* Whether the base of the stage that has entered is resident, whole. NULL residence: no. */
bool residence_holds(const struct residence *residence);
/* A rank's part of it, allocated where it is not there yet, for its device of this stage. NULL without *err: the stage
 * trains its base, which is then its own; NULL with *err. */
struct parameters *residence_base(struct residence *residence, const struct stage *stage,
                                  const struct collective *collective, const struct kernels *kernels,
                                  struct device *device, struct error *err);

#endif
