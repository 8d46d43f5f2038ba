/* Whether the data set still is what the sweep was planned with: its digest is computed again, once a run, by rank 0,
 * in a thread beside the master. Stages start meanwhile; no row is committed before the answer.
 *
 * At full size: 10^11 tokens are 200 to 400 GB, read once at the speed of the file system or of XXH3, whichever is
 * less; the other ranks' workers compare the digest in the header alone. */
#ifndef TUNELAW_ORCHESTRATOR_DATA_CHECK_H
#define TUNELAW_ORCHESTRATOR_DATA_CHECK_H

#include "io/dataset.h"

struct data_check;

/* Opens the data set and starts; NULL with *err, also where it is another data set by its header. */
struct data_check *data_check_start(const char *path, const struct digest *planned, struct error *err);

/* 1: it is; 0: not known yet; -1: it is not, *err says so. */
int data_check_poll(struct data_check *check, struct error *err);

/* Does not wait: a check that is still at work is left to the end of the process. */
void data_check_destroy(struct data_check *check);

#endif
