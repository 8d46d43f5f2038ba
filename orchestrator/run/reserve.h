/* Memory that the kernel finds where a host, or its control group, has none left: processes that hold some and do
 * nothing else.
 *
 * When the kernel kills a worker for want of memory, the worker leaves the list of those that can be killed some
 * milliseconds before the first of its pages are free. Whatever asks for memory in between, and the entry of a file's
 * name is enough, has the kernel choose again; without a worker it takes the largest of those left, the agent or the
 * master, and the whole run is over (measured: 13 of 200 runs, four at a time on two cores; with a reserve none of
 * 200). A reserve is chosen before them, and what it held is room for them. Costs RESERVE_PROCESSES * RESERVE_BYTES a
 * rank, whatever the size of its workers. Where the run itself was given a score of 1000 (some containers are) it is no
 * worse than without. */
#ifndef TUNELAW_ORCHESTRATOR_RUN_RESERVE_H
#define TUNELAW_ORCHESTRATOR_RUN_RESERVE_H

#include <stdbool.h>
#include <sys/types.h>

#define RESERVE_PROCESSES 2 /* while one is on its way out, the other is there */
#define RESERVE_BYTES (4ull << 20)

struct reserve {
    pid_t pids[RESERVE_PROCESSES]; /* 0: taken, or never there */
};

/* Say how readily the kernel shall take this process: of 0 (as any other) to 1000 (before all others). A wish. */
void reserve_offer(int score);

/* Start those that are not there, as children of this process, which has one thread: they end with it. One that cannot
 * be started is left out. */
void reserve_fill(struct reserve *reserve);

/* A child has ended: was it one of these? */
bool reserve_ended(struct reserve *reserve, pid_t pid);

/* Kill them; the caller waits for its children. */
void reserve_kill(struct reserve *reserve);

#endif
