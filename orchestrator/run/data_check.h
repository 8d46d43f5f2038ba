/* Whether the data sets still are what the sweep was planned with: their digests are computed again, once a run, by
 * rank 0, in a thread beside the master. Stages start meanwhile; no row is committed before the answer.
 *
 * At full size: 10^11 tokens are 200 to 400 GB, read once at the speed of the file system or of XXH3, whichever is
 * less; the other ranks' workers compare the digest in the header alone. */
#ifndef TUNELAW_ORCHESTRATOR_RUN_DATA_CHECK_H
#define TUNELAW_ORCHESTRATOR_RUN_DATA_CHECK_H

#include "orchestrator/sweep/sweep.h"

struct data_check;

/* Opens the data sets and starts; NULL with *err, also where one is another by its header. */
struct data_check *data_check_start(const struct sweep_task *tasks, size_t count, struct error *err);

/* 1: they are; 0: not known yet; -1: one is not, *err says so. */
int data_check_poll(struct data_check *check, struct error *err);

/* Does not wait: a check that is still at work is left to the end of the process. */
void data_check_destroy(struct data_check *check);

#endif
