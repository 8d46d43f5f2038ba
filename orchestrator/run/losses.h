/* Stages that no run has seen the end of: it died while they were in flight, with their node or by itself. A stage that
 * kills its node must not be started for ever by a job that comes back.
 *
 * DIR/logs/flights is appended to: "+ID STAMP" before a stage is handed out, "-ID" when its end is known; synced before
 * the stage leaves. Consecutive starts without an end are losses, as long as STAMP, the time of the stage's newest
 * checkpoint, is the same: who checkpoints gets on. At full size 10^5 stages are some 10 MB, and each run begins by
 * writing the file anew with what still counts. */
#ifndef TUNELAW_ORCHESTRATOR_RUN_LOSSES_H
#define TUNELAW_ORCHESTRATOR_RUN_LOSSES_H

#include <stdbool.h>
#include <stdint.h>

#include "orchestrator/plan/plan.h"

struct losses;

/* Read DIR/logs/flights. dir and plan are borrowed. A line that is damaged is passed over. The caller holds the
 * directory's lock. NULL with *err. */
struct losses *losses_open(const char *dir, const struct plan *plan, struct error *err);
/* Write the file anew with what still counts: before anything is noted. */
int losses_start(struct losses *losses, struct error *err);
void losses_close(struct losses *losses);

/* Whether a stage's end was not known when the last run ended, and losses_end has not been called since. */
bool losses_open_flight(const struct losses *losses, uint32_t stage);

/* Runs in a row that have died while this stage was in flight, without a new checkpoint of it. */
uint32_t losses_of(const struct losses *losses, uint32_t stage);

/* A stage is about to be handed out; its end is known. What has been noted is on disk after losses_sync. first: no
 * attempt of it has ever begun, so that no checkpoint is looked for. */
void losses_begin(struct losses *losses, uint32_t stage, bool first);
void losses_end(struct losses *losses, uint32_t stage);
int losses_sync(struct losses *losses, struct error *err);

/* A person has asked for another try. A file that is not there is no error. */
int losses_forget(const char *dir, struct error *err);

#endif
