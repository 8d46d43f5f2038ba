/* Rows on their way to the disk, in a thread of rank 0: the master hands out stages while fdatasync waits.
 *
 * Rows that arrive during a commit are the next one, up to 256 under one pair of fdatasync: at 10^3 ranks with a result
 * each at once, four commits. What waits takes 6 KB a row. In order, of each commit: the rows are durable, the log of
 * stages has their lines, the files that they made useless are gone, the master is told. */
#ifndef TUNELAW_ORCHESTRATOR_RUN_COMMITTER_H
#define TUNELAW_ORCHESTRATOR_RUN_COMMITTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io/error.h"
#include "io/store/store.h"

struct committer;

/* What the thread calls of each row that is durable and logged, with the number that came with it: removes what the
 * row made useless. */
typedef void (*committer_clean)(void *context, uint32_t number);

/* store, context: must outlive the committer, which alone commits to the store. log_fd: where lines are appended. */
struct committer *committer_start(struct store *store, int log_fd, committer_clean clean, void *context,
                                  struct error *err);

/* A row and its line of the log; both are copied. Nothing is committed before committer_open. -1: memory. */
int committer_add(struct committer *committer, const struct store_row *row, const char *line, uint32_t number,
                  struct error *err);
void committer_open(struct committer *committer);

/* *count: how many rows have been dealt with since the last call, in the order in which they were added; also where it
 * returns -1: a commit has failed, or another run has taken the directory over; nothing is committed any more. */
int committer_poll(struct committer *committer, size_t *count, struct error *err);

/* Whether lines of rows that committer_poll has told of may be missing in the log, or not on the disk. */
bool committer_unlogged(const struct committer *committer);

/* Can be read when committer_poll has something to tell. */
int committer_fd(const struct committer *committer);

/* Commits what waits, if it was opened and nothing has failed, and ends the thread. NULL: nothing. */
void committer_stop(struct committer *committer);

#endif
